"""Is the tree slower than a base commit? Both are built and timed here, in turns.

    python -m perf.regression [--base REVISION] [--tolerance 0.25]

The base is unpacked into a temporary directory and built with the interpreter that runs
this; the cases of the tree (``perf/test_*.py``) then time base, tree, base, tree ... Per
case the best time of each side counts, so that what else the machine does cancels out. A
case that seems slower by more than the tolerance is timed again, up to as many turns more,
before it fails the run. What is smaller than that is perf/icount's to find: it counts.

Without ``--base`` the base is the last commit that is four hours older
than HEAD: what was there before the work that HEAD ends. A history without such a commit, and
a base that has nothing to time, does not build here or has the same package, is no failure:
it is said, and that is all.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Collection
from pathlib import Path

from perf import trees
from perf.trees import ROOT, git

FOUR_HOURS = 4 * 3600

#: How long a case is timed in one turn.
CASE_SECONDS = 0.15
#: What a side may take for all its cases in one turn, however busy the machine, in seconds.
TURN_SECONDS = 300
#: What the speed of the package depends on.
PACKAGE = ("cyhorn", "setup.py")

#: Case → best time of one call, in seconds.
Times = dict[str, float]


def find_base() -> str | None:
    """The commit to compare with, or None when the history has none."""
    made = int(git("log", "-1", "--format=%ct"))
    return git("rev-list", "-1", "--first-parent", f"--before={made - FOUR_HOURS}", "HEAD") or None


def same_package(revision: str) -> bool:
    """Whether the package of `revision` is that of the tree, with what is not committed."""
    command = ["git", "diff", "--quiet", revision, "--", *PACKAGE]
    return subprocess.run(command, cwd=ROOT).returncode == 0


def build(tree: Path) -> str:
    """Build the package in `tree`. Returns why there is nothing to time, or an empty text."""
    if not list(tree.glob("cyhorn/*.pyx")):
        return "has no compiled module"
    try:
        trees.build(tree)
    except subprocess.CalledProcessError:
        return "does not build here"
    return ""


def measure(tree: Path, arguments: list[str]) -> Times:
    """Run the cases against the package in `tree`. Of the base, a case that it cannot run is left out."""
    with tempfile.TemporaryDirectory() as directory:
        answer = Path(directory) / "times.json"
        command = [sys.executable, "-m", "pytest", "perf", "-q", "-p", "no:cacheprovider"]
        command += ["--benchmark-enable", "--benchmark-only", "--benchmark-disable-gc"]
        command += [f"--benchmark-max-time={CASE_SECONDS}"]
        try:
            done = subprocess.run(
                [*command, f"--benchmark-json={answer}", *arguments],
                cwd=tree,
                env={**os.environ, "PYTHONPATH": str(tree)},
                capture_output=True,
                text=True,
                timeout=TURN_SECONDS,
            )
        except subprocess.TimeoutExpired:
            if tree == ROOT:
                raise
            return {}
        if not answer.exists() or not answer.stat().st_size:
            if tree == ROOT:
                sys.exit(done.stdout + done.stderr)
            return {}
        if tree == ROOT and done.returncode:
            sys.exit(done.stdout + done.stderr)
        cases = json.loads(answer.read_text())["benchmarks"]
    return {case["fullname"]: case["stats"]["min"] for case in cases}


def best(known: Times, new: Times) -> Times:
    return {case: min(known.get(case, math.inf), new.get(case, math.inf)) for case in known | new}


def report(base: Times, head: Times, slow: Collection[str], tolerance: float) -> None:
    """Print a line for each case that both sides have run, and what follows from them."""
    both = sorted(base.keys() & head.keys())
    if not both:
        print("the base runs none of the cases: nothing to compare with")
        return
    names = {case: case.removeprefix("perf/test_").replace(".py::test_", ": ") for case in both}
    width = max(map(len, names.values()))
    print(f"\n{'case':<{width}} {'base µs':>9} {'tree µs':>9} {'tree/base':>10}")
    for case in both:
        mark = "  SLOWER" if case in slow else ""
        times = f"{base[case] * 1e6:>9.2f} {head[case] * 1e6:>9.2f}"
        print(f"{names[case]:<{width}} {times} {head[case] / base[case]:>10.2f}{mark}")
    mean = math.exp(sum(math.log(head[case] / base[case]) for case in both) / len(both))
    print(f"\n{len(both)} cases, geometric mean {mean:.3f}; {len(head) - len(both)} cases are new")
    if slow:
        listed = ", ".join(names[case] for case in sorted(slow))
        print(f"slower than the base by more than {tolerance:.0%}: {listed}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m perf.regression", description=__doc__.split("\n")[0])
    parser.add_argument("--base", help="the commit to compare with")
    parser.add_argument("--rounds", type=int, default=3, help="turns of base and tree (default 3)")
    parser.add_argument("--tolerance", type=float, default=0.25, help="what a case may lose (default 0.25)")
    parser.add_argument("--always", action="store_true", help="compare with the same package, too")
    parser.add_argument("pytest", nargs="*", help="arguments for pytest, after --")
    options = parser.parse_args()

    base_revision = options.base or find_base()
    if base_revision is None:
        print("no commit is four hours older than HEAD: nothing to compare with")
        return 0
    print(f"base: {git('log', '-1', '--format=%h %s', base_revision)}", flush=True)
    if not options.always and same_package(base_revision):
        print("the package is the same: nothing to compare")
        return 0
    with tempfile.TemporaryDirectory(prefix="cyhorn-base-") as directory:
        tree = Path(directory)
        trees.unpack(base_revision, tree)
        if why := build(tree):
            print(f"the base {why}\nnothing to compare with")
            return 0
        base: Times = {}
        head: Times = {}
        slow: list[str] = []
        for turn in range(2 * options.rounds):
            base = best(base, measure(tree, options.pytest))
            head = best(head, measure(ROOT, options.pytest))
            slow = [
                case
                for case in base.keys() & head.keys()
                if head[case] > base[case] * (1 + options.tolerance)
            ]
            if turn + 1 >= options.rounds and not slow:
                break

    report(base, head, slow, options.tolerance)
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
