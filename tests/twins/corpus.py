"""Messages and options on which the twins are compared, whole and in every two pieces.

A later corpus (tests/data) is read by the same harness; this one holds what the twins do
by different means: fast ways and slow ones, tables and expressions, limits at their edge.
"""

from __future__ import annotations

from fuzz import mutation
from tests.twins.harness import Options

HEADS: tuple[bytes, ...] = (
    *mutation.HEADS,
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /next HTTP/1.1\r\n",
    b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\nHost: a\n\n",
    b"GET /\r HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nX: \tin\tside\t\r\nY: \x7f\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\tchunked\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n",
    b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\nContent-Length: 18446744073709551616\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length : 3\r\nExpect: 100-Continue\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n 5\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\nY: c\r\n \t \r\n\r\n",
    b"TRACE / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"GET / HTTP/1.1\r\n"
    b"Host: a\r\nConnection: close\r\nconnection: keep-alive\r\nCookie: a\r\nCookie: b\r\n\r\n",
    b"GET /" + b"a" * 40 + b" HTTP/1.1\r\nHost: a\r\nX: " + b"b" * 40 + b"\r\nY: c\r\nZ: d\r\n\r\n",
    b"BREW http://user@h/ HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET HTTPS://[1::2.3.4.5]:8443?x HTTP/1.3\r\nHost: \r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n\r\n\r\n",
    b"GET /  HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.10\r\nHost: a\r\n\r\n",
    b"GET / HTTP/3.0\r\nHost: a\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a:99999\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue, more\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
)

HEAD_OPTIONS: tuple[Options, ...] = (
    {},
    {
        "permit_obsolete_folding": True,
        "strip_header_spaces": True,
        "permit_unconventional_http_method": True,
        "permit_unconventional_http_version": True,
        "casefold_http_method": True,
    },
    {"limit_request_line": 49, "limit_request_fields": 3, "limit_request_field_size": 44},
    {"limit_request_line": 14, "limit_request_field_size": 9, "permit_obsolete_folding": True},
    {"limit_request_line": 0, "limit_request_fields": 0, "limit_request_field_size": 0},
)

BODIES: tuple[bytes, ...] = (
    *mutation.BODIES,
    b"5\r\nhello\r\n0\r\n\r\nGET /next HTTP/1.1\r\n",
    b"5\r\nhello0\r\n\r\n",
    b"5\nhello\r\n0\r\n\r\n",
    b"5 \r\nhello\r\n0\r\n\r\n",
    b"0x5\r\nhello\r\n0\r\n\r\n",
    b"8000000000000000\r\n",
    b"00000000000000001\r\nx",
    b'1;a="b"c\r\nx\r\n0\r\n\r\n',
    b"0\r\nContent-Length: 3\r\n\r\n",
    b"0\r\nX: y\n\r\n",
    b"0\r\n\rX",
    b"3;" + b"e" * 60 + b"\r\nabc\r\n0\r\nT-1: a\r\nT-2: b\r\nT-3: c\r\n d\r\n\r\n",
)

BODY_OPTIONS: tuple[Options, ...] = (
    {},
    {"strip_header_spaces": True, "permit_obsolete_folding": True},
    {"limit_request_body": 5, "limit_request_fields": 2, "limit_request_field_size": 12},
    {"limit_request_fields": 0, "limit_request_field_size": 0},
)
