# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, auto_pickle=False
"""The WSGI environ, compiled. `_environ_py` says what it does; here is how it does it fast.

The template is copied as a whole table (`PyDict_Copy`), and every span of the head becomes
one str, without a detour over bytes. Keys of known fields were made once; the key of a
stranger is an ordinary str that dies with its environ: nothing a peer sends is interned.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING
from cpython.dict cimport PyDict_Copy
from cpython.ref cimport PyObject
from cpython.unicode cimport PyUnicode_DecodeLatin1
from libc.string cimport memcmp, memcpy, memset

from cyhorn._parser cimport NAME_UNDERSCORE, PATH_ENCODED, TARGET_IS_PATH, VALUE_FOLDED, VALUE_HIGH
from cyhorn._parser cimport LINE_COUNT, Field, RequestParser, field_value, refusal

from cyhorn.errors import Code
from cyhorn.grammar import DEFAULT_PORTS, KNOWN_FIELDS, LOCAL_NAME

cdef extern from "Python.h":
    PyObject *PyDict_SetDefault(object mapping, object key, object value) except NULL
    str PyUnicode_New(Py_ssize_t size, Py_UCS4 maxchar)
    void *PyUnicode_DATA(object text)

# -- constants, made once ---------------------------------------------------------------

#: Environ keys by position in grammar.KNOWN_FIELDS, as the parser numbers them.
cdef tuple KEYS = tuple(KNOWN_FIELDS.values())
cdef tuple NAMES = tuple(KNOWN_FIELDS)
cdef int COOKIE = list(KNOWN_FIELDS).index(b"cookie")

cdef str METHOD_GET = "GET", METHOD_POST = "POST", METHOD_HEAD = "HEAD", METHOD_PUT = "PUT"
cdef str HTTP_1_0 = "HTTP/1.0", HTTP_1_1 = "HTTP/1.1"
cdef str EMPTY = "", ROOT = "/", KEEP_ALIVE = "keep-alive", ANYTHING = "*/*"
cdef str K_METHOD = "REQUEST_METHOD", K_URI = "RAW_URI", K_PATH = "PATH_INFO", K_QUERY = "QUERY_STRING"
cdef str K_PROTOCOL = "SERVER_PROTOCOL", K_ADDR = "REMOTE_ADDR", K_PORT = "REMOTE_PORT"
cdef str K_HOST = "HTTP_HOST", K_SCRIPT = "SCRIPT_NAME", K_SCHEME = "wsgi.url_scheme"
cdef str K_NAME = "SERVER_NAME", K_SERVER_PORT = "SERVER_PORT"


# -- spans to strings --------------------------------------------------------------------

cdef inline str _ascii(const unsigned char *p, Py_ssize_t n):
    """p[0:n] as a str. Entry: every byte is below 0x80."""
    cdef str text
    if n <= 1:
        return PyUnicode_DecodeLatin1(<const char *>p, n, NULL)  # knows the singletons
    text = PyUnicode_New(n, 127)
    memcpy(PyUnicode_DATA(text), p, n)
    return text


cdef inline str _value(const unsigned char *p, Field *field):
    """The value of `field`."""
    cdef const unsigned char *value = p + field.value.start
    cdef Py_ssize_t n = field.value.length
    if field.flags & (VALUE_HIGH | VALUE_FOLDED):
        return field_value(p, field)
    if n == 10 and memcmp(value, b"keep-alive", 10) == 0:
        return KEEP_ALIVE
    if n == 3 and memcmp(value, b"*/*", 3) == 0:
        return ANYTHING
    return _ascii(value, n)


cdef str _key(const unsigned char *p, Field *field):
    """The environ key of a field the grammar does not know: HTTP_ and the name, in upper case."""
    cdef Py_ssize_t i, n = field.name.length
    cdef const unsigned char *name = p + field.name.start
    cdef str key = PyUnicode_New(5 + n, 127)
    cdef unsigned char *to = <unsigned char *>PyUnicode_DATA(key)
    cdef unsigned char c
    memcpy(to, b"HTTP_", 5)
    to += 5
    for i in range(n):
        c = name[i]
        if 97 <= c <= 122:
            c -= 32
        elif c == 45:
            c = 95
        to[i] = c
    return key


cdef inline int _hex(unsigned char c) noexcept:
    if 48 <= c <= 57:
        return c - 48
    c |= 32
    return c - 87 if 97 <= c <= 102 else -1


cdef str _decoded(const unsigned char *p, Py_ssize_t n):
    """The path p[0:n] percent-decoded once; a malformed "%" stays as it is."""
    cdef bytes decoded = bytes(p[:n])
    cdef unsigned char *to = <unsigned char *>PyBytes_AS_STRING(decoded)
    cdef Py_ssize_t i = 0, size = 0
    while i < n:
        if p[i] == 37 and i + 2 < n and _hex(p[i + 1]) >= 0 and _hex(p[i + 2]) >= 0:
            to[size] = _hex(p[i + 1]) * 16 + _hex(p[i + 2])
            i += 3
        else:
            to[size] = p[i]
            i += 1
        size += 1
    return PyUnicode_DecodeLatin1(<const char *>to, size, NULL)


def split_host(str host not None):
    """Split a Host value (9110 7.2) into name and port, "" where there is none."""
    if host.startswith("["):
        name, _, port = host.partition("]")
        return name + "]", port.removeprefix(":")
    name, _, port = host.partition(":")
    return name, port


cdef enum:
    ROOM = 4  # keys that the template has once had, so that its table, and a copy's, is the next size up


@cython.final
cdef class EnvironBuilder:
    """Makes the environs of one listener's requests.

    `template` holds the constant keys. `header_map` is what to do with names that have
    an underscore ("drop", "refuse", "dangerous"); `forwarder_headers` those of them (upper
    case, "*" for all) that a trusted peer may send; `secure_scheme_headers` maps a field
    name (upper case) to the value that means https; `script_name` is the operator's mount
    point.
    """

    def __cinit__(self, template, *, str header_map="drop", forwarder_headers=(), secure_scheme_headers=None,
                  str script_name=""):
        self.template = {f"room {n}": None for n in range(ROOM)}
        self.template.update(template)
        for n in range(ROOM):
            del self.template[f"room {n}"]
        self.template[K_METHOD] = METHOD_GET  # what most requests say is not set again
        self.template[K_PROTOCOL] = HTTP_1_1
        self.header_map = header_map
        self.forwarder = frozenset(name.upper() for name in forwarder_headers)
        self.any_forwarder = "*" in self.forwarder
        self.schemes = {name.upper(): value for name, value in (secure_scheme_headers or {}).items()}
        self.script_name = script_name
        self.server_from_host = not self.template["SERVER_NAME"]
        names = [name.encode() for name in self.schemes]
        for i, name in enumerate(NAMES):
            self.is_scheme[i] = name.upper() in names
        self.line_keys = [None] * LINE_COUNT
        self.line_values = [None] * LINE_COUNT
        memset(self.line_generations, 0, sizeof(self.line_generations))
        self.strange_schemes = any(name.lower() not in KNOWN_FIELDS for name in names)

    def build(self, RequestParser parser not None, const unsigned char[:] data not None, Py_ssize_t start,
              str remote_addr not None, remote_port, bint trusted):
        """The environ of the head that `parser` has just found in `data` at `start`.

        `remote_addr` and `remote_port` are the peer's (port None for a unix socket);
        `trusted` whether it may speak for others. Raises HttpError where the fields
        contradict what the listener allows.
        """
        return self.make(parser, &data[start], remote_addr, remote_port, trusted)

    cdef dict make(self, RequestParser parser, const unsigned char *p, str remote_addr, object remote_port,
                   bint trusted):
        cdef dict environ = PyDict_Copy(self.template)
        cdef Field *field = parser.fields
        cdef Field *end = field + parser.field_count
        cdef str key
        cdef str value
        cdef str path
        cdef str script_name = self.script_name
        cdef str scheme = None
        cdef str told
        cdef PyObject *before
        cdef Py_ssize_t size
        cdef bint mounted = False

        value = _method(parser, p)
        if value is not METHOD_GET:
            environ[K_METHOD] = value
        value = _ascii(p + parser.target.start, parser.target.length)
        environ[K_URI] = self.uri = value
        if parser.target_flags & TARGET_IS_PATH:
            path = value
        elif parser.path.length:
            path = _ascii(p + parser.path.start, parser.path.length)
        else:
            path = ROOT
        if parser.query.length:
            environ[K_QUERY] = _ascii(p + parser.query.start, parser.query.length)
        value = _protocol(parser)
        if value is not HTTP_1_1:
            environ[K_PROTOCOL] = value
        environ[K_ADDR] = remote_addr
        if remote_port is not None:
            environ[K_PORT] = remote_port

        size = len(environ)
        while field < end:
            # A slot may have taken up another line since this one was read, be it of this very head.
            if field.slot >= 0 and parser.cache.lines[field.slot].generation == field.generation:
                if self.line_generations[field.slot] != field.generation:
                    self.name_and_value(parser, p, field)
                key = <str>self.line_keys[field.slot]
                value = <str>self.line_values[field.slot]
            else:
                key = <str>KEYS[field.known] if field.known >= 0 else _key(p, field)
                value = _value(p, field)
            if field.known >= 0:
                if trusted and self.is_scheme[field.known]:
                    scheme = self.told_scheme(parser, p, field, value, scheme)
            else:
                if field.flags & NAME_UNDERSCORE:
                    told = _upper_name(p, field)
                    if trusted and (self.any_forwarder or told in self.forwarder):
                        if told == "SCRIPT_NAME":
                            if mounted:
                                raise refusal(parser, p, Code.SCRIPT_NAME_REPEATED)
                            mounted = True
                            script_name = value
                    elif self.header_map == "refuse":
                        raise refusal(parser, p, Code.FIELD_UNDERSCORE)
                    elif self.header_map != "dangerous":
                        field += 1
                        continue
                elif trusted and self.strange_schemes:
                    scheme = self.told_scheme(parser, p, field, value, scheme)
            before = PyDict_SetDefault(environ, key, value)
            size += 1
            if len(environ) != size:  # not its value tells: that may be the very same object
                size -= 1
                environ[key] = f"{<str>before}{'; ' if field.known == COOKIE else ','}{value}"
            field += 1

        if parser.authority.length:
            environ[K_HOST] = _ascii(p + parser.authority.start, parser.authority.length)
        if scheme is not None:
            environ[K_SCHEME] = scheme
        if script_name:
            path = self.mount(parser, p, environ, script_name, path)
            environ[K_PATH] = _decoded_text(path) if "%" in path else path
        elif parser.target_flags & PATH_ENCODED:
            environ[K_PATH] = _decoded(p + parser.path.start, parser.path.length)
        else:
            environ[K_PATH] = path
        if self.server_from_host:
            host, port = split_host(environ.get(K_HOST, EMPTY))
            environ[K_NAME] = host or LOCAL_NAME  # PEP 3333 wants both
            environ[K_SERVER_PORT] = port or DEFAULT_PORTS[environ[K_SCHEME]]
        return environ

    cdef int name_and_value(self, RequestParser parser, const unsigned char *p, Field *field) except -1:
        """Make the key and value of a line that the parsers' cache has taken up."""
        self.line_keys[field.slot] = <str>KEYS[field.known] if field.known >= 0 else _key(p, field)
        self.line_values[field.slot] = _value(p, field)
        self.line_generations[field.slot] = field.generation
        return 0

    cdef str told_scheme(self, RequestParser parser, const unsigned char *p, Field *field, str value,
                         str scheme):
        """What a trusted peer says the scheme is, given what it has said before."""
        cdef str secure = self.schemes.get(_upper_name(p, field))
        cdef str told
        if secure is None:
            return scheme
        told = "https" if value == secure else "http"
        if scheme is not None and scheme != told:
            raise refusal(parser, p, Code.SCHEME_CONFLICT)
        return told

    cdef str mount(self, RequestParser parser, const unsigned char *p, dict environ, str script_name,
                   str path):
        """Set SCRIPT_NAME and return the path below it; they part at a segment border."""
        script_name = script_name.rstrip("/")
        if not script_name:
            return path
        if path != script_name and not path.startswith(script_name + "/"):
            raise refusal(parser, p, Code.SCRIPT_NAME)
        environ[K_SCRIPT] = script_name
        return path[len(script_name):]


cdef str _upper_name(const unsigned char *p, Field *field):
    return _ascii(p + field.name.start, field.name.length).upper()


cdef str _decoded_text(str path):
    cdef bytes raw = path.encode("latin-1")
    return _decoded(<const unsigned char *>PyBytes_AS_STRING(raw), len(raw))


cdef inline str _method(RequestParser parser, const unsigned char *p):
    cdef const unsigned char *method = p + parser.method.start
    cdef Py_ssize_t n = parser.method.length
    if n == 3:
        if memcmp(method, b"GET", 3) == 0:
            return METHOD_GET
        if memcmp(method, b"PUT", 3) == 0:
            return METHOD_PUT
    elif n == 4:
        if memcmp(method, b"POST", 4) == 0:
            return METHOD_POST
        if memcmp(method, b"HEAD", 4) == 0:
            return METHOD_HEAD
    return _ascii(method, n).upper() if parser.casefold_http_method else _ascii(method, n)


cdef inline str _protocol(RequestParser parser):
    if parser.major == 1:
        if parser.minor == 1:
            return HTTP_1_1
        if parser.minor == 0:
            return HTTP_1_0
    return f"HTTP/{parser.major}.{parser.minor}"
