"""Run the suites over extension modules built with AddressSanitizer and UndefinedBehaviorSanitizer.

    python -m fuzz.sanitize [--short | --thorough] [--sanitizers LIST] [pytest arguments]

from the root of a checkout, with gcc. The tree is copied into ``build/sanitize`` and built there, so that
the build in the tree stays what it is. A canary goes first: three mistakes in C, made on
purpose, have to be reported, or the run would prove nothing.

What counts is what the sanitizers write, not how the test run ends, for a report may come from a
child whose end nobody looks at. Every report fails the run but one kind: memory that something
else leaked. LeakSanitizer looks when an interpreter has been finalised, and CPython, pytest and
the compiler leave things behind; a leak is ours where a module of ours stands in the stack of its
allocation. It sees only what nothing points to any more: strings, bytes and buffers. Containers
stand on the collector's own lists, so that a lost reference to one is for
tests/loop/test_memory.py to find, which counts.
"""

from __future__ import annotations

import argparse
import itertools
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from fuzz import copies

COPY = copies.ROOT / "build" / "sanitize"

#: What runs compiled code on bytes of a client, without a server.
SUITES = (
    "tests/test_parser.py",
    "tests/test_parser_chunked.py",
    "tests/test_environ.py",
    "tests/test_writer.py",
    "tests/loop",
    "tests/twins",
    "tests/wire/test_parser_alone.py",
    "tests/wire/test_loop.py",
)
#: Those of them that go through each compiled module once.
SHORT_SUITES = SUITES[:5]
#: Real servers, whose workers run the same modules.
SERVER_SUITES = (
    "tests/wire/test_live.py",
    "tests/workers",
    "tests/integration/test_stop.py",
    "tests/integration/test_reload.py",
    "tests/integration/test_threads.py",
    "tests/integration/test_forensics.py",
)

CANARY = r"""
#include <stdlib.h>
#include <string.h>
static void *volatile lost;
__attribute__((visibility("default"))) int beyond(int size)
{
    volatile char *room = malloc(size);
    room[0] = 0;
    return room[size];
}
__attribute__((visibility("default"))) int overflow(int most) { return most + 1; }
__attribute__((visibility("default"))) void leak(int size)
{
    lost = malloc(size);
    lost = 0;
}
"""
#: Mistake → the words by which it is reported.
MISTAKES = {
    "beyond(10)": "heap-buffer-overflow",
    "overflow(2147483647)": "signed integer overflow",
    "leak(1000)": "leak of 1000 byte",
}


class Report(NamedTuple):
    """One thing that a sanitizer has said, in the words of its first line, and all of it."""

    headline: str
    text: str


_LEAK = re.compile(r"(?:Direct|Indirect) leak of ")
_BEGINS = re.compile(r"^(?:==\d+==ERROR: |(?:Direct|Indirect) leak of |.*: runtime error: )", re.MULTILINE)


def reports(text: str, ours: str) -> Iterator[Report]:
    """The reports in the `text` of a log, less leaks whose stack matches no file like `ours` (a pattern)."""
    starts = [match.start() for match in _BEGINS.finditer(text)]
    for start, end in itertools.pairwise([*starts, len(text)]):
        part = text[start:end].split("\nSUMMARY: ")[0].rstrip()
        headline = part.split("\n", 1)[0]
        if headline.endswith("detected memory leaks"):
            continue  # the title of those that follow
        if _LEAK.match(headline) and not re.search(ours, part):
            continue
        yield Report(headline, part)


def read_reports(folder: Path, ours: str) -> list[Report]:
    """All reports in the logs in `folder`."""
    return [
        report
        for log in sorted(folder.iterdir())
        for report in reports(log.read_text(errors="replace"), ours)
    ]


