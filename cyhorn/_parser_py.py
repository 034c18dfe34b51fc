"""The request parser in Python: the readable specification.

`cyhorn/_parser.pyx` is the compiled twin. It does the same, byte for byte and code
for code; the two share the data in `grammar` and no code. Neither knows a socket,
a logger, a configuration object or WSGI.

The head
    A head is read line by line. What no later byte of a line can mend is refused at once:
    a field too many, a CR that is followed by something else than LF, too great a length.
    The rest of a line is judged when its LF is there. So every way to cut the same bytes
    gives the same answer. The order of judgement:

    1. a line that begins one field too many: FIELD_COUNT;
    2. what comes first on the wire of a CR that does not end the line, BARE_CR, and of one
       byte too many, REQUEST_LINE_LENGTH, FIELD_LENGTH, HEAD_LENGTH;
    3. its end: BARE_LF;
    4. its syntax, from left to right.

    What concerns the head as a whole is judged at the empty line that ends it, in the
    order of `RequestParser._conclude`.

States of the parser
    ready → in the head (`_method` is None before the request line, a str after it)
    → ready again, or failed (`_failed` is a Code) until `reset()`.

Invariants
    `_line_start` <= `_scanned` <= bytes of the head seen so far; both count from the
    head's first byte, so that the caller may move its buffer between two calls.
"""

from __future__ import annotations

import re
from typing import TypeAlias

from cyhorn import grammar
from cyhorn.errors import Code, HttpError, http_error

Buffer: TypeAlias = bytes | bytearray | memoryview

LF = re.compile(rb"\n")
_CR = re.compile(rb"\r")
WHITE = b" \t"


def one_of(characters: frozenset[int]) -> bytes:
    """A regular expression's class of these byte values."""
    return b"[" + b"".join(b"\\x%02x" % value for value in sorted(characters)) + b"]"


def _text(pattern: bytes) -> str:
    return pattern.decode("latin-1")


_DIGIT = one_of(grammar.DIGIT)
_HEXDIG = one_of(grammar.HEXDIG)

# token = 1*tchar (9110 5.6.2)
_TOKEN = re.compile(one_of(grammar.TCHAR) + rb"+")
# method, as most servers take it: a convention, not a rule
_CONVENTIONAL_METHOD = re.compile(
    one_of(grammar.CONVENTIONAL_METHOD) + rb"{%d,%d}" % grammar.CONVENTIONAL_METHOD_LENGTH
)
# request-target, before its form is looked at (9112 3.2)
_TARGET = re.compile(one_of(grammar.TARGET) + rb"+")
# origin-form = absolute-path [ "?" query ] (9112 3.2.1)
_PATH_AND_QUERY = re.compile(rb"([^?]*)(?:\?(.*))?", re.DOTALL)
# absolute-form = absolute-URI, of the schemes http and https (9112 3.2.2)
_ABSOLUTE = re.compile(rb"https?://([^/?]*)((?:/[^?]*)?)(?:\?(.*))?", re.IGNORECASE | re.DOTALL)
# HTTP-version = HTTP-name "/" DIGIT "." DIGIT (9112 2.3)
_VERSION = re.compile(rb"HTTP/(" + _DIGIT + rb")\.(" + _DIGIT + rb")")
# field-value, with the white space around it (9110 5.5)
_FIELD_VALUE = re.compile(one_of(grammar.FIELD_VALUE) + rb"*")
# Content-Length = 1*DIGIT (9110 8.6)
_DIGITS = re.compile(_text(_DIGIT + rb"+"))

