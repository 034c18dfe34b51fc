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
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.unicode cimport PyUnicode_AsUTF8
from libc.errno cimport EAGAIN, EINTR, EMFILE, ENFILE, ENOBUFS, ENOMEM, errno
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from cyhorn._chunked cimport CHUNK_DATA, CHUNK_END, ChunkedDecoder
from cyhorn._connection cimport (
    ADDRESS_SIZE,
    BODY,
    CALLING,
    CLOSED,
    GRACE,
    HEAD,
    IDLE,
    LINGER,
    RECEIVE_SIZE,
    SENDING,
    TIMER_COUNT,
    Connection,
    Listener,
    Timers,
)
from cyhorn._cycle cimport RequestCycle
from cyhorn._environ cimport EnvironBuilder
from cyhorn._parser cimport LineCache, RequestParser, build_head, refusal
from cyhorn._pulse cimport METHOD_SIZE, Pulse
from cyhorn._system cimport (
    CLOCK_MONOTONIC,
    CLOCK_MONOTONIC_COARSE,
    CLOCK_REALTIME_COARSE,
    EPOLL_CLOEXEC,
    EPOLL_CTL_ADD,
    EPOLL_CTL_DEL,
    EPOLL_CTL_MOD,
    EPOLLEXCLUSIVE,
    EPOLLIN,
    EPOLLOUT,
    SHUT_WR,
    SOCK_CLOEXEC,
    SOCK_NONBLOCK,
    accept4,
    clock_ns,
    close,
    epoll_create1,
    epoll_ctl,
    epoll_event,
    epoll_wait,
    recv,
    shutdown,
    sockaddr,
    socklen_t,
)

import os
import threading
from collections import deque

from cyhorn.errors import ClientDisconnected, Code, HttpError, Stopped, TakenOver, http_error
from cyhorn.net.addresses import TrustedPeers
from cyhorn.wsgi.spool import BodySpool
from cyhorn.wsgi.template import environ_template

cdef extern from "ctype.h" nogil:
    int toupper(int letter)

cdef extern from "strings.h" nogil:
    int strncasecmp(const char *a, const char *b, size_t n)

cdef extern from "_watch.h" nogil:
    void cyhorn_call_begins(call_watch *watch, long long ticket)
    void cyhorn_call_ends(call_watch *watch)

cdef enum:
    EVENT_COUNT = 512           # descriptors told ready by one epoll_wait
    ACCEPT_BATCH = 16           # connections accepted in one turn before the others are looked at again
    DRAIN_BATCHES = 256         # batches accepted at most when the loop stops: clients may come as fast
    GATHER_MAX = 65536          # answers of more bytes than this do not wait for those behind them
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


cdef inline long long nanoseconds(double seconds) noexcept:
    """`seconds`, at most a century: a sum with the time of the clock is to be a time, too."""
    return <long long>(min(seconds, 3.2e9) * SECOND)


cdef inline bint _is_head(RequestParser parser, const unsigned char *method) noexcept:
    """Whether the method of the head that was found is HEAD."""
    if parser.method.length != 4:
        return False
    if parser.casefold_http_method:
        return strncasecmp(<const char *>method, b"HEAD", 4) == 0
    return memcmp(method, b"HEAD", 4) == 0


