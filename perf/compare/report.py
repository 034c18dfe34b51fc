"""From runs to figures: the ratios, the judgement of the targets, the tables, the JSON."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from perf.compare import check
from perf.compare.rounds import Plan, Row, Run
from perf.compare.servers import ROOT
from perf.compare.works import Work

GUNICORN_SYNC = ("gunicorn", "gunicorn-h1c")


def ratio(row: Row, base: Row) -> float:
    """The median of the ratios inside each round; of the medians where rounds were rejected."""
    if len(row.runs) == len(base.runs):
        pairs = zip(row.runs, base.runs, strict=True)
        return statistics.median(mine.total_us / theirs.total_us for mine, theirs in pairs)
    return row.median(lambda run: run.total_us) / base.median(lambda run: run.total_us)


def difference(row: Row, base: Row) -> float:
    """The median of the differences inside each round, in µs."""
    pairs = zip(row.runs, base.runs, strict=False)
    return statistics.median(mine.total_us - theirs.total_us for mine, theirs in pairs)


def find(rows: Sequence[Row], name: str, logging: bool = False) -> Row | None:
    """The row of this server, when it has runs."""
    for row in rows:
        if row.server.name == name and row.logging == logging and row.runs:
            return row
    return None


def rate(run: Run) -> float:
    """Requests per second."""
    return run.requests / run.seconds


def whole_peers(rows: Sequence[Row]) -> list[Row]:
    """The peers that do the whole work."""
    return [
        row
        for row in rows
        if row.runs
        and not (row.server.ours or row.server.reference)
        and not check.LESS.intersection(row.notes)
    ]


def best_peer(rows: Sequence[Row]) -> Row | None:
    """The cheapest of them."""
    return min(whole_peers(rows), key=lambda row: row.median(lambda run: run.total_us), default=None)


def verdict(what: str, measured: float, bound: float) -> dict[str, Any]:
    """One target as JSON."""
    return {"target": what, "measured": round(measured, 4), "bound": bound, "met": measured <= bound}


def shown(item: dict[str, Any]) -> str:
    """One target as a line below a table."""
    met = "met" if item["met"] else "MISSED"
    return f"  target: {item['target']} ≤ {item['bound']:.2f}: {item['measured']:.2f}, {met}"


def judge(work: Work, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The targets of `work`: what was promised, what was measured, whether it holds."""
    target = work.target
    judged: list[dict[str, Any]] = []

    def add(what: str, measured: float, bound: float) -> None:
        judged.append(verdict(what, measured, bound))

    ours, reference, peer = find(rows, "cyhorn"), find(rows, "reference"), best_peer(rows)
    if ours and reference and target.of_reference:
        add("cyhorn / reference", ratio(ours, reference), target.of_reference)
    if ours and peer and target.of_best_peer:
        add(f"cyhorn / best peer ({peer.server.name})", ratio(ours, peer), target.of_best_peer)
    if ours and target.user_us:
        add("cyhorn's user time, µs", ours.median(lambda run: run.user_us), target.user_us)
    logged = find(rows, "cyhorn", logging=True)
    if ours and logged and target.log_us:
        add("the access log adds, µs", difference(logged, ours), target.log_us)
    for mine in (ours, find(rows, "cyhorn-pure")):
        if mine and target.growth is not None:
            grown = mine.peak_bytes - mine.start_bytes
            add(f"{mine.server.name} grows by, MB", grown / 2**20, target.growth / 2**20)
    pure = find(rows, "cyhorn-pure")
    for name in GUNICORN_SYNC:
        sync = find(rows, name)
        if pure and sync and target.pure_of_gunicorn:
            add(f"cyhorn-pure / {name}", ratio(pure, sync), target.pure_of_gunicorn)
    return judged


def weighs(work: Work) -> bool:
    """Whether the memory that the work takes is part of the result."""
    return work.transfers or work.name == "large"


# -- tables -----------------------------------------------------------------------------------


