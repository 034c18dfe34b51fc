"""What the manual shows is so: each block is run, written, parsed or looked up as it stands."""

from __future__ import annotations

import configparser
import json
import re
import sys

import pytest

from tests.conftest import sides
from tests.manual.blocks import DOCS, KINDS, OF_APPS, ROOT, Block, blocks, pages, stories
from tests.manual.transcript import Console, tell

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FENCED = [block for page in pages() for block in blocks(page)]
STORIES = [story for story in stories(FENCED) if story[0] not in OF_APPS]


def shows_compiled(page: str, folder: str) -> bool:
    """Whether a story shows the compiled side at work."""
    return any("compiled" in block.text for block in FENCED if (block.page, block.folder) == (page, folder))


def story_name(story: tuple[str, str]) -> str:
    """Page and folder; which stories run compiled code is for the guard against a stale build to see."""
    return "-".join([*filter(None, story), *["compiled"] * shows_compiled(*story)])



@pytest.mark.parametrize(("page", "folder"), STORIES, ids=map(story_name, STORIES))
def test_what_a_page_types_prints_what_it_shows(
    page: str, folder: str, console: Console, pytestconfig: pytest.Config
) -> None:
    if shows_compiled(page, folder) and "compiled" not in sides(pytestconfig):
        pytest.skip("it shows the compiled side")
    tell(FENCED, page, folder, console)


@pytest.mark.parametrize("block", FENCED, ids=lambda block: f"{block.page}:{block.line}")
def test_a_block_is_of_a_kind_that_is_proved(block: Block) -> None:
    assert block.kind in KINDS, f"{block.page}:{block.line}: what proves a block of {block.kind!r}?"
    if block.kind == "python":
        compile(block.text, f"{block.page}:{block.line}", "exec")
    elif block.kind == "toml":
        tomllib.loads(block.text)
    elif block.kind == "json":
        json.loads(block.text)
    elif block.kind == "ini":
        configparser.ConfigParser(strict=False, interpolation=None).read_string(block.text)
    elif block.kind == "sh":
        prove_shell(block)
    elif block.kind == "{literalinclude}":
        assert (DOCS / block.argument).is_file()


def prove_shell(block: Block) -> None:
    """Commands that other tests run, and that name what there is."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    targets = set(re.findall(r"(?m)^([a-z]+):", (ROOT / "Makefile").read_text()))
    for line in block.text.splitlines():
        command = line.partition("#")[0].split()
        if command[:1] == ["make"]:
            assert command[1] in targets, line
        elif command[:2] == ["pip", "install"]:
            for extra in re.findall(r"\[(\w+)\]", line):
                assert extra in project["optional-dependencies"], line
        else:
            raise AssertionError(f"{block.page}:{block.line}: nothing proves {line!r}")


def test_there_are_consoles_to_type() -> None:
    assert len(STORIES) > 5