# dec-octet = DIGIT / %x31-39 DIGIT / "1" 2DIGIT / "2" %x30-34 DIGIT / "25" %x30-35
_OCTET = rb"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4 = _OCTET + rb"(?:\." + _OCTET + rb"){3}"
# h16 = 1*4HEXDIG, ls32 = ( h16 ":" h16 ) / IPv4address, IPv6address (3986 3.2.2)
_H16 = _HEXDIG + rb"{1,4}"
_LS32 = rb"(?:" + _H16 + rb":" + _H16 + rb"|" + _IPV4 + rb")"
_IPV6 = b"|".join(
    (
        rb"(?:H:){6}L",
        rb"::(?:H:){5}L",
        rb"(?:H)?::(?:H:){4}L",
        rb"(?:(?:H:){0,1}H)?::(?:H:){3}L",
        rb"(?:(?:H:){0,2}H)?::(?:H:){2}L",
        rb"(?:(?:H:){0,3}H)?::H:L",
        rb"(?:(?:H:){0,4}H)?::L",
        rb"(?:(?:H:){0,5}H)?::H",
        rb"(?:(?:H:){0,6}H)?::",
    )
)
_IPV6 = _IPV6.replace(b"H", _H16).replace(b"L", _LS32)
# IPvFuture = "v" 1*HEXDIG "." 1*( unreserved / sub-delims / ":" )
_IP_FUTURE = rb"[vV]" + _HEXDIG + rb"+\." + one_of(grammar.IP_FUTURE) + rb"+"
# uri-host = IP-literal / IPv4address / reg-name; an IPv4address is a reg-name too.
# Here reg-name has at least one character: "http" has no empty host (9110 4.2.1).
_REG_NAME = rb"(?:" + one_of(grammar.REG_NAME) + rb"|%" + _HEXDIG + rb"{2})+"
# Host = uri-host [ ":" port ], port = *DIGIT (9110 7.2, 3986 3.2.3)
_AUTHORITY = re.compile(
    _text(rb"(?:\[(?:" + _IPV6 + rb"|" + _IP_FUTURE + rb")\]|" + _REG_NAME + rb")(?::(" + _DIGIT + rb"*))?")
)

_SINGLETONS = frozenset(name.decode().upper() for name in grammar.SINGLETON_FIELDS)
_UNFOLDABLE = frozenset(name.decode().upper() for name in grammar.UNFOLDABLE_FIELDS)
_CHUNKED = grammar.CHUNKED.decode()
_IDENTITY = grammar.IDENTITY.decode()

# A whole head as most clients send it, under no relaxed switch. What it matches, the
# line-by-line way takes too, with the same result; what it does not match is left to
# that way. No HTAB in values: only there does it matter where white space stands.
_FAST_HEAD = re.compile(
    rb"(?:\r\n)?("
    + _CONVENTIONAL_METHOD.pattern
    + rb") ((/"
    + one_of(grammar.TARGET - frozenset(b"?"))
    + rb"*)(?:\?("
    + one_of(grammar.TARGET)
    + rb"*))?) HTTP/1\.([01])\r\n((?:"
    + _TOKEN.pattern
    + rb":"
    + one_of(grammar.FIELD_VALUE - frozenset(b"\t"))
    + rb"*\r\n)*)\r\n"
)

#: Field name as sent → in upper case, for the names seen. Bounded, as clients choose them.
_UPPER: dict[str, str] = {}
_UPPER_MOST = 1024


def _upper(name: str) -> str:
    """`name` in upper case, remembered."""
    upper = name.upper()
    if len(_UPPER) < _UPPER_MOST and len(name) <= 64:
        _UPPER[name] = upper
    return upper


def refusal(code: Code, fields: list[tuple[str, str]]) -> HttpError:
    """The exception for a head of which `fields` are good."""
    error = http_error(code)
    error.accept = ",".join(value for name, value in fields if name == "ACCEPT")
    return error


def bounds(data: Buffer, start: int, stop: int | None) -> int:
    """`stop`, or the end of `data`; ValueError when the two do not lie within it."""
    if stop is None:
        stop = len(data)
    if not 0 <= start <= stop <= len(data):
        raise ValueError("start and stop do not lie within data")
    return stop


