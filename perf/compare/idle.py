"""What idle keep-alive connections cost: memory each, and what they do to the others.

User memory only (resident and unique bytes of the server's processes); the kernel's
socket buffers are the same for every server.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import time
from dataclasses import asdict, dataclass
from typing import Any

from perf import heads
from perf.compare import check, load, works
from perf.compare.process import Running, cpu_of, free_port, memory_of, processes_of, raise_file_limit
from perf.compare.report import columns
from perf.compare.rounds import Plan, say
from perf.compare.servers import HOST, Server, Start, Unavailable

#: Connections whose request is on its way at once while they are opened.
STEP = 100
ANSWER_TIMEOUT = 5.0
OPEN_TIMEOUT = 60.0
#: ip(7); the port is chosen at connect, when both ends are known, so it may be one in TIME_WAIT.
IP_BIND_ADDRESS_NO_PORT = 24
ACTIVE = 4  # connections of the others, whose latency is watched
LEAST = 100  # requests of theirs below which the server has stalled
SPREAD = 20000  # connections from one source address, below the count of ephemeral ports


@dataclass(frozen=True)
class Idle:
    """One server with and without its idle connections."""

    server: str
    version: str
    connections: int  # that stayed open
    resident_each: float  # bytes
    unique_each: float
    p99_us_before: float
    p99_us_with: float
    cpu_us_before: float
    cpu_us_with: float
    cpu_idle: float  # seconds of CPU that the server used in a second of doing nothing


def memory(session: int) -> tuple[int, int]:
    """Resident and unique bytes of all processes of the session."""
    every = [memory_of(pid) for pid, _ in processes_of(session)]
    return sum(one.resident for one in every), sum(one.unique for one in every)


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
            source = f"127.0.0.{2 + (len(opened) + number) // SPREAD}"
            sock = socket.socket()
            sock.settimeout(ANSWER_TIMEOUT)
            sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
            sock.bind((source, 0))
            sock.connect((HOST, port))
            sock.sendall(heads.SMALL)
            fresh.append(sock)
        opened += fresh
        for sock in fresh:
            answer = b""
            while not answer.endswith(b"Hello, World!"):
                try:
                    piece = sock.recv(4096)
                except TimeoutError:
                    raise check.Wrong(f"does not answer beside {len(opened)} connections") from None
                if not piece:
                    raise check.Wrong("closes instead of keeping the connection")
                answer += piece
    return opened


def closed(socks: list[socket.socket]) -> int:
    """How many of the connections the server has ended by now."""
    with selectors.DefaultSelector() as selector:
        for sock in socks:
            sock.setblocking(False)
            selector.register(sock, selectors.EVENT_READ)
        return len(selector.select(0))


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


def measure(server: Server, plan: Plan, count: int) -> Idle:
    """Measure one server; raises Unavailable or Wrong."""
    server.prepare()
    start = Start("perf.apps:hello", free_port())
    with (
        Running(server, start, plan.server_cpus, plan.logs / f"idle-{server.name}.txt") as running,
        contextlib.ExitStack() as stack,
    ):
        running.wait_until_ready()
        # Buffers and pools that the first connections make are not the idle ones' cost.
        for sock in open_idle(start.port, STEP):
            sock.close()
        p99_before, cpu_before = active(start.port, running, plan)
        before = memory(running.session)
        socks = open_idle(start.port, count)
        for sock in socks:
            stack.callback(sock.close)
        began, cpu = time.monotonic(), cpu_of(running.session)
        time.sleep(1.0)
        cpu_idle = (cpu_of(running.session) - cpu).total / (time.monotonic() - began)
        after = memory(running.session)
        p99_with, cpu_with = active(start.port, running, plan)
        lost = closed(socks)
        if lost:
            raise check.Wrong(f"has closed {lost} of {count} idle connections")
    return Idle(
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


def compare(chosen: list[Server], plan: Plan, count: int) -> tuple[str, list[dict[str, Any]]]:
    """The table and the figures for all chosen servers."""
    limit = raise_file_limit() - 200
    if count > limit:
        say(f"RLIMIT_NOFILE allows {limit} connections, not {count}")
        count = limit
    cells = [
        ["server", "version", "bytes each", "unique", "p99 ms", "with idle", "µs/request", "with idle", ""],
    ]
    found = []
    problems = []
    for server in chosen:
        try:
            one = measure(server, plan, count)
        except (Unavailable, check.Wrong, OSError) as cause:
            problems.append(f"  {server.name}: {cause}")
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
    title = f"{count} idle keep-alive connections (user memory; {ACTIVE} busy connections beside them)"
    return "\n".join([title, columns(cells, left=(0, 1, 8)), *problems]), found
