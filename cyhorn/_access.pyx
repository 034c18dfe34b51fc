# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, auto_pickle=False
"""The access log's lines, compiled. `_access_py` says what is done; here is how it is done fast.

A line is put together from the format's steps in one buffer: text is copied, values of the environ
are copied with a look at eight bytes at a time for what has to be escaped. Nothing of Python runs
meanwhile. Where that is not enough (a value that is no str, or wider than latin-1, credentials to be
decoded, a format that steps cannot say) `line` makes the line as it does on the other side.

Lines are written from here where the log names a descriptor, so that exactly what was written is
known whatever interrupts it. What write(2) refuses is the log's affair.

Invariants: data[:used] ends with a line, always; a line under way lies behind `used`.
"""

cimport cython
from cpython.exc cimport PyErr_CheckSignals, PyErr_Clear
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.ref cimport PyObject
from libc.errno cimport EINTR, errno
from libc.stdint cimport uint64_t
from libc.string cimport memcpy

from cyhorn._scan cimport EVERY_BYTE, load
from cyhorn._system cimport CLOCK_REALTIME_COARSE, clock_ns

cdef extern from "Python.h":
    PyObject *PyDict_GetItemWithError(PyObject *mapping, PyObject *key)
    bint PyUnicode_CheckExact(PyObject *o)
    Py_ssize_t PyUnicode_GET_LENGTH(PyObject *o)
    int PyUnicode_KIND(PyObject *o)
    void *PyUnicode_DATA(PyObject *o)
    enum: PyUnicode_1BYTE_KIND
    PyObject *PyErr_Occurred()
    Py_ssize_t PY_SSIZE_T_MAX

