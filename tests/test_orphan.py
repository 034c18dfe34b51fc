"""The guard of a stuck worker: it is killed when its master has been gone for the grace."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

PATIENCE = 20.0


def hold_the_interpreter() -> None:
    """Be in C, and let nobody else run Python."""
    while True:
        ctypes.PyDLL(None).sleep(60)  # a signal ends it


def compute() -> None:
    while True:
        pass


def sleep() -> None:
    time.sleep(60)


STUCK: dict[str, Callable[[], None]] = {"sleeping": sleep, "computing": compute, "in C": hold_the_interpreter}


def guarded(impl: Any, stuck: Callable[[], None], grace: float, helper: bool = False) -> tuple[int, int, int]:
    """A master and its stuck worker, guarded: their pids, and a pipe that ends with the worker.

    With `helper` another child of the master keeps the write end of the parent pipe, which then never tells.
    """
    told, tell = os.pipe()
    master = os.fork()
    if master == 0:
        try:
            read, write = os.pipe()
            master = os.getpid()
            if helper and os.fork() == 0:
                os.close(tell)
                sleep()
            if os.fork() == 0:
                os.close(write)
                impl.orphan.guard(read, master, grace)
                os.write(tell, b"%d\n" % os.getpid())
                stuck()
            os.close(tell)
            signal.pause()
        finally:
            os._exit(1)
    os.close(tell)
    line = b""
    while not line.endswith(b"\n"):
        line += os.read(told, 1)
    return master, int(line), told


def ends(told: int, within: float) -> bool:
    """Whether the process that holds the other end of `told` ends in time."""
    import select

    return bool(select.select([told], [], [], within)[0]) and os.read(told, 1) == b""


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


@pytest.mark.parametrize("helper", [False, True], ids=["alone", "with-a-helper"])
@pytest.mark.parametrize("stuck", STUCK)
def test_a_stuck_process_is_killed_after_its_grace(impl: Any, stuck: str, helper: bool) -> None:
    if helper and not hasattr(os, "pidfd_open"):
        pytest.skip("this system has no descriptors of processes")
    master, worker, told = guarded(impl, STUCK[stuck], 0.3, helper)
    begun = time.monotonic()
    kill(master)
    if stuck == "in C" and impl.name == "python":
        # A thread cannot run there; that is why there is another guard.
        assert not ends(told, 1)
        os.kill(worker, signal.SIGKILL)
    assert ends(told, PATIENCE)
    assert time.monotonic() - begun > 0.25
    os.close(told)


def test_a_grace_may_be_longer_than_the_clock_counts(impl: Any) -> None:
    master, worker, told = guarded(impl, sleep, 1e10)
    kill(master)
    assert not ends(told, 0.6)
    os.kill(worker, signal.SIGKILL)
    assert ends(told, PATIENCE)
    os.close(told)


def test_a_process_with_a_living_master_is_left_alone(impl: Any) -> None:
    master, worker, told = guarded(impl, sleep, 0.1)
    assert not ends(told, 0.6)
    os.kill(worker, signal.SIGKILL)
    assert ends(told, PATIENCE)
    kill(master)
    os.close(told)


def test_a_master_that_is_gone_before_the_guard_is_set_counts(impl: Any) -> None:
    told, tell = os.pipe()
    worker = os.fork()
    if worker == 0:
        try:
            impl.orphan.guard(os.pipe()[0], os.getppid() + 1, 0.2)
            sleep()
        finally:
            os._exit(1)
    os.close(tell)
    assert ends(told, PATIENCE)
    assert os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]) == -signal.SIGKILL
    os.close(told)


def test_what_a_worker_starts_is_not_guarded(impl: Any) -> None:
    """A child of the application may be meant to outlive it."""
    told, tell = os.pipe()

    def start_a_child() -> None:
        if os.fork():
            sleep()
        os.write(tell, b"%d\n" % os.getpid())
        sleep()

    master, _, gone = guarded(impl, start_a_child, 0.1)
    child = int(os.read(told, 20))
    kill(master)
    os.close(tell)
    assert not ends(told, 0.6)
    os.kill(child, signal.SIGKILL)
    assert ends(told, PATIENCE)
    assert ends(gone, PATIENCE)
    os.close(told)
    os.close(gone)


def test_the_compiled_guard_needs_no_thread(impl: Any) -> None:
    told, tell = os.pipe()
    worker = os.fork()
    if worker == 0:
        try:
            impl.orphan.guard(os.pipe()[0], os.getppid(), 60)
            os.write(tell, b"%d" % len(os.listdir("/proc/self/task")))
        finally:
            os._exit(0)
    os.close(tell)
    assert int(os.read(told, 10)) == (1 if impl.name == "compiled" else 2)
    os.waitpid(worker, 0)
    os.close(told)
