"""The loop answers every case as it says, however its bytes are cut, and goes on behind it."""

from __future__ import annotations

from tests.wire.case import Case
from tests.wire.deliver import Loops, on_loop
from tests.wire.tls import TLSLoops, over_tls


def test_the_loop_answers_what_the_case_says_at_every_cut(case: Case, loops: Loops, thorough: bool) -> None:
    on_loop(case, loops, thorough=thorough)


def test_the_loop_answers_what_the_case_says_over_tls(tls_case: Case, tls_loops: TLSLoops) -> None:
    assert over_tls(tls_case, tls_loops) == 1
