# The compiled loop's type, for those who run it.

from cyhorn._access cimport AccessLines
from cyhorn._connection cimport TIMER_COUNT, Connection, Listener, Timers
from cyhorn._cycle cimport RequestCycle
from cyhorn._parser cimport LineCache, RequestParser
from cyhorn._pulse cimport Pulse
from cyhorn._writer cimport OutputBuffer

from cyhorn._system cimport epoll_event

from libc.stdint cimport uint32_t, uint64_t

cdef extern from "_watch.h" nogil:
    ctypedef struct call_watch:
        long long ticket
        long long promoted


cdef class Loop:
    cdef readonly object options
    cdef readonly object application
    cdef readonly object log
    cdef readonly object heartbeat
    cdef readonly object on_max_requests
    cdef readonly long long requests
    cdef public bint stopping
    cdef readonly Py_ssize_t connections

    cdef RequestCycle cycle           # of the one who leads
    cdef Py_ssize_t cycles            # how many there are
    cdef OutputBuffer out             # the cycle's
    cdef AccessLines lines            # likewise
    cdef Pulse pulse
    cdef bint draining                # stop has taken effect
    cdef int epoll
    cdef list by_fd                   # descriptor → Connection or None
    cdef unsigned int serial
    cdef list listeners
    cdef dict watched                 # descriptor → callable
    cdef unsigned int long_caller     # serial of the connection that has kept them waiting, and stays
    cdef int late_turns               # this turn and so many more serve who waited behind a long call
    cdef int last_count               # events of the turn before
    cdef long long now
    cdef long long next_tick
    cdef Timers timers[TIMER_COUNT]
    cdef unsigned char *received      # RECEIVE_SIZE bytes
    cdef epoll_event *events          # of this turn; not on the stack, which is copied where greenlets lead
    cdef RequestParser parser
    cdef LineCache cache
    cdef object trusted
    cdef object proxy_trusted

    # Several calls at a time (max_calls > 0): see `lead`
    cdef Py_ssize_t calls             # in the application now
    cdef long long ticket             # counts calls
    cdef Connection called            # for whom the one who leads calls; None while it does not
    cdef call_watch *call_watch       # who is told of it, or NULL
    cdef bint waiting                 # the one who leads waits for events
    cdef int waker                    # eventfd that ends the wait
    cdef list returned                # what other threads have answered: (connection, cycle, keep_alive)
    cdef object parked                # connections whose complete requests wait for a call to end
    cdef list away                    # cycles whose threads were taken over
    cdef list spare                   # cycles without a thread

    # Options, where a request meets them
    cdef bint has_keep_alive
    cdef bint buffer_request_body
    cdef bint proxy_expected
    cdef long long limit_request_body
    cdef long long body_buffer_size
    cdef long long max_requests
    cdef Py_ssize_t max_calls
    cdef Py_ssize_t max_connections
    cdef long long timeout
    cdef long long tick
    cdef object on_tick

    cdef int listen(self, info, errors) except -1
    cdef int watch_listener(self, Listener listener) except -1
    cdef RequestParser new_parser(self)
    cdef list open_connections(self)
    cdef bint one_turn(self, int timeout) except -1
    cdef int dispatch(self, uint64_t data, uint32_t happened) except -1
    cdef int serve(self, Connection c) except -1
    cdef int patience(self) except -1
    cdef int expire(self, long long now) except -1
    cdef int timed_out(self, Connection c) except -1
    cdef void unlink(self, Connection c) noexcept
    cdef void arm(self, Connection c, int which) noexcept
    cdef void enter(self, Connection c, int state) noexcept
    cdef int control(self, int operation, int fd, uint32_t events, uint64_t data) except -1
    cdef int watch(self, Connection c, uint32_t events) except -1
    cdef bint accept(self, Listener listener) except -1
    cdef int pause(self, Listener listener, long long duration) except -1
    cdef int stand_back(self) except -1
    cdef bint has_enough(self) noexcept
    cdef int accepted(self, int fd, const unsigned char *address, Listener listener) except -1
    cdef int drop(self, Connection c) except -1
    cdef int finish(self, Connection c) except -1
    cdef int drain(self) except -1
    cdef int close_listeners(self) except -1
    cdef int readable(self, Connection c) except -1
    cdef int process_copy(self, Connection c, bytes data) except -1
    cdef int process(self, Connection c, const unsigned char *p, Py_ssize_t n) except -1
    cdef Py_ssize_t take_proxy_header(self, Connection c, const unsigned char *p, Py_ssize_t n) except -1
    cdef Py_ssize_t take_head(self, Connection c, const unsigned char *p, Py_ssize_t n) except -1
    cdef int begin_body(self, Connection c, bint more) except -1
    cdef Py_ssize_t take_body(self, Connection c, const unsigned char *p, Py_ssize_t n) except -1
    cdef int body_received(self, Connection c, Py_ssize_t n) except -1
    cdef int respond(self, Connection c, bint pipelined) except -1
    cdef int answered(self, Connection c, bint keep_alive, bint pipelined) except -1
    cdef RequestCycle new_cycle(self)
    cdef int lead_with(self, RequestCycle cycle) except -1
    cdef void call_ends(self) noexcept
    cdef bint call(self, Connection c, bint keep_alive, bint pipelined) except -1
    cdef int take_back(self) except -1
    cdef int resume(self, Connection c, bint answered, bint keep_alive) except -1
    cdef bint all_stuck(self) noexcept
    cdef bint begins_head(self, const unsigned char *p, Py_ssize_t n) noexcept
    cdef int refuse(self, Connection c, object error, bint head_only) except -1
    cdef int writable(self, Connection c) except -1
    cdef int settle(self, Connection c) except -1
    cdef void idle(self, Connection c) noexcept
