"""An application whose requests wait, and say what they see of each other. For the gevent worker.

    /                 "ok"
    /pid              the worker's process id
    /patched          which of these are gevent's: socket, ssl, thread, subprocess, fork
    /sleep?S          "slept" after S seconds
    /together?N       the greatest number of requests that were in here at a time, once they are N
    /hold?NAME        NAME, after /release?NAME; writes "HOLDING" when it begins
    /release?NAME     how many it has let go
    /context?TEXT     what a context variable held at first and, after a wait, what TEXT was put into it
    /stream?N         N blocks of 64 KiB without a length; counts how often such a body was closed
    /closed           that count
    /large?N          the same blocks in one list
    /file?N           the same blocks in a file, by wsgi.file_wrapper
    /peer             the address of the client
    /length           how many bytes the body of the request had, read in blocks
    /begin            the same; writes "READING" when it begins
    /greenlets        how many greenlets there are in the process
"""

from __future__ import annotations

import contextvars
import gc
import os
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

BLOCK = bytes(range(256)) * 256
PATIENCE = 20.0

inside = most = closed = 0
everybody = threading.Event()
gates: dict[str, threading.Event] = {}
held: dict[str, int] = {}
variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")


class Stream:
    """N blocks, and a note when it is closed."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __iter__(self) -> Iterator[bytes]:
        for _ in range(self.count):
            yield BLOCK

    def close(self) -> None:
        global closed
        closed += 1


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
    """The application."""
    path, query = environ["PATH_INFO"], environ["QUERY_STRING"]
    if path in ("/stream", "/large", "/file"):
        start_response("200 OK", [("Content-Type", "application/octet-stream")])
        if path == "/file":
            file = tempfile.TemporaryFile()
            file.writelines(Stream(int(query)))
            file.seek(0)
            return environ["wsgi.file_wrapper"](file)
        return Stream(int(query)) if path == "/stream" else [BLOCK] * int(query)
    body = PAGES.get(path, lambda environ, query: "ok")(environ, query).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def _patched(environ: dict[str, Any], query: str) -> str:
    found = {
        "socket": socket.socket,
        "ssl": ssl.SSLContext,
        "thread": threading.get_ident,
        "subprocess": subprocess.Popen,
        "fork": os.fork,
    }
    return " ".join(name for name, value in found.items() if "gevent" in str(value.__module__))


def _sleep(environ: dict[str, Any], query: str) -> str:
    os.write(1, b"SLEEPING\n")
    time.sleep(float(query))
    return "slept"


def _together(environ: dict[str, Any], query: str) -> str:
    global inside, most
    inside += 1
    most = max(most, inside)
    if inside == int(query):
        everybody.set()
    everybody.wait(PATIENCE)
    inside -= 1
    return str(most)


def _hold(environ: dict[str, Any], query: str) -> str:
    held[query] = held.get(query, 0) + 1
    os.write(1, b"HOLDING\n")
    return query if gates.setdefault(query, threading.Event()).wait(PATIENCE) else "in vain"


def _release(environ: dict[str, Any], query: str) -> str:
    gates.pop(query).set()
    return str(held.pop(query))


def _context(environ: dict[str, Any], query: str) -> str:
    before = variable.get()
    variable.set(query)
    time.sleep(0.001)
    return f"{before} {variable.get()}"


def _length(environ: dict[str, Any], query: str) -> str:
    total = 0
    while block := environ["wsgi.input"].read(65536):
        total += len(block)
    return str(total)


def _begin(environ: dict[str, Any], query: str) -> str:
    os.write(1, b"READING\n")
    return _length(environ, query)


def _greenlets(environ: dict[str, Any], query: str) -> str:
    import greenlet

    gc.collect()
    return str(sum(isinstance(each, greenlet.greenlet) for each in gc.get_objects()))


PAGES: dict[str, Callable[[dict[str, Any], str], str]] = {
    "/pid": lambda environ, query: str(os.getpid()),
    "/patched": _patched,
    "/sleep": _sleep,
    "/together": _together,
    "/hold": _hold,
    "/release": _release,
    "/context": _context,
    "/closed": lambda environ, query: str(closed),
    "/length": _length,
    "/begin": _begin,
    "/greenlets": _greenlets,
    "/peer": lambda environ, query: environ["REMOTE_ADDR"],
}

os.write(1, b"LOADED in %d\n" % os.getpid())
