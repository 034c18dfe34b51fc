# The compiled parser's types, for the other compiled modules.

cdef struct Span:
    # A piece of the head: offset from the head's first byte, and length, in bytes.
    unsigned int start
    unsigned int length

cdef enum:
    # Field.flags
    VALUE_HIGH = 1        # the value has a byte >= 0x80
    VALUE_FOLDED = 2      # the value spans lines (permit_obsolete_folding)
    NAME_UNDERSCORE = 4   # the name has "_"
    # RequestParser.target_flags
    PATH_ENCODED = 1      # the path has "%"
    TARGET_IS_PATH = 2    # target and path are the same bytes: no query, origin form

cdef struct Field:
    Span name
    Span value            # outer white space trimmed
    short known           # position in grammar.KNOWN_FIELDS, -1 for a stranger
    unsigned char flags

cdef class RequestParser:
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
    cdef Span method
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
    cdef Py_ssize_t field_capacity

    # Read a head at p[0:n]. Returns its length in bytes (> 0), 0 when more bytes are
    # needed (call again with the same bytes and more; the buffer may have moved), or
    # -Code. Bytes after the head are not looked at.
    cdef Py_ssize_t feed(self, const unsigned char *p, Py_ssize_t n) noexcept
    # Forget the head that was begun or found.
    cdef void reset(self) noexcept

cdef enum ChunkEvent:
    CHUNK_MORE = 0        # more bytes are needed
    CHUNK_DATA = 1        # `data`, `length` hold a piece of the body
    CHUNK_END = 2         # the body and its trailers are complete

cdef class ChunkedDecoder:
    cdef readonly long long limit_request_body   # bytes; 0: no limit
    cdef readonly long long size                 # bytes of body seen
    cdef readonly bint done
    # The piece that step() found.
    cdef const unsigned char *data
    cdef Py_ssize_t length

    # Take the next step through p[0:n]: sets consumed[0], returns a ChunkEvent or -Code.
    # Call again with the bytes after consumed until it answers CHUNK_MORE or CHUNK_END.
    cdef int step(self, const unsigned char *p, Py_ssize_t n, Py_ssize_t *consumed) noexcept
    cdef void reset(self) noexcept
