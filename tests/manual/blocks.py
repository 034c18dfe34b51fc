"""The fenced blocks of the manual's pages, and what they are.

A block's language says how it is proved; `KINDS` lists them all, so that no block stands in the
manual which nothing looks at. A block whose first line is a comment with a file's name is that
file. Before a block may stand ``<!-- in: NAME -->``: blocks with one name share a folder, in the
order of the page; those without share the page's own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"

#: Language → how it is proved.
KINDS = {
    "console": "run as it stands, its output compared",
    "python": "written where it names its file; compiled in any case",
    "toml": "written where it names its file; parsed",
    "ini": "written where it names its file; parsed",
    "json": "written where it names its file; parsed",
    "sh": "its make targets and extras exist",
    "text": "a drawing, or what another test compares",
    "{toctree}": "Sphinx reads it",
    "{literalinclude}": "a file of the examples, which their tests run",
}

#: Pages whose consoles need what only `make apps` installs: tests/apps types them.
OF_APPS = frozenset({"bottle.md", "falcon.md", "pyramid.md"})

_FENCE = re.compile(
    r"(?m)^(?:<!-- in: (?P<name>[\w-]+) -->\n)?```(?P<kind>\S*)(?P<argument>[^\n]*)\n(?P<text>.*?)^```$", re.S
)
_FILE = re.compile(r"(?:#|//|;) (?P<file>[\w./-]+\.\w+)\n")


class Block(NamedTuple):
    """One block: where it stands, what it is, what it says. `folder` is the name it shares a folder by.

    `argument` is what a directive of Sphinx has behind its name.
    """

    page: str
    line: int
    kind: str
    argument: str
    folder: str
    text: str

    @property
    def file(self) -> str | None:
        """The name of the file that it is, if it says so."""
        found = _FILE.match(self.text)
        return found["file"] if found else None


def pages() -> list[Path]:
    """The README and the manual's pages. Decisions tell of the past: nobody types them."""
    return [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]


def blocks(page: Path) -> Iterator[Block]:
    """The blocks of `page`, in order."""
    text = page.read_text()
    for found in _FENCE.finditer(text):
        line = text.count("\n", 0, found.start()) + 1
        yield Block(
            page.name, line, found["kind"], found["argument"].strip(), found["name"] or "", found["text"]
        )


def stories(found: Iterable[Block]) -> list[tuple[str, str]]:
    """Page and folder of every console among the blocks `found`."""
    return sorted({(block.page, block.folder) for block in found if block.kind == "console"})
