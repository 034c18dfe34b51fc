"""The loop answers every case as it says, however its bytes are cut, and goes on behind it."""

from __future__ import annotations

from tests.wire.case import Case
from tests.wire.deliver import Loops, on_loop


def test_the_loop_answers_what_the_case_says_at_every_cut(case: Case, loops: Loops, thorough: bool) -> None:
    on_loop(case, loops, thorough=thorough)
