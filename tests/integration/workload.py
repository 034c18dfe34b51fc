"""An application that does what goes wrong in applications. Standard library only: any WSGI server can run it.

    /             "ok"
    /id?TEXT      TEXT
    /pid          the worker's process id
    /sleep?S      "slept" after S seconds
    /until?PATH   "seen" when there is a file PATH
    /stream?N,S   N chunks of 1024 bytes without a length, S seconds between them
    /large?N      N bytes, announced, in blocks
    /length       how many bytes the body of the request had, read in blocks
    /exit?N       os._exit(N)
    /segfault     a SIGSEGV
    /hold?S       S seconds blocked in C, with the GIL held
    /block?S      the same without the GIL; no signal ends it
    /eat?N        N bytes of memory, touched
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

BLOCK = b"0123456789abcdef" * 4096


def number(text: str) -> int:
    """What `text` says, within reason; 0 where it is no number."""
    return min(int(text), 1 << 30) if text.isascii() and text.isdigit() else 0


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
    """The application."""
    path, query = environ["PATH_INFO"], environ["QUERY_STRING"]
    if path == "/stream":
        count, _, pause = query.partition(",")
        start_response("200 OK", [("Content-Type", "application/octet-stream")])
        return _stream(number(count), float(pause or 0))
    if path == "/large":
        size = number(query)
        fields = [("Content-Type", "application/octet-stream"), ("Content-Length", str(size))]
        start_response("200 OK", fields)
        return _large(size)
    body = _plain(environ, path, query).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def _plain(environ: dict[str, Any], path: str, query: str) -> str:
    if path == "/id":
        return query
    if path == "/pid":
        return str(os.getpid())
    if path == "/sleep":
        os.write(1, b"SLEEPING\n")
        time.sleep(float(query.partition("&")[0]))
        return "slept"
    if path == "/until":
        os.write(1, b"SLEEPING\n")
        while not os.path.exists(query):
            time.sleep(0.01)
        return "seen"
    if path == "/length":
        total = 0
        while block := environ["wsgi.input"].read(1 << 20):
            total += len(block)
        return str(total)
    if path == "/exit":
        os._exit(int(query))
    if path == "/segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    if path == "/hold":
        os.write(1, b"HOLDING\n")
        ctypes.PyDLL(None).sleep(int(query.partition("&")[0]))
        return "held"
    if path.startswith("/block"):
        os.write(1, b"BLOCKING\n")
        return wait_in_c(int(query.partition("&")[0]))
    if path == "/eat":
        return str(len(bytearray(os.urandom(1)) * int(query)))
    return "ok"


def wait_in_c(seconds: int) -> str:
    """A system call, taken up again where a signal has ended it."""
    while seconds:
        seconds = ctypes.CDLL(None).sleep(seconds)
    return "blocked"


def _stream(count: int, pause: float) -> Iterator[bytes]:
    for number in range(count):
        if number and pause:
            time.sleep(pause)
        yield b"%01024d" % number


def _large(size: int) -> Iterator[bytes]:
    while size > 0:
        yield BLOCK[:size]
        size -= len(BLOCK)
