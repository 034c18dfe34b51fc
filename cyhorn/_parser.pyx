# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The request parser, compiled. `_parser_py.py` is the readable specification: what it says
of lines, order of judgement, states and invariants holds here, byte for byte and code for
code. The twins share the data in `grammar`.

`feed` is plain C: it takes bytes, keeps offsets and never a pointer, raises nothing and
allocates only when a table of fields outgrows its room.

How bytes are read: a line is looked at only when its LF has been found, so that its CR or
LF stops every loop over characters (neither is in any class of `CLASS`) and no loop has to
test for the end of the buffer.
"""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.unicode cimport PyUnicode_DecodeLatin1
from libc.stdint cimport uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memchr, memcmp, memcpy, memset

from cyhorn._scan cimport CR, HTAB, LF, SP, folded_equal, has_bare_cr, invariant, is_white, load, scan_value

from cyhorn import grammar
from cyhorn.errors import Code, http_error

# -- data of grammar.py in C tables ---------------------------------------------------------

# What the parser does with a field of its own concern.
cdef enum Rule:
    NO_RULE = 0
    HOST = 1
    CONNECTION = 2
    TRANSFER_ENCODING = 3
    EXPECT = 4
    CONTENT_LENGTH = 5
    SINGLETON = 6         # no meaning here, but not twice

# What the lines said: bits of RequestParser.noted.
cdef enum Note:
    REPEATED = 1          # a singleton field
    HOST_BAD = 2
    LENGTH_GIVEN = 4
    LENGTH_BAD = 8
    ENCODED = 16          # Transfer-Encoding is there
    ENCODED_TAB = 32      # with a HTAB in it
    EXPECTED = 64
    EXPECTED_OTHER = 128  # than 100-continue
    CLOSE = 256
    KEEP_ALIVE = 512

# Known fields by a hash of length and three folded characters: the first in each bucket
# of HASHED and the next of the same bucket in NEXT_HASHED, -1 at the end. Names in lower
# case; NAME_ROOM and KNOWN_ROOM are checked when the tables are filled.
cdef enum:
    KNOWN_ROOM = 128
    NAME_ROOM = 40
    SHORTEST_HELD = 16    # bytes of a line in a LineCache: its slot is found by three words

cdef short HASHED[256]
cdef short NEXT_HASHED[KNOWN_ROOM]
cdef unsigned char KNOWN_NAME[KNOWN_ROOM][NAME_ROOM]
cdef unsigned char KNOWN_LENGTH[KNOWN_ROOM]
cdef unsigned char KNOWN_RULE[KNOWN_ROOM]
cdef unsigned char KNOWN_UNFOLDABLE[KNOWN_ROOM]
cdef unsigned int KNOWN_SINGLE[KNOWN_ROOM]    # its bit of RequestParser.seen, or 0
cdef tuple KNOWN_UPPER = ()                   # position → name in upper case, as str
cdef short COOKIE_FIELD = -1                  # position of Cookie
cdef short ACCEPT_FIELD = -1                  # position of Accept

cdef Py_ssize_t MAX_HEAD = grammar.MAX_HEAD
cdef unsigned long long MAX_LENGTH = grammar.MAX_LENGTH
cdef int MAX_PORT = grammar.MAX_PORT
cdef Py_ssize_t METHOD_LEAST, METHOD_MOST
METHOD_LEAST, METHOD_MOST = grammar.CONVENTIONAL_METHOD_LENGTH

cdef int E_BARE_LF = Code.BARE_LF
cdef int E_BARE_CR = Code.BARE_CR
cdef int E_EMPTY_LINES = Code.EMPTY_LINES
cdef int E_REQUEST_LINE = Code.REQUEST_LINE
cdef int E_METHOD = Code.METHOD
cdef int E_TARGET = Code.TARGET
cdef int E_CONNECT = Code.CONNECT
cdef int E_VERSION_SYNTAX = Code.VERSION_SYNTAX
cdef int E_VERSION = Code.VERSION
cdef int E_REQUEST_LINE_LENGTH = Code.REQUEST_LINE_LENGTH
cdef int E_FIELD_NAME = Code.FIELD_NAME
cdef int E_FIELD_VALUE = Code.FIELD_VALUE
cdef int E_FIELD_FOLDED = Code.FIELD_FOLDED
cdef int E_FIELD_COUNT = Code.FIELD_COUNT
cdef int E_FIELD_LENGTH = Code.FIELD_LENGTH
cdef int E_HEAD_LENGTH = Code.HEAD_LENGTH
cdef int E_FIELD_REPEATED = Code.FIELD_REPEATED
cdef int E_HOST_MISSING = Code.HOST_MISSING
cdef int E_HOST = Code.HOST
cdef int E_CONTENT_LENGTH = Code.CONTENT_LENGTH
cdef int E_TRANSFER_ENCODING = Code.TRANSFER_ENCODING
cdef int E_TRANSFER_CODING = Code.TRANSFER_CODING
cdef int E_LENGTH_CONFLICT = Code.LENGTH_CONFLICT
cdef int E_TRACE_BODY = Code.TRACE_BODY
cdef int E_EXPECT = Code.EXPECT
cdef int E_INTERNAL = Code.INTERNAL

cdef enum HeadState:
    # Below zero the parser has failed: -Code.
    READY = 0             # a request line is read next
    IN_FIELDS = 1
    FOUND = 2

# Room for fields: at first, and at most when a parser rests between two heads.
cdef enum:
    FIELDS_FIRST = 16
    FIELDS_KEPT = 1024

cdef int fill_tables() except -1:
    """Fill the tables above from grammar.py."""
    cdef int byte, bit, position, bucket, single = 0
    for bit, members in (
        (TCHAR, grammar.TCHAR),
        (VALUE, grammar.FIELD_VALUE),
        (TARGET, grammar.TARGET),
        (METHOD, grammar.CONVENTIONAL_METHOD),
        (REG_NAME, grammar.REG_NAME),
        (HEXDIG, grammar.HEXDIG),
        (QUOTED_TEXT, grammar.QUOTED_TEXT),
        (IP_FUTURE, grammar.IP_FUTURE),
    ):
        for byte in members:
            CLASS[byte] |= <unsigned char>bit
    if (CLASS[CR] | CLASS[LF]) or grammar.QUOTED_PAIR != grammar.FIELD_VALUE:
        raise ImportError("cyhorn._parser cannot hold the classes of cyhorn.grammar")
    rules = {
        b"host": HOST,
        b"connection": CONNECTION,
        b"transfer-encoding": TRANSFER_ENCODING,
        b"expect": EXPECT,
        b"content-length": CONTENT_LENGTH,
    }
    if (
        len(grammar.KNOWN_FIELDS) > KNOWN_ROOM
        or max(map(len, grammar.KNOWN_FIELDS)) > NAME_ROOM
        or not grammar.KNOWN_FIELDS.keys() >= {*rules, *grammar.SINGLETON_FIELDS, *grammar.UNFOLDABLE_FIELDS}
        or len(grammar.SINGLETON_FIELDS) > 32
    ):
        raise ImportError("cyhorn._parser cannot hold the fields of cyhorn.grammar")
    memset(HASHED, 0xFF, sizeof(HASHED))
    memset(NEXT_HASHED, 0xFF, sizeof(NEXT_HASHED))
    for position, name in enumerate(grammar.KNOWN_FIELDS):
        memcpy(KNOWN_NAME[position], <const char *>name, len(name))
        KNOWN_LENGTH[position] = len(name)
        KNOWN_UNFOLDABLE[position] = name in grammar.UNFOLDABLE_FIELDS
        KNOWN_RULE[position] = rules.get(name, NO_RULE)
        if name in grammar.SINGLETON_FIELDS:
            KNOWN_SINGLE[position] = 1u << single
            single += 1
            if KNOWN_RULE[position] == NO_RULE:
                KNOWN_RULE[position] = SINGLETON
        bucket = hash_name(KNOWN_NAME[position], len(name))
        NEXT_HASHED[position] = HASHED[bucket]
        HASHED[bucket] = position
    global ACCEPT_FIELD, COOKIE_FIELD, KNOWN_UPPER
    COOKIE_FIELD = list(grammar.KNOWN_FIELDS).index(grammar.COOKIE)
    ACCEPT_FIELD = list(grammar.KNOWN_FIELDS).index(b"accept")
    KNOWN_UPPER = tuple(name.decode("latin-1").upper() for name in grammar.KNOWN_FIELDS)
    return 0


# -- helpers ------------------------------------------------------------------------------------

cdef inline int hash_name(const unsigned char *p, Py_ssize_t length) noexcept:
    """The bucket of the name p[0:length], length > 0, in any case of letters."""
    return <int>(
        (length * 7 + (p[0] | 0x20) * 5 + (p[length - 1] | 0x20) * 11 + (p[length >> 1] | 0x20) * 3) & 255
    )


cdef inline short find_known(const unsigned char *p, Py_ssize_t length) noexcept:
    """The position in KNOWN_FIELDS of the token p[0:length], -1 for a stranger."""
    cdef short known
    invariant(length > 0)
    known = HASHED[hash_name(p, length)]
    while known >= 0:
        if KNOWN_LENGTH[known] == length and folded_equal(p, KNOWN_NAME[known], length):
            return known
        known = NEXT_HASHED[known]
    return -1


cdef int scan_field(
    const unsigned char *p, Py_ssize_t start, Py_ssize_t stop, bint strip_spaces, Field *field
) noexcept:
    """Fill the spans and flags of the field line p[start:stop], p[stop] being its CR.
    Returns 0 or a Code (9112 5)."""
    cdef Py_ssize_t i = start
    cdef Py_ssize_t value_stop = stop
    cdef int flags = 0, found
    invariant(start < stop and p[stop] == CR)
    while CLASS[p[i]] & TCHAR:
        if p[i] == c'_':
            flags = NAME_UNDERSCORE
        i += 1
    field.name.start = <unsigned int>start
    field.name.length = <unsigned int>(i - start)
    if strip_spaces:
        while is_white(p[i]):
            i += 1
    if p[i] != c':' or field.name.length == 0:
        return E_FIELD_NAME
    i += 1
    while is_white(p[i]):
        i += 1
    while value_stop > i and is_white(p[value_stop - 1]):
        value_stop -= 1
    field.value.start = <unsigned int>i
    field.value.length = <unsigned int>(value_stop - i)
    invariant(start < i <= value_stop <= stop)
    found = scan_value(p + i, value_stop - i)
    if found < 0:
        return E_FIELD_VALUE
    field.flags = <unsigned char>(flags | found)
    return 0


cdef inline short line_slot(const unsigned char *p, Py_ssize_t length) noexcept:
    """The one slot of a LineCache that may hold p[0:length]; length >= SHORTEST_HELD."""
    cdef uint64_t mixed = load(p + length - 8) ^ (load(p + (length >> 1)) << 7) ^ load(p) ^ <uint64_t>length
    return <short>((mixed * <uint64_t>0x9E3779B97F4A7C15) >> 56)


cdef inline void recall(const Line *line, Py_ssize_t start, Field *field) noexcept:
    """Fill `field` from the line that is held; it begins at `start` of this head."""
    field.name.start = <unsigned int>start
    field.name.length = line.name_length
    field.value.start = <unsigned int>start + line.value_start
    field.value.length = line.value_length
    field.known = line.known
    field.flags = line.flags
    field.generation = line.generation


cdef inline bint may_be_held(const Field *field) noexcept:
    """Whether a line means the same wherever it stands, and is no one's secret."""
    if field.flags & NAME_UNDERSCORE:
        return False
    return field.known < 0 or (KNOWN_RULE[field.known] == NO_RULE and field.known != COOKIE_FIELD)


