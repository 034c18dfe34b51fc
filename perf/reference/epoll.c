/* The limit: what a request costs when nobody looks at it.
 *
 * A single-threaded epoll server with constant answers. It finds the end of each head
 * (CRLF CRLF), skips a body by its Content-Length, and sends bytes made at start. It checks
 * nothing and keeps no time, so the cost that remains is the kernel's: no correct server can
 * be cheaper, and perf/compare gives every server's cost as a multiple of this one's.
 *
 *   epoll PORT [--close] [--file PATH]
 *
 * Answers by the first letters of the path: /la(rge) 1 MB, /st(ream) 20 chunks of 1 KB with a
 * send each, /fi(le) PATH by sendfile; all else "Hello, World!", or, to a POST, the number of
 * bytes it held. --close ends each connection after its first answer.
 *
 * Per keep-alive request: one recv, one send, a share of an epoll_wait. Heads that arrive in
 * one read (pipelining) are answered by one send. Per connection: accept4, one EPOLL_CTL_ADD
 * only when the request was not there yet, close. TCP_NODELAY stands on the listener; Linux
 * copies it to what is accepted.
 *
 * Invariant: a connection either reads (EPOLLIN, out_left == 0 and file_left == 0) or writes
 * (EPOLLOUT); bytes that arrived behind an answer not yet sent wait in `tail`.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    EVENTS = 256,
    INPUT = 1 << 16,     /* the one read buffer */
    BATCH = 1024,        /* copies of the small answer, side by side */
    LARGE = 1 << 20,
    CHUNKS = 20,
    CHUNK = 1024,
    FRAME = 5 + CHUNK + 2,
};

#define NAMES "Server: reference\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Type: text/plain\r\n"

struct connection {
    int fd;
    int writing;         /* registered for EPOLLOUT */
    int registered;
    int closing;         /* close when the output is gone */
    size_t body_left;    /* bytes of a request body to skip before the answer */
    size_t body_size;
    const char *out;     /* constant memory not yet sent */
    size_t out_left;
    off_t file_offset;
    size_t file_left;
    char *tail;          /* an incomplete head, or requests behind a blocked answer */
    size_t tail_length;
};

static int poller, listener, close_each;
static int file = -1;
static size_t file_size;
static struct connection **connections;
static size_t capacity;
static char input[INPUT];

static char *hello, *large, *stream, *posted, file_head[256], counted[512];
static size_t hello_length, large_length, stream_length, stream_head, posted_length, file_head_length;

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static size_t head(char *to, size_t room, const char *framing)
{
    return snprintf(to, room, "HTTP/1.1 200 OK\r\n" NAMES "%s%s\r\n", framing,
                    close_each ? "Connection: close\r\n" : "");
}

/* All answers, made once. */
static void make_answers(void)
{
    char one[512], framing[64];
    size_t n = head(one, sizeof one, "Content-Length: 13\r\n");
    n += snprintf(one + n, sizeof one - n, "Hello, World!");
    hello_length = n;
    hello = malloc(BATCH * n);
    for (int i = 0; i < BATCH; i++)
        memcpy(hello + i * n, one, n);

    posted = malloc(512);
    posted_length = head(posted, 512, "Content-Length: 4\r\n");
    posted_length += snprintf(posted + posted_length, 512 - posted_length, "1024");

    snprintf(framing, sizeof framing, "Content-Length: %d\r\n", LARGE);
    large = malloc(512 + LARGE);
    large_length = head(large, 512, framing);
    memset(large + large_length, 'x', LARGE);
    large_length += LARGE;

    stream = malloc(512 + CHUNKS * FRAME + 8);
    stream_head = stream_length = head(stream, 512, "Transfer-Encoding: chunked\r\n");
    for (int i = 0; i < CHUNKS; i++) {
        memcpy(stream + stream_length, "400\r\n", 5);
        memset(stream + stream_length + 5, 'x', CHUNK);
        memcpy(stream + stream_length + 5 + CHUNK, "\r\n", 2);
        stream_length += FRAME;
    }
    memcpy(stream + stream_length, "0\r\n\r\n", 5);
    stream_length += 5;

    snprintf(framing, sizeof framing, "Content-Length: %zu\r\n", file_size);
    file_head_length = head(file_head, sizeof file_head, framing);
}

