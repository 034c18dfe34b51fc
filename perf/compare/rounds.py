"""The measurement: all servers of a work run at once, and are loaded in turn, A B C A B C.

Taken in turn, a drift of the machine meets all of them alike; ratios are formed inside a
round and their median is reported.
"""

from __future__ import annotations

import contextlib
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from perf.compare import check, load, works
from perf.compare.process import Running, busy_seconds, free_port, peak_of
from perf.compare.servers import Server, Start, Unavailable
from perf.compare.works import Work

WARM_UP = 1  # seconds
#: A share of the server's CPU that somebody else took, above which a run is suspect.
FOREIGN_LIMIT = 0.05


@dataclass(frozen=True)
class Plan:
    """How to measure, the same for all."""

    rounds: int
    seconds: int
    connections: int
    server_cpus: frozenset[int]
    client_cpus: frozenset[int]
    scratch: Path
    logs: Path


@dataclass(frozen=True)
class Run:
    """One round of one server. Times in µs are per request."""

    requests: int
    seconds: float
    user_us: float
    system_us: float
    p50_us: float
    p99_us: float
    foreign: float  # share of the server's CPU that others used meanwhile

    @property
    def total_us(self) -> float:
        return self.user_us + self.system_us


@dataclass
class Row:
    """What is known of one server at one work."""

    server: Server
    work: Work
    logging: bool = False
    version: str = ""
    command: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    problem: str = ""  # why there are no runs
    runs: list[Run] = field(default_factory=list)
    rejected: list[str] = field(default_factory=list)
    boot_seconds: float = 0.0
    peak_bytes: int = 0  # of the largest process, in all rounds
    start_bytes: int = 0  # the same when it was up and had answered nothing yet

    @property
    def label(self) -> str:
        return f"{self.server.name} +log" if self.logging else self.server.name

    def median(self, value: Callable[[Run], float]) -> float:
        return statistics.median(map(value, self.runs))


class Entrant:
    """A server that is up for one work."""

    def __init__(self, row: Row, running: Running, expected_size: int) -> None:
        self.row = row
        self.running = running
        self.expected_size = expected_size  # bytes of one response
        self.served = 0

    def measure(self, plan: Plan) -> Run:
        """One round. Raises Wrong when it had errors, so that the run does not count."""
        work, port = self.row.work, self.running.start.port
        threaded = work.app == "threaded" and not self.row.server.reference
        turns = works.turns(port) if threaded else 0
        busy, cpu, began = busy_seconds(plan.server_cpus), self.running.cpu(), time.monotonic()
        if work.transfers:
            seen = load.run_transfers(work, port)
        else:
            connections = work.connections or plan.connections
            seen = load.run_wrk(work, port, connections, plan.seconds, plan.client_cpus)
        used = self.running.cpu() - cpu
        busy, elapsed = busy_seconds(plan.server_cpus) - busy, time.monotonic() - began
        self.served += seen.requests
        if seen.errors:
            raise check.Wrong(f"{seen.errors} errors ({seen.first_error})")
        if not seen.requests:
            raise check.Wrong("no request was answered")
        if seen.received < 0.9 * self.expected_size * seen.requests:
            raise check.Wrong("answers are shorter under load than the one checked")
        if threaded:
            rate = (works.turns(port) - turns) / elapsed
            self.row.notes[:] = [note for note in self.row.notes if not note.startswith("loaded")]
            self.row.notes.append(f"loaded thread {rate:.0f}/s")
        foreign = 0.0
        if not plan.server_cpus & plan.client_cpus:
            foreign = max(0.0, busy - used.total) / (elapsed * len(plan.server_cpus))
        return Run(
            requests=seen.requests,
            seconds=seen.seconds,
            user_us=used.user / seen.requests * 1e6,
            system_us=used.system / seen.requests * 1e6,
            p50_us=seen.p50_us,
            p99_us=seen.p99_us,
            foreign=foreign,
        )

    def idle_thread(self) -> None:
        """Note how often the background thread runs while the server waits."""
        port = self.running.start.port
        before, began = works.turns(port), time.monotonic()
        time.sleep(0.4)
        rate = (works.turns(port) - before) / (time.monotonic() - began)
        self.row.notes.append(f"idle thread {rate:.0f}/s")

    def verify_log(self) -> None:
        """Every request must have left its line; called after the stop."""
        path = self.running.start.access_log
        if path is not None:
            with path.open("rb") as lines:
                count = sum(1 for _ in lines)
            if count < self.served:
                self.row.notes.append(f"log has {count} lines for {self.served} requests")


def enter(row: Row, plan: Plan, stack: contextlib.ExitStack) -> Entrant | None:
    """Start, check and warm up the server of `row`; None with `row.problem` when it cannot take part."""
    server, work = row.server, row.work
    try:
        server.prepare()
        row.version = server.version()
        name = f"{work.name}-{row.label.replace(' ', '')}"
        start = Start(
            app=f"perf.apps:{work.app}",
            port=free_port(),
            access_log=plan.scratch / f"{name}.access" if row.logging else None,
            close=work.close,
        )
        running = stack.enter_context(Running(server, start, plan.server_cpus, plan.logs / f"{name}.txt"))
        row.command = running.command
        row.boot_seconds = running.wait_until_ready()
        row.start_bytes = peak_of(running.session)
        findings = work.check(start.port, server.reference)
        row.notes = list(findings.notes or [])
        entrant = Entrant(row, running, findings.response_size)
        if work.app == "threaded" and not server.reference:
            entrant.idle_thread()
        if not work.transfers:
            connections = work.connections or plan.connections
            seen = load.run_wrk(work, start.port, connections, WARM_UP, plan.client_cpus)
            entrant.served += seen.requests
        return entrant
    except Unavailable as cause:
        row.problem = str(cause)
    except check.Wrong as cause:
        row.problem = f"wrong: {cause}"
    except (OSError, ValueError) as cause:
        row.problem = f"wrong: {type(cause).__name__}: {cause}"
    return None


def measure_work(work: Work, chosen: Iterable[Server], plan: Plan) -> list[Row]:
    """All rounds of `work`; the rows come in the order of `chosen`."""
    rows: list[Row] = []
    for server in chosen:
        if work.log:
            if server.logs or server.reference:
                rows.append(Row(server, work))
            if server.logs:
                rows.append(Row(server, work, logging=True))
        else:
            rows.append(Row(server, work))
    with contextlib.ExitStack() as stack:
        entrants = [entrant for row in rows if (entrant := enter(row, plan, stack))]
        for row in rows:
            if row.problem:
                say(f"  {row.label}: {row.problem}")
        for number in range(plan.rounds):
            for entrant in entrants:
                row = entrant.row
                try:
                    run = entrant.measure(plan)
                except (check.Wrong, Unavailable, OSError, ValueError) as cause:
                    row.rejected.append(str(cause))
                    say(f"  {number + 1}/{plan.rounds} {row.label}: rejected: {cause}")
                    continue
                row.runs.append(run)
                suspect = f"  ({run.foreign:.0%} of its CPU went to others)" * (run.foreign > FOREIGN_LIMIT)
                say(f"  {number + 1}/{plan.rounds} {row.label}: {run.total_us:.2f} µs{suspect}")
        for entrant in entrants:
            entrant.row.peak_bytes = peak_of(entrant.running.session)
    for entrant in entrants:
        entrant.verify_log()
        if not entrant.row.runs:
            entrant.row.problem = f"every run was rejected: {entrant.row.rejected[0]}"
    return rows


def say(line: str) -> None:
    """Progress, beside the result."""
    print(line, file=sys.stderr, flush=True)