def _valid_authority(text: str, *, port_needed: bool = False) -> bool:
    """Whether `text` is uri-host [ ":" port ] with a host and a possible port."""
    match = _AUTHORITY.fullmatch(text)
    if match is None:
        return False
    port = match[1]
    if not port:
        return not port_needed
    return int(port.lstrip("0")[:6] or "0") <= grammar.MAX_PORT


def judge_end(line: bytes) -> bytes:
    """The line that ends before an LF, without its CR."""
    if not line.endswith(b"\r"):
        raise http_error(Code.BARE_LF)
    return line[:-1]


def has_bare_cr(data: Buffer, start: int, stop: int) -> bool:
    """Whether one of data[start:stop], none of which is followed by an LF, is a CR."""
    return start < stop and _CR.search(data, start, stop) is not None


def split_field(line: bytes, strip_header_spaces: bool) -> tuple[str, str]:
    """Name in upper case and trimmed value of a field line without its CRLF (9112 5)."""
    name, colon, value = line.partition(b":")
    if strip_header_spaces:
        name = name.rstrip(WHITE)
    if not colon or not _TOKEN.fullmatch(name):
        raise http_error(Code.FIELD_NAME)
    if not _FIELD_VALUE.fullmatch(value):
        raise http_error(Code.FIELD_VALUE)
    return name.decode("latin-1").upper(), value.strip(WHITE).decode("latin-1")


def append_fold(fields: list[tuple[str, str]], line: bytes, permitted: bool) -> None:
    """Add an obs-fold line to the last of `fields`: a space and the line, trimmed (9112 5.2)."""
    if not permitted or not fields or fields[-1][0] in _UNFOLDABLE:
        raise http_error(Code.FIELD_FOLDED)
    if not _FIELD_VALUE.fullmatch(line):
        raise http_error(Code.FIELD_VALUE)
    name, value = fields[-1]
    fields[-1] = (name, f"{value} {line.strip(WHITE).decode('latin-1')}".strip(" \t"))


class RequestHead:
    """One request's head, as `RequestParser.parse` found it.

    size             bytes of the head, a skipped empty line before it included
    method           as sent, in upper case under casefold_http_method
    target           as sent, latin-1
    path             not percent-decoded; "/" where an absolute target has none
    query            what follows the first "?", "" without one
    authority        of an absolute target, else None
    version          (major, minor) as sent
    fields           [(NAME, value)], names in upper case, in the order of the wire
    content_length   bytes, -1 when not given
    chunked          whether the body is framed by the chunked coding
    keep_alive       whether the peer lets the connection persist (9112 9.3)
    expect_continue  whether the peer waits for 100 Continue (9110 10.1.1)
    host             the value of Host, None without one
    """

    __slots__ = (
        "authority",
        "chunked",
        "content_length",
        "expect_continue",
        "fields",
        "host",
        "keep_alive",
        "method",
        "path",
        "query",
        "size",
        "target",
        "version",
    )

    size: int
    method: str
    target: str
    path: str
    query: str
    authority: str | None
    version: tuple[int, int]
    fields: list[tuple[str, str]]
    content_length: int
    chunked: bool
    keep_alive: bool
    expect_continue: bool
    host: str | None

    def __repr__(self) -> str:
        return f"<RequestHead {self.method} {self.target} {self.size} bytes>"


