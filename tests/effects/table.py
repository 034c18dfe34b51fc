"""docs/effects.md, written from the tests of this directory: every setting, what is seen of it, by which test.

    python -m tests.effects.table --write docs/effects.md

runs the tests and writes the page with what came of each; it ends with 1 when one has failed. In a run of the whole
suite `test_table.py` compares the committed page with what the tests say, so that page and tests cannot part.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from cyhorn.config.settings import SECTIONS, SETTINGS
from tests.effects.shows import Effect

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]

PASSED, FAILED, SKIPPED = "pass", "**FAIL**", "skipped"

HEAD = """\
# What settings do

<!-- Written by `python -m tests.effects.table --write docs/effects.md` from the tests in tests/effects.
     Change a test, then write this page anew. -->

Each setting has a test that starts a real server with it and looks at it from outside: at the bytes of an answer, at
processes and their titles, at files and sockets, at the log. Not at whether the value was read. What a setting means is
in [settings](settings.md).

*Both* are tests of the request loop, which run on the compiled and on the pure-Python side.
"""


class Shown(NamedTuple):
    """An effect and the test that shows it. `test` is FILE::FUNCTION; `both` says that it runs on each side."""

    effect: Effect
    test: str
    both: bool


def modules() -> Iterator[Any]:
    """The test modules of this directory, in order of their names."""
    for path in sorted(FOLDER.glob("test_*.py")):
        if path.stem != "test_table":
            yield importlib.import_module(f"tests.effects.{path.stem}")


def tests() -> Iterator[tuple[str, Callable[..., Any]]]:
    """FILE::FUNCTION and the function of every test that is to show an effect."""
    for module in modules():
        for name, function in vars(module).items():
            if name.startswith("test_") and callable(function):
                yield f"{module.__name__.rpartition('.')[2]}.py::{name}", function


def shown() -> list[Shown]:
    """What all tests show."""
    found = []
    for test, function in tests():
        both = "side" in _fixtures(function)
        found += [Shown(effect, test, both) for effect in getattr(function, "effects", ())]
    return found


def _fixtures(function: Callable[..., Any]) -> set[str]:
    """The fixtures that a test asks for, itself or through fixtures of its module."""
    wanted = set(function.__code__.co_varnames[: function.__code__.co_argcount])
    module = sys.modules[function.__module__]
    while True:
        more = set(wanted)
        for name in wanted:
            inner = getattr(getattr(module, name, None), "_get_wrapped_function", lambda: None)()
            if inner is not None:
                more |= set(inner.__code__.co_varnames[: inner.__code__.co_argcount])
        if more == wanted:
            return wanted
        wanted = more


def page(outcomes: Mapping[str, str]) -> str:
    """The whole page. `outcomes` says what came of a test; of one that it does not name, that it passed."""
    parts = [HEAD]
    by_setting: dict[str, list[Shown]] = {}
    for each in shown():
        by_setting.setdefault(each.effect.setting, []).append(each)
    for section in SECTIONS:
        parts.append(f"## {section}\n\n| setting | what is seen | test | result |\n|---|---|---|---|")
        for row in SETTINGS.values():
            if row.section == section:
                parts += [_line(each, outcomes) for each in by_setting.get(row.name, ())]
        parts.append("")
    return "\n".join(parts)


def _line(each: Shown, outcomes: Mapping[str, str]) -> str:
    file, _, name = each.test.partition("::")
    words = each.effect.words.replace("|", "\\|")
    result = outcomes.get(each.test, PASSED) + (", both" if each.both else "")
    return f"| `{each.effect.setting}` | {words} | [{name}](../tests/effects/{file}) | {result} |"


class Outcomes:
    """A plugin of pytest that keeps what comes of each test; one that runs several times passes if it always does."""

    def __init__(self) -> None:
        self.of: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        test = report.nodeid.rpartition("/")[2].partition("[")[0]
        if report.failed:
            self.of[test] = FAILED
        elif report.skipped and self.of.get(test) != FAILED:
            self.of[test] = SKIPPED


def main() -> int:
    parser = argparse.ArgumentParser(description="run the effect tests and write the page about them")
    parser.add_argument("--write", metavar="FILE", help="where to; standard output without it")
    options = parser.parse_args()
    outcomes = Outcomes()
    status = pytest.main(["-q", str(FOLDER), f"--ignore={FOLDER / 'test_table.py'}"], plugins=[outcomes])
    text = page(outcomes.of)
    if options.write:
        Path(options.write).write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)
    return int(status)


if __name__ == "__main__":
    raise SystemExit(main())
