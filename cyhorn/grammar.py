"""The data of HTTP/1.1 that both twins share: classes of characters, tables of
fields, reason phrases, limits. The compiled side fills its C tables from here at
import, so that no constant is written twice. Sections are RFC 9110 and 9112's.
"""

from __future__ import annotations

import string
from time import gmtime

# -- classes of characters, as sets of byte values ---------------------------------

DIGIT = frozenset(string.digits.encode())
ALPHA = frozenset(string.ascii_letters.encode())
HEXDIG = frozenset(string.hexdigits.encode())
#: token = 1*tchar (9110 5.6.2)
TCHAR = ALPHA | DIGIT | frozenset(b"!#$%&'*+-.^_`|~")
#: field-value: VCHAR, obs-text, SP and HTAB (9110 5.5)
FIELD_VALUE = frozenset(range(0x21, 0x7F)) | frozenset(range(0x80, 0x100)) | frozenset(b" \t")
#: request-target: visible ASCII without "#" (9112 3.2)
TARGET = frozenset(range(0x21, 0x7F)) - frozenset(b"#")
#: unreserved / sub-delims of a reg-name (3986 3.2.2); "%" is followed by two HEXDIG.
#: The grammar has "," too; it is left out, because a Host with one is a list of hosts.
REG_NAME = ALPHA | DIGIT | frozenset(b"-._~!$&'()*+;=")
#: the part of an IPvFuture after "v" 1*HEXDIG "." (3986 3.2.2)
IP_FUTURE = ALPHA | DIGIT | frozenset(b"-._~!$&'()*+,;=:")
#: what may stand in a quoted-string as it is, and after a backslash (9110 5.6.4)
QUOTED_PAIR = FIELD_VALUE
QUOTED_TEXT = FIELD_VALUE - frozenset(b'"\\')
#: without permit_unconventional_http_method: tchar less lower case and "#"
CONVENTIONAL_METHOD = TCHAR - frozenset(string.ascii_lowercase.encode()) - frozenset(b"#")
CONVENTIONAL_METHOD_LENGTH = (3, 20)

# -- fields --------------------------------------------------------------------------

#: Request fields with a row of their own in the parser: name in lower case → CGI key.
#: Their position is their number in the compiled parser (`Field.known`).
KNOWN_FIELDS: dict[bytes, str] = {
    name: "HTTP_" + name.decode().upper().replace("-", "_")
    for name in (
        b"host connection transfer-encoding expect content-length content-type authorization "
        b"accept accept-encoding accept-language accept-charset cache-control cookie date dnt "
        b"forwarded from if-match if-modified-since if-none-match if-range if-unmodified-since "
        b"keep-alive max-forwards origin pragma priority proxy-authorization proxy-connection "
        b"purpose range referer save-data sec-ch-ua sec-ch-ua-mobile sec-ch-ua-platform "
        b"sec-fetch-dest sec-fetch-mode sec-fetch-site sec-fetch-user sec-gpc te trailer "
        b"traceparent tracestate upgrade upgrade-insecure-requests user-agent via "
        b"x-amzn-trace-id x-api-key x-csrf-token x-csrftoken x-forwarded-for x-forwarded-host "
        b"x-forwarded-port x-forwarded-prefix x-forwarded-proto x-forwarded-protocol "
        b"x-forwarded-ssl x-real-ip x-request-id x-requested-with"
    ).split()
}
#: CGI gives these two no prefix (3875 4.1.2, 4.1.3).
KNOWN_FIELDS[b"content-length"] = "CONTENT_LENGTH"
KNOWN_FIELDS[b"content-type"] = "CONTENT_TYPE"

#: Repeated, these are refused; every other field is joined to a list (9110 5.3).
SINGLETON_FIELDS = frozenset(
    (b"host", b"content-length", b"content-type", b"authorization", b"proxy-authorization", b"expect")
)
#: Folded over lines, these are refused even with permit_obsolete_folding: two readers
#: of one message would not agree where it ends, for whom it is, or what follows it.
UNFOLDABLE_FIELDS = frozenset((b"host", b"content-length", b"transfer-encoding", b"connection", b"expect"))
#: A repeated Cookie is joined with "; " instead of "," (6265 5.4).
COOKIE = b"cookie"

