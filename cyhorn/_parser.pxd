# The compiled parser's types, for the other compiled modules.

cimport cython

# Classes of characters: bits of CLASS.
cdef enum:
    TCHAR = 1
    VALUE = 2
    TARGET = 4
    METHOD = 8
    REG_NAME = 16
    HEXDIG = 32
    QUOTED_TEXT = 64
    IP_FUTURE = 128

cdef unsigned char CLASS[256]

cdef struct Span:
    # A piece of the head: offset from the head's first byte, and length, in bytes.
    unsigned int start
    unsigned int length

cdef enum:
    # Field.flags
    VALUE_HIGH = 1        # the value has a byte >= 0x80
    VALUE_FOLDED = 2      # the value spans lines (permit_obsolete_folding); see field_value
    NAME_UNDERSCORE = 4   # the name has "_"
    # RequestParser.target_flags
    PATH_ENCODED = 1      # the path has "%"
    TARGET_IS_PATH = 2    # target and path are the same bytes: no query, not absolute

cdef struct Field:
    Span name
    Span value            # outer white space trimmed
    short known           # position in grammar.KNOWN_FIELDS, -1 for a stranger
    short slot            # where LineCache held the line when it was read, -1 where it did not
    unsigned int generation  # the slot's at that time: with another it holds another line by now
    unsigned char flags


cdef enum:
    LINE_COUNT = 256      # slots of a LineCache
    LINE_ROOM = 224       # bytes of the longest line that is held

cdef struct Line:
    # A field line that was judged good, and what its scan found.
    unsigned int length       # bytes without CRLF; 0: the slot is empty
    unsigned int generation   # counts what the slot has held
    unsigned short name_length
    unsigned short value_start
    unsigned short value_length
    short known
    unsigned char flags
    unsigned char text[LINE_ROOM]


@cython.final
cdef class LineCache:
    # Lines seen lately, so that one with the very same bytes is not scanned again. Only lines
    # whose meaning is in their bytes alone: no framing, no credentials, no names with "_".
    cdef Line lines[LINE_COUNT]


@cython.final
cdef class RequestParser:
    cdef LineCache cache  # shared by the parsers of a loop; None: every line is scanned

    # Limits and switches, set once. 0 is "no limit of its own" for the sizes.
    cdef readonly Py_ssize_t limit_request_line
    cdef readonly Py_ssize_t limit_request_fields
    cdef readonly Py_ssize_t limit_request_field_size
    cdef readonly bint permit_obsolete_folding
    cdef readonly bint strip_header_spaces
    cdef readonly bint permit_unconventional_http_method
    cdef readonly bint permit_unconventional_http_version
    cdef readonly bint casefold_http_method

    # The head found by the last feed() > 0. Spans count from the `p` given to it.
    cdef Py_ssize_t size  # bytes of the head
    cdef Span method      # as sent: the reader upper-cases it under casefold_http_method
    cdef Span target      # as sent
    cdef Span path        # not decoded; for absolute form with an empty path length 0: it is "/"
    cdef Span query       # without the "?"
    cdef Span authority   # of an absolute target; length 0 when there is none
    cdef int target_flags
    cdef int major
    cdef int minor
    cdef Field *fields
    cdef Py_ssize_t field_count
    cdef int host         # index in fields, -1 without a Host
    cdef long long content_length   # -1 when not given
    cdef bint chunked
    cdef bint keep_alive  # the peer lets the connection persist (9112 9.3)
    cdef bint expect_continue

    # Resumable state: how far the head has been read. Private to the parser.
    cdef int state
    cdef Py_ssize_t scanned      # bytes already searched for LF
    cdef Py_ssize_t line_start   # first byte of the line not yet complete
    cdef Py_ssize_t field_start  # first byte of the last field
    cdef Py_ssize_t field_capacity
    cdef bint empty_line         # an empty line before the request line was skipped
    # What the lines said, for the judgement of the whole head. Private too.
    cdef unsigned int seen       # a bit for each singleton field
    cdef unsigned int noted      # bits of _parser.pyx's Note

    # Read a head at p[0:n]. Returns its length in bytes (> 0), 0 when more bytes are
    # needed (call again with the same bytes and more; the buffer may have moved), or
    # -Code, until reset(). Bytes after the head are not looked at. After a head was
    # found the next call reads a new one, reset() or not.
    cdef Py_ssize_t feed(self, const unsigned char *p, Py_ssize_t n) noexcept
    # Forget the head that was begun or found.
    cpdef void reset(self) noexcept

    cdef int take_line(self, const unsigned char *p, Py_ssize_t end) noexcept
    cdef int judge_begun(self, const unsigned char *p, Py_ssize_t n) noexcept
    cdef int first_broken(self, const unsigned char *p, Py_ssize_t stop, int code) noexcept
    cdef int take_request_line(self, const unsigned char *p, Py_ssize_t start, Py_ssize_t stop) noexcept
    cdef int take_target(self, const unsigned char *p, Py_ssize_t start, Py_ssize_t stop) noexcept
    cdef bint is_method(self, const unsigned char *p, const unsigned char *name, Py_ssize_t length) noexcept
    cdef void take_path(self, const unsigned char *p, Py_ssize_t start, Py_ssize_t stop) noexcept
    cdef int take_absolute(self, const unsigned char *p, Py_ssize_t start, Py_ssize_t stop) noexcept
    cdef int take_field(self, const unsigned char *p, Py_ssize_t start, Py_ssize_t stop) noexcept
    cdef int take_fold(self, const unsigned char *p, Py_ssize_t start, Py_ssize_t stop) noexcept
    cdef void note_field(self, const unsigned char *p, Field *field, int rule) noexcept
    cdef int conclude(self, const unsigned char *p) noexcept
    cdef int judge_transfer_encoding(self, const unsigned char *p) noexcept
    cdef int grow_fields(self) noexcept


@cython.final
cdef class RequestHead:
    # The same head as Python objects; see _parser_py.RequestHead.
    cdef public object size
    cdef public object method
    cdef public object target
    cdef public object path
    cdef public object query
    cdef public object authority
    cdef public object version
    cdef public object fields
    cdef public object content_length
    cdef public object chunked
    cdef public object keep_alive
    cdef public object expect_continue
    cdef public object host


# The head that `parser` found at `p`, as objects.
cdef RequestHead build_head(RequestParser parser, const unsigned char *p)
# The exception for the head at `p` that `parser` has just refused, or found and its reader refuses.
cdef object refusal(RequestParser parser, const unsigned char *p, int code)
# Fill the spans and flags of the field line p[start:stop], p[stop] being its CR.
# Returns 0 or a Code (9112 5).
cdef int scan_field(
    const unsigned char *p, Py_ssize_t start, Py_ssize_t stop, bint strip_spaces, Field *field
) noexcept
# Add the line p[start:stop] to the field's value. A line of white space adds nothing.
cdef void append_fold(
    const unsigned char *p, Py_ssize_t start, Py_ssize_t stop, Field *field, int flags
) noexcept
# (NAME, value) of the field, as in RequestHead.fields.
cdef tuple field_pair(const unsigned char *p, const Field *field)
# `stop`, or `length`; ValueError when it and `start` do not lie within `length`.
cdef Py_ssize_t bounds(Py_ssize_t length, Py_ssize_t start, object stop) except -1
# The field's value; each fold of a folded one is one space (9112 5.2).
cdef str field_value(const unsigned char *p, const Field *field)
