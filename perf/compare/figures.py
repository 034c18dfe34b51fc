"""What is kept of a run: perf/figures.json, small enough to be committed.

`condense` makes it from the JSON that `python -m perf.compare` writes. docs/performance.md
and its picture are made from it and from nothing else (page.py, plot.py).
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from perf.compare import beside, boot, scale, threads
from perf.compare.servers import ROOT

PATH = ROOT / "perf" / "figures.json"

#: What is kept as it was measured, beside the works.
SECTIONS = ("idle", "slow", "scale", "threads", "boot", "memory")

#: One server at one work, one work, one run: as JSON.
Server = dict[str, Any]
Work = dict[str, Any]
Run = dict[str, Any]

#: A bound, what was measured, whether it holds: as report.judge makes them.
Judged = dict[str, Any]


def _condense_server(server: Server) -> Server:
    """Medians and the range of its rounds; or why there are none."""
    kept: Server = {"version": server["version"]}
    if server["notes"]:
        kept["notes"] = server["notes"]
    if not server["runs"]:
        return kept | {"problem": server["problem"]}
    for key in ("total_us", "user_us", "system_us", "p99_us"):
        kept[key] = round(statistics.median(run[key] for run in server["runs"]), 3)
    kept["least_us"] = min(run["total_us"] for run in server["runs"])
    kept["most_us"] = max(run["total_us"] for run in server["runs"])
    kept["requests_per_second"] = round(
        statistics.median(run["requests"] / run["seconds"] for run in server["runs"])
    )
    kept["of_reference"] = server["of_reference"]
    kept["start_bytes"], kept["peak_bytes"] = server["start_bytes"], server["peak_bytes"]
    return kept


def condense(document: Run) -> Run:
    """The figures of a run."""
    foreign = [
        run["foreign"]
        for work in document["works"].values()
        for server in work["servers"].values()
        for run in server["runs"]
    ]
    kept = {key: document[key] for key in ("machine", "taken", "minutes", "rounds", "seconds", "connections")}
    kept["foreign"] = round(statistics.mean(foreign), 3) if foreign else 0.0
    kept["works"] = {
        name: {
            "title": work["title"],
            "targets": work["targets"],
            "servers": {label: _condense_server(server) for label, server in work["servers"].items()},
        }
        for name, work in document["works"].items()
    }
    return kept | {key: document[key] for key in SECTIONS if key in document}


def judged(figures: Run) -> list[tuple[str, Judged]]:
    """Every target that this run can judge, with the title of its work."""
    found = [(work["title"], item) for work in figures["works"].values() for item in work["targets"]]
    for crowd in (beside.IDLE, beside.SLOW):
        found += [(f"{crowd.title}", item) for item in beside.judge(crowd, figures.get(crowd.name, []))]
    found += [("several workers", item) for item in scale.judge(figures.get("scale", []))]
    found += [("threads", item) for item in threads.judge(figures.get("threads", []))]
    found += [("start and memory", item) for item in boot.judge(figures.get("boot", []))]
    return found


def read(path: Path = PATH) -> Run:
    """The committed figures."""
    figures: Run = json.loads(path.read_text())
    return figures


def _text(value: Any, depth: int, indent: str = "") -> str:
    """JSON with a line for each value down to `depth`, so that a change of figures can be read."""
    if not depth or not isinstance(value, dict | list) or not value:
        return json.dumps(value, ensure_ascii=False)
    inner = indent + " "
    if isinstance(value, dict):
        lines = [f"{json.dumps(key)}: {_text(one, depth - 1, inner)}" for key, one in value.items()]
    else:
        lines = [_text(one, depth - 1, inner) for one in value]
    joined = f",\n{inner}".join(lines)
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return f"{opening}\n{inner}{joined}\n{indent}{closing}"


def write(figures: Run, path: Path = PATH) -> None:
    """Write them, one server a line."""
    path.write_text(_text(figures, 4) + "\n")