cdef void hold(
    LineCache cache, const unsigned char *p, Py_ssize_t start, Py_ssize_t stop, Field *field
) noexcept:
    """Hold the line p[start:stop] of `field`, in the place of what its slot held."""
    cdef short slot = line_slot(p + start, stop - start)
    cdef Line *line = &cache.lines[slot]
    line.length = <unsigned int>(stop - start)
    line.generation += 1
    line.name_length = <unsigned short>field.name.length
    line.value_start = <unsigned short>(field.value.start - start)
    line.value_length = <unsigned short>field.value.length
    line.known = field.known
    line.flags = field.flags
    memcpy(line.text, p + start, <size_t>(stop - start))
    field.slot = slot
    field.generation = line.generation


cdef bint valid_ipv4(const unsigned char *p, Py_ssize_t length) noexcept:
    """IPv4address = dec-octet 3( "." dec-octet ), dec-octet 0-255 without leading zeros (3986 3.2.2)."""
    cdef Py_ssize_t i = 0, first
    cdef int part, value
    for part in range(4):
        if part:
            if i >= length or p[i] != c'.':
                return False
            i += 1
        first = i
        value = 0
        while i < length and i - first < 3 and c'0' <= p[i] <= c'9':
            value = value * 10 + p[i] - c'0'
            i += 1
        if i == first or value > 255 or (p[first] == c'0' and i - first > 1):
            return False
    return i == length


