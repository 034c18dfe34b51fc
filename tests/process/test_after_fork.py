"""What is done in a forked worker for libraries that were loaded in the master."""

from __future__ import annotations

import multiprocessing.process
import multiprocessing.util
import os
import sys
from collections.abc import Callable
from types import ModuleType

import pytest

from cyhorn.process.after_fork import run_after_fork


class Said:
    """A log that keeps what is said in it."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def exception(self, message: str, *values: object) -> None:
        self.lines.append(message % values)


log = Said()


def in_child(question: Callable[[], object]) -> str:
    """What a forked child answers, after what is done there."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            run_after_fork(log)
            os.write(writer, str(question()).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader) as answer:
        said = answer.read()
    os.waitpid(pid, 0)
    return said


class Pool:
    """Has connections, which are of the process that opened it."""

    def __init__(self) -> None:
        self.resets = 0

    def reset(self) -> None:
        self.resets += 1


def test_what_is_registered_with_multiprocessing_is_called_in_the_child_only() -> None:
    pool = Pool()
    multiprocessing.util.register_after_fork(pool, Pool.reset)
    assert in_child(lambda: pool.resets) == "1"
    assert pool.resets == 0


def test_one_of_them_that_raises_does_not_keep_the_others_from_being_called() -> None:
    def fail(pool: Pool) -> None:
        raise RuntimeError("no")

    first, second = Pool(), Pool()
    multiprocessing.util.register_after_fork(first, fail)
    multiprocessing.util.register_after_fork(second, Pool.reset)
    assert in_child(lambda: second.resets) == "1"


def test_the_processes_of_the_master_are_not_the_workers() -> None:
    process = multiprocessing.get_context("fork").Process(target=sys.stdin.close, daemon=True)
    process.start()
    try:
        assert in_child(multiprocessing.active_children) == "[]"
    finally:
        process.join()


def test_billiard_has_a_registry_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    util, process = ModuleType("billiard.util"), ModuleType("billiard.process")
    util._run_after_forkers = lambda: calls.append("called")  # type: ignore[attr-defined]
    process._children = {"a process of the master"}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "billiard.util", util)
    monkeypatch.setitem(sys.modules, "billiard.process", process)
    assert in_child(lambda: (calls, process._children)) == "(['called'], set())"


def test_numpys_global_generator_is_seeded_anew_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[tuple[object, ...]] = []
    numpy = ModuleType("numpy.random")
    numpy.seed = lambda *seed: seeds.append(seed)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "numpy.random", numpy)
    assert in_child(lambda: seeds) == "[()]"


def test_a_library_that_fails_is_told_of_and_harms_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise RuntimeError("no entropy")

    numpy = ModuleType("numpy.random")
    numpy.seed = fail  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "numpy.random", numpy)
    assert in_child(lambda: log.lines) == "['What numpy does after a fork has failed']"


def test_modules_that_are_not_loaded_stay_so() -> None:
    before = set(sys.modules)
    assert in_child(lambda: set(sys.modules) - before) == "set()"
