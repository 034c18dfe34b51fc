# The compiled environ builder's type, for the loop.

from cyhorn._parser cimport LINE_COUNT, Field, LineCache, RequestParser

cdef enum:
    MOST_KNOWN_FIELDS = 256

cdef class EnvironBuilder:
    cdef dict template
    cdef str header_map
    cdef frozenset forwarder
    cdef bint any_forwarder
    cdef dict schemes
    cdef str script_name
    cdef bint server_from_host
    cdef bint strange_schemes        # a scheme field is none of the grammar's known fields
    cdef bint is_scheme[MOST_KNOWN_FIELDS]

    # Key and value of each line in the parsers' cache, valid for a generation of its slot
    cdef list line_keys
    cdef list line_values
    cdef unsigned int line_generations[LINE_COUNT]
    cdef str uri                     # RAW_URI of the environ made last

    # The environ of the head that `parser` found at `p`. Raises HttpError.
    cdef dict make(self, RequestParser parser, const unsigned char *p, str remote_addr, object remote_port,
                   bint trusted)
    cdef int name_and_value(self, RequestParser parser, const unsigned char *p, Field *field) except -1
    cdef str told_scheme(self, RequestParser parser, const unsigned char *p, Field *field, str value,
                         str scheme)
    cdef str mount(self, RequestParser parser, const unsigned char *p, dict environ, str script_name,
                   str path)
