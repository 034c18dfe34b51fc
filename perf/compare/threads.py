"""Threads for the application: what they cost where nothing waits, and what they bring where something does.

*Hello*: CPU per request of the smallest application, for cyhorn beside its own sync worker
in the same rounds. *Sleep*: THREADS clients of an application that sleeps; how many calls
it has at a time, on the average (THREADS at best). *Mix*: all threads but one are asleep
for a second at a time; how long a fast request takes beside them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import statistics
import threading
from dataclasses import asdict, dataclass
from typing import Any

from perf import apps, heads
from perf.compare import check, load, works
from perf.compare.process import Running, free_port
from perf.compare.report import columns, shown, verdict
from perf.compare.rounds import Plan, say
from perf.compare.servers import Server, Start, Unavailable

THREADS = 8
SECONDS = 3  # of sleep and of mix: too few for what takes a second to be left to chance
#: cyhorn's own targets: CPU over the sync worker's, threads over calls at a time, 99th percentile in ms.
HELLO_TARGET = 1.03
TIMES_TARGET = THREADS / 7.5
FAST_TARGET = 10.0

_SMALL = works.BY_NAME["small"]
_SLEEP = dataclasses.replace(_SMALL, name="sleep", request=heads.get("/sleep"))
_LONG = dataclasses.replace(_SMALL, name="long", request=heads.get("/long"))


@dataclass(frozen=True)
class Threads:
    """One server with THREADS threads for the application."""

    server: str
    version: str
    hello_us: float  # CPU per request
    of_sync: float | None  # the same over that of the sync worker; cyhorn only
    times: float  # calls at a time
    fast_p50_us: float
    fast_p99_us: float


def start(stack: contextlib.ExitStack, server: Server, threads: int, plan: Plan) -> Running:
    """A server of `apps.sleeper` that answers; raises Unavailable or Wrong."""
    server.prepare()
    chosen = Start("perf.apps:sleeper", free_port(), threads=threads)
    log = plan.logs / f"threads-{server.name}-{threads}.txt"
    running = stack.enter_context(Running(server, chosen, plan.server_cpus, log))
    running.wait_until_ready()
    check.check_plain(chosen.port, heads.SMALL, len(apps.HELLO), check.digest_of(apps.HELLO), 1)
    return running


def loaded(work: works.Work, port: int, connections: int, seconds: int, plan: Plan) -> load.Load:
    """A run without an error; raises Wrong."""
    seen = load.run_wrk(work, port, connections, seconds, plan.client_cpus)
    if seen.errors or not seen.requests:
        raise check.Wrong(f"{seen.errors} errors ({seen.first_error})")
    return seen


def hello(running: Running, plan: Plan) -> float:
    """CPU per request, in µs."""
    before = running.cpu()
    seen = loaded(_SMALL, running.start.port, plan.connections, plan.seconds, plan)
    return (running.cpu() - before).total / seen.requests * 1e6


def mixed(port: int, plan: Plan) -> load.Load:
    """What fast requests on four connections see while all threads but one sleep."""
    sleepers = threading.Thread(
        target=load.run_wrk, args=(_LONG, port, THREADS - 1, SECONDS + 1, plan.client_cpus)
    )
    sleepers.start()
    try:
        return loaded(_SMALL, port, 4, SECONDS, plan)
    finally:
        sleepers.join()


def measure(server: Server, plan: Plan) -> Threads:
    """Measure one server; raises Unavailable or Wrong."""
    with contextlib.ExitStack() as stack:
        running = start(stack, server, THREADS, plan)
        port = running.start.port
        of_sync = None
        if server.ours:
            sync = start(stack, server, 1, plan)
            hello(sync, plan), hello(running, plan)  # warm
            pairs = [(hello(sync, plan), hello(running, plan)) for _ in range(plan.rounds)]
            of_sync = statistics.median(own / base for base, own in pairs)
            hello_us = statistics.median(own for _, own in pairs)
        else:
            hello(running, plan)
            hello_us = statistics.median(hello(running, plan) for _ in range(plan.rounds))
        slept = loaded(_SLEEP, port, THREADS, SECONDS, plan)
        fast = mixed(port, plan)
    times = slept.requests / slept.seconds * apps.SLEEP
    return Threads(server.name, server.version(), hello_us, of_sync, times, fast.p50_us, fast.p99_us)


def compare(chosen: list[Server], plan: Plan) -> tuple[str, list[dict[str, Any]]]:
    """The table and the figures of those that can have several threads."""
    cells = [["server", "version", "hello µs", "x sync", "calls at a time", "fast p50 ms", "p99 ms"]]
    found: list[dict[str, Any]] = []
    problems = []
    for server in chosen:
        if not server.threads:
            continue
        try:
            one = measure(server, plan)
        except (Unavailable, check.Wrong, OSError, ValueError) as cause:
            problems.append(f"  {server.name}: {cause}")
            found.append({"server": server.name, "version": "", "problem": str(cause)})
            say(problems[-1])
            continue
        say(f"  {server.name}: {one.times:.2f} calls at a time, fast ones {one.fast_p99_us / 1000:.2f} ms")
        found.append(asdict(one))
        cells.append(
            [
                one.server,
                one.version,
                f"{one.hello_us:.2f}",
                f"{one.of_sync:.3f}" if one.of_sync else "",
                f"{one.times:.2f}",
                f"{one.fast_p50_us / 1000:.2f}",
                f"{one.fast_p99_us / 1000:.2f}",
            ]
        )
    title = (
        f"{THREADS} threads: CPU of a small request; calls at a time of an application that sleeps"
        f" {apps.SLEEP * 1000:.0f} ms; fast requests while {THREADS - 1} threads sleep for a second each"
    )
    return "\n".join([title, columns(cells, left=(0, 1)), *problems, *map(shown, judge(found))]), found


def judge(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Whether cyhorn's threads cost nothing and bring what they should."""
    judged = []
    for one in found:
        if one["server"] in ("cyhorn", "cyhorn-pure") and "problem" not in one:
            name = one["server"]
            judged += [
                verdict(f"{name}: gthread / sync, CPU of a small request", one["of_sync"], HELLO_TARGET),
                verdict(f"{name}: threads / calls at a time", THREADS / one["times"], TIMES_TARGET),
                verdict(f"{name}: p99 of fast requests, ms", one["fast_p99_us"] / 1000, FAST_TARGET),
            ]
    return judged