#: What may not come as a trailer (9110 6.5.1): framing, routing, authentication, content.
FORBIDDEN_TRAILERS = frozenset(
    b"host content-length transfer-encoding trailer te connection keep-alive upgrade expect "
    b"authorization proxy-authorization proxy-connection www-authenticate proxy-authenticate "
    b"cookie set-cookie content-type content-encoding content-range content-location "
    b"max-forwards cache-control range if-match if-none-match if-modified-since "
    b"if-unmodified-since if-range".split()
)

#: Hop-by-hop fields: an application may not send them (PEP 3333, 9110 7.6.1).
HOP_BY_HOP = frozenset(
    "connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer "
    "trailers transfer-encoding upgrade".split()
)

# -- transfer codings (9112 7) ---------------------------------------------------------

#: The one coding that is decoded; other tokens are 501.
CHUNKED = b"chunked"
#: No coding at all, and no longer one (9112 7, since 7230 A.2): 400.
IDENTITY = b"identity"

# -- limits ----------------------------------------------------------------------------

#: No head is longer than this many bytes, whatever the settings say.
MAX_HEAD = 1 << 20
#: Hexadecimal digits of a chunk size (9112 7.1); 16 reach 2**64 - 1.
MAX_CHUNK_SIZE_DIGITS = 16
#: Bytes of chunk extensions that one body may hold.
MAX_CHUNK_EXTENSIONS = 4096
#: The largest Content-Length and chunk size.
MAX_LENGTH = (1 << 63) - 1
#: The largest port of a Host.
MAX_PORT = 65535

# -- names ------------------------------------------------------------------------------

#: The port of a scheme (9110 4.2), as the environ has it.
DEFAULT_PORTS = {"http": "80", "https": "443"}
#: The name of a server that is reached over a unix socket, for a request that names none.
LOCAL_NAME = "localhost"

# -- answers ----------------------------------------------------------------------------

REASONS: dict[int, str] = {
    100: "Continue", 101: "Switching Protocols", 102: "Processing", 103: "Early Hints",
    200: "OK", 201: "Created", 202: "Accepted", 203: "Non-Authoritative Information",
    204: "No Content", 205: "Reset Content", 206: "Partial Content",
    300: "Multiple Choices", 301: "Moved Permanently", 302: "Found", 303: "See Other",
    304: "Not Modified", 307: "Temporary Redirect", 308: "Permanent Redirect",
    400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found",
    405: "Method Not Allowed", 408: "Request Timeout", 411: "Length Required",
    413: "Content Too Large", 414: "URI Too Long", 415: "Unsupported Media Type",
    417: "Expectation Failed", 426: "Upgrade Required", 429: "Too Many Requests",
    431: "Request Header Fields Too Large", 500: "Internal Server Error",
    501: "Not Implemented", 502: "Bad Gateway", 503: "Service Unavailable",
    504: "Gateway Timeout", 505: "HTTP Version Not Supported", 507: "Insufficient Storage",
}  # fmt: skip

#: The names of IMF-fixdate (9110 5.6.7), in the order of `time.struct_time`; no locale changes them.
DAY_NAMES = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTH_NAMES = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def imf_fixdate(seconds: float) -> str:
    """The time `seconds` after the epoch as IMF-fixdate (9110 5.6.7): "Sun, 06 Nov 1994 08:49:37 GMT".

    What `email.utils.formatdate(seconds, usegmt=True)` gives, without the modules for mail behind it.
    """
    year, month, day, hour, minute, second, weekday, _, _ = gmtime(seconds)
    date = f"{DAY_NAMES[weekday]}, {day:02} {MONTH_NAMES[month - 1]} {year:04}"
    return f"{date} {hour:02}:{minute:02}:{second:02} GMT"
