"""Going into the background: a process of its own session, without a terminal.

Called once by the master, before it opens anything. A master that takes over from
another (CYHORN_PID or CYHORN_FD in the environment) is a daemon already.
"""

from __future__ import annotations

import os
import sys
from typing import Final

from cyhorn.native import native

UMASK: Final = 0o022
_TAKING_OVER: Final = ("CYHORN_PID", "CYHORN_FD")


def daemonize(enable_stdio_inheritance: bool = False) -> None:
    """Go on as a daemon; the process that called ends here with status 0.

    Two forks: the first leaves the caller's process group, the second makes sure that no
    terminal can be acquired by opening one. Standard input reads nothing. Standard output and error
    go nowhere or, with `enable_stdio_inheritance`, stay where they are redirected to; a
    terminal is let go of in either case. Other descriptors are left alone. Raises OSError when
    the system has no process or descriptor left.
    """
    if any(name in os.environ for name in _TAKING_OVER):
        return
    # What is buffered would be written once by each process.
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and not stream.closed:
            stream.flush()
    if native("os", "fork")():
        os._exit(0)
    os.setsid()
    if native("os", "fork")():
        os._exit(0)
    os.umask(UMASK)
    _redirect_stdio(enable_stdio_inheritance)


def _redirect_stdio(inherit: bool) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        if fd == null or (inherit and fd != 0 and _is_kept(fd)):
            continue
        os.dup2(null, fd, inheritable=True)
    if null > 2:
        os.close(null)
    else:
        os.set_inheritable(null, True)


def _is_kept(fd: int) -> bool:
    """Whether the stream is redirected to something that outlives the terminal."""
    try:
        os.fstat(fd)
    except OSError:
        return False
    return not os.isatty(fd)
