# The compiled loop's types.

from cyhorn._environ cimport EnvironBuilder
from cyhorn._parser cimport ChunkedDecoder, RequestHead, RequestParser
from cyhorn._writer cimport OutputBuffer, ResponseWriter

cdef enum State:
    HEAD, BODY, SENDING, IDLE, LINGER, CLOSED

cdef enum:
    # Timer lists beyond those of the states
    GRACE = 5          # in the place of CLOSED, which waits for nothing
    TIMER_COUNT = 6
    ADDRESS_SIZE = 28  # a struct sockaddr_in6

cdef struct Timers:
    # Connections that wait for the same duration: order of insertion is order of expiry.
    long long duration    # nanoseconds; 0: off
    void *first           # Connection, borrowed
    void *last

cdef struct SlotLayout:
    # HeartbeatTable.LAYOUT: a slot's size and where its fields lie, in bytes; two of its states;
    # and after how many nanoseconds without a beat a busy worker accepts nobody.
    int slot
    int connections
    int state
    int ready
    int busy
    long long busy_limit


cdef class Listener:
    cdef readonly object info     # ListenerInfo
    cdef int fd                   # -1 once closed
    cdef bint is_unix
    cdef object ssl_context
    cdef EnvironBuilder builder
    cdef long long resume_at      # when accepting goes on after a pause, ns; 0: it is going on

cdef class Connection:
    cdef int fd
    cdef int state
    cdef unsigned int events      # what epoll watches; 0: not registered
    cdef unsigned int serial      # tells this connection from an earlier one of the same fd
    cdef Listener listener
    cdef bint trusted
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
