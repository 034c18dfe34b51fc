# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The chunked decoder, compiled. `_chunked_py.py` is the readable specification: what it says of
states and of the order of judgement holds here, byte for byte and code for code. The twins share
the data in `grammar`; what a field line is, the parser of the same side says.

`step` is plain C: it takes bytes, keeps offsets and no pointer but the one it answers with, raises
nothing and allocates only when the trailer section outgrows its room.
"""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdlib cimport free, realloc
from libc.string cimport memchr, memcpy

from cyhorn._parser cimport CLASS, HEXDIG, QUOTED_TEXT, TCHAR, VALUE
from cyhorn._parser cimport Field, append_fold, bounds, field_pair, scan_field
from cyhorn._scan cimport CR, LF, folded_equal, has_bare_cr, invariant, is_white, scan_value

from cyhorn import grammar
from cyhorn.errors import Code, http_error

# -- data of grammar.py in C tables ---------------------------------------------------------

# Names that no trailer may have, in lower case; the room is checked when the tables are filled.
cdef enum:
    FORBIDDEN_ROOM = 64
    NAME_ROOM = 40

cdef unsigned char FORBIDDEN_NAME[FORBIDDEN_ROOM][NAME_ROOM]
cdef unsigned char FORBIDDEN_LENGTH[FORBIDDEN_ROOM]
cdef int FORBIDDEN_COUNT = 0
cdef unsigned char HEX_VALUE[256]

cdef Py_ssize_t MAX_HEAD = grammar.MAX_HEAD
cdef unsigned long long MAX_LENGTH = grammar.MAX_LENGTH
cdef int MAX_CHUNK_SIZE_DIGITS = grammar.MAX_CHUNK_SIZE_DIGITS
cdef int MAX_CHUNK_EXTENSIONS = grammar.MAX_CHUNK_EXTENSIONS

cdef int E_CHUNK_SIZE = Code.CHUNK_SIZE
cdef int E_CHUNK_EXTENSION = Code.CHUNK_EXTENSION
cdef int E_CHUNK_DATA = Code.CHUNK_DATA
cdef int E_TRAILER = Code.TRAILER
cdef int E_TRAILER_NAME = Code.TRAILER_NAME
cdef int E_BODY_LENGTH = Code.BODY_LENGTH
cdef int E_FIELD_COUNT = Code.FIELD_COUNT
cdef int E_FIELD_LENGTH = Code.FIELD_LENGTH
cdef int E_HEAD_LENGTH = Code.HEAD_LENGTH
cdef int E_INTERNAL = Code.INTERNAL

cdef enum ChunkState:
    # By what the next byte may be; below zero the decoder has failed: -Code.
    SIZE_FIRST = 0
    SIZE_NEXT = 1
    SIZE_SPACE = 2
    NAME_FIRST = 3
    NAME_NEXT = 4
    NAME_SPACE = 5
    VALUE_FIRST = 6
    VALUE_NEXT = 7
    QUOTED = 8
    QUOTED_PAIR = 9
    QUOTED_END = 10
    VALUE_SPACE = 11
    SIZE_LF = 12
    IN_DATA = 13
    DATA_CR = 14
    DATA_LF = 15
    TRAILERS = 16
    DONE = 17


cdef int fill_tables() except -1:
    """Fill the tables above from grammar.py."""
    global FORBIDDEN_COUNT
    cdef int byte
    for byte in grammar.HEXDIG:
        HEX_VALUE[byte] = int(chr(byte), 16)
    names = sorted(grammar.FORBIDDEN_TRAILERS)
    if len(names) > FORBIDDEN_ROOM or max(map(len, names)) > NAME_ROOM:
        raise ImportError("cyhorn._chunked cannot hold the fields of cyhorn.grammar")
    for name in names:
        memcpy(FORBIDDEN_NAME[FORBIDDEN_COUNT], <const char *>name, len(name))
        FORBIDDEN_LENGTH[FORBIDDEN_COUNT] = len(name)
        FORBIDDEN_COUNT += 1
    return 0


@cython.final
cdef class ChunkedDecoder:
    """Takes the chunked coding off a body (9112 7.1).

    Everything up to the trailers is judged byte by byte; a trailer field as a line of a
    head is, its errors being TRAILER, FIELD_COUNT, FIELD_LENGTH and HEAD_LENGTH.
    `limit_request_body` is bytes of data, judged when a chunk announces its size; zero
    is no limit. The other parameters are those of `RequestParser`, for the trailers.
    """

    def __cinit__(
        self,
        *,
        long long limit_request_body=0,
        Py_ssize_t limit_request_fields=100,
        Py_ssize_t limit_request_field_size=8190,
        bint strip_header_spaces=False,
        bint permit_obsolete_folding=False,
    ):
        if limit_request_body < 0 or limit_request_fields < 0 or limit_request_field_size < 0:
            raise ValueError("a limit is negative")
        self.limit_request_body = limit_request_body
        self.limit_request_fields = limit_request_fields
        self.limit_request_field_size = limit_request_field_size
        self.strip_header_spaces = strip_header_spaces
        self.permit_obsolete_folding = permit_obsolete_folding
        self.section = NULL
        self.section_capacity = 0
        self.reset()

    def __dealloc__(self):
        free(self.section)

    cpdef void reset(self) noexcept:
        """Be ready for another body."""
        self.state = SIZE_FIRST
        self.done = False
        self.size = 0
        self.data = NULL
        self.length = 0
        self.digits = 0
        self.extensions = 0
        self.chunk = 0
        self.section_length = 0
        self.line_start = 0
        self.field_start = 0
        self.trailer_count = 0

    cdef int step(self, const unsigned char *p, Py_ssize_t n, Py_ssize_t *consumed) noexcept:
        # Entry: p[0:n] follows the bytes that earlier steps have consumed.
        cdef Py_ssize_t i = 0, taken
        cdef int code
        consumed[0] = 0
        if self.state < 0:
            return self.state
        while i < n and self.state != DONE:
            if self.state == IN_DATA:
                taken = n - i
                if <unsigned long long>taken > self.chunk:
                    taken = <Py_ssize_t>self.chunk
                self.data = p + i
                self.length = taken
                self.size += taken
                self.chunk -= <unsigned long long>taken
                if self.chunk == 0:
                    self.state = DATA_CR
                consumed[0] = i + taken
                return CHUNK_DATA
            if self.state == TRAILERS:
                taken = self.take_trailer_bytes(p + i, n - i)
                code = <int>-taken if taken < 0 else 0
                i += taken
            else:
                code = self.take_byte(p[i])
                i += 1
            if code:
                self.state = -code
                return self.state
        invariant(i == n or self.state == DONE)
        consumed[0] = i
        return CHUNK_END if self.state == DONE else CHUNK_MORE

    cdef int take_byte(self, unsigned char byte) noexcept:
        """One byte of a chunk's first line, or of the CRLF after its data. Returns 0 or a Code."""
        cdef int state = self.state
        if state == SIZE_FIRST or (state == SIZE_NEXT and CLASS[byte] & HEXDIG):
            if not CLASS[byte] & HEXDIG or self.digits == MAX_CHUNK_SIZE_DIGITS:
                return E_CHUNK_SIZE
            self.digits += 1
            self.chunk = self.chunk << 4 | HEX_VALUE[byte]
            if self.chunk > MAX_LENGTH:
                return E_CHUNK_SIZE
            self.state = SIZE_NEXT
        elif state == SIZE_NEXT:
            if byte == CR:
                self.state = SIZE_LF
            elif byte == c';' or is_white(byte):
                self.extensions += 1
                if self.extensions > MAX_CHUNK_EXTENSIONS:
                    return E_CHUNK_EXTENSION
                self.state = NAME_FIRST if byte == c';' else SIZE_SPACE
            else:
                return E_CHUNK_SIZE
        elif state == SIZE_LF:
            return self.begin_chunk() if byte == LF else E_CHUNK_SIZE
        elif state == DATA_CR:
            if byte != CR:
                return E_CHUNK_DATA
            self.state = DATA_LF
        elif state == DATA_LF:
            if byte != LF:
                return E_CHUNK_DATA
            self.state = SIZE_FIRST
        else:
            return self.take_extension_byte(byte)
        return 0

    cdef int take_extension_byte(self, unsigned char byte) noexcept:
        """chunk-ext = *( BWS ";" BWS chunk-ext-name [ BWS "=" BWS chunk-ext-val ] ) (9112 7.1.1)."""
        cdef int state = self.state
        cdef bint white = is_white(byte)
        cdef int following = -1
        if byte != CR:
            self.extensions += 1
            if self.extensions > MAX_CHUNK_EXTENSIONS:
                return E_CHUNK_EXTENSION
        if state == QUOTED:
            if CLASS[byte] & QUOTED_TEXT:
                following = QUOTED
            elif byte == c'"':
                following = QUOTED_END
            elif byte == c'\\':
                following = QUOTED_PAIR
        elif state == QUOTED_PAIR:
            if CLASS[byte] & VALUE:
                following = QUOTED
        elif state == NAME_FIRST or state == VALUE_FIRST:
            if white:
                following = state
            elif CLASS[byte] & TCHAR:
                following = NAME_NEXT if state == NAME_FIRST else VALUE_NEXT
            elif byte == c'"' and state == VALUE_FIRST:
                following = QUOTED
        elif byte == c';':
            following = NAME_FIRST
        elif byte == c'=' and (state == NAME_NEXT or state == NAME_SPACE):
            following = VALUE_FIRST
        elif white:
            if state == SIZE_SPACE or state == NAME_SPACE or state == VALUE_SPACE:
                following = state
            else:
                following = NAME_SPACE if state == NAME_NEXT else VALUE_SPACE
        elif byte == CR and (state == NAME_NEXT or state == VALUE_NEXT or state == QUOTED_END):
            following = SIZE_LF
        elif CLASS[byte] & TCHAR and (state == NAME_NEXT or state == VALUE_NEXT):
            following = state
        if following < 0:
            return E_CHUNK_EXTENSION
        self.state = following
        return 0

    cdef int begin_chunk(self) noexcept:
        """The chunk's first line is complete: its data comes, or the trailers."""
        if self.limit_request_body and <long long>self.chunk > self.limit_request_body - self.size:
            return E_BODY_LENGTH
        self.digits = 0
        self.state = IN_DATA if self.chunk else TRAILERS
        return 0

    cdef Py_ssize_t take_trailer_bytes(self, const unsigned char *p, Py_ssize_t n) noexcept:
        """Bytes of the trailers up to the next LF of p[0:n]. Returns how many, or -Code."""
        cdef const unsigned char *found
        cdef Py_ssize_t taken, capacity
        cdef unsigned char *section
        cdef int code
        # No line is taken beyond its limit, so the memory for it is bounded.
        if n > MAX_HEAD - self.section_length:
            n = MAX_HEAD - self.section_length
        found = <const unsigned char *>memchr(p, LF, <size_t>n)
        taken = found - p + 1 if found != NULL else n
        if self.section_length + taken > self.section_capacity:
            capacity = self.section_capacity or 256
            while capacity < self.section_length + taken:
                capacity *= 2
            section = <unsigned char *>realloc(self.section, <size_t>capacity)
            if section == NULL:
                return -E_INTERNAL
            self.section = section
            self.section_capacity = capacity
        memcpy(self.section + self.section_length, p, <size_t>taken)
        self.section_length += taken
        code = self.judge_trailer_begun(self.section_length - taken, found != NULL)
        if code:
            return -code
        if found != NULL:
            code = self.take_trailer(self.section_length - 1)
            if code:
                return -code
            self.line_start = self.section_length
        return taken

    cdef int judge_trailer_begun(self, Py_ssize_t seen, bint complete) noexcept:
        """Refuse the trailer line at line_start for what no later byte can mend; section[0:seen]
        was judged. Returns 0 or a Code."""
        cdef Py_ssize_t begin = self.line_start
        cdef Py_ssize_t stop = self.section_length - complete
        cdef Py_ssize_t limit = self.limit_request_field_size
        cdef unsigned char first
        if begin < stop:
            first = self.section[begin]
            if is_white(first):
                if self.permit_obsolete_folding and self.trailer_count:
                    begin = self.field_start
            elif first != CR and self.trailer_count >= self.limit_request_fields > 0:
                return E_FIELD_COUNT
        seen = max(self.line_start, seen - 1)
        if has_bare_cr(self.section, seen, min(stop - 1, begin + limit - 2) if limit else stop - 1):
            return E_TRAILER
        if stop - begin >= limit > 0:
            return E_FIELD_LENGTH
        return E_HEAD_LENGTH if not complete and self.section_length == MAX_HEAD else 0

    cdef int take_trailer(self, Py_ssize_t stop) noexcept:
        """Judge the trailer line from line_start to the LF at section[stop]. Returns 0 or a Code."""
        cdef unsigned char *p = self.section
        cdef Py_ssize_t start = self.line_start
        cdef Field field
        cdef int index
        if stop == start or p[stop - 1] != CR:
            return E_TRAILER
        stop -= 1
        if stop == start:
            self.section_length = start
            self.state = DONE
            self.done = True
            return 0
        if is_white(p[start]):
            if not self.permit_obsolete_folding or self.trailer_count == 0:
                return E_TRAILER
            return E_TRAILER if scan_value(p + start, stop - start) < 0 else 0
        if scan_field(p, start, stop, self.strip_header_spaces, &field):
            return E_TRAILER
        for index in range(FORBIDDEN_COUNT):
            if field.name.length == FORBIDDEN_LENGTH[index] and folded_equal(
                p + start, FORBIDDEN_NAME[index], field.name.length
            ):
                return E_TRAILER_NAME
        self.field_start = start
        self.trailer_count += 1
        return 0

    @property
    def trailers(self):
        """The trailer fields seen, as `RequestHead.fields`."""
        cdef Field field
        cdef Py_ssize_t start = 0, stop
        cdef const unsigned char *found
        cdef const unsigned char *p = self.section
        cdef list pairs = []
        while start < self.line_start:
            found = <const unsigned char *>memchr(p + start, LF, <size_t>(self.line_start - start))
            stop = found - p - 1
            if is_white(p[start]):
                append_fold(p, start, stop, &field, 0)
                pairs[len(pairs) - 1] = field_pair(p, &field)
            else:
                scan_field(p, start, stop, self.strip_header_spaces, &field)
                field.known = -1
                pairs.append(field_pair(p, &field))
            start = stop + 2
        return pairs

    def feed(self, data, Py_ssize_t start=0, stop=None):
        """Decode data[start:stop]. Returns the pieces of the body in it and the offset
        after what was taken: `stop`, or less when the body ended. Raises HttpError, again
        and again until `reset()`.
        """
        cdef Py_buffer view
        cdef Py_ssize_t end, consumed = 0
        cdef int event = CHUNK_DATA
        cdef list pieces = []
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            end = bounds(view.len, start, stop)
            while event == CHUNK_DATA:
                event = self.step(<const unsigned char *>view.buf + start, end - start, &consumed)
                start += consumed
                if event == CHUNK_DATA:
                    pieces.append(PyBytes_FromStringAndSize(<const char *>self.data, self.length))
        finally:
            PyBuffer_Release(&view)
        if event < 0:
            raise http_error(-event)
        return pieces, start


fill_tables()
