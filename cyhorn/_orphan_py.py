"""No worker outlives its master by more than its grace, even when it is stuck.

A worker's loop notices the end of its master by itself: the parent pipe, whose write end
only the master holds, becomes readable. `guard` is for the worker that does not come back to its loop: here
it is a thread that waits for the same event and, when the grace is over, kills the process.

A thread runs only while the application lets go of the interpreter, as it does when it sleeps, waits
or computes in Python. A call into C that keeps it holds this guard as well, the compiled one not.

What it needs are the standard library's own functions, whatever the application, or gevent, has put in their
place.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from os import _exit, getpid, getppid, kill
from select import POLLIN
from signal import SIGKILL
from typing import Any

from cyhorn.native import native


def guard(parent_fd: int, ppid: int, grace: float) -> None:
    """Kill this process `grace` seconds after its master `ppid` has ended.

    `parent_fd` is the read end of the parent pipe. Where the system has descriptors of processes, that of the
    master is watched too: the pipe alone says nothing while another child of the master keeps its write end.
    """
    fds = [parent_fd]
    try:
        fds.append(os.pidfd_open(ppid))  # type: ignore[attr-defined, unused-ignore]
    except (AttributeError, OSError):
        pass
    waits = native("select", "poll"), native("time", "sleep")
    native("_thread", "start_new_thread")(_watch, (fds, ppid, grace, *waits))


def _watch(
    fds: list[int], ppid: int, grace: float, poll: Callable[[], Any], sleep: Callable[[float], None]
) -> None:
    poller = poll()
    for fd in fds:
        poller.register(fd, POLLIN)
    while getppid() == ppid and not poller.poll():
        pass
    sleep(min(grace, 3.2e9))  # a century: more cannot be counted everywhere
    kill(getpid(), SIGKILL)
    _exit(1)
