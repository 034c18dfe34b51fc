"""Several workers: what more of them bring, how they share connections, who wakes for one.

*Share*: HELD keep-alive connections are opened side by side; the busiest worker's part
over the mean is 1 when all hold the same. *Wakes*: connections come one at a time to
workers that wait; counted is how often any of them was woken (voluntary context
switches), per connection. One is the least; a herd has as many as there are workers.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import statistics
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from perf import apps, heads
from perf.compare import check, load, works
from perf.compare.process import Running, cpu_of, free_port, processes_of
from perf.compare.report import columns, shown, verdict
from perf.compare.rounds import Plan, say
from perf.compare.servers import Server, Start, Unavailable

WORKERS = (1, 2, 4)
HELD = 64  # connections whose distribution is looked at
COMING = 200  # connections that come one at a time
ROUNDS = 3  # of load, at most: what is looked for here is not a few percent
PAUSE = 0.002  # seconds between them, so that every worker waits again
#: cyhorn's own targets: the busiest worker's part over the mean, and wakes for a connection.
SHARE_TARGET = 1.5
WAKES_TARGET = 2.0


@dataclass(frozen=True)
class Scale:
    """One server with so many workers."""

    server: str
    version: str
    workers: int
    requests_per_second: float
    cpu_us: float  # per request
    p99_us: float
    held: list[int] | None  # by process, of those that hold any; None: it keeps no connection
    share: float | None  # the busiest one's over the mean of all workers
    wakes: float  # per connection


def holders(session: int, port: int) -> Counter[int]:
    """How many established connections of this local port each process of the session holds (proc(5))."""
    inodes = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "01" and int(fields[1].rpartition(":")[2], 16) == port:
            inodes.add(fields[9])
    held: Counter[int] = Counter()
    for pid, _ in processes_of(session):
        for entry in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                match = re.fullmatch(r"socket:\[(\d+)\]", os.readlink(f"/proc/{pid}/fd/{entry}"))
                held[pid] += bool(match and match[1] in inodes)
    return +held


def switches(session: int) -> int:
    """Voluntary context switches of all threads of the session: how often one was woken."""
    total = 0
    for pid, _ in processes_of(session):
        for task in os.listdir(f"/proc/{pid}/task"):
            status = Path(f"/proc/{pid}/task/{task}/status").read_text()
            total += int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])
    return total


def answer_of(sock: socket.socket) -> bytes:
    """What came up to the end of the body, or of the connection."""
    answer = b""
    while not answer.endswith(apps.HELLO) and (piece := sock.recv(4096)):
        answer += piece
    return answer


def hold(port: int, session: int) -> list[int] | None:
    """Open HELD connections side by side; how many each process got, None when they do not stay."""
    (response,) = check.exchange(port, heads.SMALL)
    if response.fields.get("connection", "").lower() == "close":
        return None
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(check.connect(port)) for _ in range(HELD)]
        for sock in socks:
            sock.sendall(heads.SMALL)
        for sock in socks:
            answer_of(sock)
        return sorted(holders(session, port).values(), reverse=True)


def wakes(port: int, session: int) -> float:
    """Wake-ups for each of COMING connections that come one at a time and are closed after an answer.

    What the server does without them (its clock) is counted over the same time, and left out.
    """
    began, before = time.monotonic(), switches(session)
    for _ in range(COMING):
        with check.connect(port) as sock:
            sock.sendall(heads.CLOSE)
            answer_of(sock)
            while sock.recv(4096):
                pass
        time.sleep(PAUSE)
    count, elapsed = switches(session) - before, time.monotonic() - began
    before = switches(session)
    time.sleep(elapsed)
    return max(0.0, count - (switches(session) - before)) / COMING


def measure(server: Server, label: str, workers: int, plan: Plan, reuse_port: bool) -> Scale:
    """Measure one server; raises Unavailable or Wrong."""
    server.prepare()
    start = Start("perf.apps:hello", free_port(), workers=workers, reuse_port=reuse_port)
    every = plan.server_cpus | plan.client_cpus
    log = plan.logs / f"scale-{label.replace(' ', '')}-{workers}.txt"
    with Running(server, start, every, log) as running:
        running.wait_until_ready()
        time.sleep(0.5)  # the other workers boot
        findings = check.check_plain(start.port, heads.SMALL, len(apps.HELLO), check.digest_of(apps.HELLO), 1)
        held = hold(start.port, running.session) if findings.persists else None
        woken = wakes(start.port, running.session)
        runs = []
        for _ in range(min(plan.rounds, ROUNDS)):
            cpu = cpu_of(running.session)
            seen = load.run_wrk(works.BY_NAME["small"], start.port, plan.connections, plan.seconds, every)
            used = cpu_of(running.session) - cpu
            if seen.errors or not seen.requests:
                raise check.Wrong(f"{seen.errors} errors ({seen.first_error})")
            rate = seen.requests / seen.seconds
            runs.append((rate, used.total / seen.requests * 1e6, seen.p99_us))
    rate, cpu_us, p99 = (statistics.median(column) for column in zip(*runs, strict=True))
    share = max(held) / (sum(held) / workers) if held else None
    return Scale(label, server.version(), workers, rate, cpu_us, p99, held, share, woken)


def compare(chosen: list[Server], plan: Plan) -> tuple[str, list[dict[str, Any]]]:
    """The table and the figures of those that can have several workers."""
    rows = [(server.name, server, False) for server in chosen if server.forks]
    rows += [(f"{server.name} reuse_port", server, True) for server in chosen if server.ours]
    cells = [
        [
            "server",
            "version",
            "workers",
            "requests/s",
            "µs/request",
            "p99 ms",
            "busiest/mean",
            "wakes",
            "held",
        ]
    ]
    found: list[dict[str, Any]] = []
    problems = []
    for label, server, reuse_port in rows:
        for workers in WORKERS:
            if reuse_port and workers == 1:
                continue
            try:
                one = measure(server, label, workers, plan, reuse_port)
            except (Unavailable, check.Wrong, OSError, ValueError) as cause:
                problems.append(f"  {label}, {workers} workers: {cause}")
                found.append({"server": label, "version": "", "workers": workers, "problem": str(cause)})
                say(problems[-1])
                continue
            say(f"  {label}, {workers} workers: {one.requests_per_second:,.0f}/s")
            found.append(asdict(one))
            cells.append(
                [
                    one.server,
                    one.version,
                    str(one.workers),
                    f"{one.requests_per_second:,.0f}",
                    f"{one.cpu_us:.2f}",
                    f"{one.p99_us / 1000:.2f}",
                    f"{one.share:.2f}" if one.share else "closes",
                    f"{one.wakes:.2f}",
                    "+".join(map(str, one.held or ())),
                ]
            )
    cpus = len(plan.server_cpus | plan.client_cpus)
    title = (
        f"workers on {cpus} CPUs that the client shares; {HELD} connections held;"
        f" wake-ups for each of {COMING} connections that came one at a time"
    )
    lines = [title, columns(cells, left=(0, 1, 8)), *problems]
    lines += map(shown, judge(found))
    return "\n".join(lines), found


def judge(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Whether cyhorn's workers share fairly and wake alone."""
    return [
        verdict(f"{one['server']}, {one['workers']} workers: {title}", one[key], bound)
        for one in found
        if one["server"] in ("cyhorn", "cyhorn-pure") and one["workers"] > 1 and "problem" not in one
        for key, title, bound in (
            ("share", "busiest worker's connections / mean", SHARE_TARGET),
            ("wakes", "wake-ups for a connection", WAKES_TARGET),
        )
    ]
