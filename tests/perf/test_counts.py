"""The counting gates count what they say, and fail when it grows."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from perf import annotate, icount, lines, syscalls

PROFILE = """\
version: 1
events: Ir
fl=(1) a.c
fn=(1) turn
10 100
cfn=(2) PyObject_Malloc
calls=3 1
11 60
12 5
fn=(2)
1 50
cfn=(3) PyMem_RawMalloc
calls=1 1
2 10
fn=(3)
1 10
cfn=(1)
calls=1 1
3 999
totals: 165
"""


def test_a_profile_gives_instructions_allocations_and_what_each_function_took_itself(tmp_path: Path) -> None:
    path = tmp_path / "callgrind.out"
    path.write_text(PROFILE)
    profile = icount.read_profile(path)
    assert profile.instructions == 165
    assert profile.allocations == 3  # the inner door's call is the same allocation
    assert profile.functions == {"turn": 105, "PyObject_Malloc": 50, "PyMem_RawMalloc": 10}


COMMITTED = icount.Committed(instructions=1000.0, allocations=5.0)


@pytest.mark.parametrize(
    ("instructions", "allocations", "fails"),
    [(1000, 5, False), (1030, 5, False), (1031, 5, True), (1000, 5.1, True), (900, 4, False)],
)
def test_three_percent_more_instructions_or_any_more_allocation_fail(
    instructions: float, allocations: float, fails: bool
) -> None:
    figure = icount.Figure(instructions, allocations)
    assert icount.judge(figure, COMMITTED).isupper() == fails


def test_allocations_that_an_interpreter_does_not_show_are_said_to_be_not_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def callgrind(case: str, times: int, directory: Path, tree: Path | None = None) -> icount.Profile:
        return icount.Profile(1000 * times, 5 * times, Counter({"PyObject_Malloc": 7 * times}))

    monkeypatch.setattr(icount, "callgrind", callgrind)
    monkeypatch.setattr(icount, "build_clock", lambda: tmp_path)
    monkeypatch.setattr(icount.shutil, "which", lambda name: name)
    monkeypatch.setattr(icount, "count_accepted", lambda cases: {"small": COMMITTED})
    monkeypatch.setattr(icount, "toolchain", lambda: "one without symbols")
    assert icount.main(["--case", "small"]) == 0
    assert "allocations were not counted" in capsys.readouterr().out
    assert icount.judge(icount.Figure(1031.0, None), COMMITTED) == "MORE INSTRUCTIONS"


KEEP_ALIVE = syscalls.CASES["keep-alive"]


def test_one_recv_one_send_and_a_shared_wait_are_right() -> None:
    calls = {"recvfrom": 960, "sendto": 960, "epoll_wait": 60, "getppid": 1}
    assert syscalls.judge(KEEP_ALIVE, calls, 960, 0.5) == []


@pytest.mark.parametrize(
    "change",
    [
        {"recvfrom": 961},
        {"sendto": 1920},
        {"sendto": 0},
        {"epoll_wait": 1000},
        {"epoll_ctl": 960},
        {"setsockopt": 20},
    ],
)
def test_a_call_too_many_or_too_few_is_wrong(change: dict[str, int]) -> None:
    calls = {"recvfrom": 960, "sendto": 960, "epoll_wait": 60} | change
    assert syscalls.judge(KEEP_ALIVE, calls, 960, 0.5)


SOURCE = """\
cdef extern from "x.h":
    int outside(int a)

cdef class Reader:
    cdef int begin(self, int a,
                   int b) except -1:
        return a

    # a remark
    def read(self):
        return 1
    cdef int declared(self)

def free(x): return x
"""


def test_functions_are_found_with_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "_mod.pyx"
    path.write_text(SOURCE)
    found = {function.name: (function.first, function.last) for function in annotate.functions_of(path)}
    assert found == {
        "_mod.Reader.begin": (5, 7),
        "_mod.Reader.read": (10, 11),
        "_mod.free": (14, 14),
    }


LINES = """\
fl=(1) /build/_parser.c
fn=(1) feed
fe=(2) /build/cyhorn/_parser.pyx
100 10
+1 5
cfi=(3) /libc/memchr.S
cfn=(2) memchr
calls=1 7
* 400
-1 2
fi=(1)
9 1
"""


def test_a_line_costs_what_stands_in_it_without_what_it_calls(tmp_path: Path) -> None:
    path = tmp_path / "callgrind.out"
    path.write_text(LINES)
    assert lines.read_lines(path) == {
        ("_parser.pyx", 100): 12,
        ("_parser.pyx", 101): 5,
        ("_parser.c", 9): 1,
    }


def test_on_another_toolchain_the_accepted_commit_is_what_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = tmp_path / "icount.json"
    figures.write_text('{"another": {"small": {"instructions": 1, "allocations": 1}}}')
    monkeypatch.setattr(icount, "FIGURES", figures)
    monkeypatch.setattr(icount, "toolchain", lambda: "this one")
    monkeypatch.setattr(icount, "build_clock", lambda: tmp_path)
    monkeypatch.setattr(icount.shutil, "which", lambda name: name)
    monkeypatch.setattr(icount, "count_accepted", lambda cases: {"small": COMMITTED})
    counted = icount.Figure(1040.0, 5.0)
    monkeypatch.setattr(icount, "count_all", lambda cases, tree=None: {"small": counted})
    assert icount.main(["--case", "small"]) == 1
    assert "MORE INSTRUCTIONS" in capsys.readouterr().out
    counted = icount.Figure(1000.0, 5.0)
    assert icount.main(["--case", "small"]) == 0


def test_a_case_without_an_accepted_figure_fails() -> None:
    assert icount.judge(icount.Figure(1.0, 1.0), None).isupper()
