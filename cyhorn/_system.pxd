# What the compiled modules call of the operating system: sockets, epoll (Linux) and the clock.

from libc.stdint cimport uint16_t, uint32_t, uint64_t

cdef extern from "sys/epoll.h" nogil:
    ctypedef union epoll_data_t:
        uint64_t u64
    struct epoll_event:
        uint32_t events
        epoll_data_t data
    int epoll_create1(int flags)
    int epoll_ctl(int epfd, int op, int fd, epoll_event *event)
    int epoll_wait(int epfd, epoll_event *events, int maxevents, int timeout)
    enum: EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLL_CTL_MOD, EPOLL_CTL_DEL
    enum: EPOLLIN, EPOLLOUT, EPOLLERR, EPOLLHUP, EPOLLEXCLUSIVE

cdef extern from "sys/uio.h" nogil:
    struct iovec:
        void *iov_base
        size_t iov_len

cdef extern from *:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <arpa/inet.h>
    #include <netinet/in.h>
    #include <sys/socket.h>
    #include <time.h>
    #include <unistd.h>
    static inline long long cyhorn_clock(clockid_t clock) {
        struct timespec now;
        clock_gettime(clock, &now);
        return (long long)now.tv_sec * 1000000000LL + now.tv_nsec;
    }
    """
    # Nanoseconds; the coarse clocks are cheaper, and as exact as the kernel's tick (1 to 10 ms).
    long long clock_ns "cyhorn_clock"(int clock) noexcept nogil
    enum: CLOCK_MONOTONIC, CLOCK_MONOTONIC_COARSE, CLOCK_REALTIME_COARSE
    ctypedef unsigned int socklen_t
    struct sockaddr:
        unsigned short sa_family
    struct msghdr:
        iovec *msg_iov
        size_t msg_iovlen
    struct in_addr:
        unsigned int s_addr
    struct in6_addr:
        unsigned char s6_addr[16]
    struct sockaddr_in:
        uint16_t sin_port
        in_addr sin_addr
    struct sockaddr_in6:
        uint16_t sin6_port
        in6_addr sin6_addr
    enum: AF_INET, AF_INET6, SOCK_NONBLOCK, SOCK_CLOEXEC, SHUT_WR, INET6_ADDRSTRLEN
    enum: MSG_DONTWAIT, MSG_NOSIGNAL, MSG_PEEK
    int accept4(int fd, sockaddr *address, socklen_t *length, int flags) nogil
    ssize_t recv(int fd, void *buffer, size_t size, int flags) nogil
    ssize_t send(int fd, const void *buffer, size_t size, int flags) nogil
    ssize_t sendmsg(int fd, const msghdr *message, int flags) nogil
    int shutdown(int fd, int how) nogil
    int close(int fd) nogil
    const char *inet_ntop(int family, const void *address, char *text, socklen_t size) nogil
    uint16_t ntohs(uint16_t port) nogil
