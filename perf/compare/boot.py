"""From exec to the first answer, and the memory of a worker that has served a little."""

from __future__ import annotations

import statistics
from typing import Any

from perf.compare import check, load, works
from perf.compare.process import Running, free_port, memory_of, processes_of
from perf.compare.report import columns
from perf.compare.rounds import Plan, say
from perf.compare.servers import Server, Start, Unavailable


def measure(server: Server, plan: Plan, preload: bool = False) -> tuple[float, int, int, int]:
    """Seconds to the first answer; resident and unique bytes of the worker; resident bytes of all."""
    server.prepare()
    start = Start("perf.apps:hello", free_port(), preload=preload)
    with Running(server, start, plan.server_cpus, plan.logs / f"boot-{server.name}.txt") as running:
        seconds = running.wait_until_ready()
        load.run_wrk(works.BY_NAME["browser"], start.port, plan.connections, 1, plan.client_cpus)
        worker = memory_of(running.worker())
        every = sum(memory_of(pid).resident for pid, _ in processes_of(running.session))
        return seconds, worker.resident, worker.unique, every


def compare(chosen: list[Server], plan: Plan, times: int) -> tuple[str, list[dict[str, Any]]]:
    """The table and the figures; each server is started `times` times, in turn.

    Those that can have their master load the application are started that way, too.
    """
    rows = [(server.name, server, False) for server in chosen]
    rows += [(f"{server.name} --preload", server, True) for server in chosen if server.preloads]
    seen: dict[str, list[tuple[float, int, int, int]]] = {name: [] for name, _, _ in rows}
    problems: dict[str, str] = {}
    for number in range(times):
        for name, server, preload in rows:
            if name in problems:
                continue
            try:
                seen[name].append(measure(server, plan, preload))
            except (Unavailable, check.Wrong, OSError) as cause:
                problems[name] = str(cause)
                continue
            say(f"  {number + 1}/{times} {name}: {seen[name][-1][0] * 1000:.0f} ms")
    cells = [["server", "version", "boot ms", "least", "worker MB", "unique MB", "all MB"]]
    found = []
    for name, server, _ in rows:
        if not (starts := seen[name]):
            continue
        boot, resident, unique, every = (statistics.median(column) for column in zip(*starts, strict=True))
        least = min(start[0] for start in starts)
        found.append(
            {
                "server": name,
                "version": server.version(),
                "boot_seconds": boot,
                "boot_seconds_least": least,
                "worker_resident": resident,
                "worker_unique": unique,
                "all_resident": every,
            }
        )
        milliseconds = [f"{seconds * 1000:.0f}" for seconds in (boot, least)]
        megabytes = [f"{size / 2**20:.1f}" for size in (resident, unique, every)]
        cells.append([name, server.version(), *milliseconds, *megabytes])
    title = f"boot to the first answer, {times} times; memory after a second of load"
    lines = [title, columns(cells, left=(0, 1))]
    lines += [f"  {name}: {problem}" for name, problem in problems.items()]
    return "\n".join(lines), found