cdef extern from *:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <math.h>
    #include <unistd.h>
    """
    double rint(double value) noexcept nogil
    ssize_t write(int fd, const void *p, size_t n) noexcept nogil
    int getpid() noexcept nogil

#: Kinds of steps, in the order of the enum below.
KINDS = ("text", "time", "variable", "exact", "user", "status", "sent", "process", "seconds", "milliseconds",
         "microseconds", "decimal")
DURATIONS = frozenset(("seconds", "milliseconds", "microseconds", "decimal"))

cdef enum:
    TEXT, TIME, VARIABLE, EXACT, USER, STATUS, SENT, PROCESS, SECONDS, MILLISECONDS, MICROSECONDS, DECIMAL

cdef enum:
    ROOM = 8192               # bytes of the buffer to begin with
    ROOM_KEPT = 1 << 20       # a buffer that grew beyond is given back
    NUMBER = 24               # bytes of the longest number, and a little more
    PIECE = 4096              # bytes written to what may wait, at most: what a pipe of Linux keeps together
    SECOND = 1000000000

cdef const unsigned char *HEX = b"0123456789abcdef"
cdef str AUTHORIZATION = "HTTP_AUTHORIZATION"


# -- bytes ---------------------------------------------------------------------------------------

cdef inline bint is_special(uint64_t word) noexcept:
    """Whether one of eight bytes is a control, a double quote, DEL or not ASCII: exact as a whole."""
    cdef uint64_t quote = word ^ EVERY_BYTE(0x22)
    cdef uint64_t delete = word ^ EVERY_BYTE(0x7F)
    return ((word - EVERY_BYTE(0x20)) | (quote - EVERY_BYTE(0x01)) | (delete - EVERY_BYTE(0x01)) | word) \
        & EVERY_BYTE(0x80) != 0


cdef inline bint copied(unsigned char *to, const unsigned char *p, Py_ssize_t n) noexcept:
    """Copy p[0:n] if none of it has to be escaped; what is at `to` means nothing if some has."""
    cdef uint64_t word
    cdef Py_ssize_t i = 0
    cdef unsigned char byte
    if n >= 8:
        while i <= n - 8:
            word = load(p + i)
            if is_special(word):
                return False
            memcpy(to + i, &word, 8)
            i += 8
        if i < n:
            word = load(p + n - 8)  # some of it once more
            if is_special(word):
                return False
            memcpy(to + n - 8, &word, 8)
        return True
    while i < n:
        byte = p[i]
        if byte < 0x20 or byte >= 0x7F or byte == 0x22:
            return False
        to[i] = byte
        i += 1
    return True


cdef Py_ssize_t escape(unsigned char *to, const unsigned char *p, Py_ssize_t n) noexcept:
    """Put the latin-1 text p[0:n] at `to` in UTF-8, escaped; returns how long it became: 4 n at most."""
    cdef unsigned char *begin = to
    cdef Py_ssize_t i
    cdef unsigned char byte
    for i in range(n):
        byte = p[i]
        if byte == 0x22:
            to[0] = 0x5C
            to[1] = byte
            to += 2
        elif byte < 0x20 or 0x7F <= byte < 0xA0:
            to[0] = 0x5C
            to[1] = 0x78
            to[2] = HEX[byte >> 4]
            to[3] = HEX[byte & 15]
            to += 4
        elif byte < 0x80:
            to[0] = byte
            to += 1
        else:
            to[0] = 0xC0 | (byte >> 6)
            to[1] = 0x80 | (byte & 0x3F)
            to += 2
    return to - begin


cdef inline Py_ssize_t put_number(unsigned char *to, unsigned long long number, int width) noexcept:
    """Put `number` at `to`, with zeros before it up to `width` digits; returns how long it is."""
    cdef unsigned char digits[NUMBER]
    cdef int at = NUMBER
    while True:
        at -= 1
        digits[at] = 48 + <unsigned char>(number % 10)
        number //= 10
        if number == 0 and NUMBER - at >= width:
            break
    memcpy(to, digits + at, NUMBER - at)
    return NUMBER - at


cdef inline unsigned long long in_microseconds(double seconds) noexcept:
    """`seconds` in whole microseconds, halves to the even one."""
    cdef long long whole = <long long>seconds
    return <unsigned long long>(whole * 1000000 + <long long>rint((seconds - <double>whole) * 1e6))


cdef bint is_basic(const unsigned char *p, Py_ssize_t n) noexcept:
    """Whether credentials p[0:n] are of the scheme Basic, or begin so."""
    return n >= 5 and p[0] | 32 == 98 and p[1] | 32 == 97 and p[2] | 32 == 115 and p[3] | 32 == 105 \
        and p[4] | 32 == 99


# -- lines ---------------------------------------------------------------------------------------

@cython.final
cdef class AccessLines:
    """The lines of one turn of the loop.

    `line` makes one of (response, environ, seconds, clock), without its end, and never raises;
    `steps` says the same as a list of (kind, argument), or is None where a list cannot;
    `clock` gives the time as text, the same for a second at least; `log` takes the lines.
    """

    def __cinit__(self, *args, **kwargs):
        self.steps = NULL
        self.step_count = -1
        self.data = NULL
        self.capacity = self.used = self.done = self.since = 0
        self.second = -1
        self.writing = False

    def __init__(self, line, steps, clock, log):
        cdef Step *step
        cdef bytes text
        self.line = line
        self.clock = clock
        self.log = log
        self.timed = steps is None or any(kind in DURATIONS for kind, _ in steps)
        self.kept = []
        self.reserve(0, ROOM)
        if steps is None or self.steps != NULL:
            return
        self.steps = <Step *>PyMem_Malloc(max(1, len(steps)) * sizeof(Step))
        if self.steps == NULL:
            raise MemoryError
        step = self.steps
        for kind, argument in steps:
            step.kind = KINDS.index(kind)
            step.object = NULL
            step.text = NULL
            step.length = 0
            if step.kind == TEXT:
                text = argument.encode("utf-8", "backslashreplace")
                step.text = text
                step.length = len(text)
                self.kept.append(text)
            elif step.kind == VARIABLE or step.kind == EXACT:
                self.kept.append(argument)
                step.object = <void *>argument
                hash(argument)
            step += 1
        self.step_count = <int>len(steps)

    def __dealloc__(self):
        PyMem_Free(self.steps)
        PyMem_Free(self.data)

    @property
    def pending(self):
        """Whether lines wait to be written."""
        return self.used > self.done

    def record(self, response, environ, double seconds):
        """Add the line of one request that took `seconds`."""
        status, sent = getattr(response, "status_code", None), getattr(response, "sent", None)
        if type(status) is int and type(sent) is int and type(environ) is dict:
            self.add(response, status, sent, <dict>environ, seconds)
        else:
            if self.used == 0:
                self.since = clock_ns(CLOCK_REALTIME_COARSE)
            self.append(self.line(response, environ, seconds, self.clock))

    def flush(self):
        """Write the lines that wait. Called within a call, it leaves them to that."""
        self.write_out()

    def flush_old(self):
        """Write the lines that wait, if the first of them has waited for a few milliseconds."""
        if self.are_old(clock_ns(CLOCK_REALTIME_COARSE)):
            self.write_out()

    cdef int add(self, object response, int status, long long sent, dict environ, double seconds) except -1:
        cdef long long now = clock_ns(CLOCK_REALTIME_COARSE)
        if self.used == 0:
            self.since = now
        if self.step_count >= 0:
            if self.second != now // SECOND:
                self.read_clock(now // SECOND)
            if self.compose(status, sent, environ, seconds):
                return 0
        return self.append(self.line(response, environ, seconds, self.clock))

    cdef int read_clock(self, long long second) except -1:
        """Have the steps that show the time show the present one, which is good for this `second`."""
        cdef bytes time = (<str>self.clock()).encode()
        cdef int i
        for i in range(self.step_count):
            if self.steps[i].kind == TIME:
                self.steps[i].text = time
                self.steps[i].length = len(time)
        self.time = time
        self.second = second
        return 0

    cdef bint compose(self, int status, long long sent, dict environ, double seconds) except -1:
        """Put a line together behind those that wait; False where it takes `line` to make it."""
        # As long as a step is: what it is to do stands in one place, and a call each would cost more.
        cdef const Step *step = self.steps
        cdef const Step *end = step + self.step_count
        cdef Py_ssize_t at = self.used
        cdef unsigned long long number
        cdef PyObject *value
        cdef unsigned char *to
        while step < end:
            if self.capacity - at < step.length + 2 * NUMBER:
                self.reserve(at, step.length + 2 * NUMBER)
            to = self.data + at
            if step.kind == TEXT or step.kind == TIME:
                memcpy(to, step.text, step.length)
                at += step.length
            elif step.kind == VARIABLE or step.kind == EXACT:
                value = PyDict_GetItemWithError(<PyObject *>environ, <PyObject *>step.object)
                if value != NULL:
                    at = self.put_value(at, value)
                    if at < 0:
                        return False
                elif step.kind == EXACT or PyErr_Occurred() != NULL:
                    PyErr_Clear()
                    return False
                else:
                    to[0] = 45
                    at += 1
            elif step.kind == STATUS:
                at += put_number(to, <unsigned int>status, 1)
            elif step.kind == SENT:
                at += put_number(to, <unsigned long long>sent, 1)
            elif step.kind == USER:
                value = PyDict_GetItemWithError(<PyObject *>environ, <PyObject *>AUTHORIZATION)
                if value == NULL:
                    if PyErr_Occurred() != NULL:
                        PyErr_Clear()
                        return False
                elif (not PyUnicode_CheckExact(value) or PyUnicode_KIND(value) != PyUnicode_1BYTE_KIND
                      or is_basic(<const unsigned char *>PyUnicode_DATA(value), PyUnicode_GET_LENGTH(value))):
                    return False
                to[0] = 45
                at += 1
            elif step.kind == PROCESS:
                to[0] = 60
                at += put_number(to + 1, <unsigned int>getpid(), 1) + 2
                self.data[at - 1] = 62
            else:
                number = in_microseconds(seconds)
                if step.kind == SECONDS:
                    number //= 1000000
                elif step.kind == MILLISECONDS:
                    number //= 1000
                elif step.kind == DECIMAL:
                    at += put_number(to, number // 1000000, 1)
                    to = self.data + at
                    to[0] = 46
                    put_number(to + 1, number % 1000000, 6)
                    at += 7
                    step += 1
                    continue
                at += put_number(to, number, 1)
            step += 1
        return self.end_line(at)

    cdef Py_ssize_t put_value(self, Py_ssize_t at, PyObject *value) except -2:
        """Put a variable at data[at:]; returns where it ends, -1 where it is none that is simply copied."""
        cdef Py_ssize_t n
        cdef const unsigned char *p
        if not PyUnicode_CheckExact(value) or PyUnicode_KIND(value) != PyUnicode_1BYTE_KIND:
            return -1
        n = PyUnicode_GET_LENGTH(value)
        p = <const unsigned char *>PyUnicode_DATA(value)
        if self.capacity - at < 4 * n:
            self.reserve(at, 4 * n)
        if copied(self.data + at, p, n):
            return at + n
        return at + escape(self.data + at, p, n)

    cdef int append(self, object text) except -1:
        """Add the line `text`, which lacks its end."""
        cdef bytes line = (<str>text).encode("utf-8", "backslashreplace")
        self.reserve(self.used, len(line))
        memcpy(self.data + self.used, <const unsigned char *>line, len(line))
        self.end_line(self.used + len(line))
        return 0

    cdef inline bint end_line(self, Py_ssize_t at) except -1:
        if at == self.capacity:
            self.reserve(at, 1)
        self.data[at] = 10
        self.used = at + 1
        return True

    cdef int reserve(self, Py_ssize_t at, Py_ssize_t more) except -1:
        """Make room for data[at:at + more]."""
        cdef Py_ssize_t capacity = self.capacity or ROOM
        cdef unsigned char *data
        if at + more <= self.capacity:
            return 0
        while capacity < at + more:
            capacity *= 2
        data = <unsigned char *>PyMem_Realloc(self.data, capacity)
        if data == NULL:
            raise MemoryError
        self.data = data
        self.capacity = capacity
        return 0

    # -- writing -----------------------------------------------------------------------------------

    cdef int write_out(self) except -1:
        cdef bytes rest
        cdef bint begun
        if self.used == 0 or self.writing:
            return 0
        self.writing = True
        try:
            target = self.log.target()
            if target is not None:
                self.give(target[0], target[1])
            if self.used:
                rest = self.data[self.done:self.used]
                begun = self.done > 0 and self.data[self.done - 1] != 10
                self.done = self.used = 0  # the log has them now
                self.log.write(rest, begun)
        finally:
            self.writing = False
        if self.capacity > ROOM_KEPT and self.used == 0:
            PyMem_Free(self.data)
            self.data = NULL
            self.capacity = 0
        return 0

    cdef int give(self, int fd, Py_ssize_t whole) except -1:
        """Write what waits with one call, where `fd` takes that much in one piece; what it leaves stays."""
        cdef unsigned char piece[PIECE]
        cdef Py_ssize_t count, size
        while True:
            size = self.used - self.done
            if size > whole:
                return 0
            if whole == PY_SSIZE_T_MAX:  # a file: this does not wait for anybody
                count = write(fd, self.data + self.done, size)
            elif size <= PIECE:
                # Other threads may add lines meanwhile, and `data` move.
                memcpy(piece, self.data + self.done, size)
                with nogil:
                    count = write(fd, piece, size)
            else:
                return 0
            if count == self.used - self.done:
                self.done = self.used = 0
                return 0
            if count > 0:
                self.done += count
            elif count < 0 and errno == EINTR:
                PyErr_CheckSignals()  # it may raise: what was not written waits on
                continue
            return 0
