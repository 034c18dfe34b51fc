"""The application that the neighbours are put in front of.

It keeps to PEP 3333, tells what it has seen as JSON, and names on every answer the
connection that it came by (the inode of its socket, which no other connection of the
machine has had), so that a test can count how many a proxy or a client has opened.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import tempfile
import urllib.parse
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any

Environ = dict[str, Any]
Headers = list[tuple[str, str]]
Start = Callable[..., Callable[[bytes], object]]

BLOCK = 65536
ETAG = '"first"'

#: How often the bodies of `/bytes` and `/endless` were begun and closed, and how many requests there were.
counts = {"requests": 0, "begun": 0, "closed": 0}


@cache
def _all_content() -> bytes:
    return random.Random(9110).randbytes(24_000_000)


def content(size: int) -> bytes:
    """`size` bytes (24 MB at most) that neither repeat nor compress."""
    return _all_content()[:size]


@cache
def digest(size: int) -> str:
    """The SHA-256 of `content(size)`."""
    return hashlib.sha256(content(size)).hexdigest()


class Blocks:
    """`data` in blocks; counts that it was begun, and how often it was closed."""

    def __init__(self, data: Iterable[bytes]) -> None:
        counts["begun"] += 1
        self.data = data

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.data)

    def close(self) -> None:
        counts["closed"] += 1


def blocks(data: bytes) -> Iterator[bytes]:
    return (data[start : start + BLOCK] for start in range(0, len(data), BLOCK))


def connection(environ: Environ) -> tuple[str, str]:
    return ("X-Connection", str(os.fstat(environ["gunicorn.socket"].fileno()).st_ino))


def answer(
    environ: Environ, start_response: Start, body: bytes, kind: str = "text/plain", status: str = "200 OK"
) -> list[bytes]:
    headers = [("Content-Type", kind), ("Content-Length", str(len(body))), connection(environ)]
    start_response(status, headers)
    return [body]


def echo(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """What was sent: the body by its digest, and who is said to have sent it."""
    seen, size = hashlib.sha256(), 0
    while data := environ["wsgi.input"].read(BLOCK):
        seen.update(data)
        size += len(data)
    told = {
        "method": environ["REQUEST_METHOD"],
        "target": environ["RAW_URI"],
        "scheme": environ["wsgi.url_scheme"],
        "protocol": environ["SERVER_PROTOCOL"],
        "peer": environ["REMOTE_ADDR"],
        "port": environ.get("REMOTE_PORT"),
        "size": size,
        "sha256": seen.hexdigest(),
        "length": environ.get("CONTENT_LENGTH"),
        "headers": {name[5:]: value for name, value in environ.items() if name.startswith("HTTP_")},
        "proxy": {name: value for name, value in environ.items() if name.startswith("PROXY_")},
    }
    return answer(environ, start_response, json.dumps(told).encode(), "application/json")


def send_bytes(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """`/bytes/HOW?SIZE`: the content, in each way that PEP 3333 has."""
    how, data = environ["PATH_INFO"].rpartition("/")[2], content(int(environ["QUERY_STRING"]))
    headers = [("Content-Type", "application/octet-stream"), connection(environ)]
    if how in ("list", "length"):
        headers.append(("Content-Length", str(len(data))))
    if how == "list":
        start_response("200 OK", headers)
        return [data]
    if how == "file":
        return send_file(environ, start_response, data, headers)
    write = start_response("200 OK", headers)
    if how == "write":
        for block in blocks(data):
            write(block)
        return Blocks([])
    return Blocks(blocks(data))  # "length" or "chunked"


def send_file(environ: Environ, start_response: Start, data: bytes, headers: Headers) -> Iterable[bytes]:
    """The content as a file, or the one range of it that was asked for (9110 14.2)."""
    file = tempfile.TemporaryFile()  # the server closes it
    file.write(data)
    status, first = "200 OK", 0
    if environ.get("HTTP_RANGE", "").startswith("bytes="):
        begin, _, end = environ["HTTP_RANGE"].removeprefix("bytes=").partition("-")
        first, last = int(begin), min(int(end or len(data)), len(data) - 1)
        status = "206 Partial Content"
        headers.append(("Content-Range", f"bytes {first}-{last}/{len(data)}"))
        file.truncate(last + 1)
    file.seek(first)
    start_response(status, headers)
    result: Iterable[bytes] = environ["wsgi.file_wrapper"](file, BLOCK)
    return result


def endless(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """A response that nobody waits for the end of."""
    start_response("200 OK", [("Content-Type", "application/octet-stream"), connection(environ)])
    return Blocks(content(BLOCK) for _ in range(1 << 20))


def gate(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """`/gate?FIFO`: "first" at once; "second" when somebody has opened the named pipe."""
    start_response("200 OK", [("Content-Type", "text/plain"), connection(environ)])
    yield b"first"
    with open(urllib.parse.unquote(environ["QUERY_STRING"]), "rb") as pipe:
        pipe.read()
    yield b"second"


def entity(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """A page with an entity tag (9110 13.1.2)."""
    if environ.get("HTTP_IF_NONE_MATCH") == ETAG:
        start_response("304 Not Modified", [("ETag", ETAG), connection(environ)])
        return []
    headers = [("ETag", ETAG), ("Content-Type", "text/plain"), ("Content-Length", "6"), connection(environ)]
    start_response("200 OK", headers)
    return [b"entity"]


def nothing(environ: Environ, start_response: Start) -> Iterable[bytes]:
    start_response("204 No Content", [connection(environ)])
    return []


def hints(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """103 (Early Hints), then the answer (8297)."""
    environ["wsgi.early_hints"]([("Link", "</style.css>; rel=preload; as=style")])
    return answer(environ, start_response, b"after the hints")


def unread(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """An answer that does not look at the body."""
    return answer(environ, start_response, b"not looked at", status="403 Forbidden")


def events(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """Server-sent events: `/events?COUNT`."""
    start_response("200 OK", [("Content-Type", "text/event-stream"), ("Cache-Control", "no-store")])
    return (f"data: {number}\n\n".encode() for number in range(int(environ["QUERY_STRING"])))


def state(environ: Environ, start_response: Start) -> Iterable[bytes]:
    return answer(environ, start_response, json.dumps(counts).encode(), "application/json")


def root(environ: Environ, start_response: Start) -> Iterable[bytes]:
    return answer(environ, start_response, b"here")


ROUTES: dict[str, Callable[[Environ, Start], Iterable[bytes]]] = {
    "": root,
    "bytes": send_bytes,
    "echo": echo,
    "empty": nothing,
    "endless": endless,
    "entity": entity,
    "events": events,
    "gate": gate,
    "hints": hints,
    "state": state,
    "unread": unread,
}


def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
    counts["requests"] += 1
    route = ROUTES.get(environ["PATH_INFO"].split("/")[1])
    if route is None:
        return answer(environ, start_response, b"no such page", status="404 Not Found")
    return route(environ, start_response)
