"""Every link of the documents leads somewhere in the tree: a file that is there, a heading that it has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.manual.blocks import DOCS, ROOT

DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md")), *sorted((ROOT / "examples").rglob("*.md"))]
DOCUMENTS = [path for path in DOCUMENTS if "_build" not in path.parts]


def anchors(page: Path) -> set[str]:
    """The anchors of the headings of `page`, as GitHub and myst make them."""
    headings = re.findall(r"(?m)^#{1,4} (.+)$", page.read_text())
    plain = [re.sub(r"[^\w\- ]", "", heading.lower().replace("`", "")) for heading in headings]
    return {heading.strip().replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    text = re.sub(r"(?ms)^```.*?^```$|`[^`\n]+`", "", page.read_text())
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
            broken.append(target)
    assert broken == []


def test_every_page_of_the_manual_is_in_its_contents() -> None:
    contents = re.findall(r"(?m)^([\w/*-]+)$", (DOCS / "index.md").read_text())
    listed = {path for name in contents for path in DOCS.glob(f"{name}.md")}
    assert {path.name for path in DOCS.glob("*.md")} - {path.name for path in listed} == {"index.md"}
