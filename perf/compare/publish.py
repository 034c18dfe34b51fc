"""``python -m perf.compare.publish [JSON]``: bring a run into the documents.

Writes perf/figures.json from the JSON of a run (by default the newest of perf/results),
and from the figures the tables of docs/performance.md and docs/performance.svg.
`--check` writes nothing: it fails when page or picture are not those of the figures.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from perf.compare import figures, page, plot
from perf.compare.servers import RESULTS


def stale() -> list[Path]:
    """The documents that are not what the committed figures make of them."""
    known = figures.read()
    made = {page.PAGE: page.filled(page.PAGE.read_text(), known), plot.PICTURE: plot.draw(known)}
    return [path for path, text in made.items() if not path.exists() or path.read_text() != text]


def publish(document: figures.Run) -> None:
    """Write figures, page and picture."""
    figures.write(figures.condense(document))
    render()


def render() -> None:
    """Write page and picture from the figures that are kept."""
    known = figures.read()
    page.PAGE.write_text(page.filled(page.PAGE.read_text(), known))
    plot.PICTURE.write_text(plot.draw(known))


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit status: with --check, 1 when a document is stale."""
    parser = argparse.ArgumentParser(
        prog="python -m perf.compare.publish", description="Bring a run into the documents."
    )
    parser.add_argument("run", nargs="?", type=Path, metavar="JSON", help="the newest of perf/results")
    parser.add_argument("--check", action="store_true", help="only say whether the documents are up to date")
    parser.add_argument("--render", action="store_true", help="from perf/figures.json, without a new run")
    options = parser.parse_args(arguments)
    if options.check:
        if paths := stale():
            print(f"not made from perf/figures.json: {', '.join(path.name for path in paths)}")
            print("python -m perf.compare.publish --render makes them anew")
        return 1 if paths else 0
    if options.render:
        render()
        return 0
    if not (run := options.run or max(RESULTS.glob("compare-*.json"), default=None)):
        sys.exit("no run is there to publish: python -m perf.compare makes one")
    publish(json.loads(run.read_text()))
    print(f"published {run.name}: perf/figures.json, {page.PAGE.name}, {plot.PICTURE.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