cdef bint valid_ipv6(const unsigned char *p, Py_ssize_t length) noexcept:
    """IPv6address: eight groups of 1*4HEXDIG, the last two also as an IPv4address; one
    "::" stands for one group or more that are zero (3986 3.2.2)."""
    cdef Py_ssize_t i = 0, first
    cdef int groups = 0
    cdef bint elided = False
    if length >= 2 and p[0] == c':' and p[1] == c':':
        elided = True
        i = 2
    while i < length:
        first = i
        while i < length and i - first < 5 and CLASS[p[i]] & HEXDIG:
            i += 1
        if i < length and p[i] == c'.':
            if not valid_ipv4(p + first, length - first):
                return False
            groups += 2
            break
        if i == first or i - first > 4:
            return False
        groups += 1
        if i == length:
            break
        if p[i] != c':':
            return False
        i += 1
        if i < length and p[i] == c':':
            if elided:
                return False
            elided = True
            i += 1
        elif i == length:
            return False
    return groups <= 7 if elided else groups == 8


cdef bint valid_ip_literal(const unsigned char *p, Py_ssize_t length) noexcept:
    """What stands between brackets: IPv6address or IPvFuture = "v" 1*HEXDIG "." 1*IP_FUTURE."""
    cdef Py_ssize_t i = 1
    if length == 0 or p[0] | 0x20 != c'v':
        return valid_ipv6(p, length)
    while i < length and CLASS[p[i]] & HEXDIG:
        i += 1
    if i == 1 or i + 1 >= length or p[i] != c'.':
        return False
    i += 1
    while i < length:
        if not CLASS[p[i]] & IP_FUTURE:
            return False
        i += 1
    return True


