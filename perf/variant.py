"""What would it cost otherwise? Instructions and allocations of a variant of the tree beside its own.

    python -m perf.variant --replace cyhorn/_parser.pyx OLD NEW [--replace ...]
    python -m perf.variant --cflags "-O2 -fno-lto"
    python -m perf.variant --patch PATH

The tree is copied and edited, both are built here, and the cases of perf/icount are counted
on both. It tells what a check costs (leave it out) or a technique brings (leave it out).
A text that is not there exactly once is an error, so that no variant is the tree itself.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from perf import icount, trees
from perf.driver import CASES


def edit(where: Path, replacements: list[list[str]], patch: Path | None) -> None:
    """Change the tree in `where`. Exits when the change does not fit."""
    for name, old, new in replacements:
        path = where / name
        text = path.read_text()
        if text.count(old) != 1:
            sys.exit(f"{name} has this {text.count(old)} times, not once: {old}")
        path.write_text(text.replace(old, new))
    if patch:
        subprocess.run(["patch", "-p1", "--quiet", "-i", str(patch.resolve())], cwd=where, check=True)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m perf.variant", description=__doc__.partition("\n")[0])
    parser.add_argument("--replace", nargs=3, action="append", default=[], metavar=("FILE", "OLD", "NEW"))
    parser.add_argument("--patch", type=Path, metavar="PATH", help="as `git diff` writes it")
    parser.add_argument("--cflags", help="compiler flags, after those of the build")
    parser.add_argument("--case", default="small,browser,varied", metavar="A,B", help=", ".join(CASES))
    parser.add_argument("--keep", type=Path, metavar="DIRECTORY", help="leave the built variant there")
    options = parser.parse_args(arguments)
    cases = options.case.split(",")
    if unknown := [case for case in cases if case not in CASES]:
        sys.exit(f"no case {', '.join(unknown)}: there are {', '.join(CASES)}")
    icount.build_clock()
    with tempfile.TemporaryDirectory(prefix="cyhorn-variant-") as directory:
        where = options.keep or Path(directory)
        if options.keep:
            shutil.rmtree(where, ignore_errors=True)
            where.mkdir(parents=True)
        flags = bool(options.cflags or options.patch) or any(
            name == "setup.py" for name, *_ in options.replace
        )
        trees.copy(where, built=not flags)
        edit(where, options.replace, options.patch)
        trees.build(where, {"CFLAGS": options.cflags} if options.cflags else None)
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            mine = pool.map(icount.count, cases)
            others = pool.map(icount.count, cases, [where] * len(cases))
            found = list(zip(cases, mine, others, strict=True))
    print(f"  {'case':<14} {'tree':>9} {'variant':>9} {'differs':>9} {'allocations':>12} {'variant':>9}")
    for case, ours, other in found:
        more = other.instructions - ours.instructions
        print(
            f"  {case:<14} {ours.instructions:>9,.0f} {other.instructions:>9,.0f} {more:>+9,.0f}"
            f" {icount.words(ours.allocations):>12} {icount.words(other.allocations):>9}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
