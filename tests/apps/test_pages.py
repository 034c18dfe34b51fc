"""The manual's pages on frameworks that only `make apps` installs, typed as they stand."""

from __future__ import annotations

import pytest

from tests.manual.blocks import DOCS, OF_APPS, blocks, stories
from tests.manual.conftest import console, programs
from tests.manual.transcript import Console, tell

__all__ = ["console", "programs"]

FENCED = [block for page in sorted(OF_APPS) for block in blocks(DOCS / page)]


@pytest.mark.parametrize(("page", "folder"), stories(FENCED), ids=map("-".join, stories(FENCED)))
def test_what_a_page_types_prints_what_it_shows(page: str, folder: str, console: Console) -> None:
    tell(FENCED, page, folder, console)


def test_every_such_page_has_something_to_type() -> None:
    assert {page for page, _ in stories(FENCED)} == OF_APPS
