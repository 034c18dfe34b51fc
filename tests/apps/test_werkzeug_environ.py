"""The environ of generated requests equals that of Werkzeug's own server, in every key that both have.

Where they are meant to differ, `DIFFERENT` names the key and the reason, or a test of its own shows the request.
"""

from __future__ import annotations

import json
import random
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from werkzeug.serving import WSGIRequestHandler, make_server

from tests.apps import environ_app
from tests.apps.conftest import Serve, Variant
from tests.integration.harness import PATIENCE, to_the_end

REQUESTS = 200

#: Key → why its value is another with each server.
DIFFERENT = {
    "SERVER_SOFTWARE": "each names itself",
    "SERVER_PORT": "each listens at its own port",
    "REMOTE_PORT": "each request has a connection of its own; Werkzeug has a number, and CGI variables are text",
    "wsgi.multithread": "this is about the server: the reference has a thread for each request",
    "wsgi.multiprocess": "this is about the server: the reference has one process",
}


class Sent(NamedTuple):
    """A request, and what stands in the environ that came of it."""

    request: bytes
    environ: dict[str, Any]
    port: int


class QuietHandler(WSGIRequestHandler):
    """Werkzeug's handler, at the version of HTTP that takes chunked bodies; it logs no request."""

    protocol_version = "HTTP/1.1"

    def log(self, type: str, message: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def reference() -> Iterator[tuple[str, int]]:
    """The address of Werkzeug's own server around the same application."""
    server = make_server("127.0.0.1", 0, environ_app.app, threaded=True, request_handler=QuietHandler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield ("127.0.0.1", server.server_port)
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def references(reference: tuple[str, int]) -> list[Sent]:
    """What Werkzeug's own server makes of the generated requests."""
    return [send(reference, generated(number)) for number in range(REQUESTS)]


@pytest.fixture(scope="module")
def address(serve_shared: Serve) -> tuple[str, int]:
    """The address of cyhorn."""
    where: tuple[str, int] = serve_shared(module="tests.apps.environ_app").address
    return where


def send(address: tuple[str, int], request: bytes) -> Sent:
    """What the server at `address` makes of `request`, which ends its connection."""
    with socket.create_connection(address, timeout=PATIENCE) as connection:
        port: int = connection.getsockname()[1]
        connection.sendall(request)
        received = to_the_end(connection)
    while received.startswith((b"HTTP/1.1 100 ", b"HTTP/1.0 100 ")):
        received = received.partition(b"\r\n\r\n")[2]
    head = received.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    assert " 200 " in head[0], (request[:300], received[:300])
    fields = dict(line.split(": ", 1) for line in head[1:])
    return Sent(request, json.loads(fields["X-Environ"]), port)


# --- generated requests --------------------------------------------------------------------

METHODS = "GET GET HEAD POST POST PUT PATCH DELETE OPTIONS PROPFIND REPORT SEARCH BREW".split()
SEGMENTS = [
    *"a index.html %20 %C3%A9 %e2%82%ac %25 %2F %2f%2E. %3F %23 a+b a;b=c : @ .. . ~x $& '(*)! = %0A".split(),
    "%00",
    "",
    "x" * 300,
]
QUERIES = ["", "?", "?a=1&a=2", "?q=%C3%A9+%2B", "??", "?a=%00", "?=&&", "?u=http://b/?x", "?a[]=1", "?" + "y" * 900]
HOSTS = ["a", "a:81", "Example.ORG", "[::1]:81", "127.0.0.1", "xn--bcher-kva.example"]
NAMES = [
    *"X-One x-lower X-UPPER X--Double X.Dot X-1 X~`|^!#$%&'*+ Accept Accept-Language Cache-Control Via".split(),
    *"If-None-Match If-Modified-Since Range User-Agent Referer Authorization Origin From X-Forwarded-For".split(),
    *"Forwarded Proxy Upgrade-Insecure-Requests Content-Encoding Content-MD5 Date Keep_Alive X_Under".split(),
]
VALUES = [
    *"1 a,b a;q=0.1 =?utf-8?q?x?= \"q\" W/\"e\" bytes=0-9 https chunked %41 {} a:b : ,".split(),
    "",
    "two words",
    "a\tb",
    "gr\xfc\xdfe",
    "\xa0",
    "Sun, 06 Nov 1994 08:49:37 GMT",
    "v" * 4000,
]


def generated(number: int) -> bytes:
    """Request `number` of the suite: always the same."""
    chance = random.Random(number)
    target = "/" + "/".join(chance.choices(SEGMENTS, k=chance.randrange(4)))
    target = "/" + target.lstrip("/") + chance.choice(QUERIES)  # see test_two_slashes... for the others
    host = chance.choice(HOSTS)
    if chance.random() < 0.1:
        target = f"http://{chance.choice(HOSTS)}{target}"
    method = chance.choice(METHODS)
    version = "1.0" if chance.random() < 0.15 else "1.1"
    fields = [f"Host: {host}", *(field(chance) for _ in range(chance.randrange(8)))]
    fields = without_second(fields, "Authorization:")
    if chance.random() < 0.3:
        fields.append("Cookie: a=1; b=\"2\"; c=")
    if chance.random() < 0.3:
        name = chance.choice([name for name in NAMES if name != "Authorization"])  # of which there is one
        fields += [f"{name}: {value}" for value in chance.choices(VALUES, k=chance.randrange(2, 4))]
    body = b""
    if method not in ("GET", "HEAD") or chance.random() < 0.1:
        body = chance.randbytes(chance.choice([0, 1, 10, 8192, 70_000]))
        fields.append(chance.choice(["Content-Type: application/octet-stream", "content-type: text/plain; charset=x"]))
        if version == "1.1" and chance.random() < 0.4:
            fields.append("Transfer-Encoding: chunked")
            body = in_chunks(body, chance)
        else:
            fields.append(f"Content-Length: {len(body)}")
        if version == "1.1" and chance.random() < 0.2:
            fields.append("Expect: 100-continue")
    chance.shuffle(fields)
    head = [f"{method} {target} HTTP/{version}", *fields, "Connection: close", "", ""]
    return "\r\n".join(head).encode("latin-1") + body


def field(chance: random.Random) -> str:
    return f"{chance.choice(NAMES)}:{chance.choice(['', ' ', '  '])}{chance.choice(VALUES)}"


def without_second(fields: list[str], start: str) -> list[str]:
    """`fields` with the first only of those that begin with `start`: cyhorn refuses a message with two."""
    first = [line for line in fields if line.startswith(start)][:1]
    return [line for line in fields if not line.startswith(start)] + first


def in_chunks(body: bytes, chance: random.Random) -> bytes:
    made, position = [], 0
    while position < len(body):
        size = chance.randrange(1, 20_000)
        piece = body[position : position + size]
        made.append(b"%x\r\n%s\r\n" % (len(piece), piece))
        position += size
    return b"".join([*made, b"0\r\n\r\n"])


def test_the_environ_is_that_of_werkzeugs_own_server(
    variant: Variant, address: tuple[str, int], references: list[Sent]
) -> None:
    differences = []
    for number, theirs in enumerate(references):
        ours = send(address, theirs.request)
        both = theirs.environ.keys() & ours.environ.keys()
        differences += [
            (number, key, theirs.environ[key], ours.environ[key])
            for key in sorted(both - set(DIFFERENT))
            if theirs.environ[key] != ours.environ[key]
        ]
        assert (ours.environ["SERVER_PORT"], ours.environ["REMOTE_PORT"]) == (str(address[1]), str(ours.port))
        assert theirs.environ["REMOTE_PORT"] == theirs.port
        assert ours.environ["wsgi.multithread"] is (variant.worker == "gthread")
        assert ours.environ["wsgi.multiprocess"] is True
        # What only one of them has is of their own, or about chunked bodies.
        assert theirs.environ.keys() - both <= {"REQUEST_URI"}
    assert differences == []


def test_the_requests_are_of_many_kinds() -> None:
    requests = [generated(number) for number in range(REQUESTS)]
    kinds: dict[str, Callable[[bytes], bool]] = {
        "HTTP/1.0": lambda request: b" HTTP/1.0\r\n" in request,
        "chunked": lambda request: b"Transfer-Encoding: chunked\r\n" in request,
        "with a length": lambda request: b"Content-Length: " in request,
        "HEAD": lambda request: request.startswith(b"HEAD "),
        "absolute": lambda request: b" http://" in request.partition(b"\r\n")[0],
        "escaped": lambda request: b"%" in request.partition(b"?")[0].partition(b"\r\n")[0],
        "with a query": lambda request: b"?" in request.partition(b"\r\n")[0],
        "100-continue": lambda request: b"Expect:" in request,
        "beyond ASCII": lambda request: b"\xfc" in request.partition(b"\r\n\r\n")[0],
    }
    counts = {name: sum(map(is_one, requests)) for name, is_one in kinds.items()}
    assert len(set(requests)) == REQUESTS
    assert all(count >= 8 for count in counts.values()), counts


# --- where they are meant to differ --------------------------------------------------------

MEANT = {
    "bytes of a path that are not UTF-8 are kept, as PEP 3333 has it": (
        [b"GET /%FF%FE HTTP/1.1"],
        "PATH_INFO",
        "/\xef\xbf\xbd\xef\xbf\xbd",  # U+FFFD twice, in UTF-8
        "/\xff\xfe",
    ),
    "two slashes at the beginning are the path's own": (
        [b"GET //a//b HTTP/1.1"],
        "PATH_INFO",
        "/a//b",
        "//a//b",
    ),
    "cookies of two fields are joined by a semicolon (RFC 9113 8.2.3)": (
        [b"GET / HTTP/1.1", b"Cookie: a=1", b"Cookie: b=2"],
        "HTTP_COOKIE",
        "a=1,b=2",
        "a=1; b=2",
    ),
    "blanks behind a value are not part of it (RFC 9110 5.5)": (
        [b"GET / HTTP/1.1", b"X-A: 1 \t "],
        "HTTP_X_A",
        "1 \t ",
        "1",
    ),
    "a proxy on this machine tells the scheme (forwarded_allow_ips, secure_scheme_headers)": (
        [b"GET / HTTP/1.1", b"X-Forwarded-Proto: https"],
        "wsgi.url_scheme",
        "http",
        "https",
    ),
}


@pytest.mark.preload(False)
@pytest.mark.parametrize("reason", MEANT)
def test_where_the_environ_is_meant_to_differ_it_does(
    address: tuple[str, int], reference: tuple[str, int], reason: str
) -> None:
    lines, key, theirs, ours = MEANT[reason]
    request = b"\r\n".join([*lines, b"Host: a", b"Connection: close", b"", b""])
    assert send(reference, request).environ[key] == theirs
    assert send(address, request).environ[key] == ours


def test_a_field_of_which_there_is_one_is_refused_twice(address: tuple[str, int]) -> None:
    with socket.create_connection(address, timeout=PATIENCE) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: x\r\nAuthorization: y\r\n\r\n")
        assert to_the_end(connection).startswith(b"HTTP/1.1 400 ")
