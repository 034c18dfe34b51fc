"""Seeds of heads and chunked bodies, and what may be done to them. No test library: the
fuzzers run anywhere for as long as they are told.
"""

from __future__ import annotations

from random import Random
from typing import Any

HEADS: tuple[bytes, ...] = (
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /a/b%20c?d=e&f=%zz HTTP/1.1\r\nHost: example.com:8080\r\nAccept: */*\r\nUser-Agent: x\r\n\r\n",
    b"\r\nHEAD /x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"POST /upload HTTP/1.1\r\nHost: [2001:db8::1]:80\r\nContent-Length: 12\r\nExpect: 100-continue\r\n\r\n",
    b"PUT /c HTTP/1.1\r\nhost: a.b\r\nTransfer-Encoding: chunked\r\nConnection: close, foo\r\n\r\n",
    b"GET http://u.example:81/p?q HTTP/1.1\r\nHost: other\r\nCookie: a=b\r\nCookie: c=d\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost:\r\nX_Y: \x80\xff\tz \r\n\r\n",
    b"CONNECT a.b:443 HTTP/1.1\r\nHost: a.b:443\r\n\r\n",
    b"TRACE / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: [::ffff:1.2.3.4]\r\nX: a\r\n b\r\n\tc\r\nContent-Type: text/plain\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: [v1.a:b]:1\r\nTransfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"get /lower HTTP/2.0\r\nHost : a\r\nTransfer_Encoding: chunked\r\nAuthorization: x\r\n\r\n",
)

BODIES: tuple[bytes, ...] = (
    b"0\r\n\r\n",
    b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
    b"00a\r\n0123456789\r\n0;last\r\nX-Sum: 1\r\nY_z: \x80\r\n\r\n",
    b'1 ; a = b ;c="q\\"d\x80";d\r\nx\r\n0\r\nX: a\r\n b\r\n\r\n',
    b"7fffffffffffffff\r\nabc",
    b"A;x\t=\ty\r\n0123456789\r\n000\r\nName : v\r\n\r\n",
)

#: Pieces that parsers have been fooled with.
TOKENS: tuple[bytes, ...] = (
    b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\0", b" ", b"\t", b":", b",", b";", b"=", b'"', b"\\", b"_", b"%",
    b"?",
    b"/", b"*", b"@", b"#", b"[", b"]", b"[::]", b"::", b".", b"-", b"+1", b"0x", b"\x0b", b"\x0c", b"\x7f",
    b"\x80",
    b"\xff", b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: identity\r\n", b"Transfer-Encoding: gzip, chunked\r\n",
    b"Transfer-Encoding:\tchunked\r\n",
    b"Host: b\r\n", b"Host:\r\n", b"Connection: close\r\n", b"Connection: keep-alive\r\n",
    b"Expect: 100-continue\r\n",
    b"Expect: x\r\n", b"Content_Length: 5\r\n", b"Trailer: a\r\n", b"Content-Type: a\r\n", b" folded\r\n",
    b"\tfolded\r\n",
    b"chunked", b"identity", b"close", b"keep-alive", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"http://",
    b"https://",
    b"99999999999999999999", b"9223372036854775807", b"9223372036854775808", b"ffffffffffffffff",
    b"8000000000000000",
    b"10000000000000000", b":65535", b":65536", b"1.2.3.4", b"256.1.1.1", b"a:b:c:d:e:f:1:2", b"0",
)  # fmt: skip


def mutate(random: Random, seeds: tuple[bytes, ...]) -> bytes:
    """A seed, changed in some places or none."""
    data = bytearray(random.choice(seeds))
    for _ in range(random.choice((0, 1, 1, 1, 2, 2, 3, 5, 8))):
        at = random.randint(0, len(data))
        to = min(len(data), at + random.choice((0, 1, 1, 2, 4, 16)))
        kind = random.randrange(7)
        if kind == 0:
            data[at:to] = b""
        elif kind == 1:
            data[at:at] = bytes((random.randrange(256),))
        elif kind == 2:
            data[at:to] = random.choice(TOKENS)
        elif kind == 3:
            data[at:at] = random.choice(TOKENS)
        elif kind == 4:
            data[at:at] = data[at:to] * random.choice((1, 2, 9))
        elif kind == 5 and at < len(data):
            data[at] ^= 1 << random.randrange(8)
        else:
            # at a border of lines, where it is most likely to be taken for one
            at = data.find(b"\r\n", at) + 2
            other = random.choice(seeds)
            data[at:at] = random.choice((random.choice(TOKENS), other[other.find(b"\n") + 1 :]))
    return bytes(data)


def head_options(random: Random) -> dict[str, Any]:
    """Arguments of a RequestParser: mostly the defaults, else limits within reach and switches."""
    if random.random() < 0.5:
        return {}
    options: dict[str, Any] = {
        name: True
        for name in (
            "permit_obsolete_folding",
            "strip_header_spaces",
            "permit_unconventional_http_method",
            "permit_unconventional_http_version",
            "casefold_http_method",
        )
        if random.random() < 0.4
    }
    if random.random() < 0.5:
        options["limit_request_line"] = random.choice((0, random.randint(1, 60)))
    if random.random() < 0.5:
        options["limit_request_fields"] = random.choice((0, random.randint(1, 6)))
    if random.random() < 0.5:
        options["limit_request_field_size"] = random.choice((0, random.randint(1, 60)))
    return options


def body_options(random: Random) -> dict[str, Any]:
    """Arguments of a ChunkedDecoder."""
    options = head_options(random)
    for name in list(options):
        if name.endswith(("_method", "_version", "_line")):
            del options[name]
    if random.random() < 0.3:
        options["limit_request_body"] = random.randint(1, 20)
    return options


def cuts(random: Random, size: int) -> tuple[int, ...]:
    """Offsets at which to cut `size` bytes, in order."""
    return tuple(sorted(random.randint(0, size) for _ in range(random.choice((0, 1, 1, 2, 3, 8)))))