static struct connection *open_connection(int fd)
{
    if ((size_t)fd >= capacity) {
        size_t wider = capacity ? capacity * 2 : 1024;
        while (wider <= (size_t)fd)
            wider *= 2;
        connections = realloc(connections, wider * sizeof *connections);
        memset(connections + capacity, 0, (wider - capacity) * sizeof *connections);
        capacity = wider;
    }
    struct connection *c = connections[fd];
    if (!c)
        c = connections[fd] = malloc(sizeof *c);
    memset(c, 0, sizeof *c);
    c->fd = fd;
    return c;
}

static void end(struct connection *c)
{
    free(c->tail);
    c->tail = NULL;
    close(c->fd);
}

static void watch(struct connection *c, int writing)
{
    struct epoll_event event = {.events = writing ? EPOLLOUT : EPOLLIN, .data.ptr = c};
    if (c->registered && c->writing == writing)
        return;
    if (epoll_ctl(poller, c->registered ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, c->fd, &event) < 0)
        die("epoll_ctl");
    c->registered = 1;
    c->writing = writing;
}

/* Send what is queued: 1 all gone, 0 the socket is full, -1 the peer is gone. */
static int flush_output(struct connection *c)
{
    while (c->out_left) {
        ssize_t n = send(c->fd, c->out, c->out_left, MSG_NOSIGNAL | (c->file_left ? MSG_MORE : 0));
        if (n < 0)
            return errno == EAGAIN ? 0 : -1;
        c->out += n;
        c->out_left -= n;
    }
    while (c->file_left) {
        ssize_t n = sendfile(c->fd, file, &c->file_offset, c->file_left);
        if (n <= 0)
            return n < 0 && errno == EAGAIN ? 0 : -1;
        c->file_left -= n;
    }
    return 1;
}

static int answer(struct connection *c, const char *from, size_t length)
{
    c->out = from;
    c->out_left = length;
    return flush_output(c);
}

/* The stream, a send for each chunk; what blocks is sent later in one piece. */
static int answer_stream(struct connection *c)
{
    size_t upto = stream_head, sent = 0;
    for (int i = 0; i < CHUNKS; i++) {
        upto += FRAME;
        int state = answer(c, stream + sent, upto - sent);
        if (state != 1) {
            c->out_left = stream + stream_length - c->out;
            return state;
        }
        sent = upto;
    }
    return answer(c, stream + sent, stream_length - sent);
}

static size_t content_length(const char *p, const char *stop)
{
    static const char name[] = "\r\ncontent-length:";
    for (; p + sizeof name < stop; p++)
        if (*p == '\r' && !strncasecmp(p, name, sizeof name - 1))
            return strtoul(p + sizeof name - 1, NULL, 10);
    return 0;
}

static void keep_tail(struct connection *c, const char *p, size_t n)
{
    c->tail = malloc(n);
    memcpy(c->tail, p, n);
    c->tail_length = n;
}

/* The answer to a body of another size than the usual one. */
static size_t count_body(size_t size)
{
    char digits[32], framing[64];
    int n = snprintf(digits, sizeof digits, "%zu", size);
    snprintf(framing, sizeof framing, "Content-Length: %d\r\n", n);
    size_t length = head(counted, sizeof counted, framing);
    memcpy(counted + length, digits, n);
    return length + n;
}

