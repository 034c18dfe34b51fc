"""Compare the twins of the parser and of the chunked decoder on mutated messages, whole and cut at random.

    python -m fuzz.fuzz_parser [--seconds N] [--seed N]

from the root of the repository, with the extension modules built. Ends with status 1 and
the case, ready to be pasted into a test, when two outcomes differ. The compiled side reads
at the end of guarded memory: a read beyond what it was given ends the process by a signal,
and faulthandler says where.
"""

from __future__ import annotations

import argparse
import faulthandler
import sys
import time
from random import Random, SystemRandom
from types import SimpleNamespace
from typing import Any

from cyhorn import _chunked, _chunked_py, _parser, _parser_py
from fuzz import mutation
from fuzz.guard import GuardedMemory
from tests.twins import harness

COMPILED = SimpleNamespace(name="compiled", parser=_parser, chunked=_chunked)
PYTHON = SimpleNamespace(name="python", parser=_parser_py, chunked=_chunked_py)

_guarded = GuardedMemory().place


def compare(name: str, data: bytes, pieces: tuple[int, ...], options: dict[str, Any]) -> str | None:
    """Let `name` of the harness read `data` on both sides, whole and cut; the words for a difference."""
    read = getattr(harness, name)
    expected = read(PYTHON, data, (), options)
    for side, at, place in (
        (COMPILED, (), _guarded),
        (COMPILED, pieces, harness.among_others),
        (COMPILED, range(len(data)), _guarded),
        (PYTHON, pieces, harness.among_others),
    ):
        outcome = read(side, data, at, options, place)
        if outcome != expected:
            return (
                f"{name}({side.name}, {data!r}, {at!r}, {options!r})\n"
                f"  gives {outcome!r}\n  and whole in Python {expected!r}"
            )
    return None


def check(random: Random) -> str | None:
    """Try one case; the words for it when it fails."""
    if random.random() < 0.75:
        name, data, options = (
            "read_head",
            mutation.mutate(random, mutation.HEADS),
            mutation.head_options(random),
        )
    else:
        name, data, options = (
            "decode_body",
            mutation.mutate(random, mutation.BODIES),
            mutation.body_options(random),
        )
    return compare(name, data, mutation.cuts(random, len(data)), options)


def main() -> int:
    arguments = argparse.ArgumentParser(description="Compare the twins of the parser.")
    arguments.add_argument("--seconds", type=float, default=60.0, help="how long to run")
    arguments.add_argument("--seed", type=int, default=SystemRandom().getrandbits(32))
    options = arguments.parse_args()
    faulthandler.enable()
    random = Random(options.seed)
    deadline = time.monotonic() + options.seconds
    cases = 0
    while time.monotonic() < deadline:
        for _ in range(100):
            cases += 1
            failure = check(random)
            if failure is not None:
                print(f"seed {options.seed}, case {cases}:\n{failure}", file=sys.stderr)
                return 1
    print(f"{cases} cases, seed {options.seed}: the twins agree")
    return 0


if __name__ == "__main__":
    sys.exit(main())
