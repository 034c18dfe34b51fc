"""Whole connections by grammar: mostly valid requests in a row, for applications that behave and that do
not, some of them bent afterwards. No test library: the fuzzers run anywhere for as long as they are told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random
from typing import Any

from fuzz import mutation

Words = tuple[bytes, ...]

_METHODS: Words = (b"GET",) * 6 + (b"POST",) * 5 + (b"HEAD",) * 3 + (
    b"PUT", b"DELETE", b"OPTIONS", b"TRACE", b"CONNECT", b"PROPFIND", b"get", b"X",
)  # fmt: skip
_TARGETS: Words = (
    b"/", b"/a/b%20c?d=e", b"/mount/a", b"/mount", b"//x", b"/%41%zz%00", b"/?", b"*", b"http://b.example/c?d",
    b"HTTPS://b:81", b"http://u@b/", b"a:443", b"/a#b",
)  # fmt: skip
_VERSIONS: Words = (b"HTTP/1.1",) * 12 + (b"HTTP/1.0",) * 5 + (
    b"HTTP/1.2", b"HTTP/2.0", b"HTTP/0.9", b"http/1.1",
)  # fmt: skip
_HOSTS: Words = (b"a",) * 8 + (
    b"", b"a.example:80", b"[::1]:8000", b"a:", b"a:65536", b"a b", b"a,b", b"u@a", b"%41", b"[v1.x]",
)  # fmt: skip
_FIELDS: Words = (
    b"Connection: close", b"Connection: close", b"connection: Keep-Alive", b"Connection: keep-alive",
    b"Connection: upgrade, foo", b"Connection: close, keep-alive", b"Connection: closed",
    b"Upgrade: h2c", b"Upgrade: websocket", b"Expect: 100-continue", b"Expect: 100-continue", b"Expect: cake",
    b"Accept: text/plain", b"Accept: application/json, */*;q=0.1", b"Accept: ;q=", b"Accept: text/html",
    b"Cookie: a=b", b"Cookie: c=d", b"Content-Type: text/plain", b"Authorization: Basic YTpi",
    b"X-Forwarded-Proto: https", b"X-Forwarded-Proto: http", b"X-Forwarded-Ssl: on", b"X_Under: 1",
    b"SCRIPT_NAME: /mount", b"Content_Length: 3", b"Transfer_Encoding: chunked", b"X: \x80\xff", b"X:",
    b"X: \t y \t", b"X-Many: 1", b"X-Many: 2", b"TE: trailers", b"Trailer: X",
    b"Proxy-Connection: keep-alive",
    b"Keep-Alive: timeout=5", b"X : spaced", b"X: folded\r\n line", b"Host: second", b"Date: x", b"Host : a",
    b"Content-Length: 0", b"Transfer-Encoding: identity", b"X-Long: " + b"l" * 90,
)  # fmt: skip
_TRAILERS: Words = (
    b"X-Sum: 1", b"Y: 2", b"Content-Length: 3", b"Host: b", b"X : 1", b"X: 1\r\n 2", b"nonsense",
)  # fmt: skip
_EXTENSIONS: Words = (b";a", b";a=b", b' ; a = "q\\"d"', b";", b";a=", b" ", b";a\n", b";" + b"e" * 200)
_STATUSES: Words = (b"200",) * 8 + (b"204", b"205", b"304", b"404", b"503", b"599", b"100", b"600")
_ITEMS: Words = (b"", b"x", b"hello", b"0123456789", b"y" * 300)

#: What the loops are configured with: mostly nothing, else each switch and limit that changes an answer.
OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {},
    {},
    {"limit_request_line": 40, "limit_request_fields": 5, "limit_request_field_size": 60},
    {"limit_request_body": 8},
    {"limit_request_line": 0, "limit_request_fields": 0, "limit_request_field_size": 0},
    {"permit_obsolete_folding": True, "strip_header_spaces": True},
    {"permit_unconventional_http_method": True, "permit_unconventional_http_version": True},
    {"casefold_http_method": True, "header_map": "dangerous"},
    {"header_map": "refuse", "server_header": ""},
    {"keepalive": 0.0},
    {"script_name": "/mount"},
    {"secure_scheme_headers": {"X-FORWARDED-PROTO": "https", "X-FORWARDED-SSL": "on"}},
    {"buffer_request_body": False},
    {"proxy_protocol": "auto"},
    {"sendfile": False, "body_buffer_size": 4, "context_isolation": False},
)

_PROXY_HEADERS: Words = (
    b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n",
    b"PROXY UNKNOWN\r\n",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc6\x33\x64\x02\xdc\x04\x01\xbb",
    b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
)


def _some(random: Random, words: Words, most: int) -> list[bytes]:
    return [random.choice(words) for _ in range(random.choice((0, 0, 1, 1, 2, most)))]


def program(random: Random) -> bytes:
    """A target that tells the application `program` what to do, in the words of its docstring."""
    words: list[bytes] = []
    if random.random() < 0.3:
        words.append(b"list")
    if random.random() < 0.3:
        words.append(b"read%d" % random.choice((0, 1, 3, 100)))
    if random.random() < 0.4:
        words.append(b"length%d" % random.choice((0, 1, 5, 10, 300)))
    if random.random() < 0.1:
        words.append(b"closing")
    if random.random() < 0.95:
        words.append(b"start" + random.choice(_STATUSES))
    for _ in range(random.choice((0, 1, 1, 2, 3))):
        words.append(random.choice((b"item", b"item", b"item", b"write")) + random.choice(_ITEMS))
    for word, chance in ((b"raise", 0.1), (b"again200", 0.05), (b"replace503", 0.05), (b"hints", 0.03)):
        if random.random() < chance:
            words.insert(random.randint(0, len(words)), word)
    return b"/app/program?" + b".".join(words)


def _body(random: Random) -> tuple[list[bytes], bytes]:
    """Framing fields and the bytes that go with them."""
    kind = random.random()
    if kind < 0.4:
        return [], b""
    data = random.choice((b"", b"x", b"hello", b"GET /in HTTP/1.1\r\nHost: a\r\n\r\n", b"z" * 200))
    if kind < 0.7:
        size = len(data) + random.choice((0,) * 12 + (-1, 1))
        return [b"Content-Length: %d" % max(0, size)], data
    pieces = [random.choice((b"x", b"hello", b"0\r\n\r\n", b"w" * 70)) for _ in range(random.randint(0, 3))]
    coded = b""
    for piece in pieces:
        extension = random.choice(_EXTENSIONS) if random.random() < 0.15 else b""
        coded += random.choice((b"%x", b"%X", b"0%x")) % len(piece) + extension + b"\r\n" + piece + b"\r\n"
    trailers = b""
    if random.random() < 0.3:
        trailers = b"".join(line + b"\r\n" for line in _some(random, _TRAILERS, 2))
    fields = [b"Transfer-Encoding: " + random.choice((b"chunked",) * 9 + (b"gzip, chunked", b"CHUNKED"))]
    if random.random() < 0.03:
        fields.append(b"Content-Length: 5")
    return fields, coded + b"0\r\n" + trailers + b"\r\n"


def _request(random: Random, named: Words) -> bytes:
    kind = random.random()
    if kind < 0.35:
        target = random.choice(_TARGETS)
    elif kind < 0.65:
        target = b"/app/" + random.choice(named)
    else:
        target = program(random)
    framing, body = _body(random)
    fields = [b"Host: " + random.choice(_HOSTS)] if random.random() < 0.95 else []
    fields += framing + _some(random, _FIELDS, 4)
    random.shuffle(fields)
    line = b" ".join((random.choice(_METHODS), target, random.choice(_VERSIONS)))
    empty = b"\r\n" if random.random() < 0.05 else b""
    return empty + b"\r\n".join([line, *fields]) + b"\r\n\r\n" + body


def connection(random: Random, named: Iterable[str]) -> bytes:
    """All that one client sends. `named` are the applications there are."""
    names = tuple(name.encode() for name in named)
    data = b"".join(_request(random, names) for _ in range(random.choice((1, 1, 2, 3, 5))))
    if random.random() < 0.05:
        data = random.choice(_PROXY_HEADERS) + data
    if random.random() < 0.4:
        data = mutation.mutate(random, (data,))
    return data


def shrink(data: bytes, fails: Callable[[bytes], bool]) -> bytes:
    """A shorter connection that still `fails`: pieces are left out as long as one can be."""
    size = max(1, len(data) // 2)
    while size:
        at = 0
        while at < len(data):
            shorter = data[:at] + data[at + size :]
            if fails(shorter):
                data = shorter
            else:
                at += size
        size //= 2
    return data
