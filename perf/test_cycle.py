"""What a request costs from the client's send to its recv, over a socket pair in one process."""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from perf.driver import CYCLES, Cycle


@pytest.mark.parametrize("case", CYCLES)
def test_cycle(benchmark: BenchmarkFixture, impl: str, case: str) -> None:
    application, make_requests, answers = CYCLES[case]
    requests = make_requests()
    with Cycle(impl, application) as cycle:
        length = benchmark(lambda: cycle.exchange(next(requests)))
        assert cycle.answer.count(b"HTTP/1.1 200 OK\r\n", 0, length) == answers
