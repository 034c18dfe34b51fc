"""Applications that are right, each inside wsgiref.validate."""

from __future__ import annotations

import sys
import tempfile
import wsgiref.validate
from collections.abc import Callable, Iterable
from typing import Any

from tests.neighbours.application import ETAG

Environ = dict[str, Any]
Start = Callable[..., Callable[[bytes], object]]
Application = Callable[[Environ, Start], Iterable[bytes]]

PARTS = [b"one\n", b"two\n", b"three\n"]
PLAIN = [("Content-Type", "text/plain")]


def of_a_list(environ: Environ, start_response: Start) -> Iterable[bytes]:
    start_response("200 OK", [*PLAIN, ("Content-Length", "14")])
    return list(PARTS)


def of_a_tuple(environ: Environ, start_response: Start) -> Iterable[bytes]:
    start_response("200 OK", PLAIN)
    return tuple(PARTS)


def of_a_generator(environ: Environ, start_response: Start) -> Iterable[bytes]:
    start_response("200 OK", PLAIN)
    yield b""
    yield from PARTS


def of_an_iterator(environ: Environ, start_response: Start) -> Iterable[bytes]:
    start_response("200 OK", PLAIN)
    return iter(PARTS)


def by_write(environ: Environ, start_response: Start) -> Iterable[bytes]:
    write = start_response("200 OK", PLAIN)
    write(PARTS[0])
    write(PARTS[1])
    return [PARTS[2]]


def of_a_file(environ: Environ, start_response: Start) -> Iterable[bytes]:
    file = tempfile.TemporaryFile()  # the server closes it
    file.writelines(PARTS)
    file.seek(0)
    start_response("200 OK", PLAIN)
    result: Iterable[bytes] = environ["wsgi.file_wrapper"](file)
    return result


def of_lines(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """Says something to wsgi.errors in every way there is, too."""
    errors = environ["wsgi.errors"]
    errors.write("")
    errors.writelines([])
    errors.flush()
    start_response("200 OK", PLAIN)
    return b"".join(PARTS).splitlines(keepends=True)


def of_nothing(environ: Environ, start_response: Start) -> Iterable[bytes]:
    start_response("200 OK", PLAIN)
    return []


def entity(environ: Environ, start_response: Start) -> Iterable[bytes]:
    if environ.get("HTTP_IF_NONE_MATCH") == ETAG:
        start_response("304 Not Modified", [("ETag", ETAG)])
        return []
    start_response("200 OK", [*PLAIN, ("ETag", ETAG)])
    return [b"entity"]


def empty(environ: Environ, start_response: Start) -> Iterable[bytes]:
    start_response("204 No Content", [])
    return []


def replaced(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """A first answer that an error replaces before anything was sent."""
    start_response("200 OK", PLAIN)
    try:
        raise LookupError("nobody has it")
    except LookupError:
        start_response("503 Service Unavailable", PLAIN, sys.exc_info())
    return [b"sorry"]


def all_of(stream: Any) -> bytes:
    body = b""
    while data := stream.read(1 << 20):
        body += data
    return body


def in_pieces(stream: Any) -> bytes:
    parts = [stream.read(1), stream.read(0), stream.read(10), stream.read(1000)]
    while data := stream.read(333):
        parts.append(data)
    return b"".join(parts)


def by_readline(stream: Any) -> bytes:
    lines = []
    while line := stream.readline():
        assert line.endswith(b"\n") or not stream.read(1), line
        lines.append(line)
    return b"".join(lines)


READERS: dict[str, Callable[[Any], bytes]] = {
    "all": all_of,
    "iterate": lambda stream: b"".join(stream),
    "read": in_pieces,
    "readline": by_readline,
    "readlines": lambda stream: b"".join(stream.readlines()),
    "unread": lambda stream: b"unread",
}


def upload(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """The body, read in the way that the path names."""
    body = READERS[environ["PATH_INFO"].rpartition("/")[2]](environ["wsgi.input"])
    start_response("200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", str(len(body)))])
    return [body]


ROUTES: dict[str, Application] = {
    "": of_a_list,
    "empty": empty,
    "entity": entity,
    "file": of_a_file,
    "generator": of_a_generator,
    "iterator": of_an_iterator,
    "lines": of_lines,
    "list": of_a_list,
    "none": of_nothing,
    "replaced": replaced,
    "tuple": of_a_tuple,
    "upload": upload,
    "write": by_write,
}

_VALIDATED = {name: wsgiref.validate.validator(application) for name, application in ROUTES.items()}


def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
    return _VALIDATED[environ["PATH_INFO"].split("/")[1]](environ, start_response)