cdef bint valid_authority(const unsigned char *p, Py_ssize_t length, bint port_needed) noexcept:
    """Whether p[0:length] is uri-host [ ":" port ] with a host and a port up to MAX_PORT
    (9110 4.2.1, 7.2; 3986 3.2.2, 3.2.3)."""
    cdef Py_ssize_t i = 0, first
    cdef const unsigned char *bracket
    cdef int port = 0
    if length and p[0] == c'[':
        bracket = <const unsigned char *>memchr(p, c']', <size_t>length)
        if bracket == NULL or not valid_ip_literal(p + 1, bracket - p - 1):
            return False
        i = bracket - p + 1
    else:
        while i < length:
            if CLASS[p[i]] & REG_NAME:
                i += 1
            elif p[i] == c'%' and length - i > 2 and CLASS[p[i + 1]] & CLASS[p[i + 2]] & HEXDIG:
                i += 3
            else:
                break
        if i == 0:
            return False
    if i == length:
        return not port_needed
    if p[i] != c':':
        return False
    i += 1
    first = i
    while i < length:
        if not c'0' <= p[i] <= c'9':
            return False
        port = port * 10 + p[i] - c'0'
        if port > MAX_PORT:
            return False
        i += 1
    return i > first or not port_needed


cdef long long read_length(const unsigned char *p, Py_ssize_t length) noexcept:
    """The Content-Length p[0:length] = 1*DIGIT, or -1 (9110 8.6)."""
    cdef unsigned long long value = 0
    cdef Py_ssize_t i
    if length == 0:
        return -1
    for i in range(length):
        if not c'0' <= p[i] <= c'9':
            return -1
        if value > (MAX_LENGTH - (p[i] - c'0')) // 10:
            return -1
        value = value * 10 + (p[i] - c'0')
    return <long long>value


cdef unsigned int read_connection(const unsigned char *p, Py_ssize_t length) noexcept:
    """CLOSE and KEEP_ALIVE as they stand in a list of connection options (9110 7.6.1)."""
    cdef unsigned int noted = 0
    cdef Py_ssize_t start = 0, stop, end
    while start < length:
        end = start
        while end < length and p[end] != c',':
            end += 1
        stop = end
        while start < stop and is_white(p[start]):
            start += 1
        while stop > start and is_white(p[stop - 1]):
            stop -= 1
        if stop - start == 5:
            if folded_equal(p + start, b"close", 5):
                noted |= CLOSE
        elif stop - start == 10:
            if folded_equal(p + start, b"keep-alive", 10):
                noted |= KEEP_ALIVE
        start = end + 1
    return noted


# -- the head -----------------------------------------------------------------------------------

@cython.final
cdef class RequestHead:
    """One request's head, as `RequestParser.parse` found it; see `_parser_py.RequestHead`."""

    def __repr__(self):
        return f"<RequestHead {self.method} {self.target} {self.size} bytes>"


@cython.final
cdef class LineCache:
    """Field lines seen lately; see _parser.pxd. A loop has one."""

    def __cinit__(self):
        memset(self.lines, 0, sizeof(self.lines))