class RequestParser:
    """Reads request heads (9112 2 to 6), strictly unless a switch relaxes a rule.

    limit_request_line and limit_request_field_size are bytes of a line, the first
    without its CRLF, the second with it, as Gunicorn counts; limit_request_fields is a
    number of lines. Zero is no limit but that of the whole head, `grammar.MAX_HEAD`.
    The other parameters are Gunicorn's settings of the same names.
    """

    def __init__(
        self,
        *,
        limit_request_line: int = 8190,
        limit_request_fields: int = 100,
        limit_request_field_size: int = 8190,
        permit_obsolete_folding: bool = False,
        strip_header_spaces: bool = False,
        permit_unconventional_http_method: bool = False,
        permit_unconventional_http_version: bool = False,
        casefold_http_method: bool = False,
    ) -> None:
        if min(limit_request_line, limit_request_fields, limit_request_field_size) < 0:
            raise ValueError("a limit is negative")
        self.limit_request_line = limit_request_line
        self.limit_request_fields = limit_request_fields
        self.limit_request_field_size = limit_request_field_size
        self.permit_obsolete_folding = bool(permit_obsolete_folding)
        self.strip_header_spaces = bool(strip_header_spaces)
        self.permit_unconventional_http_method = bool(permit_unconventional_http_method)
        self.permit_unconventional_http_version = bool(permit_unconventional_http_version)
        self.casefold_http_method = bool(casefold_http_method)
        # A head of at most this many bytes cannot break a limit of length.
        self._fast_size = min(
            limit for limit in (limit_request_line, limit_request_field_size, grammar.MAX_HEAD) if limit
        )
        self._known_good_host = ""
        self.reset()

    def reset(self) -> None:
        """Forget the head that was begun, and the error."""
        self._failed: Code | None = None
        self._scanned = 0
        self._line_start = 0
        self._empty_line = False
        self._method: str | None = None
        self._target = self._path = self._query = ""
        self._authority: str | None = None
        self._version = (1, 1)
        self._fields: list[tuple[str, str]] = []
        self._field_start = 0
        self._tab_in_transfer_encoding = False

    def parse(self, data: Buffer, start: int = 0, stop: int | None = None) -> RequestHead | None:
        """Read the head that begins at data[start], in data[start:stop].

        Returns None while bytes are missing: call again with the same `start` and data
        that holds the same bytes and more. Bytes after the head are not looked at. After
        a head the next call reads a new one. Raises HttpError, again and again until
        `reset()`.
        """
        stop = bounds(data, start, stop)
        if self._failed is not None:
            raise http_error(self._failed)
        try:
            if not self._scanned:
                head = self._parse_whole(data, start, stop)
                if head is not None:
                    return head
            head = self._parse_lines(data, start, min(stop - start, grammar.MAX_HEAD))
        except HttpError as error:
            self._failed = error.code
            raise refusal(error.code, self._fields) from None
        if head is not None:
            self.reset()
        return head

    # -- the fast way ------------------------------------------------------------------

    def _parse_whole(self, data: Buffer, start: int, stop: int) -> RequestHead | None:
        """The head, when all of it is there and looks as heads do; else None."""
        match = _FAST_HEAD.match(data, start, min(stop, start + self._fast_size))
        if match is None:
            return None
        method, target, path, query, minor, lines = match.groups()
        fields = []
        if lines:
            known = _UPPER.get
            for line in lines[:-2].decode("latin-1").split("\r\n"):
                name, _, value = line.partition(":")
                fields.append((known(name) or _upper(name), value.strip(" ")))
            if len(fields) > self.limit_request_fields > 0:
                return None
        self._method = method.decode("latin-1")
        if self._method == "CONNECT":
            self._method = None
            return None
        self._target = target.decode("latin-1")
        self._path = self._target if path == target else path.decode("latin-1")
        self._query = query.decode("latin-1") if query else ""
        self._version = (1, 1) if minor == b"1" else (1, 0)
        self._fields = fields
        head = self._conclude(match.end() - start)
        self._method = None
        self._fields = []
        return head

    # -- line by line --------------------------------------------------------------------

    def _parse_lines(self, data: Buffer, start: int, size: int) -> RequestHead | None:
        """Go on with the head of which `size` bytes are there; None while some are missing."""
        if size < self._scanned:
            return None
        while True:
            found = LF.search(data, start + self._scanned, start + size)
            complete = found is not None
            end = found.start() - start if found else size
            self._judge_begun(data, start, end, complete, size)
            self._scanned = end + complete
            if not complete:
                return None
            line = judge_end(bytes(data[start + self._line_start : start + end]))
            line_start, self._line_start = self._line_start, end + 1
            if self._method is None:
                if line:
                    self._take_request_line(line)
                elif self._empty_line:
                    raise http_error(Code.EMPTY_LINES)
                else:
                    self._empty_line = True
            elif not line:
                return self._conclude(end + 1)
            elif line[0] in WHITE:
                append_fold(self._fields, line, self.permit_obsolete_folding)
            else:
                self._field_start = line_start
                self._take_field(line)

    def _judge_begun(self, data: Buffer, start: int, end: int, complete: bool, size: int) -> None:
        """Refuse a line for what no later byte of it can mend.

        `end` is the offset of the line's LF or, when that is missing, of the end of what is
        there; `size` the number of bytes of the head that are there.
        """
        begin = self._line_start
        if self._method is None:
            limit = self.limit_request_line and self.limit_request_line + 2
            code = Code.REQUEST_LINE_LENGTH
        else:
            first = bytes(data[start + begin : start + min(end, begin + 1)])
            if first == b" " or first == b"\t":
                if self.permit_obsolete_folding and self._fields:
                    begin = self._field_start  # a folded field counts as a whole
            elif first and first != b"\r" and len(self._fields) >= self.limit_request_fields > 0:
                raise http_error(Code.FIELD_COUNT)
            limit = self.limit_request_field_size
            code = Code.FIELD_LENGTH
        # A CR is known to be bare by the byte behind it. Those that were scanned without an LF
        # had none but, perhaps, their last; those from `limit` on come too late to matter.
        stop = min(end - 1, begin + limit - 2) if limit else end - 1
        if has_bare_cr(data, start + max(self._line_start, self._scanned - 1), start + stop):
            raise http_error(Code.BARE_CR)
        if limit and end + 1 - begin > limit:
            raise http_error(code)
        if not complete and size == grammar.MAX_HEAD:
            raise http_error(Code.HEAD_LENGTH)

    def _take_request_line(self, line: bytes) -> None:
        """request-line = method SP request-target SP HTTP-version (9112 3)."""
        parts = line.split(b" ")
        if len(parts) != 3 or not all(parts):
            raise http_error(Code.REQUEST_LINE)
        raw_method, target, raw_version = parts
        if self.casefold_http_method:
            raw_method = raw_method.upper()
        pattern = _TOKEN if self.permit_unconventional_http_method else _CONVENTIONAL_METHOD
        if not pattern.fullmatch(raw_method):
            raise http_error(Code.METHOD)
        method = raw_method.decode("latin-1")
        self._take_target(method, target)
        version = _VERSION.fullmatch(raw_version)
        if version is None:
            raise http_error(Code.VERSION_SYNTAX)
        self._version = (int(version[1]), int(version[2]))
        if self._version[0] != 1 and not self.permit_unconventional_http_version:
            raise http_error(Code.VERSION)
        self._method = method

    def _take_target(self, method: str, raw: bytes) -> None:
        """The four forms of a request-target (9112 3.2)."""
        if not _TARGET.fullmatch(raw):
            raise http_error(Code.TARGET)
        self._target = raw.decode("latin-1")
        if method == "CONNECT":
            if not _valid_authority(self._target, port_needed=True):
                raise http_error(Code.TARGET)
            raise http_error(Code.CONNECT)
        if raw.startswith(b"/"):
            match = _PATH_AND_QUERY.fullmatch(raw)
            assert match is not None
            path, query = match.groups()
        elif raw == b"*" and method == "OPTIONS":
            path, query = raw, None
        else:
            match = _ABSOLUTE.fullmatch(raw)
            if match is None:
                raise http_error(Code.TARGET)
            authority, path, query = match.groups()
            self._authority = authority.decode("latin-1")
            if not _valid_authority(self._authority):
                raise http_error(Code.TARGET)
            path = path or b"/"
        self._path = path.decode("latin-1")
        self._query = (query or b"").decode("latin-1")

    def _take_field(self, line: bytes) -> None:
        """field-line = field-name ":" OWS field-value OWS (9112 5)."""
        field = split_field(line, self.strip_header_spaces)
        if field[0] == "TRANSFER-ENCODING" and b"\t" in line.partition(b":")[2]:
            self._tab_in_transfer_encoding = True
        self._fields.append(field)

    # -- the head as a whole -----------------------------------------------------------

    def _conclude(self, size: int) -> RequestHead:
        """Judge the head of `size` bytes as a whole, in this order: single fields that are
        repeated; Host; Transfer-Encoding and Content-Length; TRACE; Expect."""
        values = dict(self._fields)
        if len(values) != len(self._fields):
            values = self._join_repeated()
        head = self._head = RequestHead()
        head.host = host = values.get("HOST")
        if host is None:
            if self._version >= (1, 1):
                raise http_error(Code.HOST_MISSING)
        elif host and host != self._known_good_host:
            if not _valid_authority(host):
                raise http_error(Code.HOST)
            self._known_good_host = host
        head.chunked = False
        head.content_length = -1
        if "TRANSFER-ENCODING" in values:
            if "CONTENT-LENGTH" in values:
                raise http_error(Code.LENGTH_CONFLICT)
            self._judge_transfer_encoding(values["TRANSFER-ENCODING"])
            head.chunked = True
        elif "CONTENT-LENGTH" in values:
            digits = values["CONTENT-LENGTH"]
            if not _DIGITS.fullmatch(digits):
                raise http_error(Code.CONTENT_LENGTH)
            head.content_length = int(digits.lstrip("0")[:20] or "0")
            if head.content_length > grammar.MAX_LENGTH:
                raise http_error(Code.CONTENT_LENGTH)
        if self._method == "TRACE" and (head.chunked or head.content_length > 0):
            raise http_error(Code.TRACE_BODY)
        head.expect_continue = False
        if "EXPECT" in values and self._version >= (1, 1):
            if values["EXPECT"].lower() != "100-continue":
                raise http_error(Code.EXPECT)
            head.expect_continue = True
        head.keep_alive = self._persists(values.get("CONNECTION"))
        head.size = size
        head.method = self._method or ""
        head.target = self._target
        head.path = self._path
        head.query = self._query
        head.authority = self._authority
        head.version = self._version
        head.fields = self._fields
        return head

    def _join_repeated(self) -> dict[str, str]:
        """NAME → value, repeated fields joined to a list (9110 5.3)."""
        values: dict[str, str] = {}
        for name, value in self._fields:
            if name not in values:
                values[name] = value
            elif name in _SINGLETONS:
                raise http_error(Code.FIELD_REPEATED)
            elif name in ("CONNECTION", "TRANSFER-ENCODING"):
                values[name] += "," + value
        return values

    def _judge_transfer_encoding(self, value: str) -> None:
        """Accept `chunked` alone (9112 6.1). Codings come as tokens between commas and
        spaces; what two readers could take for different things is malformed."""
        codings = [coding.strip(" ").lower() for coding in value.split(",")]
        if (
            self._version < (1, 1)
            or self._tab_in_transfer_encoding
            or not all(_TOKEN.fullmatch(coding.encode("latin-1")) for coding in codings)
            or _IDENTITY in codings
            or _CHUNKED in codings[:-1]
        ):
            raise http_error(Code.TRANSFER_ENCODING)
        if codings != [_CHUNKED]:
            raise http_error(Code.TRANSFER_CODING)

    def _persists(self, value: str | None) -> bool:
        """Whether the connection outlives the answer (9112 9.3); `value` is Connection's."""
        persistent = self._version >= (1, 1)
        if value is None:
            return persistent
        options = [option.strip(" \t").lower() for option in value.split(",")]
        return "close" not in options and (persistent or "keep-alive" in options)
