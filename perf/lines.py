"""Instructions per request by line of source: what a check costs where it stands.

    python -m perf.lines [--case small,varied] [--file _parser.pyx] [--least 1]

A copy of the tree is built with line numbers (the code is the same) and counted as by
perf/icount. Each line is shown with its own instructions: functions that were not inlined
(memchr, the interpreter's) are not in them. Unlike a variant without the check, this does not
depend on what the compiler makes of the rest.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections import Counter
from pathlib import Path

from perf import icount, trees
from perf.driver import CASES, CYCLES

#: File's name and line → instructions.
Lines = Counter[tuple[str, int]]

_FILE = re.compile(r"(c?f[lie])=\((\d+)\)(?: (.*))?")


def read_lines(path: Path) -> Lines:
    """The own cost of each line in a callgrind file (valgrind manual, "Callgrind Format Specification")."""
    names: dict[str, str] = {}
    found: Lines = Counter()
    file, number, after_calls = "", 0, False
    for line in path.read_text().splitlines():
        if match := _FILE.fullmatch(line):
            kind, key, name = match.groups()
            if name:
                names[key] = name.rpartition("/")[2]
            if kind[0] != "c":
                file = names[key]
        elif line.startswith("calls="):
            after_calls = True
        elif line and (line[0].isdigit() or line[0] in "+-*"):
            # A position may be told as the distance to the last, or as the same.
            place, cost = line.split()[:2]
            number = number if place == "*" else number * (place[0] in "+-") + int(place)
            if not after_calls:
                found[file, number] += int(cost)
            after_calls = False
    return found


def build(where: Path) -> None:
    """Build a copy of the tree whose code knows its lines."""
    trees.copy(where)
    setup = where / "setup.py"
    text = setup.read_text()
    for old, new in (
        ("cythonize(some, force=stale,", "cythonize(some, force=stale, emit_linenums=True,"),
        ('compile_args.append("-O3")', 'compile_args += ["-O3", "-g"]'),
    ):
        if text.count(old) != 1:
            sys.exit(f"setup.py no longer has: {old}")
        text = text.replace(old, new)
    setup.write_text(text)
    trees.build(where)


def count(case: str, tree: Path) -> dict[tuple[str, int], float]:
    """Instructions per request of each line."""
    per = icount.TIMES * (CYCLES[case][2] if case in CYCLES else 1)
    with tempfile.TemporaryDirectory(prefix="perf-") as directory:
        seen = []
        for times in (icount.TIMES, 2 * icount.TIMES):
            icount.callgrind(case, times, Path(directory), tree)
            seen.append(read_lines(Path(directory) / f"{case}-{times}"))
    return {place: (cost - seen[0][place]) / per for place, cost in seen[1].items()}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m perf.lines", description=__doc__.partition("\n")[0])
    parser.add_argument("--case", default="small,varied", metavar="A,B", help=", ".join(CASES))
    parser.add_argument("--file", default="_parser.pyx", help="the source to show (_parser.pyx)")
    parser.add_argument(
        "--least", type=float, default=1.0, help="instructions below which a line is left out"
    )
    options = parser.parse_args(arguments)
    cases = options.case.split(",")
    if unknown := [case for case in cases if case not in CASES]:
        sys.exit(f"no case {', '.join(unknown)}: there are {', '.join(CASES)}")
    source = trees.ROOT / "cyhorn" / options.file
    if not source.exists():
        sys.exit(f"no cyhorn/{options.file}")
    icount.build_clock()
    with tempfile.TemporaryDirectory(prefix="cyhorn-lines-") as directory:
        build(Path(directory))
        found = [count(case, Path(directory)) for case in cases]
    text = source.read_text().splitlines()
    print(" ".join(f"{case:>9}" for case in cases), f"  {options.file}")
    for number, line in enumerate(text, 1):
        costs = [one.get((options.file, number), 0.0) for one in found]
        if max(costs) >= options.least:
            print(" ".join(f"{cost:>9.0f}" for cost in costs), f"{number:>6} {line[:100]}")
    sums = [sum(cost for (file, _), cost in one.items() if file == options.file) for one in found]
    print(" ".join(f"{cost:>9.0f}" for cost in sums), "  all lines of it")
    return 0


if __name__ == "__main__":
    sys.exit(main())
