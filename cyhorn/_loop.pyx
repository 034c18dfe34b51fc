# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, auto_pickle=False
"""The sync loop, compiled over epoll (Linux). `_loop_py` says what it does; here is how it does it fast.

A keep-alive request costs one recv, one send and its share of one epoll_wait. Bytes are
received into one buffer of the loop's and parsed where they are; only what is left of them
after a turn is copied to the connection, so that an idle connection holds no buffer.
Descriptors are registered once, level-triggered. The GIL is held around calls that cannot
block and released around epoll_wait, when there is nothing to do.

Times are nanoseconds of the monotonic clock's coarse reading, taken once a turn.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_CheckSignals, PyErr_SetFromErrno
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.ref cimport PyObject
from libc.errno cimport EAGAIN, EINTR, EMFILE, ENFILE, ENOBUFS, ENOMEM, errno
from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memmove, memset

from cyhorn._environ cimport EnvironBuilder
from cyhorn._parser cimport CHUNK_DATA, CHUNK_END, ChunkedDecoder, LineCache, RequestParser, build_head
from cyhorn._writer cimport OutputBuffer, ResponseWriter

import os
import select
import time
from io import BytesIO

from cyhorn.errors import ApplicationError, ClientDisconnected, Code, HttpError, ResponseCut, http_error
from cyhorn.net.addresses import TrustedPeers
from cyhorn.wsgi.client_socket import ClientSocket
from cyhorn.wsgi.error_page import error_response
from cyhorn.wsgi.file_wrapper import FileWrapper
from cyhorn.wsgi.input import StreamInput
from cyhorn.wsgi.request import Request
from cyhorn.wsgi.spool import BodySpool, OutQueue
from cyhorn.wsgi.template import environ_template

cdef extern from "Python.h":
    object PyContext_CopyCurrent()
    int PyContext_Enter(object context) except -1
    int PyContext_Exit(object context) except -1
    Py_ssize_t Py_REFCNT(PyObject *o)  # a pointer: an argument of type object would count itself

cdef extern from "strings.h" nogil:
    int strncasecmp(const char *a, const char *b, size_t n)

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
    static long long cyhorn_coarse(clockid_t clock) {
        struct timespec now;
        clock_gettime(clock, &now);
        return (long long)now.tv_sec * 1000000000LL + now.tv_nsec;
    }
    """
    long long clock_ns "cyhorn_coarse"(int clock) noexcept nogil
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

cdef enum:
    RECEIVE_SIZE = 65536        # bytes asked for at once
    EVENT_COUNT = 512           # descriptors told ready by one epoll_wait
    ACCEPT_BATCH = 16           # connections accepted in one turn before the others are looked at again
    DRAIN_BATCHES = 256         # batches accepted at most when the loop stops: clients may come as fast
    GATHER_MAX = 65536          # answers of more bytes than this do not wait for those behind them
    PART_COUNT = 512            # parts of one sendmsg
    ENCRYPT_SIZE = 256 << 10    # bytes encrypted at once
    FAST_CALLS = 64             # calls that must have been fast before answers wait for those behind them
    FAST_CALL = 50000           # nanoseconds of a fast call
    LINGER_MAX = 32 << 20       # bytes dropped from a lingering connection before it is closed all the same
    SECOND = 1000000000

cdef long long STOP_GRACE = 300000000     # for a silent connection to send a request, once the loop stops
cdef long long LONG_CALL = 100000000      # a call that takes longer has kept others waiting
cdef long long SHARE_PAUSE = 50000000     # a worker with more than its share leaves new ones to the others
cdef long long ACCEPT_PAUSE = 250000000   # without accepting, after the process ran out of descriptors

# What an event's data says: the descriptor in the low half; a connection's serial above it,
# or one of these for what is no connection.
cdef uint64_t LISTENER_MARK = (<uint64_t>1) << 63
cdef uint64_t WATCH_MARK = (<uint64_t>1) << 62


@cython.final
cdef class Listener:
    """A listening socket, and what its connections have in common."""


@cython.final
@cython.freelist(64)
cdef class Connection:
    """One client's connection."""

    def __cinit__(self):
        self.fd = -1
        self.timers = NULL
        self.pending = NULL
        self.before = self.after = NULL

    def __dealloc__(self):
        PyMem_Free(self.pending)


cdef inline bint _is_head(RequestParser parser, const unsigned char *method) noexcept:
    """Whether the method of the head that was found is HEAD."""
    if parser.method.length != 4:
        return False
    if parser.casefold_http_method:
        return strncasecmp(<const char *>method, b"HEAD", 4) == 0
    return memcmp(method, b"HEAD", 4) == 0


cdef bint _begins_head(const unsigned char *p, Py_ssize_t n) noexcept:
    """Whether p[0:n] begins with a HEAD request, whose answer has no body also when it is refused."""
    cdef Py_ssize_t skip = 2 if n > 2 and p[0] == 13 and p[1] == 10 else 0
    return n - skip >= 5 and memcmp(p + skip, b"HEAD ", 5) == 0


