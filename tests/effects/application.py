"""The application of these tests: each page says something about the server that calls it.

The text of a page is JSON. What the application has to say at once goes to standard output, one line each.
"""

from __future__ import annotations

import contextvars
import gc
import json
import os
import sys
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import parse_qs

Environ = dict[str, Any]
StartResponse = Callable[..., Any]

CHUNK = b"x" * 65536

_visited: contextvars.ContextVar[str] = contextvars.ContextVar("visited", default="nobody")


def say(line: str) -> None:
    """A line to standard output, whole and at once."""
    os.write(1, f"{line}\n".encode())


def open_files() -> list[str]:
    """The names of the files that this process has open."""
    names = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            names.append(os.readlink(f"/proc/self/fd/{fd}"))
        except OSError:
            pass  # the listing's own
    return names


def request(environ: Environ) -> Any:
    """What has come of the request."""
    wanted = ("REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO", "QUERY_STRING", "SERVER_PROTOCOL", "REMOTE_ADDR")
    kept = {name: value for name, value in environ.items() if name in wanted or name.startswith("HTTP_")}
    return {**kept, "scheme": environ["wsgi.url_scheme"], "pid": os.getpid()}


def process(environ: Environ) -> Any:
    """What this process is."""
    return {
        "pid": os.getpid(),
        "ids": [os.getuid(), os.getgid(), sorted(os.getgroups())],
        "directory": os.getcwd(),
        "path": sys.path,
        "environ": dict(os.environ),
        "frozen": gc.get_freeze_count(),
        "multiprocess": environ["wsgi.multiprocess"],
        "multithread": environ["wsgi.multithread"],
    }


def context(environ: Environ) -> Any:
    """Who was here before, as far as the context knows."""
    before = _visited.get()
    _visited.set("somebody")
    return before


def body(environ: Environ) -> Any:
    """How long the body of the request is, and which files are open while it is read."""
    say("CALLED")
    return {"length": len(environ["wsgi.input"].read()), "files": open_files()}


def sleep(environ: Environ) -> Any:
    """The answer comes after as many seconds as the query says."""
    say("SLEEPING")
    time.sleep(float(environ["QUERY_STRING"]))
    return "slept"


def write(environ: Environ) -> Any:
    """Something to the standard streams, and to wsgi.errors."""
    print("on standard output", flush=True)
    print("on standard error", file=sys.stderr, flush=True)
    environ["wsgi.errors"].write("on wsgi.errors\n")
    return "written"


class Stream:
    """A response of so many bytes. At its end it says how many of them the server has taken."""

    def __init__(self, length: int) -> None:
        self._length = length
        self._taken = 0

    def __iter__(self) -> Iterator[bytes]:
        while self._taken < self._length:
            self._taken += len(CHUNK)
            yield CHUNK

    def close(self) -> None:
        say(f"TAKEN {self._taken}")


def file_page() -> Any:
    """This file, open; when the server has let go of it, how far its offset was moved, as any read moves it."""
    kept = os.open(__file__, os.O_RDONLY)
    opened = open(os.dup(kept), "rb")  # the same offset

    def gone() -> None:
        say(f"MOVED {os.lseek(kept, 0, os.SEEK_CUR)}")
        os.close(kept)

    weakref.finalize(opened, gone)
    return opened


PAGES: dict[str, Callable[[Environ], Any]] = {
    "/": request,
    "/process": process,
    "/context": context,
    "/body": body,
    "/sleep": sleep,
    "/write": write,
}


def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    path = environ["PATH_INFO"]
    if path == "/stream":
        length = int(parse_qs(environ["QUERY_STRING"])["bytes"][0])
        start_response("200 OK", [("Content-Length", str(length))])
        return Stream(length)
    if path == "/file":
        start_response("200 OK", [("Content-Length", str(os.path.getsize(__file__)))])
        wrapped: Iterable[bytes] = environ["wsgi.file_wrapper"](file_page())
        return wrapped
    text = json.dumps(PAGES.get(path, request)(environ)).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(text)))])
    return [text]


say(f"LOADED in {os.getpid()}")
