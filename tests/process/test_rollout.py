"""The arithmetic of a rolling reload, played through for all sizes."""

from __future__ import annotations

import itertools

import pytest

from cyhorn.process.rollout import Step, next_step


def play(old: int, target: int, concurrency: int) -> list[tuple[int, int, int]]:
    """Every (ready, booting, old) on the way, one booting worker becoming ready after each step."""
    ready = booting = 0
    states = [(ready, booting, old)]
    for _ in range(100):
        step = next_step(
            target=target, ready=ready, booting=booting, old=old, concurrency=concurrency, superseded=False
        )
        old -= step.retire
        booting += step.spawn
        states.append((ready, booting, old))
        if step.done:
            return states
        if booting:
            booting, ready = booting - 1, ready + 1
    raise AssertionError(f"never done: {states}")


@pytest.mark.parametrize(
    ("old", "target", "concurrency"), list(itertools.product(range(6), range(6), (0, 1, 2, 5)))
)
def test_a_rollout_ends_and_keeps_its_promises(old: int, target: int, concurrency: int) -> None:
    states = play(old, target, concurrency)
    assert states[-1] == (target, 0, 0)
    for ready, booting, left in states:
        if target:
            assert ready + left >= min(old, target)  # the capacity
            assert ready > 0 or left == old  # nobody leaves before one is ready
        if concurrency and left:
            assert booting <= concurrency


def test_a_superseded_rollout_boots_nobody_and_ends_when_none_is_booting() -> None:
    step = next_step(target=4, ready=1, booting=1, old=3, concurrency=2, superseded=True)
    assert step == Step(spawn=0, retire=0, done=False)
    step = next_step(target=4, ready=2, booting=0, old=3, concurrency=2, superseded=True)
    assert step == Step(spawn=0, retire=1, done=True)
