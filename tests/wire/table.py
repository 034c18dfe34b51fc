"""Deliver the whole corpus everywhere, and tell how much of it passed: by rule, place and side.

    python -m tests.wire.table [--write docs/http.md] [--thorough]

from the root of the repository, with the extension modules built. Prints the table, or puts it
between the marks in a file. Ends with status 1 when a case fails; the table then has no row for it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from tests.conftest import SIDES, Implementation
from tests.wire.case import Case, corpus
from tests.wire.deliver import Loops, on_loop, on_server
from tests.wire.parse import on_parser
from tests.wire.servers import Servers, by_group
from tests.wire.tls import TLSLoops, over_tls

PLACES = ("parser", "loop", "TLS", "server")
MARKS = ("<!-- table -->\n", "<!-- end of table -->")


def deliver(cases: Iterable[Case], *, thorough: bool = False) -> tuple[Counter[tuple[str, str]], list[str]]:
    """Deliver `cases` to every place of both sides: how many deliveries passed, by (folder, column),
    and what was wrong with the others."""
    counts: Counter[tuple[str, str]] = Counter()
    failures: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        for side in SIDES:
            folder = Path(name, side)
            folder.mkdir()
            impl = Implementation(side)
            ordered = by_group(cases)
            loops, servers = Loops(impl, folder), Servers(side, folder, ordered)
            tls_loops = TLSLoops(impl, folder)
            try:
                for case in ordered:
                    try:
                        passed = (
                            on_parser(case, impl, thorough=thorough),
                            on_loop(case, loops, thorough=thorough),
                            over_tls(case, tls_loops),
                            on_server(case, servers.addresses(case), thorough=thorough),
                        )
                    except AssertionError as error:
                        failures.append(str(error))
                        continue
                    for place, number in zip(PLACES, passed, strict=True):
                        counts[case.path.parent.name, f"{place}, {side}"] += number
            finally:
                loops.close()
                tls_loops.close()
                servers.close()
    return counts, failures


def table(cases: Iterable[Case], counts: Counter[tuple[str, str]]) -> str:
    """The table in Markdown."""
    columns = [f"{place}, {side}" for place in PLACES for side in SIDES]
    by_folder = Counter(case.path.parent.name for case in cases)
    rows = [["rule", "cases", *columns], ["---", *["--:"] * (len(columns) + 1)]]
    for folder, number in sorted(by_folder.items()):
        rows.append([folder, str(number), *(str(counts[folder, column]) for column in columns)])
    totals = [sum(counts[folder, column] for folder in by_folder) for column in columns]
    rows.append(["all", str(sum(by_folder.values())), *map(str, totals)])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def main() -> int:
    arguments = argparse.ArgumentParser(description="Deliver the corpus, and tell how much of it passed.")
    arguments.add_argument("--write", type=Path, help="put the table into this file")
    arguments.add_argument("--thorough", action="store_true", help="every delivery there is")
    options = arguments.parse_args()
    counts, failures = deliver(corpus(), thorough=options.thorough)
    for failure in failures:
        print(failure, file=sys.stderr)
    if failures:
        return 1
    text = table(corpus(), counts)
    if options.write is None:
        print(text, end="")
    else:
        before, _, rest = options.write.read_text().partition(MARKS[0])
        options.write.write_text(before + MARKS[0] + text + MARKS[1] + rest.partition(MARKS[1])[2])
    return 0


if __name__ == "__main__":
    sys.exit(main())
