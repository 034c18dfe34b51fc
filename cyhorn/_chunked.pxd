# The compiled chunked decoder's types, for the other compiled modules.

cimport cython

cdef enum ChunkEvent:
    CHUNK_MORE = 0        # more bytes are needed
    CHUNK_DATA = 1        # `data`, `length` hold a piece of the body
    CHUNK_END = 2         # the body and its trailers are complete


@cython.final
cdef class ChunkedDecoder:
    cdef readonly long long limit_request_body   # bytes; 0: no limit
    cdef readonly Py_ssize_t limit_request_fields
    cdef readonly Py_ssize_t limit_request_field_size
    cdef readonly bint strip_header_spaces
    cdef readonly bint permit_obsolete_folding
    cdef readonly long long size                 # bytes of body seen
    cdef readonly bint done
    # The piece that step() found.
    cdef const unsigned char *data
    cdef Py_ssize_t length

    # Private: where in the grammar the next byte stands, and the trailers so far.
    cdef int state
    cdef int digits
    cdef int extensions              # bytes of them in the whole body
    cdef unsigned long long chunk    # the chunk's size; then, what is missing of its data
    cdef unsigned char *section      # the trailer section: its lines with their ends
    cdef Py_ssize_t section_length
    cdef Py_ssize_t section_capacity
    cdef Py_ssize_t line_start       # in the section: the line not yet complete
    cdef Py_ssize_t field_start      # in the section: the last field
    cdef Py_ssize_t trailer_count

    # Take the next step through p[0:n]: sets consumed[0], returns a ChunkEvent or -Code
    # (until reset()). Call again with the bytes after consumed until it answers
    # CHUNK_MORE or CHUNK_END.
    cdef int step(self, const unsigned char *p, Py_ssize_t n, Py_ssize_t *consumed) noexcept
    cpdef void reset(self) noexcept

    cdef int take_byte(self, unsigned char byte) noexcept
    cdef int take_extension_byte(self, unsigned char byte) noexcept
    cdef int begin_chunk(self) noexcept
    cdef Py_ssize_t take_trailer_bytes(self, const unsigned char *p, Py_ssize_t n) noexcept
    cdef int judge_trailer_begun(self, Py_ssize_t seen, bint complete) noexcept
    cdef int take_trailer(self, Py_ssize_t stop) noexcept