@cython.final
cdef class RequestParser:
    """Reads request heads (9112 2 to 6), strictly unless a switch relaxes a rule.

    limit_request_line and limit_request_field_size are bytes of a line, the first
    without its CRLF, the second with it, as Gunicorn counts; limit_request_fields is a
    number of lines. Zero is no limit but that of the whole head, `grammar.MAX_HEAD`.
    The other parameters are Gunicorn's settings of the same names.
    """

    def __cinit__(
        self,
        *,
        Py_ssize_t limit_request_line=8190,
        Py_ssize_t limit_request_fields=100,
        Py_ssize_t limit_request_field_size=8190,
        bint permit_obsolete_folding=False,
        bint strip_header_spaces=False,
        bint permit_unconventional_http_method=False,
        bint permit_unconventional_http_version=False,
        bint casefold_http_method=False,
    ):
        if limit_request_line < 0 or limit_request_fields < 0 or limit_request_field_size < 0:
            raise ValueError("a limit is negative")
        self.limit_request_line = limit_request_line
        self.limit_request_fields = limit_request_fields
        self.limit_request_field_size = limit_request_field_size
        self.permit_obsolete_folding = permit_obsolete_folding
        self.strip_header_spaces = strip_header_spaces
        self.permit_unconventional_http_method = permit_unconventional_http_method
        self.permit_unconventional_http_version = permit_unconventional_http_version
        self.casefold_http_method = casefold_http_method
        self.fields = NULL
        self.field_capacity = 0
        self.reset()

    def __dealloc__(self):
        free(self.fields)

    cpdef void reset(self) noexcept:
        """Forget the head that was begun, and the error."""
        if self.field_capacity > FIELDS_KEPT:
            free(self.fields)
            self.fields = NULL
            self.field_capacity = 0
        self.state = READY
        self.scanned = 0
        self.line_start = 0
        self.field_start = 0
        self.empty_line = False
        self.size = 0
        self.field_count = 0
        self.host = -1
        self.content_length = -1
        self.chunked = False
        self.keep_alive = False
        self.expect_continue = False
        self.seen = 0
        self.noted = 0

    cdef Py_ssize_t feed(self, const unsigned char *p, Py_ssize_t n) noexcept:
        # Entry: p[0:n] begins with the bytes of the calls since the last reset or head.
        cdef const unsigned char *found
        cdef Py_ssize_t end
        cdef int code
        if self.state != READY and self.state != IN_FIELDS:
            if self.state < 0:
                return self.state
            self.reset()
        if n > MAX_HEAD:
            n = MAX_HEAD
        if n <= self.scanned:
            return 0
        invariant(self.line_start <= self.scanned)
        while True:
            found = <const unsigned char *>memchr(p + self.scanned, LF, <size_t>(n - self.scanned))
            if found == NULL:
                code = self.judge_begun(p, n)
                self.scanned = n
                if code:
                    self.state = -code
                return self.state if code else 0
            end = found - p
            code = self.take_line(p, end)
            if code:
                self.state = -code
                return self.state
            if self.state == FOUND:
                return self.size
            self.scanned = self.line_start = end + 1

    cdef int judge_begun(self, const unsigned char *p, Py_ssize_t n) noexcept:
        """Refuse the line that p[0:n] leaves incomplete for what no later byte can mend."""
        cdef Py_ssize_t begin = self.line_start
        cdef Py_ssize_t limit = self.limit_request_line
        cdef unsigned char first
        cdef int code = E_REQUEST_LINE_LENGTH
        if self.state == READY:
            if limit:
                limit += 2
        else:
            if begin < n:
                first = p[begin]
                if is_white(first):
                    if self.permit_obsolete_folding and self.field_count:
                        begin = self.field_start
                elif first != CR and self.field_count >= self.limit_request_fields > 0:
                    return E_FIELD_COUNT
            limit = self.limit_request_field_size
            code = E_FIELD_LENGTH
        if limit and n + 1 - begin > limit:
            return self.first_broken(p, begin + limit, code)
        if has_bare_cr(p, max(self.line_start, self.scanned - 1), n - 1):
            return E_BARE_CR
        return E_HEAD_LENGTH if n == MAX_HEAD else 0

    cdef int first_broken(self, const unsigned char *p, Py_ssize_t stop, int code) noexcept:
        """What comes first in the line at line_start: a bare CR, or the byte before `stop`, too many: `code`.

        A CR is known to be bare by the byte behind it.
        """
        return E_BARE_CR if has_bare_cr(p, self.line_start, stop - 2) else code

    cdef int take_line(self, const unsigned char *p, Py_ssize_t end) noexcept:
        """Judge and take the line that ends with the LF at p[end]. Returns 0 or a Code."""
        cdef Py_ssize_t start = self.line_start
        cdef Py_ssize_t begin = start
        cdef unsigned char first = p[start]
        cdef int code
        invariant(start <= end and p[end] == LF)
        if self.state == READY:
            if end - 1 - start > self.limit_request_line > 0:
                return self.first_broken(p, start + self.limit_request_line + 2, E_REQUEST_LINE_LENGTH)
        else:
            if is_white(first):
                if self.permit_obsolete_folding and self.field_count:
                    begin = self.field_start
            elif self.field_count >= self.limit_request_fields > 0 and first != CR and first != LF:
                return E_FIELD_COUNT
            if end - begin >= self.limit_request_field_size > 0:
                return self.first_broken(p, begin + self.limit_request_field_size, E_FIELD_LENGTH)
        if end == start or p[end - 1] != CR:
            return E_BARE_CR if has_bare_cr(p, start, end - 1) else E_BARE_LF
        end -= 1
        if end == start:
            if self.state == READY:
                if self.empty_line:
                    return E_EMPTY_LINES
                self.empty_line = True
                return 0
            self.size = end + 2
            code = self.conclude(p)
            if code == 0:
                self.state = FOUND
            return code
        if self.state == READY:
            code = self.take_request_line(p, start, end)
            if code == 0:
                self.state = IN_FIELDS
        elif is_white(first):
            code = self.take_fold(p, start, end)
        else:
            self.field_start = start
            code = self.take_field(p, start, end)
        # A CR in a line is an error of syntax wherever it stands: name it as what it is.
        if code and memchr(p + start, CR, <size_t>(end - start)) != NULL:
            return E_BARE_CR
        return code

    cdef int take_request_line(self, const unsigned char *p, Py_ssize_t start, Py_ssize_t stop) noexcept:
        """request-line = method SP request-target SP HTTP-version (9112 3); p[stop] is its CR."""
        cdef const unsigned char *found
        cdef Py_ssize_t i, method_stop, target_stop
        cdef unsigned char byte
        found = <const unsigned char *>memchr(p + start, SP, <size_t>(stop - start))
        if found == NULL:
            return E_REQUEST_LINE
        method_stop = found - p
        found = <const unsigned char *>memchr(found + 1, SP, <size_t>(stop - method_stop - 1))
        if found == NULL:
            return E_REQUEST_LINE
        target_stop = found - p
        if (
            method_stop == start
            or target_stop == method_stop + 1
            or target_stop + 1 == stop
            or memchr(found + 1, SP, <size_t>(stop - target_stop - 1)) != NULL
        ):
            return E_REQUEST_LINE
        # The method: a token, by convention short and in upper case.
        self.method.start = <unsigned int>start
        self.method.length = <unsigned int>(method_stop - start)
        for i in range(start, method_stop):
            byte = p[i]
            if self.casefold_http_method and c'a' <= byte <= c'z':
                byte -= 0x20
            if not CLASS[byte] & (TCHAR if self.permit_unconventional_http_method else METHOD):
                return E_METHOD
        if not self.permit_unconventional_http_method:
            if not METHOD_LEAST <= method_stop - start <= METHOD_MOST:
                return E_METHOD
        cdef int code = self.take_target(p, method_stop + 1, target_stop)
        if code:
            return code
        # HTTP-version = "HTTP/" DIGIT "." DIGIT (9112 2.3)
        p += target_stop + 1
        if (
            stop - target_stop - 1 != 8
            or memcmp(p, b"HTTP/", 5) != 0
            or p[6] != c'.'
            or not c'0' <= p[5] <= c'9'
            or not c'0' <= p[7] <= c'9'
        ):
            return E_VERSION_SYNTAX
        self.major = p[5] - c'0'
        self.minor = p[7] - c'0'
        if self.major != 1 and not self.permit_unconventional_http_version:
            return E_VERSION
        return 0

    cdef bint is_method(self, const unsigned char *p, const unsigned char *name, Py_ssize_t length) noexcept:
        """Whether the method is `name`, which is in upper case."""
        cdef Py_ssize_t i
        if self.method.length != <unsigned int>length:
            return False
        p += self.method.start
        for i in range(length):
            if p[i] != name[i] and not (self.casefold_http_method and p[i] == name[i] + 0x20):
                return False
        return True

    cdef int take_target(self, const unsigned char *p, Py_ssize_t start, Py_ssize_t stop) noexcept:
        """The four forms of a request-target p[start:stop], not empty (9112 3.2)."""
        cdef Py_ssize_t i
        for i in range(start, stop):
            if not CLASS[p[i]] & TARGET:
                return E_TARGET
        self.target.start = <unsigned int>start
        self.target.length = <unsigned int>(stop - start)
        self.authority.start = <unsigned int>start
        self.authority.length = 0
        self.target_flags = 0
        if p[self.method.start] | 0x20 == c'c' and self.is_method(p, b"CONNECT", 7):
            return E_CONNECT if valid_authority(p + start, stop - start, True) else E_TARGET
        if p[start] == c'/':
            self.take_path(p, start, stop)
            if self.path.length == self.target.length:
                self.target_flags |= TARGET_IS_PATH
            return 0
        if p[start] == c'*' and stop - start == 1 and self.is_method(p, b"OPTIONS", 7):
            self.take_path(p, start, stop)
            self.target_flags |= TARGET_IS_PATH
            return 0
        return self.take_absolute(p, start, stop)

    cdef void take_path(self, const unsigned char *p, Py_ssize_t start, Py_ssize_t stop) noexcept:
        """Path and query of p[start:stop], both of them possibly empty."""
        cdef Py_ssize_t path_stop = stop
        cdef const unsigned char *found
        found = <const unsigned char *>memchr(p + start, c'?', <size_t>(stop - start))
        if found != NULL:
            path_stop = found - p
        self.path.start = <unsigned int>start
        self.path.length = <unsigned int>(path_stop - start)
        self.query.start = <unsigned int>(path_stop + 1 if found != NULL else stop)
        self.query.length = <unsigned int>(stop - self.query.start)
        if memchr(p + start, c'%', <size_t>(path_stop - start)) != NULL:
            self.target_flags |= PATH_ENCODED

    cdef int take_absolute(self, const unsigned char *p, Py_ssize_t start, Py_ssize_t stop) noexcept:
        """absolute-form of the schemes http and https (9112 3.2.2)."""
        cdef Py_ssize_t i = start + 4
        if stop - start < 7 or not folded_equal(p + start, b"http", 4):
            return E_TARGET
        if p[i] | 0x20 == c's':
            i += 1
        if stop - i < 3 or memcmp(p + i, b"://", 3) != 0:
            return E_TARGET
        i += 3
        self.authority.start = <unsigned int>i
        while i < stop and p[i] != c'/' and p[i] != c'?':
            i += 1
        self.authority.length = <unsigned int>(i - self.authority.start)
        if not valid_authority(p + self.authority.start, self.authority.length, False):
            return E_TARGET
        self.take_path(p, i, stop)
        return 0

    cdef int take_field(self, const unsigned char *p, Py_ssize_t start, Py_ssize_t stop) noexcept:
        """field-line = field-name ":" OWS field-value OWS (9112 5); p[stop] is its CR."""
        cdef Field *field
        cdef int code
        if self.field_count == self.field_capacity:
            code = self.grow_fields()
            if code:
                return code
        field = &self.fields[self.field_count]
        cdef Line *line = NULL
        if self.cache is not None and SHORTEST_HELD <= stop - start <= LINE_ROOM:
            field.slot = line_slot(p + start, stop - start)
            line = &self.cache.lines[field.slot]
            if line.length == <unsigned int>(stop - start) and memcmp(line.text, p + start, line.length) == 0:
                recall(line, start, field)
                self.field_count += 1
                return 0
        field.slot = -1
        code = scan_field(p, start, stop, self.strip_header_spaces, field)
        if code:
            return code
        field.known = find_known(p + start, field.name.length)
        if line != NULL and may_be_held(field):
            hold(self.cache, p, start, stop, field)
        if field.known >= 0 and KNOWN_RULE[field.known] != NO_RULE:
            self.note_field(p, field, KNOWN_RULE[field.known])
            if KNOWN_RULE[field.known] == TRANSFER_ENCODING:
                # white space that others may not trim
                start += field.name.length
                while p[start] != c':':
                    start += 1
                if memchr(p + start, HTAB, <size_t>(stop - start)) != NULL:
                    self.noted |= ENCODED_TAB
        self.field_count += 1
        return 0

    cdef void note_field(self, const unsigned char *p, Field *field, int rule) noexcept:
        """What a field of the parser's own concern says of the head as a whole."""
        cdef const unsigned char *value = p + field.value.start
        cdef unsigned int single = KNOWN_SINGLE[field.known]
        if self.seen & single:
            self.noted |= REPEATED
        self.seen |= single
        if rule == HOST:
            self.host = <int>self.field_count
            if field.value.length and not valid_authority(value, field.value.length, False):
                self.noted |= HOST_BAD
        elif rule == CONNECTION:
            self.noted |= read_connection(value, field.value.length)
        elif rule == CONTENT_LENGTH:
            self.noted |= LENGTH_GIVEN
            self.content_length = read_length(value, field.value.length)
            if self.content_length < 0:
                self.noted |= LENGTH_BAD
        elif rule == TRANSFER_ENCODING:
            self.noted |= ENCODED
        elif rule == EXPECT:
            self.noted |= EXPECTED
            if field.value.length != 12 or not folded_equal(value, b"100-continue", 12):
                self.noted |= EXPECTED_OTHER

    cdef int take_fold(self, const unsigned char *p, Py_ssize_t start, Py_ssize_t stop) noexcept:
        """An obs-fold line: more of the last field's value (9112 5.2)."""
        cdef Field *field
        cdef int found
        if not self.permit_obsolete_folding or self.field_count == 0:
            return E_FIELD_FOLDED
        field = &self.fields[self.field_count - 1]
        if field.known >= 0 and KNOWN_UNFOLDABLE[field.known]:
            return E_FIELD_FOLDED
        found = scan_value(p + start, stop - start)
        if found < 0:
            return E_FIELD_VALUE
        append_fold(p, start, stop, field, found)
        field.slot = -1  # the cache knows its first line only
        return 0

    cdef int conclude(self, const unsigned char *p) noexcept:
        """Judge the head as a whole, in the order of `_parser_py.RequestParser._conclude`."""
        cdef unsigned int noted = self.noted
        cdef bint persistent = self.major > 1 or (self.major == 1 and self.minor >= 1)
        cdef int code
        if noted & REPEATED:
            return E_FIELD_REPEATED
        if self.host < 0 and persistent:
            return E_HOST_MISSING
        if noted & HOST_BAD:
            return E_HOST
        if noted & ENCODED:
            if noted & LENGTH_GIVEN:
                return E_LENGTH_CONFLICT
            if not persistent or noted & ENCODED_TAB:
                return E_TRANSFER_ENCODING
            code = self.judge_transfer_encoding(p)
            if code:
                return code
            self.chunked = True
        elif noted & LENGTH_BAD:
            return E_CONTENT_LENGTH
        if (self.chunked or self.content_length > 0) and self.is_method(p, b"TRACE", 5):
            return E_TRACE_BODY
        if noted & EXPECTED and persistent:
            if noted & EXPECTED_OTHER:
                return E_EXPECT
            self.expect_continue = True
        self.keep_alive = not noted & CLOSE and (persistent or (noted & KEEP_ALIVE) != 0)
        return 0

    cdef int judge_transfer_encoding(self, const unsigned char *p) noexcept:
        """Accept `chunked` alone (9112 6.1), over all lines of Transfer-Encoding."""
        cdef Py_ssize_t index, start, stop, end, line_stop, i
        cdef Field *field
        cdef bint chunked = False, other = False
        for index in range(self.field_count):
            field = &self.fields[index]
            if field.known < 0 or KNOWN_RULE[field.known] != TRANSFER_ENCODING:
                continue
            end = field.value.start - 1
            line_stop = field.value.start + field.value.length
            while end < line_stop:
                start = end + 1
                end = start
                while end < line_stop and p[end] != c',':
                    end += 1
                stop = end
                while start < stop and p[start] == SP:
                    start += 1
                while stop > start and p[stop - 1] == SP:
                    stop -= 1
                if start == stop or chunked:
                    return E_TRANSFER_ENCODING
                for i in range(start, stop):
                    if not CLASS[p[i]] & TCHAR:
                        return E_TRANSFER_ENCODING
                if stop - start == 7 and folded_equal(p + start, b"chunked", 7):
                    chunked = True
                elif stop - start == 8 and folded_equal(p + start, b"identity", 8):
                    return E_TRANSFER_ENCODING
                else:
                    other = True
        return E_TRANSFER_CODING if other else 0

    cdef int grow_fields(self) noexcept:
        """Room for more fields. Returns 0 or, without memory, a Code."""
        cdef Py_ssize_t capacity = self.field_capacity * 2 if self.field_capacity else FIELDS_FIRST
        cdef Field *fields = <Field *>realloc(self.fields, <size_t>capacity * sizeof(Field))
        if fields == NULL:
            return E_INTERNAL
        self.fields = fields
        self.field_capacity = capacity
        return 0

    def parse(self, data, Py_ssize_t start=0, stop=None):
        """Read the head that begins at data[start], in data[start:stop].

        Returns None while bytes are missing: call again with the same `start` and data
        that holds the same bytes and more. Bytes after the head are not looked at. After
        a head the next call reads a new one. Raises HttpError, again and again until
        `reset()`.
        """
        cdef Py_buffer view
        cdef const unsigned char *p
        cdef Py_ssize_t result
        cdef bint failed = self.state < 0
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            result = bounds(view.len, start, stop)
            p = <const unsigned char *>view.buf + start
            result = self.feed(p, result - start)
            if result > 0:
                return build_head(self, p)
            if result < 0 and not failed:
                raise refusal(self, p, <int>-result)
        finally:
            PyBuffer_Release(&view)
        if result < 0:
            raise http_error(-result)
        return None


