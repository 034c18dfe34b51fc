"""System calls per request, by name, counted by strace: an exact gate.

    python -m perf.syscalls [--case A,B] [--impl compiled|python] [--json PATH]

A worker of cyhorn is traced while a client of our own sends a fixed number of requests,
SIDE_BY_SIDE connections at a time. What each request may cost stands in CASES. A call that
is not named there may happen only as often as the worker's clock ticks (once a second:
its heartbeat's look at the parent); everything else fails.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from perf import apps, heads
from perf.compare.process import Running, free_port
from perf.compare.servers import BY_NAME, HOST, Start

SIDE_BY_SIDE = 16
#: Turns of the client: a request on each connection, then an answer from each.
TURNS = 60
#: Calls of other names for each second traced, and for the beginning and end of the trace.
PER_TICK = 4
ATTACH_TIMEOUT = 10.0
#: What the worker still does once the client has all answers gets this long, in seconds.
SETTLE = 0.1
#: epoll has several names; one is as good as another.
ALIASES = {"epoll_pwait": "epoll_wait", "epoll_pwait2": "epoll_wait", "recv": "recvfrom", "send": "sendto"}


@dataclass(frozen=True)
class Case:
    """What a load may cost: the calls of each name per request, exactly or at most."""

    exactly: dict[str, float]
    at_most: dict[str, float]
    request: bytes = heads.SMALL
    answers: int = 1  # to one write
    app: str = "hello"
    reconnect: bool = False


CASES = {
    "keep-alive": Case({"recvfrom": 1, "sendto": 1}, {"epoll_wait": 1}),
    "browser": Case({"recvfrom": 1, "sendto": 1}, {"epoll_wait": 1}, heads.BROWSER),
    "post": Case({"recvfrom": 1, "sendto": 1}, {"epoll_wait": 1}, heads.POST, app="post"),
    "pipelined": Case(
        {"recvfrom": 1 / heads.PIPELINE_DEPTH},
        # Where the machine interrupts a call of the application, the answers before it go ahead.
        {"sendto": 1.5 / heads.PIPELINE_DEPTH, "epoll_wait": 1 / heads.PIPELINE_DEPTH},
        heads.PIPELINED,
        answers=heads.PIPELINE_DEPTH,
    ),
    # accept4 once more when it finds the queue empty; recv once more when it came too early,
    # and only then the connection is registered.
    "close": Case(
        {"sendto": 1, "close": 1},
        {"accept4": 2, "recvfrom": 2, "epoll_wait": 2, "epoll_ctl": 1, "shutdown": 1},
        heads.CLOSE,
        reconnect=True,
    ),
}


#: What the Python side may cost beyond that: a socket object asks for its family and its mode.
PYTHON_EXTRA = {"close": {"getsockname": 1.0, "ioctl": 1.0}, "pipelined": {"sendto": 1.0}}


class Client:
    """Connections to the worker, worked in step."""

    def __init__(self, port: int, case: Case) -> None:
        self.port = port
        self.case = case
        self.socks: list[socket.socket] = []
        #: What ends the last answer to a write.
        self.mark = b"1024" if case.app == "post" else apps.HELLO

    def connect(self) -> None:
        self.socks = [socket.create_connection((HOST, self.port), 20) for _ in range(SIDE_BY_SIDE)]
        for sock in self.socks:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def close(self) -> None:
        for sock in self.socks:
            sock.close()
        self.socks = []

    def turn(self) -> None:
        """A write on each connection, then all answers from each."""
        if self.case.reconnect:
            self.connect()
        for sock in self.socks:
            sock.sendall(self.case.request)
        for sock in self.socks:
            answer = b""
            while answer.count(self.mark) < self.case.answers or not answer.endswith(self.mark):
                piece = sock.recv(65536)
                if not piece:
                    sys.exit(f"the worker closed a connection after {answer[:120]!r}")
                answer += piece
            if answer.count(b"HTTP/1.1 200 OK\r\n") != self.case.answers:
                sys.exit(f"a wrong answer: {answer[:200]!r}")
        if self.case.reconnect:
            for sock in self.socks:
                while sock.recv(4096):
                    pass
            self.close()


_SUMMARY = re.compile(r"\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)(?:\s+\d+)?\s+(\w+)")


@contextlib.contextmanager
def traced(pid: int, out: Path) -> Iterator[Callable[[], dict[str, int]]]:
    """Trace a process and its threads; the callable ends the trace and returns calls by name."""
    tracer = subprocess.Popen(
        ["strace", "--follow-forks", "--summary-only", f"--output={out}", f"--attach={pid}"],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert tracer.stderr is not None

    def finish() -> dict[str, int]:
        tracer.send_signal(signal.SIGINT)
        tracer.wait(ATTACH_TIMEOUT)
        calls: dict[str, int] = {}
        for line in out.read_text().splitlines():
            if (match := _SUMMARY.fullmatch(line.rstrip())) and match[2] != "total":
                name = ALIASES.get(match[2], match[2])
                calls[name] = calls.get(name, 0) + int(match[1])
        return calls

    try:
        line = tracer.stderr.readline()
        if "attached" not in line:
            sys.exit(f"strace cannot trace: {line.strip()}")
        yield finish
    finally:
        if tracer.poll() is None:
            tracer.send_signal(signal.SIGINT)
            tracer.wait()
        tracer.stderr.close()


def count(case: Case, impl: str) -> tuple[dict[str, int], int, float]:
    """Calls by name, the requests they served, and the seconds that the trace took."""
    server = BY_NAME["cyhorn" if impl == "compiled" else "cyhorn-pure"]
    start = Start(f"perf.apps:{case.app}", free_port())
    anywhere = frozenset(os.sched_getaffinity(0))
    with (
        tempfile.TemporaryDirectory(prefix="perf-") as directory,
        Running(server, start, anywhere, Path(directory) / "log") as running,
    ):
        running.wait_until_ready()
        client = Client(start.port, case)
        if not case.reconnect:
            client.connect()
        for _ in range(8):
            client.turn()
        began = time.monotonic()
        with traced(running.worker(), Path(directory) / "calls") as finish:
            for _ in range(TURNS):
                client.turn()
            time.sleep(SETTLE)
            calls = finish()
        elapsed = time.monotonic() - began
        client.close()
    return calls, TURNS * SIDE_BY_SIDE * case.answers, elapsed


def judge(case: Case, calls: dict[str, int], requests: int, seconds: float) -> list[str]:
    """What is wrong, one line each."""
    wrong = []
    for name, each in case.exactly.items():
        if calls.get(name, 0) != round(each * requests):
            wrong.append(f"{name}: {calls.get(name, 0)} calls, {each * requests:.0f} expected")
    allowance = PER_TICK * (int(seconds) + 2)
    for name, each in case.at_most.items():
        if calls.get(name, 0) > each * requests + allowance:
            wrong.append(f"{name}: {calls[name]} calls, at most {each * requests:.0f} expected")
    others = {name: n for name, n in calls.items() if name not in case.exactly | case.at_most}
    if sum(others.values()) > allowance:
        listed = ", ".join(f"{name} {n}" for name, n in sorted(others.items(), key=lambda item: -item[1]))
        wrong.append(f"other calls, {sum(others.values())} of them ({allowance} are allowed): {listed}")
    return wrong


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status: 1 when a case costs other calls than it may."""
    parser = argparse.ArgumentParser(prog="python -m perf.syscalls", description=__doc__.partition("\n")[0])
    parser.add_argument("--case", metavar="A,B", help=f"these cases (of {', '.join(CASES)})")
    parser.add_argument("--impl", choices=("compiled", "python"), default="compiled")
    parser.add_argument("--json", type=Path, metavar="PATH")
    options = parser.parse_args(arguments)
    names = options.case.split(",") if options.case else list(CASES)
    if unknown := [name for name in names if name not in CASES]:
        sys.exit(f"no case {', '.join(unknown)}: there are {', '.join(CASES)}")
    if not shutil.which("strace"):
        sys.exit("strace is not installed (Debian: apt-get install strace)")
    document = {}
    failed = False
    print(f"system calls per request ({options.impl})")
    for name in names:
        case = CASES[name]
        if options.impl == "python":
            case = replace(case, at_most=case.at_most | PYTHON_EXTRA.get(name, {}))
        calls, requests, seconds = count(case, options.impl)
        wrong = judge(case, calls, requests, seconds)
        failed |= bool(wrong)
        listed = ", ".join(
            f"{call} {n / requests:.3f}" for call, n in sorted(calls.items(), key=lambda i: -i[1])
        )
        print(f"  {name:<12} {'WRONG' if wrong else 'right'}  {listed}")
        for line in wrong:
            print(f"      {line}")
        document[name] = {"requests": requests, "calls": calls, "wrong": wrong}
    if options.json:
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
