# Helpers that look at eight bytes at a time, shared by the compiled modules.

from libc.stdint cimport uint64_t
from libc.string cimport memcpy

cdef extern from *:
    """
    #define CYHORN_EVERY_BYTE(b) (0x0101010101010101ULL * (b))
    """
    uint64_t EVERY_BYTE "CYHORN_EVERY_BYTE"(int byte) nogil


cdef inline uint64_t load(const unsigned char *p) noexcept:
    """Eight bytes at p[0:8]."""
    cdef uint64_t word
    memcpy(&word, p, 8)
    return word


cdef inline int scan_value(const unsigned char *p, Py_ssize_t length) noexcept:
    """0 when all of p[0:length] may stand in a field value (grammar.FIELD_VALUE), 1 when some of
    it is obs-text too, -1 when it has a control character other than HTAB (9110 5.5)."""
    cdef uint64_t word, high = 0
    cdef uint64_t tops = EVERY_BYTE(0x80)
    cdef Py_ssize_t i = 0
    cdef unsigned char byte
    while i < length:
        if length - i >= 8:
            word = load(p + i)
            high |= word
            # exact as a whole: no byte below SP, none equal to DEL
            if not (
                (((word - EVERY_BYTE(0x20)) & ~word)
                 | ((word ^ EVERY_BYTE(0x7F)) - EVERY_BYTE(0x01)) & ~(word ^ EVERY_BYTE(0x7F)))
                & tops
            ):
                i += 8
                continue
        byte = p[i]
        if (byte < 0x20 and byte != 0x09) or byte == 0x7F:
            return -1
        high |= byte
        i += 1
    return 1 if high & tops else 0