cdef object refusal(RequestParser parser, const unsigned char *p, int code):
    cdef Py_ssize_t index
    error = http_error(code)
    error.accept = ",".join([
        field_value(p, &parser.fields[index])
        for index in range(parser.field_count)
        if parser.fields[index].known == ACCEPT_FIELD
    ])
    return error


cdef void append_fold(
    const unsigned char *p, Py_ssize_t start, Py_ssize_t stop, Field *field, int flags
) noexcept:
    """Add the line p[start:stop] to the field's value. A line of white space adds nothing."""
    while start < stop and is_white(p[start]):
        start += 1
    while stop > start and is_white(p[stop - 1]):
        stop -= 1
    if start == stop:
        return
    if field.value.length == 0:
        field.value.start = <unsigned int>start
    else:
        flags |= VALUE_FOLDED
    field.value.length = <unsigned int>(stop - field.value.start)
    field.flags |= <unsigned char>flags


cdef Py_ssize_t bounds(Py_ssize_t length, Py_ssize_t start, object stop) except -1:
    """`stop`, or `length`; ValueError when it and `start` do not lie within `length`."""
    cdef Py_ssize_t end = length if stop is None else stop
    if not 0 <= start <= end <= length:
        raise ValueError("start and stop do not lie within data")
    return end


