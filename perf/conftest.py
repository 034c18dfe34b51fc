"""What the micro-benchmarks share. Each case runs on both sides; one that is not built is an error."""

from __future__ import annotations

import pytest

from perf.driver import IMPLS


@pytest.fixture(params=IMPLS)
def impl(request: pytest.FixtureRequest) -> str:
    """The side that is timed."""
    side: str = request.param
    return side