/* Answer every complete request in p[0:n]: 1 go on reading, 0 blocked while writing, -1 close. */
static int serve(struct connection *c, const char *p, size_t n)
{
    const char *stop = p + n;
    size_t small = 0;    /* small answers owed */
    int state = 1;
    while (p < stop) {
        if (c->body_size) {
            size_t here = (size_t)(stop - p) < c->body_left ? (size_t)(stop - p) : c->body_left;
            p += here;
            c->body_left -= here;
            if (c->body_left)
                break;
            if (c->body_size != 1024)
                state = answer(c, counted, count_body(c->body_size));
            else
                state = answer(c, posted, posted_length);
            c->body_size = 0;
        } else {
            const char *last = memmem(p, stop - p, "\r\n\r\n", 4);
            if (!last)
                break;
            const char *next = last + 4;
            const char *path = p + 5;   /* of "GET /..." */
            int plain = *p != 'P' && memcmp(path, "la", 2) && memcmp(path, "st", 2) && memcmp(path, "fi", 2);
            if (plain && !close_each && small < BATCH) {
                small++;
                p = next;
                continue;
            }
            if (small) {
                state = answer(c, hello, small * hello_length);
                small = 0;
                if (state != 1)
                    break;
                continue;
            }
            if (plain)
                state = answer(c, hello, hello_length);
            else if (*p == 'P') {
                c->body_size = c->body_left = content_length(p, next);
                if (!c->body_size)
                    state = answer(c, hello, hello_length);
            } else if (*path == 'l')
                state = answer(c, large, large_length);
            else if (*path == 's')
                state = answer_stream(c);
            else {
                c->file_offset = 0;
                c->file_left = file_size;
                state = answer(c, file_head, file_head_length);
            }
            p = next;
        }
        if (state != 1)
            break;
        if (close_each && !c->body_size)
            return -1;
    }
    if (small && state == 1)
        state = answer(c, hello, small * hello_length);
    if (state < 0)
        return -1;
    if (state == 0 && close_each)
        c->closing = 1;
    if (p < stop)
        keep_tail(c, p, stop - p);
    return state;
}

/* One read, and the answers to what it held. */
static void readable(struct connection *c)
{
    size_t have = 0;
    if (c->tail) {
        have = c->tail_length;
        memcpy(input, c->tail, have);
        free(c->tail);
        c->tail = NULL;
    }
    ssize_t n = recv(c->fd, input + have, INPUT - have, 0);
    if (n <= 0) {
        if (n < 0 && errno == EAGAIN) {
            if (have)
                keep_tail(c, input, have);
            watch(c, 0);
        } else
            end(c);
        return;
    }
    int state = serve(c, input, have + n);
    if (state < 0)
        end(c);
    else
        watch(c, state == 0);
}

static void writable(struct connection *c)
{
    int state = flush_output(c);
    if (state == 0)
        return;
    if (state < 0 || c->closing) {
        end(c);
        return;
    }
    if (c->tail) {
        char *tail = c->tail;
        c->tail = NULL;
        state = serve(c, tail, c->tail_length);
        free(tail);
        if (state < 0) {
            end(c);
            return;
        }
        if (state == 0)
            return;
    }
    watch(c, 0);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: %s PORT [--close] [--file PATH]\n", argv[0]);
        return 2;
    }
    for (int i = 2; i < argc; i++) {
        if (!strcmp(argv[i], "--close"))
            close_each = 1;
        else if (!strcmp(argv[i], "--file") && i + 1 < argc) {
            struct stat about;
            file = open(argv[++i], O_RDONLY | O_CLOEXEC);
            if (file < 0 || fstat(file, &about) < 0)
                die(argv[i]);
            file_size = about.st_size;
        }
    }
    signal(SIGPIPE, SIG_IGN);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    make_answers();

    int on = 1;
    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(atoi(argv[1])),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, 2048) < 0)
        die("listen");
    poller = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);

    struct epoll_event events[EVENTS];
    for (;;) {
        int n = epoll_wait(poller, events, EVENTS, -1);
        if (n < 0 && errno != EINTR)
            die("epoll_wait");
        for (int i = 0; i < n; i++) {
            struct connection *c = events[i].data.ptr;
            if (!c) {
                int fd;
                while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0)
                    readable(open_connection(fd));
            } else if (c->writing)
                writable(c);
            else
                readable(c);
        }
    }
}
