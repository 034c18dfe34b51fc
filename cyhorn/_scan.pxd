# Helpers on bytes, shared by the compiled modules. Those on many look at eight at a time.

from libc.stdint cimport uint64_t
from libc.string cimport memchr, memcpy

cdef extern from *:
    """
    #include <assert.h>
    #define CYHORN_EVERY_BYTE(b) (0x0101010101010101ULL * (b))
    """
    uint64_t EVERY_BYTE "CYHORN_EVERY_BYTE"(int byte) nogil
    # invariants, checked by CYHORN_DEBUG=1 builds alone
    void invariant "assert"(bint holds) nogil

cdef enum:
    HTAB = 0x09
    LF = 0x0A
    CR = 0x0D
    SP = 0x20


cdef inline bint is_white(unsigned char byte) noexcept:
    return byte == SP or byte == HTAB


cdef inline bint has_bare_cr(const unsigned char *p, Py_ssize_t start, Py_ssize_t stop) noexcept:
    """Whether one of p[start:stop], none of which is followed by an LF, is a CR."""
    return start < stop and memchr(p + start, CR, <size_t>(stop - start)) != NULL


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


cdef inline bint folded_equal(const unsigned char *p, const unsigned char *lower, Py_ssize_t length) noexcept:
    """Whether p[0:length] is lower[0:length] but for the case of letters.

    `lower` holds lower-case letters, digits and "-" only. No byte but the upper-case letter
    and the character itself becomes one of these by 0x20, controls excepted, and p has none.
    """
    cdef Py_ssize_t i = 0
    cdef uint64_t fold = EVERY_BYTE(0x20)
    if length >= 8:
        while i < length - 8:
            if load(p + i) | fold != load(lower + i):
                return False
            i += 8
        return load(p + length - 8) | fold == load(lower + length - 8)
    while i < length:
        if p[i] | 0x20 != lower[i]:
            return False
        i += 1
    return True