cdef inline str text(const unsigned char *p, Span span):
    return PyUnicode_DecodeLatin1(<const char *>p + span.start, span.length, NULL)


cdef str field_value(const unsigned char *p, const Field *field):
    if not field.flags & VALUE_FOLDED:
        return text(p, field.value)
    lines = text(p, field.value).split("\r\n")
    return " ".join([line.strip(" \t") for line in lines if line.strip(" \t")])


cdef tuple field_pair(const unsigned char *p, const Field *field):
    """(NAME, value)."""
    cdef str name = KNOWN_UPPER[field.known] if field.known >= 0 else text(p, field.name).upper()
    return name, field_value(p, field)


cdef RequestHead build_head(RequestParser parser, const unsigned char *p):
    cdef RequestHead head = RequestHead.__new__(RequestHead)
    cdef Py_ssize_t index
    head.size = parser.size
    head.method = text(p, parser.method).upper() if parser.casefold_http_method else text(p, parser.method)
    head.target = text(p, parser.target)
    head.path = text(p, parser.path) if parser.path.length else "/"
    head.query = text(p, parser.query)
    head.authority = text(p, parser.authority) if parser.authority.length else None
    head.version = (parser.major, parser.minor)
    head.fields = [field_pair(p, &parser.fields[index]) for index in range(parser.field_count)]
    head.content_length = parser.content_length
    head.chunked = parser.chunked
    head.keep_alive = parser.keep_alive
    head.expect_continue = parser.expect_continue
    head.host = text(p, parser.fields[parser.host].value) if parser.host >= 0 else None
    return head


fill_tables()
