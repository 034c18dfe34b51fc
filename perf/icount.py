"""Instructions and allocations per request, counted by callgrind: exact, and the same every time.

    python -m perf.icount [--case A,B] [--update] [--functions N] [--rooms]

Each case of perf/driver runs on the compiled side under valgrind, once N and once 2 N
times; the difference, divided by N, is the cost of one request without start-up and
first-time work. Only what happens inside the function that is measured is collected, so
the client's side of the socket pair is not counted; the kernel's work is invisible to
valgrind. Hashes and the clock are fixed (reference/clock.c).

The figures are compared with those committed in perf/icount.json: more instructions than
TOLERANCE over them, or any more allocations, fail. As they depend on the interpreter, the
C compiler and Cython, they are kept by toolchain. On one that has none, the commit that
last changed the file (whose counts were accepted) is built and counted here instead.
An interpreter without symbols for its inner functions (Debian's own) does not show when it
asks for memory: allocations are neither counted nor judged there.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

from perf import trees
from perf.trees import ROOT

FIGURES = ROOT / "perf" / "icount.json"
CACHE = ROOT / "perf" / ".venv"
CLOCK_SOURCE = ROOT / "perf" / "reference" / "clock.c"

#: How much a count may grow before it fails, in parts of it.
TOLERANCE = 0.03
#: How much an allocation count may differ: it is exact but for what happens every so many requests.
ALLOCATION_SLACK = 0.02
#: Runs of a case: N, and twice that.
TIMES = 200

#: What is measured, by the case's first word: the C function inside which is counted.
INSIDE = {
    "parse": "__pyx_pw_6cyhorn_7_parser_13RequestParser_*parse",
    "cycle": "__pyx_f_6cyhorn_5_loop_4Loop_one_turn",
}
#: The doors through which memory is asked for. A call from one to another is the same
#: allocation, seen again one door on; what the interpreter's free lists give is none.
ALLOCATORS = frozenset(
    f"{domain}{verb}"
    for domain in ("PyObject_", "PyMem_", "PyMem_Raw")
    for verb in ("Malloc", "Calloc", "Realloc")
) | {"malloc", "calloc", "realloc"}
#: Behind the doors of an interpreter that has its symbols: seen in every case, as each allocates.
_INNER_DOOR = "_PyObject_Malloc"
#: Callers that are doors themselves, or the linker's stubs on the way from one.
_DOOR = re.compile(r"_?Py(Object|Mem)_\w*(Malloc|Calloc|Realloc)|malloc|calloc|realloc|0x[0-9a-f]+")

#: Where instructions are spent; a function belongs to the first room whose pattern its name begins with.
ROOMS = {
    "parser": r"__pyx_\w*7_parser_",
    "environ": r"__pyx_\w*8_environ_",
    "writer": r"__pyx_\w*7_writer_",
    "access log": r"__pyx_\w*7_access_",
    "loop, connection, request cycle": r"__pyx_|__Pyx_|0x",
    "dictionaries": r"_?PyDict|dict|_Py_dict|insertdict|unicodekeys|(clone|free|new)_\w*keys|find_empty_slot",
    "memory": r"_?Py(Object|Mem)_|_Py_NewReference|PyType_GenericAlloc|(m|c|re)alloc|free$|_?int_[mf]|_?mem_",
    "application and interpreter": r"_?Py|initialize_locals|\w+_(dealloc|extend|vectorcall|hash|richcompare)",
    "C library, entry of system calls, GIL": r"",
}


class Committed(TypedDict):
    """What of a figure is kept."""

    instructions: float
    allocations: float | None


@dataclass
class Profile:
    """What callgrind counted in one run."""

    instructions: int = 0
    allocations: int = 0
    functions: Counter[str] = field(default_factory=Counter)  # own instructions, by function


@dataclass(frozen=True)
class Figure:
    """The cost of one request."""

    instructions: float
    allocations: float | None  # None: the interpreter does not show them
    functions: dict[str, float] = field(default_factory=dict)


def toolchain() -> str:
    """What the counts depend on besides the source: this very build of Python, compiler, Cython."""
    compiler = subprocess.run(
        [*(os.environ.get("CC") or "cc").split(), "-dumpfullversion"], capture_output=True, text=True
    ).stdout.strip()
    made = " ".join(platform.python_build()[1].split())
    return (
        f"{sysconfig.get_config_var('SOABI')} {platform.python_version()} ({made})"
        f" cc-{compiler} Cython-{importlib.metadata.version('cython')}"
    )


def build_clock() -> Path:
    """Compile the clock, unless it is there; the name follows the source, so it is never stale."""
    key = hashlib.sha256(CLOCK_SOURCE.read_bytes()).hexdigest()[:8]
    library = CACHE / f"clock-{key}.so"
    if not library.exists():
        library.parent.mkdir(parents=True, exist_ok=True)
        compiler = (os.environ.get("CC") or "cc").split()
        command = [*compiler, "-O2", "-shared", "-fPIC", "-o", str(library), str(CLOCK_SOURCE)]
        subprocess.run(command, check=True)
    return library


_NAME = re.compile(r"\((\d+)\)(?: (.*))?")


def read_profile(path: Path) -> Profile:
    """Read a callgrind file (valgrind manual, "Callgrind Format Specification")."""
    profile = Profile()
    names: dict[str, str] = {}

    def name_of(text: str) -> str:
        number, given = _NAME.fullmatch(text).groups()  # type: ignore[union-attr]
        if given:
            # callgrind tells instances of a function apart by a suffix that is not of the name.
            names[number] = given.partition("'")[0]
        return names[number]

    inside = callee = ""
    after_calls = False
    for line in path.read_text().splitlines():
        if line.startswith("fn="):
            inside = name_of(line[3:])
        elif line.startswith("cfn="):
            callee = name_of(line[4:])
        elif line.startswith("calls="):
            if callee in ALLOCATORS and not _DOOR.fullmatch(inside):
                profile.allocations += int(line[6:].split()[0])
            after_calls = True
        elif line.startswith(("totals:", "summary:")):
            profile.instructions = int(line.partition(":")[2].split()[0])
        elif line and (line[0].isdigit() or line[0] in "+-*"):
            # The line after calls= is the callee's inclusive cost, not the function's own.
            if not after_calls:
                profile.functions[inside] += int(line.split()[-1])
            after_calls = False
    return profile


def callgrind(case: str, times: int, directory: Path, tree: Path = ROOT) -> Profile:
    """Run one case under callgrind, on the build in `tree`."""
    out = directory / f"{case}-{times}"
    inside = INSIDE["parse" if case.startswith("parse-") else "cycle"]
    command = [
        "valgrind",
        "--quiet",
        "--tool=callgrind",
        f"--callgrind-out-file={out}",
        f"--toggle-collect={inside}",
        "--collect-jumps=no",
        sys.executable,
        "-m",
        "perf.driver",
        case,
        str(times),
    ]
    environment = os.environ | {
        "PYTHONHASHSEED": "0",
        "LD_PRELOAD": str(build_clock()),
        "CYHORN_IMPL": "compiled",
        "PYTHONPATH": str(tree),
    }
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{case}: {done.stderr.strip()[-2000:]}")
    profile = read_profile(out)
    if not profile.instructions:
        sys.exit(f"{case}: nothing was counted: is there no function {inside}?")
    return profile


def count(case: str, tree: Path = ROOT) -> Figure:
    """The cost of one request: the difference between N and 2 N of them, divided by N."""
    from perf.driver import CYCLES

    answers = CYCLES[case][2] if case in CYCLES else 1
    with tempfile.TemporaryDirectory(prefix="perf-") as directory:
        once = callgrind(case, TIMES, Path(directory), tree)
        twice = callgrind(case, 2 * TIMES, Path(directory), tree)
    per = TIMES * answers
    shown = _INNER_DOOR in twice.functions
    return Figure(
        round((twice.instructions - once.instructions) / per, 1),
        round((twice.allocations - once.allocations) / per, 2) if shown else None,
        {
            name: (own - once.functions[name]) / per
            for name, own in twice.functions.most_common()
            if own > once.functions[name]
        },
    )


def count_all(cases: list[str], tree: Path = ROOT) -> dict[str, Figure]:
    """Count the cases on the build in `tree`."""
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return dict(zip(cases, pool.map(count, cases, [tree] * len(cases)), strict=True))


def count_accepted(cases: list[str]) -> dict[str, Committed]:
    """The counts of the commit whose figures were accepted, built and counted here."""
    revision = trees.last_change(FIGURES)
    print(f"no figures are committed for this toolchain: counting {revision[:10]}, too", flush=True)
    with tempfile.TemporaryDirectory(prefix="cyhorn-base-") as directory:
        tree = Path(directory)
        trees.unpack(revision, tree)
        trees.build(tree)
        return {case: committed_form(figure) for case, figure in count_all(cases, tree).items()}


def committed_form(figure: Figure) -> Committed:
    """What of `figure` is kept."""
    return {"instructions": figure.instructions, "allocations": figure.allocations}


def words(allocations: float | None) -> str:
    """The number as the table shows it."""
    return "-" if allocations is None else f"{allocations:.2f}"


def by_room(figure: Figure) -> dict[str, float]:
    """Own instructions per request by room, in the order of ROOMS."""
    spent = dict.fromkeys(ROOMS, 0.0)
    for name, own in figure.functions.items():
        spent[next(room for room, pattern in ROOMS.items() if re.match(pattern, name))] += own
    return spent


def judge(figure: Figure, committed: Committed | None) -> str:
    """What to say of the case; words in capitals are failures."""
    if committed is None:
        return "NOT COMMITTED"
    if figure.instructions > committed["instructions"] * (1 + TOLERANCE):
        return "MORE INSTRUCTIONS"
    asked, accepted = figure.allocations, committed["allocations"]
    if asked is not None and accepted is not None and asked > accepted + ALLOCATION_SLACK:
        return "MORE ALLOCATIONS"
    if figure.instructions < committed["instructions"] * (1 - TOLERANCE):
        return "better: commit it with --update"
    return "as committed"


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status: 1 when a count grew."""
    from perf.driver import CASES

    parser = argparse.ArgumentParser(prog="python -m perf.icount", description=__doc__.partition("\n")[0])
    parser.add_argument("--case", metavar="A,B", help=f"these cases (of {', '.join(CASES)})")
    parser.add_argument("--update", action="store_true", help="write the counts to perf/icount.json")
    parser.add_argument(
        "--functions", type=int, default=0, metavar="N", help="show the N costliest functions"
    )
    parser.add_argument("--rooms", action="store_true", help="show where they are spent")
    parser.add_argument("--base", action="store_true", help="count the accepted commit here in any case")
    options = parser.parse_args(arguments)
    cases = options.case.split(",") if options.case else list(CASES)
    if unknown := [case for case in cases if case not in CASES]:
        sys.exit(f"no case {', '.join(unknown)}: there are {', '.join(CASES)}")
    if not shutil.which("valgrind"):
        sys.exit("valgrind is not installed (Debian: apt-get install valgrind)")
    build_clock()

    figures = count_all(cases)
    every = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    here = toolchain()
    committed = every.get(here, {})
    print(f"instructions and allocations per request ({here})")
    if options.base or not (committed or options.update):
        committed = count_accepted(cases)
    print(f"  {'case':<14} {'instructions':>12} {'accepted':>10} {'allocations':>11} {'accepted':>10}")
    failed = []
    for case, figure in figures.items():
        known = committed.get(case)
        verdict = judge(figure, known)
        if verdict.isupper():
            failed.append(case)
        was = (f"{known['instructions']:,.0f}", words(known["allocations"])) if known else ("", "")
        print(
            f"  {case:<14} {figure.instructions:>12,.0f} {was[0]:>10}"
            f" {words(figure.allocations):>11} {was[1]:>10}  {verdict}"
        )
        costliest = sorted(figure.functions.items(), key=lambda item: -item[1])[: options.functions]
        for name, own in costliest:
            print(f"      {own:>8.0f} {own / figure.instructions:>5.1%}  {name}")
        for room, own in by_room(figure).items() if options.rooms else ():
            print(f"      {own:>8.0f} {own / figure.instructions:>5.1%}  {room}")
    if options.update:
        every[here] = committed | {case: committed_form(figure) for case, figure in figures.items()}
        FIGURES.write_text(json.dumps(every, indent=1, sort_keys=True) + "\n")
        print(f"written to {FIGURES.relative_to(ROOT)}")
        return 0
    if any(figure.allocations is None for figure in figures.values()):
        print("this interpreter has no symbols for its inner functions: allocations were not counted")
    if failed:
        print(f"FAILED: {', '.join(failed)} (when the growth is right: --update, and say why in the commit)")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
