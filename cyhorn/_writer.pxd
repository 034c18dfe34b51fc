# The compiled writer's types, for the loop.

from cpython.ref cimport PyObject


cdef class OutputBuffer:
    # Small pieces are copied into `data`; large ones are kept by reference in `large`,
    # each to be sent where `data` has come to offset `places[i]`.
    cdef unsigned char *data
    cdef Py_ssize_t used          # bytes of data in use
    cdef Py_ssize_t capacity      # bytes of data allocated
    cdef list large               # bytes objects
    cdef Py_ssize_t *places
    cdef Py_ssize_t large_count   # entries of large and places in use
    cdef Py_ssize_t place_capacity
    cdef readonly Py_ssize_t size  # bytes in all

    cdef int reserve(self, Py_ssize_t more) except -1
    cdef int put(self, const void *p, Py_ssize_t n) except -1
    cdef int put_bytes(self, bytes data) except -1
    cdef void forget(self) noexcept

cdef class ResponseWriter:
    cdef readonly OutputBuffer out
    cdef public object flush      # callable or None
    cdef PyObject *write_callable  # `write`, bound once by the writer's owner; borrowed, or NULL
    cdef readonly str server_header
    # For hooks and logs
    cdef readonly object status   # str or None
    cdef readonly int status_code
    cdef readonly bint headers_sent
    cdef readonly long long sent
    cdef readonly bint chunked
    cdef readonly bint excess
    cdef readonly bint keep_alive
    cdef object fields            # `headers`: the application's list, or None
    cdef list left_out            # `dropped`, or None
    cdef long long length         # response_length, -1 for None

    cdef bint head_only
    cdef bint http_1_1
    cdef bint closing             # the application wants the connection closed
    cdef bint has_date            # the application's own Date stands in `lines`
    cdef bint has_server          # likewise its Server, where `server` is empty
    cdef bint no_body
    cdef bint finished
    cdef long long seconds        # the time that `date` tells
    cdef object last_status       # the status that was checked last, and its code
    cdef int last_code
    cdef bytes server             # the Server line, with CRLF; empty without one
    cdef bytes date               # the Date line, with CRLF
    cdef OutputBuffer lines       # the application's checked field lines

    cdef int start(self, bint head_only, bint http_1_1, bint keep_alive) except -1
    cdef int set_time(self, long long seconds) except -1
    cdef int put_chunk(self, object data) except -1
    cdef int put_whole(self, object parts) except -1
    cdef int end(self) except -1
    cdef bint is_full(self) noexcept
    cdef bint is_complete(self) noexcept

    cdef int check(self, object status, object headers) except -1
    cdef int take_line(self, object field) except -1
    cdef bint take_length(self, object value) except -1
    cdef bint is_copied(self, int kind, object name, object value) except -1
    cdef int send_head(self, long long known) except -1
    cdef int body(self, bytes data) except -1
