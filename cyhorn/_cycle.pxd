# The compiled request cycle's type, for the loop.

from cyhorn._access cimport AccessLines
from cyhorn._connection cimport Connection
from cyhorn._pulse cimport CallRecord
from cyhorn._writer cimport OutputBuffer, ResponseWriter


cdef class RequestCycle:
    cdef OutputBuffer out             # answers that have not left yet
    cdef object options
    cdef object application
    cdef object log
    cdef ResponseWriter writer
    cdef object start_response        # the writer's, bound once
    cdef object write                 # likewise
    cdef object flush_callback
    cdef Connection current           # whose request is in the application
    cdef int fast_calls
    cdef set warned
    cdef bint given_up                # its call is stuck, and the client was told 504
    # Where it writes down what it calls for, or NULL; `calls` numbers them. The memory is `recorded`'s.
    cdef CallRecord *record
    cdef object recorded
    cdef long long calls

    # Options, where a request meets them
    cdef bint several                 # whether other cycles of the process have requests, too
    cdef long long taken_over         # when another thread took over the loop during this call, ns; 0: no
    cdef bint context_isolation
    cdef bint sendfile
    cdef bint wants_head              # whether hooks or logs need the head as an object
    cdef object pre_request
    cdef object post_request
    cdef AccessLines lines            # the access log's, or None
    cdef object access_with_request

    # Call the application for the complete request of `c`, and see its response into `out` or on
    # its way. `pipelined` says that bytes of a next request are there already. Returns whether the
    # connection may persist. Afterwards `c.lost` says that the client is gone, and `c.close_after`
    # that an error was answered in the application's stead. `began` is now, of the coarse monotonic
    # clock, nanoseconds.
    cdef bint respond(self, Connection c, bint keep_alive, bint pipelined, long long began) except -1
    # Let the answer that the application is making say that it is the last, unless its head has left.
    cdef int stop(self) noexcept
    # Answer the request that is in the application in its stead: 504, if nothing was sent. For the end of
    # a worker whose calls are stuck; called by another thread than the one in the call.
    cdef int give_up(self) except -1
    # Answer the peer's mistake; nothing after it on the connection is read.
    cdef int refuse(self, Connection c, object error, bint head_only) except -1
    cdef int send_continue(self, Connection c) except -1
    cdef int warn_once(self, str key, str message, object value) except -1

    cdef void end_record(self) noexcept
    cdef int renew_writer(self) except -1
    cdef int complete_environ(self, Connection c, dict environ) except -1
    cdef object stream_input(self, Connection c)
    cdef object request_view(self, Connection c, dict environ)
    cdef int call(self, Connection c, ResponseWriter writer, dict environ, object request) except -1
    cdef int close_iterable(self, object close_it, Connection c) except -1
    cdef int stream(self, Connection c, ResponseWriter writer, object result) except -1
    cdef bint send_file(self, Connection c, ResponseWriter writer, object wrapper) except -1
    cdef int lose(self, Connection c) noexcept
    cdef int failed(self, Connection c, ResponseWriter writer, object error) except -1
    cdef int account(self, ResponseWriter writer, dict environ, object request, long long begun) except -1
    cdef int complain(self, ResponseWriter writer, str target) except -1
    cdef int log_refusal(self, Connection c, object error) except -1
    cdef int append_error(self, Connection c, int status, bint head_only, object accept) except -1
