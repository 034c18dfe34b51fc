# The compiled access log's types, for the loop.

from cpython.ref cimport PyObject

cdef struct Step:
    int kind
    void *object               # variable, exact: the key; borrowed from AccessLines.kept
    const unsigned char *text  # text, time: bytes; of an object in AccessLines.kept, or its `time`
    Py_ssize_t length          # bytes of text

cdef enum:
    LINES_WAIT = 4000000       # nanoseconds that a line waits for others at most

cdef class AccessLines:
    cdef readonly bint timed
    cdef object line          # makes any line
    cdef object clock
    cdef object log
    cdef list kept            # what the steps point to
    cdef Step *steps
    cdef int step_count       # -1: `line` makes them all
    cdef bytes time           # what the clock showed in `second`
    cdef long long second
    # Whole lines: data[done:used] wait, and data[:done] was written, perhaps to within a line
    cdef unsigned char *data
    cdef Py_ssize_t capacity
    cdef Py_ssize_t used
    cdef Py_ssize_t done
    cdef long long since       # when the first line that waits was made, ns of the coarse wall clock
    cdef bint writing

    # Whether lines wait, and for long, at `now` of that clock. A clock that was set counts as long.
    cdef inline bint are_old(self, long long now) noexcept:
        return self.used > 0 and not 0 <= now - self.since <= LINES_WAIT
    # `record` with what it needs of the response; `status` and `sent` are those of `response`.
    cdef int add(self, object response, int status, long long sent, dict environ, double seconds) except -1
    cdef int write_out(self) except -1

    cdef int read_clock(self, long long second) except -1
    cdef bint compose(self, int status, long long sent, dict environ, double seconds) except -1
    cdef int reserve(self, Py_ssize_t at, Py_ssize_t more) except -1
    cdef int append(self, object text) except -1
    cdef Py_ssize_t put_value(self, Py_ssize_t at, PyObject *value) except -2
    cdef bint end_line(self, Py_ssize_t at) except -1
    cdef int give(self, int fd, Py_ssize_t whole) except -1
