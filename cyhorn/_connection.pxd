# The compiled connection's types, for the request cycle and the loop.

from cyhorn._environ cimport EnvironBuilder
from cyhorn._chunked cimport ChunkedDecoder
from cyhorn._parser cimport RequestHead, RequestParser
from cyhorn._pulse cimport Caller, Pulse
from cyhorn._writer cimport OutputBuffer

cdef enum State:
    # What a connection waits for; each has its list of timers. CLOSED waits for nothing.
    # In CALLING it is the application's that another thread calls, or waits for that.
    HEAD, BODY, SENDING, IDLE, LINGER, CLOSED, CALLING

cdef enum:
    # Timer lists beyond those of the states
    GRACE = 5          # in the place of CLOSED
    TIMER_COUNT = 6
    ADDRESS_SIZE = 28  # a struct sockaddr_in6
    RECEIVE_SIZE = 65536  # bytes asked for at once

cdef struct Timers:
    # Connections that wait for the same duration: order of insertion is order of expiry.
    long long duration    # nanoseconds; 0: off
    void *first           # Connection, borrowed
    void *last


cdef class Listener:
    cdef readonly object info     # ListenerInfo
    cdef int fd                   # -1 once closed
    cdef bint is_unix
    cdef object ssl_context
    cdef EnvironBuilder builder
    cdef long long resume_at      # when accepting goes on after a pause, ns; 0: it is going on
    # The same for all listeners of a loop
    cdef object options           # LoopOptions
    cdef object log
    cdef object trusted           # TrustedPeers
    cdef Pulse pulse

cdef class Connection:
    cdef int fd
    cdef int state
    cdef unsigned int events      # what epoll watches; 0: not registered
    cdef unsigned int serial      # tells this connection from an earlier one of the same fd
    cdef Listener listener
    cdef bint trusted
    cdef bint lost                # nothing can be said to the client any more: to be dropped
    cdef bint close_after         # close when all is sent
    cdef int linger               # the timer list of how long it then reads on, that the client gets it; or 0
    cdef bint proxy_due           # a PROXY header may come first
    cdef long long dropped        # bytes read while lingering
    cdef long long served         # requests answered

    # Timers: the list it stands in, and its neighbours there (borrowed)
    cdef Timers *timers
    cdef long long deadline
    cdef void *before
    cdef void *after

    # Received, not yet consumed: owned
    cdef unsigned char *pending
    cdef Py_ssize_t pending_size
    cdef Py_ssize_t pending_capacity
    cdef RequestParser parser     # its own while a head is half read, else None

    # The peer
    cdef unsigned char address[ADDRESS_SIZE]
    cdef str remote_addr          # None until it is asked for
    cdef object remote_port       # str or None
    cdef Caller caller            # the same for the record of calls, and the method of the request at hand
    cdef object client_socket
    cdef object proxy             # ProxyHeader or None
    cdef object tls               # TLSChannel or None
    cdef object queue             # OutQueue or None: what the client has not taken yet

    # The request at hand
    cdef dict environ
    cdef RequestHead head         # only where a hook wants it
    cdef str target               # RAW_URI, for the log
    cdef bint head_only
    cdef bint http_1_1
    cdef bint wants_keep_alive
    cdef bint body_complete
    cdef bint continue_due        # 100 (Continue) is promised and not sent
    cdef long long remaining      # bytes of body still to come, when its length is known
    cdef ChunkedDecoder decoder
    cdef bytes body_bytes         # a body of known length that fits in memory, filled in place
    cdef Py_ssize_t body_filled
    cdef object body              # BodySpool, for every other body

    cdef int name_peer(self) except -1
    cdef void note_peer(self, const char *address, unsigned int port) noexcept
    cdef int log_loss(self, object error) except -1
    cdef int forget_request(self) except -1
    cdef bint body_awaited(self) noexcept

    # Received bytes
    cdef int reserve_pending(self, Py_ssize_t wanted) except -1
    cdef int keep(self, const unsigned char *p, Py_ssize_t n) except -1
    cdef void forget_pending(self) noexcept
    cdef bytes decrypt(self)
    cdef bint more_waits(self) noexcept
    cdef bytes await_bytes(self)
    cdef bytes receive(self)
    cdef bint wait(self, int events, double deadline) except -1

    # Bytes to send. All raise ClientDisconnected where the client is gone.
    cdef int flush(self, OutputBuffer out) except -1
    cdef int flush_parts(self, OutputBuffer out) except -1
    cdef int encrypt(self, OutputBuffer out) except -1
    cdef int send_bytes(self, bytes data) except -1
    cdef int send_region(self, int fd, long long offset, long long count) except -1
    cdef object queue_of(self)
    cdef int enqueue(self, object data) except -1
    cdef int advance(self) except -1
    cdef bint drain_queue(self) except -1
    cdef int wait_writable(self) except -1