def columns(table: list[list[str]], left: Sequence[int]) -> str:
    """Cells in columns; those numbered in `left` are left-aligned, the others right-aligned."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for cells in table:
        parts = [
            cell.ljust(width) if number in left else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        lines.append("  " + "  ".join(parts).rstrip())
    return "\n".join(lines)


def table_of(work: Work, rows: Sequence[Row], plan: Plan) -> str:
    """The table of one work, the cheapest server first."""
    connections = work.connections or plan.connections
    title = f"{work.title}  [{work.name}; connections: {connections}; rounds: {plan.rounds}]"
    cells = [
        ["server", "version", "µs/request", "user", "system", "x ref", "range", "requests/s", "p99 ms", ""]
    ]
    reference = find(rows, "reference")
    ran = [row for row in rows if row.runs]
    for row in sorted(ran, key=lambda row: row.median(lambda run: run.total_us)):
        totals = [run.total_us for run in row.runs]
        remarks = list(row.notes)
        if row.rejected:
            remarks.append(f"{len(row.rejected)} runs rejected")
        if weighs(work):
            grown = (row.peak_bytes - row.start_bytes) / 2**20
            remarks.append(f"peak {row.peak_bytes / 2**20:.0f} MB, grown by {grown:.1f}")
        cells.append(
            [
                row.label,
                row.version,
                f"{statistics.median(totals):.2f}",
                f"{row.median(lambda run: run.user_us):.2f}",
                f"{row.median(lambda run: run.system_us):.2f}",
                f"{ratio(row, reference):.2f}" if reference else "",
                f"{min(totals):.2f}-{max(totals):.2f}",
                f"{row.median(rate):,.0f}",
                f"{row.median(lambda run: run.p99_us) / 1000:.2f}" if work.per_write == 1 else "",
                "; ".join(remarks),
            ]
        )
    lines = [title, columns(cells, left=(0, 1, 9))]
    lines += [f"  {row.label}: {row.problem}" for row in rows if row.problem]
    lines += map(shown, judge(work, rows))
    foreign = [run.foreign for row in ran for run in row.runs]
    if foreign and max(foreign) > 0.05:
        mean = statistics.mean(foreign)
        lines.append(
            f"  others used {mean:.0%} (at most {max(foreign):.0%}) of the servers' CPU: figures are rough"
        )
    return "\n".join(lines)


# -- JSON -------------------------------------------------------------------------------------


def machine() -> dict[str, Any]:
    """Where the figures were taken."""
    model = ""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    revision = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    return {
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "cpu": model,
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "revision": revision,
    }


def _run(run: Run) -> dict[str, float]:
    return {
        "requests": run.requests,
        "seconds": round(run.seconds, 3),
        "user_us": round(run.user_us, 3),
        "system_us": round(run.system_us, 3),
        "total_us": round(run.total_us, 3),
        "p50_us": run.p50_us,
        "p99_us": run.p99_us,
        "foreign": round(run.foreign, 4),
    }


def _shown(command: Sequence[str]) -> str:
    """The command without the directories of this machine."""
    return " ".join(part.rpartition("/")[2] if part.startswith("/") else part for part in command)


def as_json(results: Sequence[tuple[Work, Sequence[Row]]], plan: Plan) -> dict[str, Any]:
    """Everything that was measured."""
    document: dict[str, Any] = {
        "machine": machine(),
        "taken": time.strftime("%Y-%m-%d", time.gmtime()),
        "rounds": plan.rounds,
        "seconds": plan.seconds,
        "connections": plan.connections,
        "works": {},
    }
    for work, rows in results:
        reference = find(rows, "reference")
        document["works"][work.name] = {
            "title": work.title,
            "targets": judge(work, rows),
            "servers": {
                row.label: {
                    "version": row.version,
                    "command": _shown(row.command),
                    "problem": row.problem,
                    "notes": row.notes,
                    "rejected": row.rejected,
                    "boot_seconds": round(row.boot_seconds, 3),
                    "start_bytes": row.start_bytes,
                    "peak_bytes": row.peak_bytes,
                    "of_reference": round(ratio(row, reference), 3) if row.runs and reference else None,
                    "runs": [_run(run) for run in row.runs],
                }
                for row in rows
            },
        }
    return document


def write(document: dict[str, Any], path: Path) -> None:
    """Write the JSON, making its directory."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