@cython.final
cdef class Loop:
    """Serves `application` on `listeners` until `stop` and the last connection's end.

    `log` is the error log (a Gunicorn-style logger). `heartbeat` is a slot with `notify()`
    and settable `requests` and `connections`, or None. `watch` maps descriptors to callables
    for when they become readable (wake-up and parent pipe). `on_max_requests` is called once
    when `options.max_requests` is reached; the loop then stops by itself.
    """

    cdef readonly object options
    cdef readonly object application
    cdef readonly object log
    cdef readonly object heartbeat
    cdef readonly object on_max_requests
    cdef readonly long long requests
    cdef public bint stopping
    cdef readonly Py_ssize_t connections

    cdef bint draining                # stop has taken effect
    cdef int epoll
    cdef list by_fd                   # descriptor → Connection or None
    cdef unsigned int serial
    cdef list listeners
    cdef dict watched                 # descriptor → callable
    cdef set warned
    cdef int fast_calls
    cdef int late_turns               # this turn and so many more serve who waited behind a long call
    cdef int last_count               # events of the turn before
    cdef long long now
    cdef long long next_tick
    cdef Timers timers[TIMER_COUNT]
    cdef unsigned char *received      # RECEIVE_SIZE bytes
    cdef OutputBuffer out
    cdef ResponseWriter writer
    cdef object start_response        # the writer's, bound once
    cdef object write                 # likewise
    cdef RequestParser parser
    cdef LineCache cache
    cdef Connection current           # whose request is in the application
    cdef object flush_callback
    cdef object trusted
    cdef object proxy_trusted
    # The heartbeat's slot in shared memory, or NULL
    cdef object slot_view
    cdef long long *slot_beat
    cdef long long *slot_requests
    cdef int *slot_connections
    cdef int *slot_state
    cdef SlotLayout layout
    cdef char *table                  # all slots, where there are other workers; else NULL
    cdef int *table_used              # how many of them are to be looked at

    # Options, where the request cycle reads them
    cdef bint has_keep_alive
    cdef bint buffer_request_body
    cdef bint context_isolation
    cdef bint sendfile
    cdef bint proxy_expected
    cdef bint wants_head
    cdef long long limit_request_body
    cdef long long body_buffer_size
    cdef long long max_requests
    cdef long long tick
    cdef object pre_request
    cdef object post_request
    cdef object access
    cdef object access_with_request
    cdef object flush_access
    cdef object on_tick

    def __cinit__(self, *args, **kwargs):
        self.epoll = -1
        self.received = NULL
        self.slot_beat = NULL
        memset(self.timers, 0, sizeof(self.timers))

    def __init__(self, options, listeners, application, *, log, errors=None, heartbeat=None, watch=None,
                 on_max_requests=None):
        cdef int i
        self.options = options
        self.application = application
        self.log = log
        self.heartbeat = heartbeat
        self.on_max_requests = on_max_requests
        self.by_fd = []
        self.warned = set()
        self.has_keep_alive = options.keepalive > 0
        self.buffer_request_body = options.buffer_request_body
        self.context_isolation = options.context_isolation
        self.sendfile = options.sendfile
        self.proxy_expected = options.proxy_protocol != "off"
        self.limit_request_body = options.limit_request_body
        self.body_buffer_size = options.body_buffer_size
        self.max_requests = options.max_requests
        self.tick = <long long>(options.tick * SECOND)
        self.pre_request = options.pre_request
        self.post_request = options.post_request
        self.access = options.access
        self.access_with_request = options.access_with_request
        self.flush_access = options.flush_access
        self.on_tick = options.on_tick
        self.wants_head = not (self.pre_request is None and self.post_request is None
                               and self.access_with_request is None)
        durations = (options.client_header_timeout, options.client_body_timeout, options.send_timeout,
                     options.keepalive, options.linger_timeout)
        self.timers[GRACE].duration = STOP_GRACE
        for i in range(LINGER + 1):
            self.timers[i].duration = <long long>(<double>(<tuple>durations)[i] * SECOND)
        self.received = <unsigned char *>PyMem_Malloc(RECEIVE_SIZE)
        if self.received == NULL:
            raise MemoryError
        self.out = OutputBuffer()
        self.flush_callback = self._flush_current
        self.renew_writer()
        self.cache = LineCache()
        self.parser = self.new_parser()
        self.trusted = TrustedPeers(options.forwarded_allow_ips)
        self.proxy_trusted = TrustedPeers(options.proxy_allow_ips)
        self.map_heartbeat()
        self.now = clock_ns(CLOCK_MONOTONIC_COARSE)
        self.epoll = epoll_create1(EPOLL_CLOEXEC)
        if self.epoll < 0:
            PyErr_SetFromErrno(OSError)
        self.listeners = []
        for info in listeners:
            self.listen(info, errors)
        self.watched = dict(watch or {})
        for fd in self.watched:
            self.control(EPOLL_CTL_ADD, fd, EPOLLIN, WATCH_MARK | <uint64_t><int>fd)

    def __dealloc__(self):
        PyMem_Free(self.received)
        if self.epoll >= 0:
            close(self.epoll)

    cdef int map_heartbeat(self) except -1:
        """Find the slot's fields in shared memory: a beat is then a store."""
        cdef unsigned char[::1] view
        cdef SlotLayout *layout
        self.table = NULL
        table = getattr(self.heartbeat, "table", None)
        if table is None:
            return 0
        view = memoryview(table.buffer)
        self.slot_view = view
        self.slot_beat = <long long *>&view[<Py_ssize_t>self.heartbeat.offset]
        self.slot_requests = self.slot_beat + 1
        layout = &self.layout
        layout.slot, layout.connections, layout.state = table.LAYOUT[:3]
        layout.ready, layout.busy, layout.busy_limit = table.LAYOUT[3:]
        self.slot_connections = <int *>(<char *>self.slot_beat + layout.connections)
        self.slot_state = <int *>(<char *>self.slot_beat + layout.state)
        if self.options.multiprocess:
            self.table = <char *>&view[0]
            self.table_used = <int *>(self.table + <Py_ssize_t>table.slots * layout.slot)
        return 0

    cdef inline int beat(self) except -1:
        if self.slot_beat != NULL:
            self.slot_beat[0] = clock_ns(CLOCK_MONOTONIC_COARSE)
        elif self.heartbeat is not None:
            self.heartbeat.notify()
        return 0

    cdef int listen(self, info, errors) except -1:
        options = self.options
        cdef Listener listener = Listener.__new__(Listener)
        template = environ_template(
            info, errors=errors, multithread=options.multithread, multiprocess=options.multiprocess
        )
        template["wsgi.early_hints"] = self._early_hints
        listener.info = info
        listener.fd = info.sock.fileno()
        listener.is_unix = info.is_unix
        listener.ssl_context = info.ssl_context
        listener.builder = EnvironBuilder(
            template,
            header_map=options.header_map,
            forwarder_headers=options.forwarder_headers,
            secure_scheme_headers=options.secure_scheme_headers,
            script_name=options.script_name,
        )
        self.listeners.append(listener)
        self.watch_listener(listener)
        return 0

    cdef int watch_listener(self, Listener listener) except -1:
        # Exclusive: one connection wakes one of the workers that share the socket.
        cdef uint64_t data = LISTENER_MARK | <uint64_t>listener.fd
        return self.control(EPOLL_CTL_ADD, listener.fd, EPOLLIN | EPOLLEXCLUSIVE, data)

    cdef RequestParser new_parser(self):
        cdef RequestParser parser
        options = self.options
        parser = RequestParser(
            limit_request_line=options.limit_request_line,
            limit_request_fields=options.limit_request_fields,
            limit_request_field_size=options.limit_request_field_size,
            permit_obsolete_folding=options.permit_obsolete_folding,
            strip_header_spaces=options.strip_header_spaces,
            permit_unconventional_http_method=options.permit_unconventional_http_method,
            permit_unconventional_http_version=options.permit_unconventional_http_version,
            casefold_http_method=options.casefold_http_method,
        )
        parser.cache = self.cache
        return parser

    cdef int renew_writer(self) except -1:
        if self.writer is not None:
            self.writer.write_callable = NULL
        self.writer = ResponseWriter(self.out, self.options.server_header, self.flush_callback)
        self.start_response = self.writer.start_response
        self.write = self.writer.write
        self.writer.write_callable = <PyObject *>self.write
        return 0

    # -- the turn ------------------------------------------------------------------------------

    def run(self):
        """Serve until stopped, and until the last connection has ended."""
        while self.one_turn(-1):
            pass
        self.close()

    def stop(self):
        """Stop gracefully: what was received is answered, then the connections close.

        May be called from a signal handler or from the application's thread.
        """
        self.stopping = True

    def adopt(self, sock, int listener=0):
        """Serve the connected socket `sock` as if listener number `listener` had accepted it."""
        sock.setblocking(False)
        self.now = clock_ns(CLOCK_MONOTONIC_COARSE)
        self.accepted(sock.detach(), NULL, self.listeners[listener])

    def close(self):
        """Close what is still open, without ceremony."""
        for c in self.open_connections():
            self.drop(c)
        self.close_listeners()
        if self.epoll >= 0:
            close(self.epoll)
            self.epoll = -1
        self.slot_beat = NULL
        self.slot_view = None  # the table can be unmapped again

    def turn(self, timeout=None):
        """Wait at most `timeout` seconds (None: until the next timer), and serve what is ready.

        Returns whether there is more to do: False once stopped and without connections.
        """
        return self.one_turn(-1 if timeout is None else <int>(timeout * 1000))

    cdef list open_connections(self):
        return [c for c in self.by_fd if c is not None]

    cdef bint one_turn(self, int timeout) except -1:
        cdef epoll_event events[EVENT_COUNT]
        cdef int i, count = 0
        cdef long long now
        if self.stopping and not self.draining:
            self.drain()
        if self.draining and not self.connections:
            return False
        if timeout < 0:
            timeout = self.patience()
        self.mark(self.layout.ready)
        if timeout and self.last_count > 1:
            # A busy loop rarely waits: ask without letting go of the GIL first.
            count = epoll_wait(self.epoll, events, EVENT_COUNT, 0)
        if count == 0:
            with nogil:
                count = epoll_wait(self.epoll, events, EVENT_COUNT, timeout)
        if count < 0:
            if errno != EINTR:
                PyErr_SetFromErrno(OSError)
            count = 0
            PyErr_CheckSignals()
        self.last_count = count
        now = self.now = clock_ns(CLOCK_MONOTONIC_COARSE)
        if self.slot_beat != NULL:
            self.slot_beat[0] = now
        elif self.heartbeat is not None:
            self.heartbeat.notify()
        self.mark(self.layout.busy)
        if self.late_turns:
            self.late_turns -= 1
        for i in range(count):
            self.dispatch(events[i].data.u64, events[i].events)
        self.expire(now)
        if self.flush_access is not None:
            self.flush_access()
        if self.slot_beat != NULL:
            self.slot_requests[0] = self.requests
            self.slot_connections[0] = <int>self.connections
        elif self.heartbeat is not None:
            self.heartbeat.requests = self.requests
            self.heartbeat.connections = self.connections
        if self.now >= self.next_tick:
            self.next_tick = self.now + self.tick
            if self.on_tick is not None:
                self.on_tick()
        return not (self.draining and not self.connections)

    cdef inline void mark(self, int state) noexcept:
        """Say whether this worker waits or works; what else it is, others have said."""
        cdef int now
        if self.slot_beat != NULL:
            now = self.slot_state[0]
            if now == self.layout.ready or now == self.layout.busy:
                self.slot_state[0] = state

    cdef int dispatch(self, uint64_t data, uint32_t happened) except -1:
        cdef int fd = <int>(data & 0x7fffffff)
        cdef Connection c
        if data & LISTENER_MARK:
            for listener in self.listeners:
                if (<Listener>listener).fd == fd:
                    self.accept(<Listener>listener)
        elif data & WATCH_MARK:
            self.watched[fd]()
        else:
            c = <Connection>self.by_fd[fd]
            if c is None or c.serial != <unsigned int>(data >> 32):
                return 0  # closed in this very turn, and its number perhaps another's
            self.serve(c)
        return 0

    cdef int serve(self, Connection c) except -1:
        try:
            if c.state == SENDING:
                self.writable(c)
            else:
                self.readable(c)
        except ClientDisconnected as error:
            self.log_loss(c, error)
            self.drop(c)
        except Exception:
            # A mistake of ours, or a resource that ran out: this connection's loss alone.
            self.log.exception("Error while serving ip=%s", c.remote_addr)
            self.drop(c)
        return 0

    cdef int log_loss(self, Connection c, object error) except -1:
        if isinstance(error, ResponseCut):
            if c.remote_addr is None:
                self.name_peer(c)
            self.log.warning("A response to ip=%s was cut: %s", c.remote_addr, error)
        else:
            self.log.debug("The client is gone: %s", error)
        return 0

    cdef int patience(self) except -1:
        """Milliseconds until the next timer, at most a tick."""
        cdef long long until = self.now + self.tick
        cdef long long left
        cdef int i
        for i in range(TIMER_COUNT):
            if self.timers[i].first != NULL:
                until = min(until, (<Connection>self.timers[i].first).deadline)
        for listener in self.listeners:
            if (<Listener>listener).resume_at:
                until = min(until, (<Listener>listener).resume_at)
        left = until - clock_ns(CLOCK_MONOTONIC_COARSE)
        return <int>((left + 999999) // 1000000) if left > 0 else 0

    cdef int expire(self, long long now) except -1:
        """Deal with the connections whose time is over, and with pauses in accepting.

        `now` is when it was last looked what had arrived: a call of the application that took
        longer is not the time of those who sent meanwhile.
        """
        cdef int i
        cdef Connection c
        cdef Listener listener
        for i in range(TIMER_COUNT):
            while self.timers[i].first != NULL:
                c = <Connection>self.timers[i].first
                if c.deadline > now:
                    break
                self.timed_out(c)
        for listener in self.listeners:
            if listener.resume_at and listener.resume_at <= now and not self.draining:
                if self.has_its_share():
                    listener.resume_at = now + SHARE_PAUSE
                else:
                    listener.resume_at = 0
                    self.watch_listener(listener)
        return 0

    cdef int timed_out(self, Connection c) except -1:
        # 408 only where a request had begun: a silent connection has asked for nothing.
        if c.state == BODY or (c.state == HEAD and c.pending_size):
            self.refuse(c, http_error(Code.TIMEOUT), _begins_head(c.pending, c.pending_size))
            self.settle(c)
        else:
            self.drop(c)
        return 0

    cdef inline void unlink(self, Connection c) noexcept:
        """Take `c` out of the timer list it stands in."""
        if c.timers == NULL:
            return
        if c.before != NULL:
            (<Connection>c.before).after = c.after
        else:
            c.timers.first = c.after
        if c.after != NULL:
            (<Connection>c.after).before = c.before
        else:
            c.timers.last = c.before
        c.before = c.after = NULL
        c.timers = NULL

    cdef inline void arm(self, Connection c, int which) noexcept:
        """Put `c` at the end of timer list `which`."""
        cdef Timers *timers = &self.timers[which]
        self.unlink(c)
        if not timers.duration:
            return
        c.deadline = self.now + timers.duration
        c.timers = timers
        c.before = timers.last
        if timers.last != NULL:
            (<Connection>timers.last).after = <void *>c
        else:
            timers.first = <void *>c
        timers.last = <void *>c

    cdef inline void enter(self, Connection c, int state) noexcept:
        c.state = state
        self.arm(c, state)

    cdef int control(self, int operation, int fd, uint32_t events, uint64_t data) except -1:
        cdef epoll_event event
        event.events = events
        event.data.u64 = data
        if epoll_ctl(self.epoll, operation, fd, &event) < 0:
            PyErr_SetFromErrno(OSError)
        return 0

    cdef inline int watch(self, Connection c, uint32_t events) except -1:
        """Have epoll look for `events`. Most connections are registered once."""
        if c.events != events:
            self.control(
                EPOLL_CTL_MOD if c.events else EPOLL_CTL_ADD,
                c.fd, events, (<uint64_t>c.serial << 32) | <uint64_t>c.fd,
            )
            c.events = events
        return 0

    # -- connections come and go -----------------------------------------------------------------

    cdef bint accept(self, Listener listener) except -1:
        """Accept a batch; return whether there may be more."""
        cdef unsigned char address[ADDRESS_SIZE]
        cdef socklen_t length
        cdef int fd
        for _ in range(ACCEPT_BATCH):
            length = ADDRESS_SIZE
            (<sockaddr *>address).sa_family = 0
            fd = accept4(listener.fd, <sockaddr *>address, &length, SOCK_NONBLOCK | SOCK_CLOEXEC)
            if fd >= 0:
                self.accepted(fd, address, listener)
                if not self.stopping and self.has_its_share():
                    self.pause(listener, SHARE_PAUSE)
                    return False
            elif errno == EAGAIN:
                return False
            elif errno == EMFILE or errno == ENFILE or errno == ENOBUFS or errno == ENOMEM:
                reason = os.strerror(errno)
                self.pause(listener, ACCEPT_PAUSE)
                self.warn_once("accept", "Accepting pauses: %s", reason)
                return False
            # else this connection died in the queue; the next may live
        return True

    cdef int pause(self, Listener listener, long long duration) except -1:
        """Leave new connections to the other workers for a while."""
        if not listener.resume_at:
            self.control(EPOLL_CTL_DEL, listener.fd, 0, 0)
        listener.resume_at = self.now + duration
        return 0

    cdef bint has_its_share(self) noexcept:
        """Whether this worker holds more connections than the others that accept.

        `Slot.fair_share` says what is fair; here it is looked up in the table itself.
        """
        cdef const char *slot
        cdef long long workers = 0, held = 0, beat
        cdef int i, state
        if self.table == NULL:
            return False
        for i in range(self.table_used[0]):
            slot = self.table + i * self.layout.slot
            state = (<const int *>(slot + self.layout.state))[0]
            beat = (<const long long *>slot)[0]
            if slot == <const char *>self.slot_beat:
                workers += 1
                held += self.connections
            elif state == self.layout.ready or (
                state == self.layout.busy and self.now - beat < self.layout.busy_limit
            ):
                workers += 1
                held += (<const int *>(slot + self.layout.connections))[0]
        return workers > 1 and self.connections >= held * 9 // (8 * workers) + 2

    cdef bint others_wait(self) noexcept:
        """Whether another worker has nothing to do at the moment: `Slot.others_wait`."""
        cdef const char *slot
        cdef int i
        if self.table != NULL:
            for i in range(self.table_used[0]):
                slot = self.table + i * self.layout.slot
                if slot != <const char *>self.slot_beat and (
                    (<const int *>(slot + self.layout.state))[0] == self.layout.ready
                ):
                    return True
        return False

    cdef int accepted(self, int fd, const unsigned char *address, Listener listener) except -1:
        """A connection begins. `address` is its peer's, NULL for one of this machine."""
        cdef Connection c = Connection.__new__(Connection)
        c.fd = fd
        self.serial = (self.serial + 1) & 0x3fffffff
        c.serial = self.serial
        c.listener = listener
        c.proxy_due = self.proxy_expected
        if address != NULL:
            memcpy(c.address, address, ADDRESS_SIZE)
        else:
            (<sockaddr *>c.address).sa_family = 0
        while len(self.by_fd) <= fd:
            self.by_fd.append(None)
        self.by_fd[fd] = c
        self.connections += 1
        self.enter(c, HEAD)
        try:
            if listener.ssl_context is not None:
                c.tls = listener.info.tls_channel(self.options.suppress_ragged_eofs)
            if not self.draining:
                self.serve(c)  # a request usually is there already
            if c.state != CLOSED and not c.events:
                self.watch(c, EPOLLIN)
        except Exception:
            self.log.exception("Error while accepting ip=%s", c.remote_addr)
            self.drop(c)
        return 0

    cdef int name_peer(self, Connection c) except -1:
        """Fill in remote_addr, remote_port and trusted, which most connections need once."""
        cdef char text[INET6_ADDRSTRLEN]
        cdef int family = (<sockaddr *>c.address).sa_family
        if family == AF_INET:
            inet_ntop(AF_INET, &(<sockaddr_in *>c.address).sin_addr, text, INET6_ADDRSTRLEN)
            c.remote_port = str(ntohs((<sockaddr_in *>c.address).sin_port))
            c.remote_addr = (<bytes>text).decode("ascii")
        elif family == AF_INET6:
            inet_ntop(AF_INET6, &(<sockaddr_in6 *>c.address).sin6_addr, text, INET6_ADDRSTRLEN)
            c.remote_port = str(ntohs((<sockaddr_in6 *>c.address).sin6_port))
            c.remote_addr = (<bytes>text).decode("ascii")
        else:
            c.remote_addr = ""
        c.trusted = family == 0 or c.listener.is_unix or c.remote_addr in self.trusted
        return 0

    cdef int drop(self, Connection c) except -1:
        """Close a connection and let go of everything it holds."""
        if c.state == CLOSED:
            return 0
        self.unlink(c)
        c.state = CLOSED
        self.out.forget()  # what waits there is this connection's, never another's
        self.by_fd[c.fd] = None
        self.connections -= 1
        self.forget_request(c)
        if c.queue is not None:
            c.queue.close()
            c.queue = None
        if c.client_socket is not None:
            c.client_socket.detach_from_loop()
            c.client_socket = None
        self.forget_pending(c)
        c.parser = None
        c.tls = None
        if c.events:
            # A close alone would leave it in epoll where the application has duplicated or inherited it.
            epoll_ctl(self.epoll, EPOLL_CTL_DEL, c.fd, NULL)
        close(c.fd)
        return 0

    cdef inline void forget_pending(self, Connection c) noexcept:
        PyMem_Free(c.pending)
        c.pending = NULL
        c.pending_size = c.pending_capacity = 0

    cdef inline int forget_request(self, Connection c) except -1:
        c.environ = None
        c.head = None
        c.target = None
        c.decoder = None
        c.body_bytes = None
        c.remaining = 0
        c.continue_due = c.head_only = False
        if c.body is not None:
            c.body.close()
            c.body = None
        return 0

    cdef int finish(self, Connection c) except -1:
        """All is sent: close, after a linger where the client may still be sending (9112 9.6)."""
        if c.tls is not None:
            tls = c.tls
            c.tls = None
            tls.shutdown()
            try:
                self.send_bytes(c, tls.pending_output())
            except ClientDisconnected:
                return self.drop(c)
            if c.queue is not None:  # close_notify waits for the client, too
                self.enter(c, SENDING)
                return self.watch(c, EPOLLOUT)
        if c.linger == 0 or self.timers[c.linger].duration == 0 or shutdown(c.fd, SHUT_WR) < 0:
            return self.drop(c)
        self.forget_pending(c)
        c.state = LINGER
        self.arm(c, c.linger)
        return self.watch(c, EPOLLIN)

    cdef int drain(self) except -1:
        """Stop takes effect: accept what the kernel has queued, give idle connections their grace."""
        cdef Connection c
        cdef Listener listener
        self.draining = True
        self.now = clock_ns(CLOCK_MONOTONIC_COARSE)
        for listener in self.listeners:
            for _ in range(DRAIN_BATCHES):
                if not self.accept(listener):
                    break
        self.close_listeners()
        for c in self.open_connections():
            if c.state == IDLE or (c.state == HEAD and not c.pending_size):
                # A request that is on its way would cross a close at once: it is answered with
                # "Connection: close" instead.
                self.arm(c, GRACE)
        return 0

    cdef int close_listeners(self) except -1:
        cdef Listener listener
        for listener in self.listeners:
            if listener.fd >= 0:
                if not listener.resume_at:
                    self.control(EPOLL_CTL_DEL, listener.fd, 0, 0)
                listener.resume_at = 0
                listener.fd = -1
                listener.info.sock.close()
        return 0

    # -- receiving ---------------------------------------------------------------------------------

    cdef int readable(self, Connection c) except -1:
        """Read once, and serve what is complete."""
        cdef Py_ssize_t n
        cdef bytes data
        if c.tls is not None and c.state != LINGER:
            data = self.decrypt(c)
            if data is not None:
                if PyBytes_GET_SIZE(data):
                    return self.process_copy(c, data)
                return self.drop(c)
            if c.queue is not None:
                self.settle(c)  # TLS had to answer, and could not yet
            return 0
        if c.state == BODY and c.body_bytes is not None:
            # Where a body fits in memory its bytes go to their place.
            n = recv(c.fd, PyBytes_AS_STRING(c.body_bytes) + c.body_filled, c.remaining, 0)
            if n > 0:
                return self.body_received(c, n)
        elif c.pending_size:
            self.reserve_pending(c, c.pending_size + 4096)
            n = recv(c.fd, c.pending + c.pending_size, c.pending_capacity - c.pending_size, 0)
            if n > 0:
                c.pending_size += n
                return self.process(c, c.pending, c.pending_size)
        else:
            n = recv(c.fd, self.received, RECEIVE_SIZE, 0)
            if n > 0:
                if c.state != LINGER:
                    return self.process(c, self.received, n)
                c.dropped += n
                return self.drop(c) if c.dropped > LINGER_MAX else 0
        if n < 0 and (errno == EAGAIN or errno == EINTR):
            return 0
        return self.drop(c)

    cdef int reserve_pending(self, Connection c, Py_ssize_t wanted) except -1:
        cdef unsigned char *grown
        if wanted > c.pending_capacity:
            wanted = max(wanted, 2 * c.pending_capacity)
            grown = <unsigned char *>PyMem_Realloc(c.pending, wanted)
            if grown == NULL:
                raise MemoryError
            c.pending = grown
            c.pending_capacity = wanted
        return 0

    cdef int process_copy(self, Connection c, bytes data) except -1:
        """`process` for bytes that lie in a Python object, with those that wait already."""
        cdef Py_ssize_t n = PyBytes_GET_SIZE(data)
        if not c.pending_size:
            return self.process(c, <const unsigned char *>PyBytes_AS_STRING(data), n)
        self.reserve_pending(c, c.pending_size + n)
        memcpy(c.pending + c.pending_size, PyBytes_AS_STRING(data), n)
        c.pending_size += n
        return self.process(c, c.pending, c.pending_size)

    cdef int keep(self, Connection c, const unsigned char *p, Py_ssize_t n) except -1:
        """Keep p[0:n], which may lie in `pending` itself, as what is pending."""
        if not n:
            self.forget_pending(c)
        elif c.pending_size:
            memmove(c.pending, p, n)
            c.pending_size = n
        else:
            self.reserve_pending(c, n)
            memcpy(c.pending, p, n)
            c.pending_size = n
        return 0

    cdef int process(self, Connection c, const unsigned char *p, Py_ssize_t n) except -1:
        """Consume p[0:n], all that was received: answer every request that is complete in it.

        Entry: p is `received`, or `pending` and n its size, or lies in an object that lives on.
        """
        cdef Py_ssize_t at = 0, taken
        try:
            if c.proxy_due:
                at = self.take_proxy_header(c, p, n)
            while at < n and not c.proxy_due:
                if c.state == BODY:
                    at += self.take_body(c, p + at, n - at)
                else:
                    taken = self.take_head(c, p + at, n - at)
                    if not taken:
                        if c.state != HEAD or c.timers == &self.timers[GRACE]:
                            self.enter(c, HEAD)
                        break
                    at += taken
                    self.begin_body(c, at < n)
                if c.body_complete:
                    if not self.buffer_request_body and (c.decoder is not None or c.remaining):
                        # The application reads from here; such a request is its connection's last.
                        self.keep(c, p + at, n - at)
                        self.respond(c, at < n)
                        return 0 if c.state == CLOSED else self.settle(c)
                    self.respond(c, at < n)
                    if c.state == CLOSED:
                        return 0
                    if self.out.size > GATHER_MAX:
                        self.flush(c)
                    if c.close_after or c.queue is not None:
                        break
        except HttpError as error:
            self.parser.reset()
            self.refuse(c, error, c.environ is None and _begins_head(p + at, n - at))
        if c.state == CLOSED:
            return 0
        if at or not c.pending_size:
            self.keep(c, p + at, n - at)
        return self.settle(c)

    cdef Py_ssize_t take_proxy_header(self, Connection c, const unsigned char *p, Py_ssize_t n) except -1:
        """Consume the PROXY header, if one comes first. `proxy_due` stays while it is half there."""
        from cyhorn.net.proxy_protocol import parse as parse_proxy_header  # few servers stand behind one

        found = parse_proxy_header(PyBytes_FromStringAndSize(<const char *>p, n), self.options.proxy_protocol)
        if found is None:
            return 0
        c.proxy_due = False
        taken, header = found
        if header is not None:
            if c.remote_addr is None:
                self.name_peer(c)
            if c.remote_addr not in self.proxy_trusted:
                raise http_error(Code.PROXY_PEER)
            if not header.keeps_peer:
                c.proxy = header
                c.remote_addr = header.client_addr
                c.remote_port = str(header.client_port)
        return taken

    cdef Py_ssize_t take_head(self, Connection c, const unsigned char *p, Py_ssize_t n) except -1:
        """Read a head at `p`. Returns its length in bytes, 0 when more are needed."""
        cdef RequestParser parser = self.parser if c.parser is None else c.parser
        cdef Py_ssize_t taken = parser.feed(p, n)
        if taken == 0:
            if c.parser is None:
                c.parser = parser
                self.parser = self.new_parser()
            return 0
        c.parser = None
        if taken < 0:
            raise http_error(-taken)
        if c.remote_addr is None:
            self.name_peer(c)
        c.head_only = _is_head(parser, p + parser.method.start)
        c.http_1_1 = parser.major > 1 or (parser.major == 1 and parser.minor >= 1)
        c.wants_keep_alive = parser.keep_alive
        c.continue_due = parser.expect_continue
        c.remaining = parser.content_length if parser.content_length > 0 else 0
        if parser.chunked:
            c.decoder = ChunkedDecoder(
                limit_request_body=self.limit_request_body,
                limit_request_fields=self.options.limit_request_fields,
                limit_request_field_size=self.options.limit_request_field_size,
                strip_header_spaces=self.options.strip_header_spaces,
                permit_obsolete_folding=self.options.permit_obsolete_folding,
            )
        c.environ = c.listener.builder.make(parser, p, c.remote_addr, c.remote_port, c.trusted)
        c.target = c.listener.builder.uri
        if self.wants_head:
            c.head = build_head(parser, p)
        return taken

    cdef int begin_body(self, Connection c, bint more) except -1:
        """Decide how the body comes; `more` says that bytes after the head are there."""
        if c.decoder is None and not c.remaining:
            c.body_complete = True
            c.continue_due = False
            return 0
        if self.limit_request_body and c.remaining > self.limit_request_body:
            raise http_error(Code.BODY_LENGTH)
        c.continue_due = c.continue_due and not more
        if not self.buffer_request_body:
            c.body_complete = True  # for the loop: the application reads it
            return 0
        c.body_complete = False
        if c.decoder is None and c.remaining <= self.body_buffer_size:
            c.body_bytes = PyBytes_FromStringAndSize(NULL, c.remaining)
            c.body_filled = 0
        else:
            c.body = BodySpool(self.body_buffer_size, self.options.tmp_upload_dir)
        if c.continue_due:
            self.send_continue(c)
        if c.state != CLOSED:
            self.enter(c, BODY)
        return 0

    cdef int send_continue(self, Connection c) except -1:
        """Ask for the body (9110 10.1.1)."""
        c.continue_due = False
        self.out.put(b"HTTP/1.1 100 Continue\r\n\r\n", 25)
        return self.flush(c)

    cdef Py_ssize_t take_body(self, Connection c, const unsigned char *p, Py_ssize_t n) except -1:
        """Consume the body's bytes in p[0:n]; returns how many they are."""
        cdef Py_ssize_t taken = 0, step = 0
        cdef int event
        try:
            if c.decoder is not None:
                while True:
                    event = c.decoder.step(p + taken, n - taken, &step)
                    taken += step
                    if event == CHUNK_DATA:
                        piece = PyBytes_FromStringAndSize(<const char *>c.decoder.data, c.decoder.length)
                        c.body.append(piece)
                    elif event < 0:
                        raise http_error(-event)
                    else:
                        break
                c.body_complete = event == CHUNK_END
            else:
                taken = n if n < c.remaining else c.remaining
                if c.body_bytes is not None:
                    memcpy(PyBytes_AS_STRING(c.body_bytes) + c.body_filled, p, taken)
                    c.body_filled += taken
                else:
                    c.body.append(PyBytes_FromStringAndSize(<const char *>p, taken))
                c.remaining -= taken
                c.body_complete = not c.remaining
        except OSError as error:
            self.log.error("Spooling a request body failed: %s", error)
            raise http_error(Code.SPOOL_FULL) from None
        if not c.body_complete:
            self.enter(c, BODY)
        return taken

    cdef int body_received(self, Connection c, Py_ssize_t n) except -1:
        """`n` bytes of the body went to their place in `body_bytes`."""
        c.body_filled += n
        c.remaining -= n
        if c.remaining:
            self.enter(c, BODY)
            return 0
        c.body_complete = True
        self.respond(c, False)
        return 0 if c.state == CLOSED else self.settle(c)

    # -- the request cycle ----------------------------------------------------------------------------

    cdef int respond(self, Connection c, bint pipelined) except -1:
        """Call the application for the request at hand, and see its response on its way.

        `pipelined` says that bytes of a next request are there already.
        """
        cdef ResponseWriter writer
        cdef dict environ = c.environ
        cdef bint keep_alive, timed
        cdef long long begun = 0, taken, before
        cdef str target = c.target
        self.requests += 1
        c.served += 1
        if self.requests == self.max_requests:
            self.stopping = True
            if self.on_max_requests is not None:
                self.on_max_requests()
        try:
            self.complete_environ(c, environ)
        except OSError as error:
            self.log.error("Spooling a request body failed: %s", error)
            return self.refuse(c, http_error(Code.SPOOL_FULL), False)

        keep_alive = c.wants_keep_alive and self.has_keep_alive and not self.stopping
        if not self.buffer_request_body and (c.decoder is not None or c.remaining):
            keep_alive = False  # the application may leave some of it unread
        if self.late_turns and keep_alive and self.others_wait():
            keep_alive = False  # the client has waited here, and need not: others have nothing to do
        if (Py_REFCNT(<PyObject *>self.start_response) > 1 or Py_REFCNT(<PyObject *>self.write) > 1
                or Py_REFCNT(<PyObject *>self.writer) > 3):  # ours, and that of each of the two
            self.renew_writer()  # the application or a hook kept one: it must not reach the next response
        writer = self.writer
        writer.set_time(clock_ns(CLOCK_REALTIME_COARSE) // SECOND)
        writer.start(c.head_only, c.http_1_1, keep_alive)
        request = self.request_view(c, environ) if self.wants_head else None

        timed = pipelined or self.out.size > 0 or self.access is not None or request is not None
        if timed:
            begun = clock_ns(CLOCK_MONOTONIC)
        if self.out.size and self.fast_calls < FAST_CALLS:
            try:
                self.flush(c)  # an answer does not wait for a call that may be slow
            except ClientDisconnected:
                return self.drop(c)
        self.current = c
        try:
            if self.context_isolation:
                context = PyContext_CopyCurrent()
                PyContext_Enter(context)
                try:
                    self.call(c, writer, environ, request)
                finally:
                    PyContext_Exit(context)
            else:
                self.call(c, writer, environ, request)
        finally:
            self.current = None
        before = self.now
        self.now = clock_ns(CLOCK_MONOTONIC_COARSE)  # whoever waits from now on does not pay for the call
        if self.now - before >= LONG_CALL:
            self.late_turns = 2  # the rest of this turn, and what came in during the call
        if timed:
            taken = clock_ns(CLOCK_MONOTONIC) - begun
            self.fast_calls = self.fast_calls + 1 if taken <= FAST_CALL else 0
            if self.access is not None:
                self.access(writer, environ, taken / 1e9)
            if self.access_with_request is not None:
                self.access_with_request(request, writer, environ, taken / 1e9)
        if self.post_request is not None:
            self.post_request(request, environ, writer)
        if writer.excess or writer.left_out is not None:
            self.complain(writer, target)

        if c.state == CLOSED:
            return 0
        c.state = IDLE
        if not writer.keep_alive:
            c.close_after = True
            if pipelined or c.remaining > 0 or (c.decoder is not None and not c.decoder.done):
                c.linger = LINGER
            elif c.wants_keep_alive:  # a next request may cross our close
                c.linger = GRACE if self.stopping else LINGER
            elif (c.body_bytes is not None or c.body is not None) and self.more_waits(c):
                c.linger = LINGER  # a close over unread bytes would be a reset, and cost the answer
        return self.forget_request(c)

    cdef bint more_waits(self, Connection c) noexcept:
        """Whether the client has sent more than its request: no more was received than the body."""
        cdef char byte
        return recv(c.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0

    cdef int complete_environ(self, Connection c, dict environ) except -1:
        """The keys that need the connection or the body."""
        if c.client_socket is None:
            c.client_socket = ClientSocket(c.fd)
        environ["cyhorn.socket"] = c.client_socket
        environ["gunicorn.socket"] = c.client_socket
        if c.body_bytes is not None:
            environ["wsgi.input"] = BytesIO(c.body_bytes)
        elif c.body is not None:
            environ["wsgi.input"] = c.body.open()
            if c.decoder is not None:
                # The body is complete, so its length is known (3875 4.1.2).
                environ["CONTENT_LENGTH"] = str(c.decoder.size)
        elif c.decoder is not None or c.remaining:
            environ["wsgi.input"] = StreamInput(lambda size: self._receive_body(c, size))
        if c.proxy is not None:
            environ["PROXY_PROTOCOL"] = c.proxy.protocol
            environ["PROXY_ADDR"] = c.proxy.proxy_addr
            environ["PROXY_PORT"] = str(c.proxy.proxy_port)
        return 0

    cdef object request_view(self, Connection c, dict environ):
        trailers = c.decoder.trailers if c.decoder is not None else []
        proxy = c.proxy._asdict() if c.proxy is not None else None
        return Request(c.head, environ, c.served, trailers, proxy)

    cdef int call(self, Connection c, ResponseWriter writer, dict environ, object request) except -1:
        """Run the application and its iterable; `close()` is called exactly once, whatever happens."""
        result = None
        try:
            try:
                if self.pre_request is not None:
                    self.pre_request(request)
                result = self.application(environ, self.start_response)
                if type(result) is list or type(result) is tuple:
                    writer.put_whole(result)
                    writer.end()
                else:
                    self.stream(c, writer, result)
                    self.flush(c)  # the client does not wait for close()
            finally:
                if type(result) is not list and type(result) is not tuple:
                    close_iterable = getattr(result, "close", None)
                    if close_iterable is not None:
                        self.close_iterable(close_iterable, c)
        except ClientDisconnected as error:
            self.log_loss(c, error)
            writer.fail(499)
            self.drop(c)
        except Exception as error:
            self.failed(c, writer, error)
        except BaseException as error:
            # The worker is told to leave, from inside the application: leave with an answer.
            self.failed(c, writer, error)
            raise
        return 0

    cdef int close_iterable(self, object close_it, Connection c) except -1:
        try:
            close_it()
        except Exception:
            # What was sent stays sent; the next request is not this one's victim.
            self.log.exception("Error in close() after request %s", c.target)
        return 0

    cdef int stream(self, Connection c, ResponseWriter writer, object result) except -1:
        """Send the items of `result` as they come, without waiting for the next."""
        if isinstance(result, FileWrapper) and self.send_file(c, writer, result):
            return 0
        try:
            items = iter(result)
        except TypeError as error:
            raise ApplicationError(
                f"the application returned {type(result).__name__}, not an iterable of bytes"
            ) from error
        for item in items:
            writer.put_chunk(item)
            if self.out.size:
                self.flush(c)
                self.beat()
            if writer.is_full():
                break
        return writer.end()

    cdef bint send_file(self, Connection c, ResponseWriter writer, object wrapper) except -1:
        """Send a real file from its position without reading it; False when it is to be iterated."""
        if not self.sendfile or c.tls is not None:
            return False
        region = wrapper.region()
        if region is None:
            return False
        fd, offset, available = region
        count = writer.file(available)
        if count < 0:
            return False
        writer.end()
        self.flush(c)
        if count:
            queue = self.queue_of(c)
            queue.append_file(fd, offset, count)
            self.advance(c)
        return True

    cdef int failed(self, Connection c, ResponseWriter writer, object error) except -1:
        """The application raised, or broke PEP 3333: 500 where nothing was sent, else cut."""
        cdef int status = 500
        cdef bint sent = writer.headers_sent
        if isinstance(error, HttpError):  # the client's mistake, met in wsgi.input
            self.log_refusal(c, error)
            status = error.status
        else:
            self.log.error("Error handling request %s", c.target, exc_info=error)
        writer.fail(status)
        try:
            if sent:
                self.flush(c)
                self.drop(c)
            else:
                self.append_error(c, status, False)
                self.flush(c)
        except ClientDisconnected:
            self.drop(c)
        return 0

    cdef int complain(self, ResponseWriter writer, str target) except -1:
        if writer.excess:
            self.log.warning(
                "The body of %s is longer than its Content-Length of %s; the rest was cut",
                target,
                writer.response_length,
            )
        for name in writer.dropped:
            self.warn_once(name, "The application's hop-by-hop header %r was dropped (PEP 3333)", name)
        return 0

    cdef int warn_once(self, str key, str message, object value) except -1:
        if key not in self.warned:
            self.warned.add(key)
            self.log.warning(message, value)
        return 0

    def _early_hints(self, headers):
        """environ["wsgi.early_hints"]: for the request that is in the application, if any."""
        if self.current is not None:
            self.writer.early_hints(headers)

    # -- refusing -----------------------------------------------------------------------------------------

    cdef int refuse(self, Connection c, object error, bint head_only) except -1:
        """Answer the peer's mistake; nothing after it on the connection is read."""
        if c.remote_addr is None:
            self.name_peer(c)
        self.log_refusal(c, error)
        try:
            self.append_error(c, error.status, head_only)
            self.flush(c)
        except ClientDisconnected:
            return self.drop(c)
        c.close_after = True
        c.linger = LINGER
        return self.forget_request(c)

    cdef int log_refusal(self, Connection c, object error) except -1:
        log = self.log.info if error.status < 500 else self.log.error
        log("Invalid request from ip=%s: %s [%s]", c.remote_addr, error.detail, error.code.name)
        return 0

    cdef int append_error(self, Connection c, int status, bint head_only) except -1:
        accept = c.environ.get("HTTP_ACCEPT", "") if c.environ is not None else ""
        return self.out.put_bytes(
            error_response(
                status,
                accept=accept if isinstance(accept, str) else "",
                head_only=head_only or c.head_only,
                server_header=self.options.server_header,
            )
        )

    # -- sending ------------------------------------------------------------------------------------------

    def _flush_current(self):
        """What `write()` and early hints call: the bytes leave at once."""
        if self.current is not None:
            self.flush(self.current)

    cdef int flush(self, Connection c) except -1:
        """Send what has gathered. Raises ClientDisconnected."""
        cdef OutputBuffer out = self.out
        cdef Py_ssize_t sent
        if not out.size:
            return 0
        if c.state == CLOSED:
            out.forget()
            raise ClientDisconnected("the connection is closed")
        if c.tls is not None:
            return self.encrypt(c)
        if c.queue is not None:
            return self.send_bytes(c, out.take())
        if out.large_count:
            return self.flush_parts(c)
        sent = send(c.fd, out.data, out.used, MSG_NOSIGNAL)
        if sent == out.used:
            out.forget()
            return 0
        sent = self.sent_or_zero(sent)
        data = PyBytes_FromStringAndSize(<const char *>out.data + sent, out.used - sent)
        out.forget()
        return self.enqueue(c, data)

    cdef Py_ssize_t sent_or_zero(self, Py_ssize_t sent) except -1:
        """The result of a send: 0 when the socket is full. Raises ClientDisconnected."""
        if sent >= 0:
            return sent
        if errno == EAGAIN or errno == EINTR:
            return 0
        reason = os.strerror(errno)
        self.out.forget()
        raise ClientDisconnected(reason)

    cdef int flush_parts(self, Connection c) except -1:
        """Send large parts from where they are, and the small ones between them."""
        cdef OutputBuffer out = self.out
        cdef iovec parts[PART_COUNT]
        cdef msghdr message
        cdef Py_ssize_t i, at = 0, sent, length
        cdef int count = 0
        cdef list large = out.large
        if 2 * out.large_count + 1 > PART_COUNT:
            return self.send_bytes(c, out.take())
        for i in range(out.large_count):
            if out.places[i] > at:
                parts[count].iov_base = out.data + at
                parts[count].iov_len = out.places[i] - at
                count += 1
                at = out.places[i]
            parts[count].iov_base = PyBytes_AS_STRING(large[i])
            parts[count].iov_len = PyBytes_GET_SIZE(large[i])
            count += 1
        if out.used > at:
            parts[count].iov_base = out.data + at
            parts[count].iov_len = out.used - at
            count += 1
        memset(&message, 0, sizeof(message))
        message.msg_iov = parts
        message.msg_iovlen = count
        sent = self.sent_or_zero(sendmsg(c.fd, &message, MSG_NOSIGNAL))
        if sent == out.size:
            out.forget()
            return 0
        for part in self.take_parts():  # what is left goes to the queue
            length = PyBytes_GET_SIZE(part)
            if sent >= length:
                sent -= length
            else:
                self.enqueue(c, memoryview(part)[sent:])
                sent = 0
        return 0

    cdef list take_parts(self):
        """What has gathered, and forget it: the large parts as they are, the others copied."""
        cdef OutputBuffer out = self.out
        cdef Py_ssize_t i, at = 0
        cdef list parts = []
        for i in range(out.large_count):
            if out.places[i] > at:
                parts.append(PyBytes_FromStringAndSize(<const char *>out.data + at, out.places[i] - at))
                at = out.places[i]
            parts.append(out.large[i])
        if out.used > at:
            parts.append(PyBytes_FromStringAndSize(<const char *>out.data + at, out.used - at))
        out.forget()
        return parts

    cdef int encrypt(self, Connection c) except -1:
        """Send what has gathered over TLS, a piece at a time: a large answer is not in memory twice."""
        cdef Py_ssize_t start
        tls = c.tls
        for part in self.take_parts():
            for start in range(0, PyBytes_GET_SIZE(part), ENCRYPT_SIZE):
                tls.write(memoryview(part)[start:start + ENCRYPT_SIZE])
                self.send_bytes(c, tls.pending_output())
        return 0

    cdef int send_bytes(self, Connection c, bytes data) except -1:
        """Send `data`, after what is queued already; what the socket does not take is queued."""
        cdef Py_ssize_t sent
        if c.queue is not None:
            self.enqueue(c, data)
            return 0 if c.queue is None else self.advance(c)
        sent = self.sent_or_zero(send(c.fd, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), MSG_NOSIGNAL))
        if sent < PyBytes_GET_SIZE(data):
            self.enqueue(c, memoryview(data)[sent:])
        return 0

    cdef object queue_of(self, Connection c):
        options = self.options
        if c.queue is None:
            c.queue = OutQueue(
                options.response_buffer_size, options.response_spool_size, options.tmp_upload_dir
            )
        return c.queue

    cdef int enqueue(self, Connection c, object data) except -1:
        queue = self.queue_of(c)
        queue.append(data)
        while queue.full:
            self.wait_writable(c)
            self.advance(c)
            if c.queue is None:
                break
        return 0

    cdef int advance(self, Connection c) except -1:
        """Send what the socket takes of the queue."""
        c.queue.drain(c.fd)
        if not c.queue.size:
            c.queue.close()
            c.queue = None
        return self.beat()

    cdef int wait_writable(self, Connection c) except -1:
        """Memory and spool are full: the worker waits for this client, up to send_timeout."""
        poll = select.poll()
        poll.register(c.fd, select.POLLOUT)
        deadline = time.monotonic() + (self.options.send_timeout or float("inf"))
        while not poll.poll(min(1.0, max(0.0, deadline - time.monotonic())) * 1000):
            if time.monotonic() >= deadline:
                raise ClientDisconnected("the client does not read its response")
            self.beat()
        return 0

    cdef int writable(self, Connection c) except -1:
        took = c.queue.drain(c.fd)
        if c.queue.size:
            if took:
                self.enter(c, SENDING)
            return 0
        c.queue.close()
        c.queue = None
        if c.close_after:
            return self.finish(c)
        if c.environ is not None:
            self.enter(c, BODY)
        elif c.served:
            self.idle(c)
        else:
            self.enter(c, HEAD)
        self.watch(c, EPOLLIN)
        return self.process(c, c.pending, c.pending_size) if c.pending_size else 0

    cdef int settle(self, Connection c) except -1:
        """After a turn's work on a connection: send what gathered, and wait for what comes next."""
        try:
            self.flush(c)
        except ClientDisconnected:
            self.drop(c)
        if c.state == CLOSED:
            return 0
        if c.queue is not None:
            self.enter(c, SENDING)
            return self.watch(c, EPOLLOUT)
        if c.close_after:
            return self.finish(c)
        if c.state == IDLE:
            self.idle(c)
        return self.watch(c, EPOLLIN)

    cdef inline void idle(self, Connection c) noexcept:
        """Wait for a next request: a while, or a moment once the loop stops."""
        c.state = IDLE
        self.arm(c, GRACE if self.stopping else IDLE)

    # -- TLS ------------------------------------------------------------------------------------------------

    cdef bytes decrypt(self, Connection c):
        """Plaintext from the client, b"" at its end, None when there is none now."""
        cdef Py_ssize_t n = recv(c.fd, self.received, RECEIVE_SIZE, 0)
        cdef bytes plain
        cdef bint ended = n == 0
        if n < 0:
            return None if errno == EAGAIN or errno == EINTR else b""
        c.tls.feed(PyBytes_FromStringAndSize(<const char *>self.received, n))
        try:
            plain = c.tls.read(RECEIVE_SIZE)
            while True:
                more = c.tls.read(RECEIVE_SIZE)
                if not more:
                    break
                plain += more
        except ClientDisconnected as error:
            if getattr(error, "plain_http", False):
                c.tls = None  # so that the client can read what is wrong
                self.refuse(c, http_error(Code.PLAIN_HTTP), _begins_head(self.received, n))
                self.settle(c)
                return None
            self.log.debug("TLS from %s failed: %s", c.remote_addr, error)
            plain = b""
            ended = True
        output = c.tls.pending_output()  # the handshake's side of it, or an alert
        if output:
            try:
                self.send_bytes(c, output)
            except ClientDisconnected:
                return b""
        if plain:
            return plain
        return b"" if ended or c.tls.eof else None

    # -- reading while the application runs (buffer_request_body = False) -------------------------

    def _receive_body(self, Connection c not None, size):
        """Up to about `size` decoded bytes of the body of the request at hand; b"" at its end."""
        if self.current is not c:
            raise ClientDisconnected("the request is over")
        if c.continue_due:
            self.send_continue(c)
        while (not c.decoder.done) if c.decoder is not None else c.remaining > 0:
            if c.pending_size:
                data = PyBytes_FromStringAndSize(<const char *>c.pending, c.pending_size)
            else:
                data = self.await_bytes(c)
            if c.decoder is not None:
                pieces, stop = c.decoder.feed(data)
            else:
                stop = min(len(data), c.remaining)
                c.remaining -= stop
                pieces = (data[:stop],)
            self.forget_pending(c)
            rest = data[stop:]
            self.keep(c, <const unsigned char *>PyBytes_AS_STRING(rest), PyBytes_GET_SIZE(rest))
            plain = b"".join(pieces)
            if plain:
                return plain
        return b""

    cdef bytes await_bytes(self, Connection c):
        """Wait for bytes of the body, up to client_body_timeout."""
        cdef Py_ssize_t n
        cdef bytes data
        self.flush(c)  # the client may wait for the answers before
        poll = select.poll()
        poll.register(c.fd, select.POLLIN)
        deadline = time.monotonic() + (self.options.client_body_timeout or float("inf"))
        while True:
            if c.tls is not None:
                data = self.decrypt(c)
            else:
                n = recv(c.fd, self.received, RECEIVE_SIZE, 0)
                data = None
                if n >= 0:
                    data = PyBytes_FromStringAndSize(<const char *>self.received, n)
                elif errno != EAGAIN and errno != EINTR:
                    data = b""
            if data:
                return data
            if data is not None:
                raise ClientDisconnected("the client left inside its request")
            while not poll.poll(min(1.0, max(0.0, deadline - time.monotonic())) * 1000):
                if time.monotonic() >= deadline:
                    raise http_error(Code.TIMEOUT)
                self.beat()
