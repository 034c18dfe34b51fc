"""The applications that the measured servers run: plain WSGI, as small as the work allows.

They are imported by every peer in an environment of its own, so this file uses the
standard library only and nothing of cyhorn.
"""

from __future__ import annotations

import os
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

Environ = dict[str, Any]
StartResponse = Callable[..., Any]

HELLO = b"Hello, World!"
HELLO_FIELDS = [("Content-Type", "text/plain"), ("Content-Length", "13")]

LARGE = b"x" * (1 << 20)
LARGE_FIELDS = [("Content-Type", "application/octet-stream"), ("Content-Length", str(len(LARGE)))]

CHUNK = b"x" * 1024
CHUNKS = 20
#: How long `stream` waits between the chunks of /slow, in seconds.
SLOW = 0.02

#: How long `sleeper` sleeps at /sleep and at /long, in seconds.
SLEEP, LONG = 0.05, 1.0

#: The file that `file` sends.
FILE_VARIABLE = "CYHORN_PERF_FILE"
BLOCK = 1 << 16


def hello(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """A constant answer of known length."""
    start_response("200 OK", list(HELLO_FIELDS))
    return [HELLO]


def post(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Read the body; answer with the number of bytes it held."""
    body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
    answer = b"%d" % len(body)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(answer)))])
    return [answer]


def upload(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Read the body in blocks; answer with their total length, and for /crc with their CRC-32."""
    read = environ["wsgi.input"].read
    size = crc = 0
    checks = environ["PATH_INFO"] == "/crc"
    length = int(environ.get("CONTENT_LENGTH") or 0)
    while size < length and (piece := read(BLOCK)):
        size += len(piece)
        if checks:
            crc = zlib.crc32(piece, crc)
    answer = b"%d %08x" % (size, crc) if checks else b"%d" % size
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(answer)))])
    return [answer]


def _chunks() -> Iterator[bytes]:
    for _ in range(CHUNKS):
        yield CHUNK


def _slow_chunks() -> Iterator[bytes]:
    for _ in range(CHUNKS):
        yield CHUNK
        time.sleep(SLOW)


def stream(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """A generator without a length; /slow shows whether the server sends each chunk at once."""
    start_response("200 OK", [("Content-Type", "application/octet-stream")])
    return _slow_chunks() if environ["PATH_INFO"] == "/slow" else _chunks()


def large(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """One megabyte in one piece."""
    start_response("200 OK", list(LARGE_FIELDS))
    return [LARGE]


def mixed(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """One megabyte at /large, made anew for each request; `hello` elsewhere."""
    if environ["PATH_INFO"] == "/large":
        start_response("200 OK", list(LARGE_FIELDS))
        return [LARGE[:-1] + b"y"]
    return hello(environ, start_response)


def file(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """A large file, by the server's own file wrapper where it has one."""
    handle = open(os.environ[FILE_VARIABLE], "rb")
    size = os.fstat(handle.fileno()).st_size
    wrapper = environ.get("wsgi.file_wrapper")
    start_response(
        "200 OK",
        [
            ("Content-Type", "application/octet-stream"),
            ("Content-Length", str(size)),
            ("X-File-Wrapper", "yes" if wrapper else "no"),
        ],
    )
    return wrapper(handle, BLOCK) if wrapper else iter(lambda: handle.read(BLOCK), b"")


class Background:
    """A thread of the application that wants a little CPU a thousand times a second.

    `turns` counts how often it got it. A server that keeps the GIL while it waits, or
    never lets go of it under load, starves the thread and would look the faster for it.
    """

    PAUSE = 0.001

    def __init__(self) -> None:
        self.turns = 0
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread, once per process and only in the process that serves."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while True:
            time.sleep(self.PAUSE)
            total = 0
            for number in range(200):
                total += number
            self.turns += 1


background = Background()


def threaded(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """`hello` beside the background thread; /turns tells how often the thread ran."""
    background.start()
    if environ["PATH_INFO"] == "/turns":
        answer = b"%d" % background.turns
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(answer)))])
        return [answer]
    start_response("200 OK", list(HELLO_FIELDS))
    return [HELLO]


def sleeper(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """`hello`, at /sleep after SLEEP seconds and at /long after LONG."""
    pause = {"/sleep": SLEEP, "/long": LONG}.get(environ["PATH_INFO"])
    if pause is not None:
        time.sleep(pause)
    return hello(environ, start_response)
