"""The wake-up pipe: a signal that comes ends a sleep, and never blocks or fails."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from cyhorn.errors import Stopped
from cyhorn.process.signals import Blocked, WakeupPipe, signal_name, stop_at_once


@pytest.fixture
def pipe() -> Iterator[WakeupPipe]:
    made = WakeupPipe()
    yield made
    made.close()


def test_a_signal_ends_the_sleep(pipe: WakeupPipe) -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: seen.append(number))
    try:
        pipe.install()
        os.kill(os.getpid(), signal.SIGUSR1)
        assert pipe.wait(10)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert seen == [signal.SIGUSR1]
    assert not pipe.wait(0)


def test_a_wake_up_from_a_thread_ends_the_sleep(pipe: WakeupPipe) -> None:
    threading.Timer(0.01, pipe.wakeup).start()
    assert pipe.wait(10)


def test_the_sleep_ends_when_its_time_is_over_and_not_before(pipe: WakeupPipe) -> None:
    begun = time.monotonic()
    assert not pipe.wait(0.02)
    assert time.monotonic() - begun >= 0.02


@pytest.mark.rule(25)
def test_a_full_pipe_loses_nothing_and_one_sleep_empties_it(pipe: WakeupPipe) -> None:
    for _ in range(100_000):
        pipe.wakeup()
    assert pipe.wait(10)
    assert not pipe.wait(0)


def test_a_closed_pipe_is_harmless() -> None:
    pipe = WakeupPipe()
    pipe.install()
    pipe.close()
    pipe.wakeup()
    assert signal.set_wakeup_fd(-1) == -1


def test_closing_leaves_another_pipe_installed(pipe: WakeupPipe) -> None:
    other = WakeupPipe()
    other.install()
    pipe.install()
    other.close()
    assert signal.set_wakeup_fd(-1) == pipe.write_fd


def test_blocked_signals_come_when_the_block_ends() -> None:
    seen: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: seen.append(number))
    try:
        with Blocked([signal.SIGUSR1]):
            signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)  # not to a thread that blocks nothing
            assert seen == []
        assert seen == [signal.SIGUSR1]
        with Blocked([signal.SIGUSR1]) as blocked:
            signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
            blocked.end()
            assert len(seen) == 2
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_signals_have_names() -> None:
    assert signal_name(signal.SIGKILL) == "SIGKILL"
    assert signal_name(250) == "signal 250"


def test_stopping_at_once_is_leaving_with_0() -> None:
    with pytest.raises(Stopped) as caught:
        stop_at_once(signal.SIGTERM, None)
    assert caught.value.code == 0
