"""The guard of a stuck worker: it is killed when its master has been gone for the grace."""

from __future__ import annotations

import os
import signal
import time

import pytest

from cyhorn.process import orphan


@pytest.mark.parametrize("helper", [False, True], ids=["alone", "with-a-helper"])
def test_a_stuck_process_is_killed_after_its_grace(helper: bool) -> None:
    """With a helper that keeps the pipe's write end open, the pipe alone would never tell."""
    if helper and not hasattr(os, "pidfd_open"):
        pytest.skip("this system has no descriptors of processes")
    told, tell = os.pipe()
    master = os.fork()
    if master == 0:
        read, write = os.pipe()
        master = os.getpid()
        if helper and os.fork() == 0:
            os.close(tell)
            time.sleep(20)
            os._exit(0)
        if os.fork() == 0:
            os.close(write)
            orphan.guard(read, master, 0.2)
            os.write(tell, b"%d\n" % os.getpid())
            time.sleep(60)
            os._exit(0)
        os.close(tell)
        signal.pause()
    os.close(tell)
    with open(told, "rb") as pipe:
        worker = int(pipe.readline())
        begun = time.monotonic()
        os.kill(master, signal.SIGKILL)
        os.waitpid(master, 0)
        assert pipe.read() == b""  # the end of the worker, which held the other end
        assert 0.15 < time.monotonic() - begun < 5
    with pytest.raises(ProcessLookupError):
        for _ in range(500):
            os.kill(worker, 0)
            time.sleep(0.01)