@cython.final
cdef class Loop:
    """Serves `application` on `listeners` until `stop` and the last connection's end.

    `log` is the error log (a Gunicorn-style logger). `heartbeat` is a slot with `notify()`
    and settable `requests` and `connections`, or None. `watch` maps descriptors to callables
    for when they become readable (wake-up and parent pipe). `on_max_requests` is called once
    when `options.max_requests` is reached; the loop then stops by itself.
    """

    def __cinit__(self, *args, **kwargs):
        self.epoll = -1
        self.waker = -1
        self.call_watch = NULL
        self.received = NULL
        self.events = NULL
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
        self.has_keep_alive = options.keepalive > 0
        self.buffer_request_body = options.buffer_request_body
        self.proxy_expected = options.proxy_protocol != "off"
        self.limit_request_body = options.limit_request_body
        self.body_buffer_size = options.body_buffer_size
        self.max_requests = options.max_requests
        self.max_calls = options.max_calls
        self.max_connections = options.max_connections
        self.timeout = nanoseconds(options.timeout)
        self.tick = nanoseconds(options.tick)
        self.on_tick = options.on_tick
        durations = (options.client_header_timeout, options.client_body_timeout, options.send_timeout,
                     options.keepalive, options.linger_timeout)
        self.timers[GRACE].duration = STOP_GRACE
        for i in range(LINGER + 1):
            self.timers[i].duration = nanoseconds((<tuple>durations)[i])
        self.received = <unsigned char *>PyMem_Malloc(RECEIVE_SIZE)
        self.events = <epoll_event *>PyMem_Malloc(EVENT_COUNT * sizeof(epoll_event))
        if self.received == NULL or self.events == NULL:
            raise MemoryError
        self.pulse = Pulse(heartbeat, options.multiprocess, options.shared_listeners)
        self.lead_with(self.new_cycle())
        self.returned = []
        self.parked = deque()
        self.away = []
        self.spare = []
        self.cache = LineCache()
        self.parser = self.new_parser()
        self.trusted = TrustedPeers(options.forwarded_allow_ips)
        self.proxy_trusted = TrustedPeers(options.proxy_allow_ips)
        self.now = clock_ns(CLOCK_MONOTONIC_COARSE)
        self.epoll = epoll_create1(EPOLL_CLOEXEC)
        if self.epoll < 0:
            PyErr_SetFromErrno(OSError)
        self.listeners = []
        for info in listeners:
            self.listen(info, errors)
        self.watched = dict(watch or {})
        if self.max_calls:
            self.waker = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            self.watched[self.waker] = self._woken
        for fd in self.watched:
            self.control(EPOLL_CTL_ADD, fd, EPOLLIN, WATCH_MARK | <uint64_t><int>fd)

    def __dealloc__(self):
        PyMem_Free(self.received)
        PyMem_Free(self.events)
        if self.epoll >= 0:
            close(self.epoll)

    cdef int listen(self, info, errors) except -1:
        options = self.options
        cdef Listener listener = Listener.__new__(Listener)
        template = environ_template(
            info, errors=errors, multithread=options.multithread, multiprocess=options.multiprocess
        )
        template["wsgi.early_hints"] = self.cycle.early_hints
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
        listener.options = options
        listener.log = self.log
        listener.trusted = self.trusted
        listener.pulse = self.pulse
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

    # -- the turn ------------------------------------------------------------------------------

    def run(self):
        """Serve until stopped, and until the last connection has ended."""
        try:
            while self.one_turn(-1):
                pass
        finally:
            if self.lines is not None:
                self.lines.write_out()
        self.close()

    def stop(self):
        """Stop gracefully: what was received is answered, then the connections close.

        May be called from a signal handler or from the application's thread.
        """
        self.stopping = True
        for cycle in (self.cycle, *self.away):
            (<RequestCycle>cycle).stop()

    def give_up(self):
        """Answer every request that is in the application by 504, as far as nothing was sent.

        The calls are stuck, and the process ends next. May be called from a signal handler.
        """
        for cycle in (self.cycle, *self.away):
            (<RequestCycle>cycle).give_up()

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
        if self.waker >= 0:
            close(self.waker)
            self.waker = -1
        for cycle in (self.cycle, *self.spare):
            (<RequestCycle>cycle).record = NULL  # those in a call keep the table, and need it
            (<RequestCycle>cycle).recorded = None
        self.pulse.close()

    def turn(self, timeout=None):
        """Wait at most `timeout` seconds (None: until the next timer), and serve what is ready.

        Returns whether there is more to do: False once stopped and without connections.
        """
        return self.one_turn(-1 if timeout is None else <int>(timeout * 1000))

    cdef list open_connections(self):
        return [c for c in self.by_fd if c is not None]

    cdef bint one_turn(self, int timeout) except -1:
        cdef epoll_event *events = self.events
        cdef int i, count = 0
        cdef long long now
        if self.stopping and not self.draining:
            self.drain()
        if self.max_calls:
            self.take_back()
        if self.draining and not self.connections:
            return False
        if timeout < 0:
            timeout = self.patience()
        self.pulse.mark(False)
        if not timeout or self.last_count > 1:
            # A busy loop rarely waits: ask without letting go of the GIL first.
            count = epoll_wait(self.epoll, events, EVENT_COUNT, 0)
        if count == 0 and timeout:
            self.waiting = True  # already now: while lines are written another thread may come back
            if self.lines is not None and self.lines.used:
                self.lines.write_out()  # an idle worker has written all
            with nogil:
                count = epoll_wait(self.epoll, events, EVENT_COUNT, timeout)
            self.waiting = False
        if count < 0:
            if errno != EINTR:
                PyErr_SetFromErrno(OSError)
            count = 0
            PyErr_CheckSignals()
        self.last_count = count
        now = self.now = clock_ns(CLOCK_MONOTONIC_COARSE)
        if self.calls < self.max_calls or not self.max_calls or not self.all_stuck():
            self.pulse.beat(now)
        self.pulse.mark(True)
        if self.late_turns:
            self.late_turns -= 1
        for i in range(count):
            self.dispatch(events[i].data.u64, events[i].events)
        self.expire(now)
        if self.lines is not None and self.lines.used and (
                count < 2 or self.lines.are_old(clock_ns(CLOCK_REALTIME_COARSE))):
            self.lines.write_out()  # where more than one was ready more may be by now: see above
        self.pulse.publish(self.requests, self.connections)
        if self.now >= self.next_tick:
            self.next_tick = self.now + self.tick
            if self.on_tick is not None:
                self.on_tick()
        return not (self.draining and not self.connections)

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
            elif c.state != CALLING:
                self.readable(c)
            else:
                # What the client sends or how it leaves is looked at after the answer.
                self.control(EPOLL_CTL_DEL, c.fd, 0, 0)
                c.events = 0
        except ClientDisconnected as error:
            c.log_loss(error)
            self.drop(c)
        except Exception:
            # A mistake of ours, or a resource that ran out: this connection's loss alone.
            self.log.exception("Error while serving ip=%s", c.remote_addr)
            self.drop(c)
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
                if self.has_enough():
                    listener.resume_at = now + SHARE_PAUSE
                else:
                    listener.resume_at = 0
                    self.watch_listener(listener)
        return 0

    cdef int timed_out(self, Connection c) except -1:
        # 408 only where a request had begun: a silent connection has asked for nothing.
        if c.state == BODY or (c.state == HEAD and c.pending_size):
            error = http_error(Code.TIMEOUT)
            if c.parser is not None:  # it has read what is pending
                error = refusal(c.parser, c.pending, Code.TIMEOUT)
            self.refuse(c, error, self.begins_head(c.pending, c.pending_size))
            self.settle(c)
        elif c.state == IDLE or c.state == HEAD:
            self.finish(c)
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
                if not self.stopping and self.has_enough():
                    self.pause(listener, SHARE_PAUSE)
                    return False
            elif errno == EAGAIN:
                return False
            elif errno == EMFILE or errno == ENFILE or errno == ENOBUFS or errno == ENOMEM:
                reason = os.strerror(errno)
                self.pause(listener, ACCEPT_PAUSE)
                self.cycle.warn_once("accept", "Accepting pauses: %s", reason)
                return False
            # else this connection died in the queue; the next may live
        return True

    cdef int pause(self, Listener listener, long long duration) except -1:
        """Leave new connections to the other workers for a while."""
        if not listener.resume_at:
            self.control(EPOLL_CTL_DEL, listener.fd, 0, 0)
        listener.resume_at = self.now + duration
        return 0

    cdef int stand_back(self) except -1:
        """After a long call: who is sent away now does not come back to this worker."""
        if not self.stopping and self.pulse.others_wait():
            for listener in self.listeners:
                self.pause(<Listener>listener, SHARE_PAUSE)
        return 0

    cdef bint has_enough(self) noexcept:
        """Whether new connections are left to the others, or to wait."""
        if self.max_connections and self.connections >= self.max_connections:
            return True
        return self.pulse.has_its_share(self.connections, self.now)

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
        self.pulse.publish(self.requests, self.connections)  # what is served at once may take its time
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

    cdef int drop(self, Connection c) except -1:
        """Close a connection and let go of everything it holds."""
        if c.state == CLOSED:
            return 0
        self.unlink(c)
        c.state = CLOSED
        c.lost = True
        self.out.forget()  # what waits there is this connection's, never another's
        self.by_fd[c.fd] = None
        self.connections -= 1
        c.forget_request()
        if c.queue is not None:
            c.queue.close()
            c.queue = None
        if c.client_socket is not None:
            c.client_socket.detach_from_loop()
            c.client_socket = None
        c.forget_pending()
        c.parser = None
        c.tls = None
        if c.events:
            # A close alone would leave it in epoll where the application has duplicated or inherited it.
            epoll_ctl(self.epoll, EPOLL_CTL_DEL, c.fd, NULL)
        close(c.fd)
        return 0

    cdef int finish(self, Connection c) except -1:
        """Nothing more is to be sent: close, after a linger where the client may still send (9112 9.6)."""
        if c.tls is not None:
            tls = c.tls
            c.tls = None
            tls.shutdown()
            try:
                c.send_bytes(tls.pending_output())
            except ClientDisconnected:
                return self.drop(c)
            if c.queue is not None:  # close_notify waits for the client, too
                self.enter(c, SENDING)
                return self.watch(c, EPOLLOUT)
        if c.linger == 0 or self.timers[c.linger].duration == 0 or shutdown(c.fd, SHUT_WR) < 0:
            return self.drop(c)
        c.forget_pending()
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
            try:
                data = c.decrypt()
            except HttpError as error:  # it was no TLS
                self.refuse(c, error, self.begins_head(c.pending, c.pending_size))
                return 0 if c.state == CLOSED else self.settle(c)
            if data is not None:
                if PyBytes_GET_SIZE(data):
                    return self.process_copy(c, data)
                return self.finish(c)  # the client's close_notify wants ours (8446 6.1)
            if c.queue is not None:
                self.settle(c)  # TLS had to answer, and could not yet
            return 0
        if c.state == BODY and c.body_bytes is not None:
            # Where a body fits in memory its bytes go to their place.
            n = recv(c.fd, PyBytes_AS_STRING(c.body_bytes) + c.body_filled, c.remaining, 0)
            if n > 0:
                return self.body_received(c, n)
        elif c.pending_size:
            c.reserve_pending(c.pending_size + 4096)
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

    cdef int process_copy(self, Connection c, bytes data) except -1:
        """`process` for bytes that lie in a Python object, with those that wait already."""
        cdef Py_ssize_t n = PyBytes_GET_SIZE(data)
        if not c.pending_size:
            return self.process(c, <const unsigned char *>PyBytes_AS_STRING(data), n)
        c.reserve_pending(c.pending_size + n)
        memcpy(c.pending + c.pending_size, PyBytes_AS_STRING(data), n)
        c.pending_size += n
        return self.process(c, c.pending, c.pending_size)

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
                    if not self.buffer_request_body and c.body_awaited():
                        # The application reads from here; such a request is its connection's last.
                        c.keep(p + at, n - at)
                        self.respond(c, at < n)
                        return 0 if c.state >= CLOSED else self.settle(c)
                    if self.max_calls:
                        # Another thread may lead, and receive, before this one has the answer.
                        c.keep(p + at, n - at)
                        p, n, at = c.pending, c.pending_size, 0
                    self.respond(c, at < n)
                    if c.state >= CLOSED:
                        return 0
                    if self.out.size > GATHER_MAX:
                        c.flush(self.out)
                    if c.close_after or c.queue is not None:
                        break
        except HttpError as error:
            self.parser.reset()
            self.refuse(c, error, c.environ is None and self.begins_head(p + at, n - at))
        if c.state == CLOSED:
            return 0
        if at or not c.pending_size:
            c.keep(p + at, n - at)
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
                c.name_peer()
            if c.remote_addr not in self.proxy_trusted:
                raise http_error(Code.PROXY_PEER)
            if not header.keeps_peer:
                c.proxy = header
                c.remote_addr = header.client_addr
                c.remote_port = str(header.client_port)
                c.note_peer(PyUnicode_AsUTF8(c.remote_addr), header.client_port)
        return taken

    cdef Py_ssize_t take_head(self, Connection c, const unsigned char *p, Py_ssize_t n) except -1:
        """Read a head at `p`. Returns its length in bytes, 0 when more are needed."""
        cdef RequestParser parser = self.parser if c.parser is None else c.parser
        cdef Py_ssize_t taken = parser.feed(p, n)
        cdef int i
        if taken == 0:
            if c.parser is None:
                c.parser = parser
                self.parser = self.new_parser()
            return 0
        c.parser = None
        if taken < 0:
            raise refusal(parser, p, <int>-taken)
        if c.remote_addr is None:
            c.name_peer()
        c.head_only = _is_head(parser, p + parser.method.start)
        # The rest of the shortest head is as long as what is kept of the method.
        memcpy(c.caller.method, p + parser.method.start, METHOD_SIZE)
        if parser.casefold_http_method:
            for i in range(METHOD_SIZE):
                c.caller.method[i] = <char>toupper(<unsigned char>c.caller.method[i])
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
        if self.cycle.wants_head:
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
            self.cycle.send_continue(c)
        if c.state != CLOSED:
            self.enter(c, BODY)
        return 0

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
        return 0 if c.state >= CLOSED else self.settle(c)

    # -- the request at hand -------------------------------------------------------------------------

    cdef int respond(self, Connection c, bint pipelined) except -1:
        """Have the complete request answered, and decide what becomes of the connection.

        `pipelined` says that bytes of a next request are there already.
        """
        cdef bint keep_alive = c.wants_keep_alive and self.has_keep_alive
        cdef long long before
        if self.max_calls and self.calls >= self.max_calls:
            self.unlink(c)
            c.state = CALLING
            self.parked.append(c)
            return 0
        self.requests += 1
        c.served += 1
        if self.requests == self.max_requests:
            self.stop()
            if self.on_max_requests is not None:
                self.on_max_requests()
        if self.stopping or (not self.buffer_request_body and c.body_awaited()):
            keep_alive = False  # the application may leave some of the body unread
        if self.late_turns and keep_alive and c.serial != self.long_caller and self.pulse.others_wait():
            keep_alive = False  # the client has waited here, and need not: others have nothing to do
        if self.max_calls:
            keep_alive = self.call(c, keep_alive, pipelined)
        else:
            keep_alive = self.cycle.respond(c, keep_alive, pipelined, self.now)
        before = self.now
        self.now = clock_ns(CLOCK_MONOTONIC_COARSE)  # whoever waits from now on does not pay for the call
        if self.now - before >= LONG_CALL:
            self.late_turns = 2  # the rest of this turn, and what came in during the call
            self.long_caller = c.serial
            self.stand_back()
        return self.answered(c, keep_alive, pipelined)

    cdef int answered(self, Connection c, bint keep_alive, bint pipelined) except -1:
        """The answer is in the buffer or on its way: what becomes of the connection?"""
        if c.lost:
            return self.drop(c)
        if c.close_after:
            return 0  # refused
        c.state = IDLE
        if not keep_alive:
            c.close_after = True
            if pipelined or c.body_awaited():
                c.linger = LINGER
            elif c.wants_keep_alive:  # a next request may cross our close
                c.linger = GRACE if self.stopping else LINGER
            elif (c.body_bytes is not None or c.body is not None) and c.more_waits():
                c.linger = LINGER  # a close over unread bytes would be a reset, and cost the answer
        return c.forget_request()

    # -- several calls at a time -----------------------------------------------------------------------

    def lead(self):
        """Serve in this thread until all is over, or until another thread leads.

        Returns whether all is over. With ``options.max_calls`` the loop belongs to whoever leads:
        it waits for the connections and calls the application itself. While that call lasts another
        thread may `take_over`; the one in the call then answers its request, and nothing else.
        Whoever has been taken over may lead again, by taking over in turn.
        """
        try:
            while self.one_turn(-1):
                pass
        except TakenOver:
            return False
        return True

    def lead_on(self, seconds):
        """Lead without waiting: serve what is ready for about `seconds`, less while other calls are made.

        For those who wait for `fileno` elsewhere. Afterwards nobody leads. Returns the seconds to the next
        timer, at most a tick: after these it is to be called also when nothing is ready; None when all is
        over. Raises TakenOver where another leads by now.
        """
        cdef long long until = clock_ns(CLOCK_MONOTONIC) + nanoseconds(seconds)
        while self.one_turn(0):
            if self.returned:
                continue  # in this very turn, while it waited for a client
            if self.last_count < 2 or self.calls or clock_ns(CLOCK_MONOTONIC) >= until:
                self.pulse.mark(False)
                return self.patience() / 1000.0
        return None

    def fileno(self):
        """A descriptor that is readable while something is ready to be served."""
        return self.epoll

    def take_over(self, ticket):
        """Become the one who leads, in the place of who makes call number `ticket`.

        Returns False where that call has ended, or is another's by now: then somebody leads.
        """
        cdef Connection c
        cdef RequestCycle cycle, fresh
        if self.called is None or self.ticket != ticket:
            return False
        # Making one may run the collector, and with it another thread: whoever is in the call may return.
        fresh = self.spare.pop() if self.spare else self.new_cycle()
        c = self.called
        cycle = self.cycle
        if c is None or self.ticket != ticket:
            self.spare.append(fresh)
            return False
        self.call_ends()
        self.unlink(c)
        c.state = CALLING
        cycle.taken_over = self.now = clock_ns(CLOCK_MONOTONIC_COARSE)
        self.away.append(cycle)
        self.lead_with(fresh)
        return True

    @property
    def call_ticket(self):
        """The number of the call that the one who leads makes now; None while it makes none."""
        return self.ticket if self.called is not None else None

    cdef RequestCycle new_cycle(self):
        cdef RequestCycle cycle = RequestCycle(self.options, self.application, self.log)
        cycle.record = self.pulse.call_record(self.cycles)
        cycle.recorded = self.pulse.view
        self.cycles += 1
        return cycle

    cdef int lead_with(self, RequestCycle cycle) except -1:
        self.cycle = cycle
        self.out = cycle.out
        self.lines = cycle.lines
        return 0

    cdef inline void call_ends(self) noexcept:
        self.called = None
        if self.call_watch != NULL:
            cyhorn_call_ends(self.call_watch)

    cdef bint call(self, Connection c, bint keep_alive, bint pipelined) except -1:
        """Have `c` answered by the application. Raises TakenOver where another leads afterwards."""
        cdef RequestCycle cycle = self.cycle
        self.calls += 1
        self.ticket += 1
        self.called = c
        if self.call_watch != NULL:
            cyhorn_call_begins(self.call_watch, self.ticket)
        try:
            keep_alive = cycle.respond(c, keep_alive, pipelined, self.now)
            if cycle.out.size > GATHER_MAX:
                c.flush(cycle.out)  # where it waits for the client, others may lead
        except ClientDisconnected as error:
            c.log_loss(error)
            c.lost = True
        except BaseException as error:
            # In the main thread the worker is told to leave; elsewhere it was the application's own idea,
            # and the client has its 500.
            if isinstance(error, Stopped) or threading.current_thread() is threading.main_thread():
                raise
            keep_alive = False
        if cycle is self.cycle:
            self.calls -= 1
            self.call_ends()
            return keep_alive
        try:
            c.flush(cycle.out)
        except ClientDisconnected:
            c.lost = True
        self.returned.append((c, cycle, keep_alive))
        if self.waiting:
            os.eventfd_write(self.waker, 1)
        raise TakenOver

    cdef int take_back(self) except -1:
        """Go on with the connections that other threads have answered, and those that wait for a call."""
        cdef Connection c
        cdef RequestCycle cycle
        while self.returned:
            c, cycle, keep_alive = self.returned.pop(0)
            self.calls -= 1
            self.away.remove(cycle)
            cycle.taken_over = 0
            self.spare.append(cycle)
            if c.state == CALLING:
                self.resume(c, True, keep_alive)
        while self.parked and self.calls < self.max_calls:
            c = self.parked.popleft()
            if c.state == CALLING:
                self.resume(c, False, False)
        return 0

    cdef int resume(self, Connection c, bint answered, bint keep_alive) except -1:
        """What comes after, or before, a call for `c` that was not made in its turn."""
        try:
            if answered:
                self.answered(c, keep_alive, c.pending_size > 0)
            else:
                self.respond(c, c.pending_size > 0)
            if c.state >= CLOSED:
                return 0
            if c.pending_size and not c.close_after and c.queue is None:
                return self.process(c, c.pending, c.pending_size)
            return self.settle(c)
        except ClientDisconnected as error:
            c.log_loss(error)
            self.drop(c)
        except Exception:
            self.log.exception("Error while serving ip=%s", c.remote_addr)
            self.drop(c)
        return 0

    cdef bint all_stuck(self) noexcept:
        """Whether every call that may be made is made, and lasts longer than `timeout`."""
        cdef RequestCycle cycle
        if not self.timeout:
            return False
        for cycle in self.away:
            if self.now - cycle.taken_over < self.timeout:
                return False
        return len(self.away) >= self.max_calls

    def _woken(self):
        try:
            os.eventfd_read(self.waker)
        except BlockingIOError:
            pass

    cdef bint begins_head(self, const unsigned char *p, Py_ssize_t n) noexcept:
        """Whether p[0:n] begins with a HEAD request, whose answer has no body also when it is refused."""
        cdef Py_ssize_t skip = 2 if n > 2 and p[0] == 13 and p[1] == 10 else 0
        if n - skip < 5 or p[skip + 4] != 32:
            return False
        if self.parser.casefold_http_method:
            return strncasecmp(<const char *>p + skip, b"HEAD", 4) == 0
        return memcmp(p + skip, b"HEAD", 4) == 0

    cdef int refuse(self, Connection c, object error, bint head_only) except -1:
        """Answer the peer's mistake; nothing after it on the connection is read."""
        self.cycle.refuse(c, error, head_only)
        return self.drop(c) if c.lost else 0

    cdef int writable(self, Connection c) except -1:
        """The client takes more of its response."""
        cdef bint took = c.drain_queue()
        if c.queue is not None:
            if took:
                self.enter(c, SENDING)
            return 0
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
            c.flush(self.out)
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
