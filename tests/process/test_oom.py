"""Out of memory is said only when the kernel's counter moved."""

from __future__ import annotations

from pathlib import Path

import pytest

from cyhorn.process import oom
from cyhorn.process.oom import OomCounter


@pytest.fixture
def events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "memory.events"
    file.write_text("low 0\nhigh 3\noom 1\noom_kill 2\noom_group_kill 0\n")
    monkeypatch.setattr(oom, "_counter_file", lambda: str(file))
    return file


def test_a_counter_that_stands_still_is_no_sign(events: Path) -> None:
    counter = OomCounter()
    assert not counter.moved()
    events.write_text("oom 9\noom_kill 2\n")
    assert not counter.moved()


def test_a_counter_that_moves_is_told_once(events: Path) -> None:
    counter = OomCounter()
    events.write_text("oom 1\noom_kill 3\n")
    assert counter.moved()
    assert not counter.moved()


def test_a_counter_that_cannot_be_read_says_nothing(events: Path) -> None:
    counter = OomCounter()
    events.unlink()
    assert not counter.moved()
    events.write_text("oom_kill many\n")
    assert not counter.moved()


def test_this_machine_has_a_counter_or_none() -> None:
    path = oom._counter_file()
    assert path is None or any(line.startswith("oom_kill ") for line in Path(path).read_text().splitlines())