def sanitized_environ(tree: Path) -> dict[str, str]:
    """The environment for interpreters that load sanitized modules of `tree` and report into ``tree/log``."""
    compiler = sysconfig.get_config_var("CC").split()[0]
    libraries = []
    for name in ("libasan.so", "libubsan.so"):
        asked = subprocess.run([compiler, f"-print-file-name={name}"], capture_output=True, text=True)
        if not os.path.isabs(path := asked.stdout.strip()):
            sys.exit(f"{compiler} has no {name}: sanitized modules need gcc and its libraries")
        libraries.append(path)
    log = tree / "log"
    shutil.rmtree(log, ignore_errors=True)
    log.mkdir(parents=True)
    # Of two such libraries in one process, only the first heeds log_path; the other would write to a
    # stderr that tests capture. It is told by the interpreter, by its own copy of the function.
    (tree / "sitecustomize.py").write_text(
        f"import ctypes\nctypes.CDLL({libraries[1]!r}).__sanitizer_set_report_path(b'{log}/ubsan')\n"
    )
    return {
        **os.environ,
        "PYTHONPATH": str(tree),
        # The interpreter is not instrumented: the run-time libraries have to be there before it allocates.
        "LD_PRELOAD": ":".join(libraries),
        # Blocks of pymalloc would be one block to the sanitizer.
        "PYTHONMALLOC": "malloc",
        "ASAN_OPTIONS": f"log_path={log}/asan:detect_leaks=1:detect_stack_use_after_return=1"
        ":strict_string_checks=1:allocator_may_return_null=1",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        # The logs tell; an exit status that is not the program's own would fail tests for others' leaks.
        "LSAN_OPTIONS": "exitcode=0:print_suppressions=0",
    }


def unreported(folder: Path, flags: dict[str, list[str]]) -> list[str]:
    """Those of MISTAKES, in code compiled with `flags`, that go unnoticed."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "canary.c").write_text(CANARY)
    library = folder / "canary.so"
    compiler = sysconfig.get_config_var("CC").split()
    options = [*flags["extra_compile_args"], *flags["extra_link_args"], "-fPIC", "-shared"]
    subprocess.run([*compiler, *options, str(folder / "canary.c"), "-o", str(library)], check=True)
    missed = []
    for call, words in MISTAKES.items():
        environ = sanitized_environ(folder)
        code = f"import ctypes; ctypes.PyDLL({str(library)!r}).{call}"
        subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True)
        if not any(words in report.headline for report in read_reports(folder / "log", r"canary\.c")):
            missed.append(call)
    return missed


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m fuzz.sanitize", description=__doc__.split("\n")[0])
    parser.add_argument("--sanitizers", default="1", help="for CYHORN_SANITIZE (default address,undefined)")
    parser.add_argument("--short", action="store_true", help="without twins and wire corpus")
    parser.add_argument("--thorough", action="store_true", help="real servers too, and every delivery")
    options, rest = parser.parse_known_args()

    os.environ["CYHORN_SANITIZE"] = options.sanitizers
    from tests.conftest import build_script  # what it says depends on the variable

    missed = unreported(COPY.with_name("sanitize-canary"), build_script().flags())
    if missed:
        print(f"the sanitizers do not report {', '.join(missed)}: nothing is proved here", file=sys.stderr)
        return 1
    copies.build(COPY)

    environ = sanitized_environ(COPY)
    suites = [*SUITES, *SERVER_SUITES, "--thorough"] if options.thorough else list(SUITES)
    if options.short:
        suites = list(SHORT_SUITES)
    if any(not word.startswith("-") and (COPY / word.split("::")[0]).exists() for word in rest):
        suites = []
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--impl", "compiled"]
    done = subprocess.run([*command, *suites, *rest], cwd=COPY, env=environ)

    found = read_reports(COPY / "log", re.escape(str(COPY / "cyhorn")) + "/_")
    for report in found:
        print(f"\n{report.text}", file=sys.stderr)
    print(f"{len(found)} reports of the sanitizers")
    return done.returncode or bool(found)


if __name__ == "__main__":
    sys.exit(main())
