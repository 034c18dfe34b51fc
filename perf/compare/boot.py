"""From exec to the first answer, and the memory of workers that have served a little.

The boot is that of a small application. Memory is taken twice: of one worker of that
application, and of two workers of one that weighs what a framework weighs
(perf/weighty.py), where a master that loads it before it forks lets them share it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from perf.compare import check, load, works
from perf.compare.process import Memory, Running, free_port, memory_of, processes_of
from perf.compare.report import columns, shown, verdict
from perf.compare.rounds import Plan, say
from perf.compare.servers import Server, Start, Unavailable

#: Workers whose memory is looked at, and how long they are loaded before.
SHARERS = 2
SETTLE = 1.0

Figures = dict[str, float]


def start_once(server: Server, plan: Plan, preload: bool) -> Figures:
    """Seconds to the first answer; resident and unique bytes of the worker; resident bytes of all."""
    start = Start("perf.apps:hello", free_port(), preload=preload)
    with Running(server, start, plan.server_cpus, plan.logs / f"boot-{server.name}.txt") as running:
        seconds = running.wait_until_ready()
        load.run_wrk(works.BY_NAME["browser"], start.port, plan.connections, 1, plan.client_cpus)
        worker = memory_of(running.worker())
        every = sum(memory_of(pid).resident for pid, _ in processes_of(running.session))
    return {
        "boot_seconds": seconds,
        "worker_resident": worker.resident,
        "worker_unique": worker.unique,
        "all_resident": every,
    }


def youngest(session: int, count: int) -> list[Memory]:
    """The memory of the processes that were started last: the workers."""
    rows = sorted(processes_of(session), key=lambda row: int(row[1][19]))
    return [memory_of(pid) for pid, _ in rows[-count:]]


def weigh(server: Server, plan: Plan, preload: bool) -> Figures:
    """Resident and unique bytes of a worker of the weighty application (the mean of two), and of all."""
    start = Start("perf.weighty:hello", free_port(), workers=SHARERS, preload=preload)
    with Running(server, start, plan.server_cpus, plan.logs / f"weigh-{server.name}.txt") as running:
        running.wait_until_ready()
        time.sleep(SETTLE)  # the other worker boots
        load.run_wrk(works.BY_NAME["browser"], start.port, plan.connections, 1, plan.client_cpus)
        workers = youngest(running.session, SHARERS)
        unique = sum(memory_of(pid).unique for pid, _ in processes_of(running.session))
    return {
        "worker_resident": statistics.mean(one.resident for one in workers),
        "worker_unique": statistics.mean(one.unique for one in workers),
        "all_unique": unique,
    }


def _each(
    rows: list[tuple[str, Server, bool]],
    times: int,
    measure: Callable[[Server, bool], Figures],
    main: str,
) -> tuple[list[dict[str, Any]], list[str]]:
    """Run `measure` for all rows in turn; medians (and the least of `main`), and who could not run."""
    seen: dict[str, list[Figures]] = {name: [] for name, _, _ in rows}
    problems: dict[str, str] = {}
    for number in range(times):
        for name, server, preload in rows:
            if name in problems:
                continue
            try:
                server.prepare()
                seen[name].append(measure(server, preload))
            except (Unavailable, check.Wrong, OSError, ValueError) as cause:
                problems[name] = str(cause)
                continue
            say(f"  {number + 1}/{times} {name}: {main} {seen[name][-1][main]:,.3f}")
    found: list[dict[str, Any]] = []
    for name, server, _ in rows:
        if starts := seen[name]:
            medians = {key: statistics.median(one[key] for one in starts) for key in starts[0]}
            least = {f"{main}_least": min(one[main] for one in starts)}
            found.append({"server": name, "version": server.version(), **medians, **least})
    return found, [f"  {name}: {problem}" for name, problem in problems.items()]


def _megabytes(size: float) -> str:
    return f"{size / 2**20:.1f}"


def compare(chosen: list[Server], plan: Plan, times: int) -> tuple[str, dict[str, list[dict[str, Any]]]]:
    """The tables and the figures; each server is started `times` times, in turn.

    Those that can have their master load the application are started that way, too.
    """
    preloaders = [(f"{server.name} --preload", server, True) for server in chosen if server.preloads]
    rows = [(server.name, server, False) for server in chosen]
    started, problems = _each(
        rows + preloaders, times, lambda server, preload: start_once(server, plan, preload), "boot_seconds"
    )
    cells = [["server", "version", "boot ms", "least", "worker MB", "unique MB", "all MB"]]
    for one in started:
        milliseconds = [f"{one[key] * 1000:.0f}" for key in ("boot_seconds", "boot_seconds_least")]
        sizes = [_megabytes(one[key]) for key in ("worker_resident", "worker_unique", "all_resident")]
        cells.append([one["server"], one["version"], *milliseconds, *sizes])
    lines = [
        f"boot to the first answer, {times} times; memory after a second of load",
        columns(cells, left=(0, 1)),
        *problems,
        *map(shown, judge(started)),
    ]

    rows = [(server.name, server, False) for server in chosen if server.preloads]
    weighed, problems = _each(
        rows + preloaders, 1, lambda server, preload: weigh(server, plan, preload), "worker_unique"
    )
    cells = [["server", "version", "worker MB", "unique MB", "unique of all MB"]]
    for one in weighed:
        sizes = [_megabytes(one[key]) for key in ("worker_resident", "worker_unique", "all_unique")]
        cells.append([one["server"], one["version"], *sizes])
    lines += [
        "",
        f"memory of each of {SHARERS} workers of a weighty application, after a second of load",
        columns(cells, left=(0, 1)),
        *problems,
    ]
    return "\n".join(lines), {"boot": started, "memory": weighed}


def judge(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Whether cyhorn starts as fast as Gunicorn and its worker is as small, each way of starting."""
    figures = {one["server"]: one for one in found}
    judged = []
    for way in ("", " --preload"):
        mine, theirs = figures.get(f"cyhorn{way}"), figures.get(f"gunicorn{way}")
        if mine and theirs:
            for key, what in (
                ("boot_seconds", "boot to the first answer"),
                ("worker_resident", "resident memory of a worker"),
                ("worker_unique", "unique memory of a worker"),
            ):
                judged.append(verdict(f"{what}, cyhorn{way} / gunicorn{way}", mine[key] / theirs[key], 1.0))
    return judged
