# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, auto_pickle=False
"""The response writer, compiled. `_writer_py` says what it does; here is how it does it fast.

The application's fields are checked while they are copied, in one pass, into `lines`; the
head is put together from there when the framing is known. Small pieces of the body are
copied behind it, so that head and body leave in one send; large ones are kept by reference
and never copied.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.ref cimport Py_INCREF, Py_XDECREF, PyObject
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from libc.string cimport memcmp, memcpy

from cyhorn._scan cimport scan_value

from cyhorn.errors import ApplicationError
from cyhorn.grammar import FIELD_VALUE, HOP_BY_HOP, MAX_LENGTH, REASONS, TCHAR, imf_fixdate

cdef extern from "Python.h":
    int PyUnicode_KIND(object text)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)
    void *PyUnicode_DATA(object text)

# -- constants from the grammar -----------------------------------------------------------

cdef enum:
    LARGE = 16384            # bytes above which a piece is sent from where it is
    KEPT = 1 << 18           # bytes of memory that an empty buffer may keep
    SPECIAL_LONGEST = 20
    SPECIAL_COUNT = 16
    FRAMING_ROOM = 128       # bytes of a head's constant parts and its Content-Length

cdef enum Special:
    COPIED, CONTENT_LENGTH, DATE, SERVER, CONNECTION, HOP

# Lower-case byte of a tchar, 0 for what is none; 1 for what a value may hold.
cdef unsigned char TOKEN[256]
cdef unsigned char VALUE[256]

cdef struct SpecialName:
    Py_ssize_t length
    unsigned char text[SPECIAL_LONGEST]
    int kind

cdef SpecialName SPECIALS[SPECIAL_COUNT]
cdef int special_count = 0
cdef unsigned int special_lengths = 0   # bit n: a special name has n bytes

cdef long long LONGEST = MAX_LENGTH


cdef int _fill_tables() except -1:
    global special_count, special_lengths
    cdef int value
    for value in range(256):
        TOKEN[value] = 0
        VALUE[value] = 0
    for value in TCHAR:
        TOKEN[value] = ord(chr(value).lower())
    for value in FIELD_VALUE:
        VALUE[value] = 1
    kinds = dict.fromkeys(sorted(HOP_BY_HOP), <int>HOP)
    kinds["connection"] = <int>CONNECTION
    kinds["content-length"] = <int>CONTENT_LENGTH
    kinds["date"] = <int>DATE
    kinds["server"] = <int>SERVER
    for name, kind in kinds.items():
        text = name.encode()
        SPECIALS[special_count].length = len(text)
        memcpy(SPECIALS[special_count].text, PyBytes_AS_STRING(text), len(text))
        SPECIALS[special_count].kind = kind
        special_lengths |= <unsigned int>1 << len(text)
        special_count += 1
    return 0


_fill_tables()


# -- the buffer ------------------------------------------------------------------------------

@cython.final
cdef class OutputBuffer:
    """The bytes that wait to be sent, in order.

    `size` counts them. `take()` hands them over and leaves the buffer empty.
    """

    def __cinit__(self):
        self.data = NULL
        self.places = NULL
        self.used = self.capacity = self.large_count = self.place_capacity = self.size = 0
        self.large = []

    def __dealloc__(self):
        PyMem_Free(self.data)
        PyMem_Free(self.places)

    def __len__(self):
        return self.size

    def append(self, bytes data not None):
        """Add `data` at the end."""
        self.put_bytes(data)

    def take(self):
        """Return all bytes and forget them."""
        cdef Py_ssize_t i, at = 0
        cdef bytes whole
        if not self.large_count:
            whole = PyBytes_FromStringAndSize(<char *>self.data, self.used)
        else:
            parts = []
            for i in range(self.large_count):
                parts.append(PyBytes_FromStringAndSize(<char *>self.data + at, self.places[i] - at))
                parts.append(self.large[i])
                at = self.places[i]
            parts.append(PyBytes_FromStringAndSize(<char *>self.data + at, self.used - at))
            whole = b"".join(parts)
        self.forget()
        return whole

    def clear(self):
        """Forget all bytes."""
        self.forget()

    cdef int reserve(self, Py_ssize_t more) except -1:
        """Make room for `more` bytes behind data[used]."""
        cdef Py_ssize_t wanted = self.used + more
        cdef unsigned char *data
        if wanted > self.capacity:
            wanted = max(wanted, 2 * self.capacity, 4096)
            data = <unsigned char *>PyMem_Realloc(self.data, wanted)
            if data == NULL:
                raise MemoryError
            self.data = data
            self.capacity = wanted
        return 0

    cdef int put(self, const void *p, Py_ssize_t n) except -1:
        if not n:
            return 0  # p may be NULL
        self.reserve(n)
        memcpy(self.data + self.used, p, n)
        self.used += n
        self.size += n
        return 0

    cdef int put_bytes(self, bytes data) except -1:
        cdef Py_ssize_t n = PyBytes_GET_SIZE(data)
        cdef Py_ssize_t *places
        if n <= LARGE:
            return self.put(PyBytes_AS_STRING(data), n)
        if type(data) is not bytes:  # a subclass may show other bytes than it holds
            data = PyBytes_FromStringAndSize(PyBytes_AS_STRING(data), n)
        if self.large_count == self.place_capacity:
            places = <Py_ssize_t *>PyMem_Realloc(self.places, (self.place_capacity + 16) * sizeof(Py_ssize_t))
            if places == NULL:
                raise MemoryError
            self.places = places
            self.place_capacity += 16
        self.places[self.large_count] = self.used
        self.large.append(data)
        self.large_count += 1
        self.size += n
        return 0

    cdef void forget(self) noexcept:
        self.used = self.size = 0
        if self.capacity > KEPT:
            PyMem_Free(self.data)
            self.data = NULL
            self.capacity = 0
        if self.large_count:
            self.large_count = 0
            self.large = []


# -- helpers -----------------------------------------------------------------------------------

cdef inline const unsigned char *_latin1(object text) noexcept:
    """The bytes of a str whose characters are all below 256, else NULL."""
    return <const unsigned char *>PyUnicode_DATA(text) if PyUnicode_KIND(text) == 1 else NULL


cdef inline int _special(const unsigned char *name, Py_ssize_t n) noexcept:
    """What kind of name name[0:n] is. Entry: it is a token."""
    cdef unsigned char lower[SPECIAL_LONGEST]
    cdef Py_ssize_t i
    if n >= SPECIAL_LONGEST or not (special_lengths >> n) & 1:
        return COPIED
    for i in range(n):
        lower[i] = TOKEN[name[i]]
    for i in range(special_count):
        if SPECIALS[i].length == n and memcmp(SPECIALS[i].text, lower, n) == 0:
            return SPECIALS[i].kind
    return COPIED


cdef inline unsigned char *_add(unsigned char *to, const void *p, Py_ssize_t n) noexcept:
    """Copy p[0:n] to `to`, where there is room; returns where the next bytes go."""
    memcpy(to, p, n)
    return to + n


cdef inline unsigned char *_add_decimal(unsigned char *to, unsigned long long value) noexcept:
    """Write `value` in decimal digits; at most 20."""
    cdef unsigned char text[20]
    cdef int at = 20
    while True:
        at -= 1
        text[at] = 48 + value % 10
        value //= 10
        if not value:
            break
    return _add(to, text + at, 20 - at)


cdef inline int _put_hex(OutputBuffer out, unsigned long long value) except -1:
    cdef unsigned char text[18]
    cdef int at = 16
    text[16] = 13
    text[17] = 10
    while True:
        at -= 1
        text[at] = b"0123456789abcdef"[value & 15]
        value >>= 4
        if not value:
            break
    return out.put(text + at, 18 - at)


# -- names --------------------------------------------------------------------------------------

cdef struct CheckedName:
    # A str that was found to be a token (owned), and what kind of name it is.
    PyObject *text
    int kind

# Applications spell a name by the same constant each time: it is judged once. Few, so that what
# an application makes up is soon forgotten.
cdef enum:
    NAME_COUNT = 64
cdef CheckedName NAMES[NAME_COUNT]   # all NULL at first


cdef inline int _kind(object name) except -1:
    """What kind of name the str `name` is. Raises where it is no token (9110 5.1)."""
    cdef CheckedName *checked = &NAMES[(<size_t><PyObject *>name >> 4) & (NAME_COUNT - 1)]
    return checked.kind if checked.text == <PyObject *>name else _judge(name, checked)


cdef int _judge(object name, CheckedName *checked) except -1:
    cdef const unsigned char *text = _latin1(name)
    cdef Py_ssize_t i, n = PyUnicode_GET_LENGTH(name)
    cdef PyObject *before = checked.text
    cdef bint good = text != NULL and n > 0
    cdef int kind
    if good:
        for i in range(n):
            if not TOKEN[text[i]]:
                good = False
                break
    if not good:
        raise ApplicationError(f"a response header's name is not a token: {name!r}")
    kind = _special(text, n)
    Py_INCREF(name)
    checked.text = <PyObject *>name
    checked.kind = kind
    Py_XDECREF(before)  # last: it may run code of the application's
    return kind


cdef int _put_line(OutputBuffer lines, object name, object value) except -1:
    """Append the line of a field whose name was judged; check its value (9110 5.5)."""
    cdef const unsigned char *text = _latin1(value)
    cdef Py_ssize_t name_length = PyUnicode_GET_LENGTH(name)
    cdef Py_ssize_t value_length = PyUnicode_GET_LENGTH(value)
    cdef unsigned char *to
    if text == NULL or scan_value(text, value_length) < 0:
        raise ApplicationError(f"the value of response header {name!r} has a forbidden character")
    lines.reserve(name_length + value_length + 4)
    to = lines.data + lines.used
    to = _add(to, PyUnicode_DATA(name), name_length)
    to = _add(to, b": ", 2)
    to = _add(to, text, value_length)
    to = _add(to, b"\r\n", 2)
    lines.used = lines.size = to - lines.data
    return 0


cdef int _status_code(object status) except -1:
    """The code in a status of the form "NNN reason" (9112 4); an empty reason is allowed."""
    cdef const unsigned char *text
    cdef Py_ssize_t n
    if not isinstance(status, str):
        raise ApplicationError(f"the status is not a string: {status!r}")
    text = _latin1(status)
    n = PyUnicode_GET_LENGTH(status)
    if (
        text == NULL or n < 4 or not 50 <= text[0] <= 53 or not 48 <= text[1] <= 57
        or not 48 <= text[2] <= 57 or text[3] != 32 or scan_value(text + 4, n - 4) < 0
    ):
        raise ApplicationError(f"the status is not 'NNN reason' with NNN from 200 to 599: {status!r}")
    return (text[0] - 48) * 100 + (text[1] - 48) * 10 + (text[2] - 48)


cdef inline int _check_pair(object field) except -1:
    """Raise where `field` is not a (name, value) tuple of two str."""
    if type(field) is not tuple or len(<tuple>field) != 2:
        raise ApplicationError(f"a response header is not a (name, value) tuple: {field!r}")
    if not isinstance((<tuple>field)[0], str) or not isinstance((<tuple>field)[1], str):
        raise ApplicationError(f"a response header is not a pair of strings: {field!r}")
    return 0


# -- the writer ----------------------------------------------------------------------------------

@cython.final
cdef class ResponseWriter:
    """One response at a time; `begin` makes it ready for the next.

    Parameters: `out`, the buffer to append to; `server_header`, the Server field's
    value, "" to leave Server to the application; `flush`, called without arguments
    when bytes must be sent at once.

    For hooks and logs: `status` ("200 OK" or None), `status_code`, `headers` (the
    application's own, as given), `headers_sent`, `sent` (body bytes so far, without
    framing), `response_length` (bytes or None).

    For the loop, after `finish`: `keep_alive` says whether the connection may persist,
    `complete` whether the body had the length it promised, `excess` whether it had
    more, `dropped` which hop-by-hop names were left out (lower case).
    """

    def __cinit__(self, OutputBuffer out not None, str server_header not None="cyhorn", flush=None):
        self.out = out
        self.flush = flush
        self.server_header = server_header
        self.server = f"Server: {server_header}\r\n".encode("latin-1") if server_header else b""
        self.date = b""
        self.seconds = -1
        self.lines = OutputBuffer()
        self.lines.reserve(1)  # its `data` is never NULL
        self.last_status, self.last_code = "200 OK", 200
        self.write_callable = NULL
        self.start(False, True, True)
        self.finished = True

    @property
    def response_length(self):
        """The body's length in bytes where it is known, else None."""
        return None if self.length < 0 or self.status is None else self.length

    @property
    def headers(self):
        """The application's headers, as given."""
        return [] if self.fields is None else self.fields

    @property
    def dropped(self):
        """The hop-by-hop names that were left out, in lower case."""
        return [] if self.left_out is None or self.status is None else self.left_out

    @property
    def full(self):
        """Whether nothing that the application still gives can reach the wire."""
        return self.is_full()

    @property
    def complete(self):
        """Whether the body has the length it promised."""
        return self.status is None or self.is_complete()

    def tick(self, seconds):
        """Set the time of the Date field: `seconds` since the epoch (9110 6.6.1)."""
        self.set_time(seconds)

    def begin(self, head_only, http_1_1, keep_alive):
        """Start a response.

        `head_only` for a HEAD request, `http_1_1` when the peer understands chunked,
        `keep_alive` when request and server would let the connection persist.
        """
        self.start(head_only, http_1_1, keep_alive)

    # -- the application's side: builtins without binding are called the shortest way ------------

    @cython.binding(False)
    def start_response(self, status, headers, exc_info=None):
        """PEP 3333's start_response: check and store; nothing is written yet.

        Returns `write`. Raises ApplicationError when called twice without `exc_info`,
        after the response, or with a status or header that may not reach the wire;
        with `exc_info` after the head was sent, raises that exception again.
        """
        if exc_info:
            try:
                if self.headers_sent and exc_info[1] is not None:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None
        elif self.status is not None:
            raise ApplicationError("start_response was called again without exc_info")
        if self.finished or self.headers_sent:
            raise ApplicationError("start_response was called after the head was sent")
        self.check(status, headers)
        return self.write if self.write_callable == NULL else <object>self.write_callable

    @cython.binding(False)
    def write(self, data):
        """PEP 3333's write: send `data` at once."""
        if self.finished:
            raise ApplicationError("write was called after the response was complete")
        self.put_chunk(data)
        if self.flush is not None:
            self.flush()

    def early_hints(self, headers):
        """Send a 103 response with `headers` (RFC 8297), to HTTP/1.1 peers before the head."""
        cdef OutputBuffer lines
        cdef Py_ssize_t line
        cdef int kind
        if self.finished or self.headers_sent or not self.http_1_1:
            return
        lines = OutputBuffer()  # not `self.lines`: iterating may run start_response
        for field in headers:
            line = lines.used
            _check_pair(field)
            kind = _kind((<tuple>field)[0])
            _put_line(lines, (<tuple>field)[0], (<tuple>field)[1])
            if kind == CONTENT_LENGTH or kind == CONNECTION or kind == HOP:
                lines.used = lines.size = line  # a 103 response frames nothing (9110 15.2)
        self.out.put_bytes(b"HTTP/1.1 103 Early Hints\r\n")
        self.out.put(lines.data, lines.used)
        self.out.put(b"\r\n", 2)
        if self.flush is not None:
            self.flush()

    # -- the loop's side ---------------------------------------------------------------------------

    def chunk(self, data):
        """Append one item of the body, framed; the head before the first that is not empty."""
        self.put_chunk(data)

    def whole(self, parts):
        """Append the complete body as a list or tuple of known length."""
        self.put_whole(parts)

    def file(self, long long count):
        """Append the head for a body of `count` bytes that the caller sends from a file.

        Returns how many of them belong to the body, 0 when it has none; -1 when they
        cannot be sent past the writer because the body is chunked.
        """
        if not self.headers_sent:
            self.send_head(count)
        if self.no_body:
            return 0
        if self.chunked:
            return -1
        if self.length >= 0:
            count = min(count, self.length - self.sent)  # a longer file is no mistake: a range is served so
        self.sent += count
        return count

    def finish(self):
        """Append what ends the response, and decide whether the connection persists."""
        self.end()

    def fail(self, int status):
        """End the response where it is: what was not sent will not be.

        `status` is what the log says of it unless a head has already told another.
        """
        if not self.headers_sent:
            self.status_code = status
            self.status = f"{status} {REASONS.get(status, 'Client Closed Request')}"
            self.fields = None
            self.length = -1
            self.left_out = None
        self.keep_alive = False
        self.finished = True

    cdef int start(self, bint head_only, bint http_1_1, bint keep_alive) except -1:
        self.head_only = head_only
        self.http_1_1 = http_1_1
        self.keep_alive = keep_alive
        self.finished = self.closing = self.has_date = False
        self.no_body = head_only
        self.status = None
        self.status_code = 0
        self.fields = None
        self.headers_sent = False
        self.sent = 0
        self.length = -1
        self.chunked = self.excess = False
        self.left_out = None
        self.lines.used = self.lines.size = 0
        return 0

    cdef int set_time(self, long long seconds) except -1:
        if seconds != self.seconds:
            self.seconds = seconds
            self.date = f"Date: {imf_fixdate(seconds)}\r\n".encode("latin-1")
        return 0

    cdef int check(self, object status, object headers) except -1:
        """Check status and headers and serialise them into `lines`, or raise."""
        cdef int code
        self.status = None
        self.lines.used = self.lines.size = 0
        self.closing = self.has_date = self.has_server = False
        self.length = -1
        self.left_out = None
        if status is self.last_status:
            code = self.last_code
        else:
            code = self.last_code = _status_code(status)
            self.last_status = status
        if not isinstance(headers, list):
            raise ApplicationError(f"the response headers are not a list: {type(headers).__name__}")
        for field in <list>headers:
            self.take_line(field)
        self.status = status
        self.status_code = code
        self.fields = headers
        self.no_body = self.head_only or code == 204 or code == 205 or code == 304
        return 0

    cdef int take_line(self, object field) except -1:
        """Take one of the application's fields, with what it means for the response."""
        cdef Py_ssize_t line
        cdef int kind
        _check_pair(field)
        name = (<tuple>field)[0]
        value = (<tuple>field)[1]
        kind = _kind(name)
        line = self.lines.used
        if kind == CONTENT_LENGTH and self.take_length(value):
            return 0
        _put_line(self.lines, name, value)
        if kind != COPIED and not self.is_copied(kind, name, value):
            self.lines.used = self.lines.size = line
        return 0

    cdef bint take_length(self, object value) except -1:
        """Take a Content-Length; False when it is none, and is still to be judged as a value."""
        cdef const unsigned char *text = _latin1(value)
        cdef Py_ssize_t i, n = PyUnicode_GET_LENGTH(value)
        cdef unsigned long long length = 0
        if text == NULL or n < 1 or n > 19:
            return False
        for i in range(n):
            if not 48 <= text[i] <= 57:
                return False
            length = length * 10 + (text[i] - 48)
        if length > <unsigned long long>LONGEST:
            return False
        if self.length >= 0 and <unsigned long long>self.length != length:
            raise ApplicationError("there are two different Content-Length headers")
        self.length = length
        return True

    cdef bint is_copied(self, int kind, object name, object value) except -1:
        """Note what a field of a special kind means; return whether its line is sent."""
        if kind == CONTENT_LENGTH:
            raise ApplicationError(f"Content-Length is not a length: {value!r}")
        if kind == DATE:
            if self.has_date:
                return False
            self.has_date = True
            return True
        if kind == SERVER:
            if self.has_server or PyBytes_GET_SIZE(self.server):
                return False
            self.has_server = True
            return True
        if kind == CONNECTION and "close" in [token.strip(" \t").lower() for token in str.split(value, ",")]:
            self.closing = True
            return False
        if self.left_out is None:
            self.left_out = []
        self.left_out.append(str.lower(name))
        return False

    cdef int put_chunk(self, object data) except -1:
        if not isinstance(data, bytes):
            raise ApplicationError(f"the application gave {type(data).__name__} where bytes are due")
        if PyBytes_GET_SIZE(data):
            if not self.headers_sent:
                self.send_head(-1)
            self.body(<bytes>data)
        return 0

    cdef int put_whole(self, object parts) except -1:
        cdef long long total = 0
        for part in parts:
            if not isinstance(part, bytes):
                raise ApplicationError(f"the application gave {type(part).__name__} where bytes are due")
            total += PyBytes_GET_SIZE(part)
        if not self.headers_sent:
            self.send_head(total)
        if not self.no_body:
            for part in parts:
                if PyBytes_GET_SIZE(part):
                    self.body(<bytes>part)
        return 0

    cdef int end(self) except -1:
        if not self.headers_sent:
            self.send_head(0)
        if self.chunked and not self.no_body:
            self.out.put(b"0\r\n\r\n", 5)
        if not self.is_complete():
            self.keep_alive = False
        self.finished = True
        return 0

    cdef bint is_full(self) noexcept:
        return self.excess or (self.no_body and self.headers_sent)

    cdef bint is_complete(self) noexcept:
        return self.no_body or self.length < 0 or self.sent == self.length

    cdef int send_head(self, long long known) except -1:
        """Append the head, and fix the framing; `known` is the body's length, -1 when unknown."""
        cdef OutputBuffer out = self.out
        cdef OutputBuffer lines = self.lines
        cdef unsigned char *to
        if self.status is None or self.finished:
            raise ApplicationError("the application sent a body or ended without calling start_response")
        if self.closing:
            self.keep_alive = False
        if self.status_code == 205:
            self.length = 0
        elif self.status_code == 204:
            self.length = -1
        elif self.length < 0 and known >= 0 and self.status_code != 304 and (known or not self.no_body):
            # An empty list answers HEAD without saying how long GET's body would be.
            self.length = known
        if 0 <= known < self.length and not self.no_body:
            self.keep_alive = False  # what is promised will not come: the head says so
        if self.length < 0 and not self.no_body:
            self.chunked = self.http_1_1
            if not self.http_1_1:
                self.keep_alive = False
        out.reserve(
            PyUnicode_GET_LENGTH(self.status) + PyBytes_GET_SIZE(self.server) + PyBytes_GET_SIZE(self.date)
            + lines.used + FRAMING_ROOM
        )
        to = out.data + out.used
        to = _add(to, b"HTTP/1.1 ", 9)
        to = _add(to, PyUnicode_DATA(self.status), PyUnicode_GET_LENGTH(self.status))
        to = _add(to, b"\r\n", 2)
        to = _add(to, PyBytes_AS_STRING(self.server), PyBytes_GET_SIZE(self.server))
        if not self.has_date:
            to = _add(to, PyBytes_AS_STRING(self.date), PyBytes_GET_SIZE(self.date))
        to = _add(to, lines.data, lines.used)
        if self.length >= 0:
            to = _add(to, b"Content-Length: ", 16)
            to = _add_decimal(to, self.length)
            to = _add(to, b"\r\n", 2)
        elif self.chunked:
            to = _add(to, b"Transfer-Encoding: chunked\r\n", 28)
        if not self.keep_alive:
            to = _add(to, b"Connection: close\r\n", 19)
        elif not self.http_1_1:
            to = _add(to, b"Connection: keep-alive\r\n", 24)
        to = _add(to, b"\r\n", 2)
        out.size += to - (out.data + out.used)
        out.used = to - out.data
        self.headers_sent = True
        return 0

    cdef int body(self, bytes data) except -1:
        cdef long long size = PyBytes_GET_SIZE(data)
        if self.no_body:
            return 0
        if self.length >= 0 and self.sent + size > self.length:
            self.excess = True
            size = self.length - self.sent
            if not size:
                return 0
            data = PyBytes_FromStringAndSize(PyBytes_AS_STRING(data), size)  # a subclass may slice otherwise
        self.sent += size
        if self.chunked:
            _put_hex(self.out, size)
            self.out.put_bytes(data)
            self.out.put(b"\r\n", 2)
        else:
            self.out.put_bytes(data)
        return 0
