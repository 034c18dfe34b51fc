"""Pauses that grow with failures in a row."""

from __future__ import annotations

import pytest

from cyhorn.process import backoff
from cyhorn.process.backoff import Backoff


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(backoff, "time", clock)
    return clock


def test_pauses_double_up_to_the_limit(clock: Clock) -> None:
    pauses = Backoff(first=0.1, limit=1.0)
    seen = []
    for _ in range(6):
        seen.append(pauses.fail())
        clock.now += seen[-1]
        assert pauses.remaining() == 0
    assert seen == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0, 1.0])


def test_a_failure_may_ask_for_less_of_a_pause(clock: Clock) -> None:
    pauses = Backoff(first=0.1, limit=30.0)
    seen = []
    for most in (0.5, 0.5, 0.5, 0.5, None):
        seen.append(pauses.fail(most))
        clock.now += seen[-1]
    assert seen == pytest.approx([0.1, 0.2, 0.4, 0.5, 1.0])


def test_failures_during_a_pause_are_one(clock: Clock) -> None:
    pauses = Backoff(first=1.0)
    assert pauses.fail() == 1.0
    clock.now += 0.25
    assert pauses.fail() == pytest.approx(0.75)
    clock.now += 0.75
    assert pauses.fail() == 2.0


def test_a_success_or_a_quiet_time_starts_anew(clock: Clock) -> None:
    pauses = Backoff(first=1.0, quiet=60)
    pauses.fail()
    assert pauses.active
    pauses.reset()
    assert not pauses.active and pauses.remaining() == 0
    pauses.fail()
    clock.now += 1 + 61
    assert pauses.fail() == 1.0
