"""Fixtures: a console in which the manual's pages are typed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.manual.transcript import Console, install


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the commands that the manual types."""
    folder = tmp_path_factory.mktemp("programs")
    install(folder)
    return folder


@pytest.fixture
def console(tmp_path: Path, programs: Path) -> Iterator[Console]:
    folder = tmp_path / "here"
    folder.mkdir()
    opened = Console(folder, programs)
    yield opened
    opened.close()
