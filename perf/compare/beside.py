"""What a crowd of connections costs: memory each, and what it does to the others.

`idle`: keep-alive connections that have had an answer and stay. `slow`: readers of a large
answer who take a few bytes now and then. User memory only (resident and unique bytes of
the server's processes); the kernel's socket buffers are the same for every server.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from perf import apps, heads
from perf.compare import check, load, works
from perf.compare.process import Running, cpu_of, free_port, memory_of, processes_of, raise_file_limit
from perf.compare.report import columns, shown, verdict
from perf.compare.rounds import Plan, say
from perf.compare.servers import HOST, Server, Start, Unavailable

#: Connections whose request is on its way at once while they are opened.
STEP = 100
ANSWER_TIMEOUT = 5.0
OPEN_TIMEOUT = 60.0
SLOW_TIMEOUT = 15.0
#: ip(7); the port is chosen at connect, when both ends are known, so it may be one in TIME_WAIT.
IP_BIND_ADDRESS_NO_PORT = 24
ACTIVE = 4  # connections of the others, whose latency is watched
LEAST = 100  # requests of theirs below which the server has stalled
SPREAD = 20000  # connections from one source address, below the count of ephemeral ports
#: A slow reader's window, how much it takes each time, and the largest segment sent to it, in bytes.
SLOW_WINDOW = 4096
SLOW_SIP = 512
SLOW_SEGMENT = 1400
SLOW_PAUSE = 1.0  # seconds between its sips

#: cyhorn's own targets: an idle connection's memory, and what counts as no effect on the others.
IDLE_TARGET = 1024.0
CPU_TARGET = 1.1
P99_TARGET = 1.5


@dataclass(frozen=True)
class Crowd:
    """One kind of crowd."""

    name: str
    title: str
    app: str
    enter: Callable[[int, int], list[socket.socket]]  # (port, how many) -> the connections
    sips: bool = False  # they read a little every SLOW_PAUSE


@dataclass(frozen=True)
class Beside:
    """One server with and without its crowd."""

    server: str
    version: str
    connections: int  # that stayed open
    resident_each: float  # bytes
    unique_each: float
    p99_us_before: float
    p99_us_with: float
    cpu_us_before: float
    cpu_us_with: float
    cpu_idle: float  # seconds of CPU that the server used in a second beside the crowd alone


def memory(session: int) -> tuple[int, int]:
    """Resident and unique bytes of all processes of the session."""
    every = [memory_of(pid) for pid, _ in processes_of(session)]
    return sum(one.resident for one in every), sum(one.unique for one in every)


def _socket(port: int, number: int, window: int = 0) -> socket.socket:
    """A connection from a source address of which there are ports enough."""
    sock = socket.socket()
    sock.settimeout(ANSWER_TIMEOUT)
    if window:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
        # Segments as on a network: with the loopback's of 64 KB the kernel would hold the whole answer.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SLOW_SEGMENT)
    sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
    sock.bind((f"127.0.0.{2 + number // SPREAD}", 0))
    sock.connect((HOST, port))
    return sock


def open_idle(port: int, count: int) -> list[socket.socket]:
    """Open `count` connections, each of which has had one answer. Raises Wrong when they do not stay."""
    (response,) = check.exchange(port, heads.SMALL)
    if response.fields.get("connection", "").lower() == "close":
        raise check.Wrong("closes each connection")
    opened: list[socket.socket] = []
    deadline = time.monotonic() + OPEN_TIMEOUT
    while len(opened) < count:
        if time.monotonic() > deadline:
            raise check.Wrong(f"has taken {len(opened)} connections in {OPEN_TIMEOUT:.0f} s")
        fresh = []
        for number in range(min(STEP, count - len(opened))):
            sock = _socket(port, len(opened) + number)
            sock.sendall(heads.SMALL)
            fresh.append(sock)
        opened += fresh
        for sock in fresh:
            answer = b""
            while not answer.endswith(apps.HELLO):
                try:
                    piece = sock.recv(4096)
                except TimeoutError:
                    raise check.Wrong(f"does not answer beside {len(opened)} connections") from None
                if not piece:
                    raise check.Wrong("closes instead of keeping the connection")
                answer += piece
    return opened


def open_slow(port: int, count: int) -> list[socket.socket]:
    """Open `count` connections that have asked for the large answer and read its first bytes only."""
    opened: list[socket.socket] = []
    request = heads.get("/large")
    deadline = time.monotonic() + SLOW_TIMEOUT
    for number in range(count):
        sock = _socket(port, number, SLOW_WINDOW)
        opened.append(sock)
        sock.sendall(request)
    for number, sock in enumerate(opened):
        try:
            if not sock.recv(64).startswith(b"HTTP/1."):
                raise check.Wrong("not an answer")
        except TimeoutError:
            raise check.Wrong(f"answers only {number} of {count} slow readers") from None
        if time.monotonic() > deadline:
            raise check.Wrong(f"has answered {number} of {count} slow readers in {SLOW_TIMEOUT:.0f} s")
    return opened


IDLE = Crowd("idle", "idle keep-alive connections", "hello", open_idle)
SLOW = Crowd("slow", "slow readers of an answer of 1 MB", "mixed", open_slow, sips=True)


class Sipping(threading.Thread):
    """Lets every connection of the crowd read a little, each SLOW_PAUSE seconds."""

    def __init__(self, socks: list[socket.socket]) -> None:
        super().__init__(daemon=True)
        self.socks = socks
        self.over = threading.Event()

    def run(self) -> None:
        pause = SLOW_PAUSE / len(self.socks)
        while not self.over.is_set():
            for number, sock in enumerate(self.socks):
                with contextlib.suppress(OSError):
                    sock.recv(SLOW_SIP, socket.MSG_DONTWAIT)
                if number % 10 == 9 and self.over.wait(10 * pause):
                    return

    def stop(self) -> None:
        self.over.set()
        self.join()


def closed(socks: list[socket.socket], waiting: bool) -> int:
    """How many of the connections the server has ended by now; with `waiting`, bytes may be there."""
    ended = 0
    with selectors.DefaultSelector() as selector:
        for sock in socks:
            sock.setblocking(False)
            selector.register(sock, selectors.EVENT_READ)
        for key, _ in selector.select(0):
            ended += 1
            if waiting:
                with contextlib.suppress(OSError):
                    ended -= bool(key.fileobj.recv(1, socket.MSG_PEEK))  # type: ignore[union-attr]
    return ended


def active(port: int, running: Running, plan: Plan) -> tuple[float, float]:
    """99th percentile and CPU per request, in µs, of a few busy connections."""
    cpu = cpu_of(running.session)
    seen = load.run_wrk(works.BY_NAME["small"], port, ACTIVE, plan.seconds, plan.client_cpus)
    used = cpu_of(running.session) - cpu
    if seen.errors:
        raise check.Wrong(f"{seen.errors} errors ({seen.first_error})")
    if seen.requests < LEAST:
        raise check.Wrong(f"answers only {seen.requests} requests of the busy connections")
    return seen.p99_us, used.total / seen.requests * 1e6


def measure(server: Server, plan: Plan, crowd: Crowd, count: int) -> Beside:
    """Measure one server; raises Unavailable or Wrong."""
    server.prepare()
    start = Start(f"perf.apps:{crowd.app}", free_port())
    log = plan.logs / f"{crowd.name}-{server.name}.txt"
    with Running(server, start, plan.server_cpus, log) as running, contextlib.ExitStack() as stack:
        running.wait_until_ready()
        if crowd is IDLE:
            # Buffers and pools that the first connections make are not the crowd's cost.
            for sock in open_idle(start.port, STEP):
                sock.close()
        quiet = [active(start.port, running, plan) for _ in range(2)]
        before = memory(running.session)
        socks = crowd.enter(start.port, count)
        for sock in socks:
            stack.callback(sock.close)
        if crowd.sips:
            sipping = Sipping(socks)
            sipping.start()
            stack.callback(sipping.stop)
        began, cpu = time.monotonic(), cpu_of(running.session)
        time.sleep(1.0)
        cpu_idle = (cpu_of(running.session) - cpu).total / (time.monotonic() - began)
        after = memory(running.session)
        crowded = [active(start.port, running, plan) for _ in range(2)]
        lost = closed(socks, crowd.sips)
        if lost:
            raise check.Wrong(f"has closed {lost} of {count} connections")
    p99_before, cpu_before = map(statistics.mean, zip(*quiet, strict=True))
    p99_with, cpu_with = map(statistics.mean, zip(*crowded, strict=True))
    return Beside(
        server.name,
        server.version(),
        count,
        (after[0] - before[0]) / count,
        (after[1] - before[1]) / count,
        p99_before,
        p99_with,
        cpu_before,
        cpu_with,
        cpu_idle,
    )


def compare(chosen: list[Server], plan: Plan, crowd: Crowd, count: int) -> tuple[str, list[dict[str, Any]]]:
    """The table and the figures for all chosen servers."""
    limit = raise_file_limit() - 200
    if count > limit:
        say(f"RLIMIT_NOFILE allows {limit} connections, not {count}")
        count = limit
    cells = [
        ["server", "version", "bytes each", "unique", "p99 ms", "with them", "µs/request", "with them", ""],
    ]
    found = []
    problems = []
    for server in chosen:
        try:
            one = measure(server, plan, crowd, count)
        except (Unavailable, check.Wrong, OSError) as cause:
            problems.append(f"  {server.name}: {cause}")
            found.append({"server": server.name, "version": server.version(), "problem": str(cause)})
            say(problems[-1])
            continue
        say(f"  {server.name}: {one.resident_each:.0f} bytes each")
        found.append(asdict(one))
        cells.append(
            [
                one.server,
                one.version,
                f"{one.resident_each:.0f}",
                f"{one.unique_each:.0f}",
                f"{one.p99_us_before / 1000:.2f}",
                f"{one.p99_us_with / 1000:.2f}",
                f"{one.cpu_us_before:.2f}",
                f"{one.cpu_us_with:.2f}",
                f"idle CPU {one.cpu_idle:.1%}",
            ]
        )
    title = f"{count} {crowd.title} (user memory; {ACTIVE} busy connections beside them)"
    lines = [title, columns(cells, left=(0, 1, 8)), *problems, *map(shown, judge(crowd, found))]
    return "\n".join(lines), found


def judge(crowd: Crowd, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Whether the crowd costs cyhorn what it may."""
    judged = []
    for one in found:
        if one["server"] == "cyhorn" and "problem" not in one:
            if crowd is IDLE:
                judged.append(verdict("bytes of user memory each", one["unique_each"], IDLE_TARGET))
            ratio = one["cpu_us_with"] / one["cpu_us_before"]
            judged.append(verdict("CPU of the others' requests, with / without", ratio, CPU_TARGET))
            ratio = one["p99_us_with"] / one["p99_us_before"]
            judged.append(verdict("p99 of the others, with / without", ratio, P99_TARGET))
    return judged
