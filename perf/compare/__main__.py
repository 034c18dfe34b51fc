"""``python -m perf.compare``: measure, print the tables, write the JSON. README.md explains them."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from perf import apps
from perf.compare import beside, boot, publish, report, rounds, scale, servers, threads, works

#: What is measured beside the works, each in its own way.
SECTIONS = ("idle", "slow", "scale", "threads", "boot")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m perf.compare", description=__doc__.partition(":")[0])
    names = ", ".join(servers.BY_NAME)
    parser.add_argument("--only", metavar="A,B", help=f"these servers (of {names})")
    parser.add_argument(
        "--work", metavar="A,B", help=f"these works (of {', '.join((*works.BY_NAME, *SECTIONS))})"
    )
    parser.add_argument("--rounds", type=int, help="rounds for each work (5)")
    parser.add_argument("--seconds", type=int, help="seconds for each run (2)")
    parser.add_argument("--connections", type=int, default=64, help="keep-alive connections (64)")
    parser.add_argument("--quick", action="store_true", help="two rounds of one second")
    parser.add_argument("--server-cpu", default="0", metavar="N,N", help="where the servers run (0)")
    parser.add_argument("--client-cpu", default="1", metavar="N,N", help="where the client runs (1)")
    parser.add_argument("--idle-connections", type=int, default=10000, metavar="N", help="of idle (10000)")
    parser.add_argument("--slow-readers", type=int, default=1000, metavar="N", help="of slow (1000)")
    parser.add_argument("--prepare", action="store_true", help="only install and build what is needed")
    parser.add_argument("--gate", action="store_true", help="exit with 1 when a target is missed")
    parser.add_argument("--json", type=Path, metavar="PATH", help="where the JSON goes (perf/results/)")
    parser.add_argument(
        "--publish", action="store_true", help="bring the figures into docs/performance.md and its plot"
    )
    options = parser.parse_args(arguments)
    options.rounds = options.rounds or (2 if options.quick else 5)
    options.seconds = options.seconds or (1 if options.quick else 2)
    return options


def choose(table: dict[str, Any], wanted: str | None, what: str) -> list[Any]:
    """The entries of `table` that `wanted` names, all without it; exits on a name that is not there."""
    if not wanted:
        return list(table.values())
    unknown = [name for name in wanted.split(",") if name not in table]
    if unknown:
        sys.exit(f"no {what} {', '.join(unknown)}: there are {', '.join(table)}")
    return [table[name] for name in wanted.split(",")]


def cpus(text: str) -> frozenset[int]:
    """The CPUs that `text` names, those of them that this process may use."""
    wanted = frozenset(int(part) for part in text.split(","))
    allowed = frozenset(os.sched_getaffinity(0))
    if not wanted <= allowed:
        rounds.say(f"CPU {text} is not to be had: all run on {sorted(allowed)}, and figures are rough")
        return allowed
    return wanted


def make_file(directory: Path) -> None:
    """The big file that `apps.file` sends, where the servers find it."""
    path = directory / "big"
    with path.open("wb") as out:
        for _ in range(works.FILE_SIZE // len(works.FILE_BLOCK)):
            out.write(works.FILE_BLOCK)
    os.environ[apps.FILE_VARIABLE] = str(path)


def prepare(chosen: list[servers.Server]) -> None:
    """Install what can be installed; say what cannot."""
    for server in chosen:
        try:
            server.prepare()
            rounds.say(f"  {server.name} {server.version()}")
        except servers.Unavailable as cause:
            rounds.say(f"  {server.name}: {cause}")


def measure_section(
    name: str, chosen: list[servers.Server], plan: rounds.Plan, options: argparse.Namespace
) -> dict[str, Any]:
    """Measure one of SECTIONS and print its table; returns what goes into the JSON."""
    rounds.say(f"{name}:")
    found: dict[str, Any]
    if name == "boot":
        table, found = boot.compare(chosen, plan, plan.rounds)
    elif name == "scale":
        table, scaled = scale.compare(chosen, plan)
        found = {"scale": scaled}
    elif name == "threads":
        table, threaded = threads.compare(chosen, plan)
        found = {"threads": threaded}
    else:
        crowd, count = {
            "idle": (beside.IDLE, options.idle_connections),
            "slow": (beside.SLOW, options.slow_readers),
        }[name]
        table, crowded = beside.compare(chosen, plan, crowd, count)
        found = {name: crowded}
    print(table, end="\n\n", flush=True)
    return found


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status: 1 when cyhorn did not run right, or, with --gate, missed a target."""
    options = parse(arguments)
    chosen = choose(servers.BY_NAME, options.only, "server")
    wanted = choose(works.BY_NAME | dict.fromkeys(SECTIONS), options.work, "work")
    names = options.work.split(",") if options.work else [*works.BY_NAME, *SECTIONS]
    if options.prepare:
        prepare(chosen)
        return 0
    began = time.monotonic()
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
    path = options.json or servers.RESULTS / f"compare-{stamp}.json"
    logs = servers.RESULTS / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    results: list[tuple[works.Work, list[rounds.Row]]] = []
    sections: dict[str, Any] = {}
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cyhorn-perf-")))
        plan = rounds.Plan(
            rounds=options.rounds,
            seconds=options.seconds,
            connections=options.connections,
            server_cpus=cpus(options.server_cpu),
            client_cpus=cpus(options.client_cpu),
            scratch=scratch,
            logs=logs,
        )
        # The reader works in this process.
        os.sched_setaffinity(0, plan.client_cpus)
        if any(work and work.reader for work in wanted):
            make_file(scratch)
        for name in names:
            if name in SECTIONS:
                sections |= measure_section(name, chosen, plan, options)
            else:
                work = works.BY_NAME[name]
                rounds.say(f"{work.title}:")
                rows = rounds.measure_work(work, chosen, plan)
                results.append((work, rows))
                print(report.table_of(work, rows, plan), end="\n\n", flush=True)
            # After each, so that a run that is broken off leaves what it has.
            document = report.as_json(results, plan) | sections
            document["minutes"] = round((time.monotonic() - began) / 60, 1)
            report.write(document, path)
    rounds.say(f"written to {path}")
    if options.publish:
        publish.publish(document)
    failed = any(row.server.ours and (row.problem or row.rejected) for _, rows in results for row in rows)
    failed |= any(
        "problem" in one
        for rows in sections.values()
        for one in rows
        if one["server"] in ("cyhorn", "cyhorn-pure")
    )
    missed = any(not item["met"] for work, rows in results for item in report.judge(work, rows))
    return 1 if failed or (options.gate and missed) else 0


if __name__ == "__main__":
    sys.exit(main())
