"""The whole request cycle inside one process: a loop, a socket pair, fixed bytes.

The micro-benchmarks and the instruction counts drive the loop with it. No port, no second
process and no scheduler stands between two figures.

    python -m perf.driver CASE TIMES

runs one case of the compiled side, as perf/icount does under callgrind.
"""

from __future__ import annotations

import gc
import importlib
import logging
import socket
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any

from cyhorn.wsgi.options import LoopOptions
from cyhorn.wsgi.template import ListenerInfo
from perf import apps, heads

IMPLS = ("compiled", "python")
#: One read of the client: larger than any answer of a case.
ROOM = 1 << 18


def side(module: str, impl: str) -> Any:
    """The twin of `module` ("parser", "writer", "access" ...); ImportError when it is not built."""
    return importlib.import_module(f"cyhorn._{module}" if impl == "compiled" else f"cyhorn._{module}_py")


def heartbeat() -> Any:
    """A heartbeat slot as a worker has it."""
    from cyhorn.process.heartbeat import HeartbeatTable

    return HeartbeatTable(1).claim()


def access_lines(impl: str, path: str) -> Any:
    """The access log of a worker with ``--access-logfile path``."""
    from cyhorn.config.config import Config
    from cyhorn.log.access import fast_access_log
    from cyhorn.log.logger import Logger

    cfg = Config()
    cfg.set("accesslog", path)
    plain = fast_access_log(Logger(cfg), cfg)
    assert plain is not None
    return side("access", impl).AccessLines(plain.line, plain.steps, plain.clock, plain)


class Cycle:
    """A loop that serves `application` to one connection of which this process is the client."""

    def __init__(self, impl: str, application: Callable[..., Any], log: bool = False, **options: Any) -> None:
        """`options` are LoopOptions; `log` adds an access log of the default format, in a file of its own."""
        self.access_file = tempfile.NamedTemporaryFile(prefix="perf-access-") if log else None
        if self.access_file is not None:
            options["access_lines"] = access_lines(impl, self.access_file.name)
        self.listener = socket.socket()
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen()
        self.listener.setblocking(False)
        self.loop = side("loop", impl).Loop(
            LoopOptions(**options),
            [ListenerInfo(self.listener)],
            application,
            log=logging.getLogger("perf"),
            errors=sys.stderr,
            heartbeat=heartbeat(),
        )
        self.client, server = socket.socketpair()
        for end in (self.client, server):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * ROOM)
        self.client.settimeout(10)
        self.loop.adopt(server)
        self.answer = bytearray(ROOM)

    def exchange(self, request: bytes) -> int:
        """Send `request`, let the loop take one turn; returns how much of `answer` it sent in it."""
        self.client.sendall(request)
        self.loop.turn(0)
        return self.client.recv_into(self.answer)

    def close(self) -> None:
        self.client.close()
        self.loop.close()
        self.listener.close()
        if self.access_file is not None:
            self.access_file.close()

    def __enter__(self) -> Cycle:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


# -- cases ----------------------------------------------------------------------------------------

#: What a page of a framework answers with: nine fields, no length, a body in one piece.
PAGE_FIELDS = [
    ("Content-Type", "text/html; charset=utf-8"),
    ("X-Frame-Options", "DENY"),
    ("Vary", "Accept-Language, Cookie"),
    ("Content-Language", "en"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cache-Control", "max-age=0, no-cache, no-store, must-revalidate, private"),
    ("Set-Cookie", "csrftoken=Zk3Jq8vXw2LrT9bYc5NfH7sPd4Mg6A1e; Max-Age=31449600; Path=/; SameSite=Lax"),
]
PAGE = b"<!doctype html>" + b"<p>Lorem ipsum dolor sit amet.</p>" * 120


def page(environ: apps.Environ, start_response: apps.StartResponse) -> Iterable[bytes]:
    """The answer of a framework."""
    start_response("200 OK", list(PAGE_FIELDS))
    return [PAGE]


def writes(environ: apps.Environ, start_response: apps.StartResponse) -> Iterable[bytes]:
    """The answer by the write() that start_response returns."""
    write = start_response("200 OK", list(apps.HELLO_FIELDS))
    write(apps.HELLO)
    return []


def _varied() -> Iterator[bytes]:
    number = 0
    while True:
        number += 1
        yield heads.browser(number)


#: Case of the cycle → (application, the requests, answers to each).
CYCLES: dict[str, tuple[Callable[..., Any], Callable[[], Iterator[bytes]], int]] = {
    "small": (apps.hello, lambda: _same(heads.SMALL), 1),
    "browser": (apps.hello, lambda: _same(heads.BROWSER), 1),
    "varied": (apps.hello, _varied, 1),
    "pipelined": (apps.hello, lambda: _same(heads.PIPELINED), heads.PIPELINE_DEPTH),
    "post": (apps.post, lambda: _same(heads.POST), 1),
    "stream": (apps.stream, lambda: _same(heads.get("/stream")), 1),
    "page": (page, lambda: _same(heads.BROWSER), 1),
    "write": (writes, lambda: _same(heads.SMALL), 1),
    "log": (apps.hello, lambda: _same(heads.SMALL), 1),
    "log-browser": (apps.hello, lambda: _same(heads.BROWSER), 1),
    "log-pipelined": (apps.hello, lambda: _same(heads.PIPELINED), heads.PIPELINE_DEPTH),
}
#: Those with an access log.
LOGGED = frozenset(name for name in CYCLES if name.startswith("log"))


def _same(request: bytes) -> Iterator[bytes]:
    while True:
        yield request


#: Case of the parser alone → the head.
PARSES = {"parse-small": heads.SMALL, "parse-browser": heads.BROWSER}

CASES = (*PARSES, *CYCLES)


def run_cycle(name: str, times: int) -> None:
    """Serve `times` writes of the case on the compiled side, and demand that each is answered."""
    application, requests, answers = CYCLES[name]
    with Cycle("compiled", application, log=name in LOGGED) as cycle:
        gc.collect()
        gc.freeze()
        for _, request in zip(range(times), requests(), strict=False):
            length = cycle.exchange(request)
            if cycle.answer.count(b"HTTP/1.1 200 OK\r\n", 0, length) != answers:
                sys.exit(f"{name}: a wrong answer: {bytes(cycle.answer[:length])[:200]!r}")


def run_parse(name: str, times: int) -> None:
    """Parse the head `times` times on the compiled side."""
    parser = side("parser", "compiled").RequestParser()
    head = PARSES[name]
    gc.collect()
    gc.freeze()
    for _ in range(times):
        if parser.parse(head) is None:
            sys.exit(f"{name}: the head is complete and was not found to be")


def main() -> None:
    name, times = sys.argv[1], int(sys.argv[2])
    (run_parse if name in PARSES else run_cycle)(name, times)


if __name__ == "__main__":
    main()
