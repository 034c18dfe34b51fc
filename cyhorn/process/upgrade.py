"""How a master hands its listening sockets to the one that replaces it (USR2).

The successor is a child that runs the same command. It finds in its environment

``CYHORN_PID``   the pid of the master that started it;
``CYHORN_FD``    the descriptors of the listeners, separated by commas,

or, where a supervisor had passed them, ``LISTEN_PID`` and ``LISTEN_FDS`` with the
descriptors from 3 on. It takes them out of the environment before anything else can
inherit them. Nothing else is passed: all other descriptors close on exec.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any, NoReturn

from cyhorn.errors import ConfigError

PID_VARIABLE = "CYHORN_PID"
FD_VARIABLE = "CYHORN_FD"
FIRST_FD = 3  # SD_LISTEN_FDS_START of sd_listen_fds(3)


def take_inheritance(environ: MutableMapping[str, str]) -> tuple[int, list[int]]:
    """The predecessor's pid (0: none) and the listeners' descriptors, taken out of `environ`.

    Raises ConfigError when the variables are not numbers.
    """
    pid = environ.pop(PID_VARIABLE, "")
    fds = environ.pop(FD_VARIABLE, "")
    try:
        return int(pid or 0), [int(fd) for fd in fds.split(",") if fd.strip()]
    except ValueError:
        raise ConfigError(f"{PID_VARIABLE}={pid!r} {FD_VARIABLE}={fds!r}: expected numbers") from None


def start_context() -> dict[Any, Any]:
    """What it takes to run this command again: ``cwd``, ``args`` and, under 0, the interpreter.

    The original arguments are used, so that ``python -m cyhorn`` and interpreter options come back as
    they were. The directory is the one the shell named, so that a symbolic link to "the current
    release" is followed anew.
    """
    return {"args": [sys.executable, *sys.orig_argv[1:]], "cwd": _logical_cwd(), 0: sys.executable}


def _logical_cwd() -> str:
    cwd = os.getcwd()
    named = os.environ.get("PWD")
    try:
        if named and os.path.samefile(named, cwd):
            return named
    except OSError:
        pass
    return cwd


def exec_successor(
    context: Mapping[Any, Any], environ: Mapping[str, str], fds: Sequence[int], *, systemd: bool
) -> NoReturn:
    """Become the successor. Called in the forked child; raises OSError when that is not possible."""
    env = {name: value for name, value in environ.items() if name not in (PID_VARIABLE, FD_VARIABLE)}
    env[PID_VARIABLE] = str(os.getppid())
    if systemd:
        _place_from(FIRST_FD, fds)
        env["LISTEN_PID"] = str(os.getpid())
        env["LISTEN_FDS"] = str(len(fds))
    else:
        for fd in fds:
            os.set_inheritable(fd, True)
        env[FD_VARIABLE] = ",".join(map(str, fds))
    if "WATCHDOG_PID" in env:
        env["WATCHDOG_PID"] = str(os.getpid())
    os.chdir(context["cwd"])
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.execvpe(context[0], context["args"], env)


def _place_from(first: int, fds: Sequence[int]) -> None:
    """Bring `fds`, in order, to the descriptors from `first` on, and let exec pass only those."""
    if list(fds) == list(range(first, first + len(fds))):
        for fd in fds:
            os.set_inheritable(fd, True)
        return
    # Out of the way first: a target may be the place of another one of them.
    above = first + len(fds)
    copies = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, above) for fd in fds]
    for fd in fds:
        os.close(fd)
    for target, copy in enumerate(copies, first):
        os.dup2(copy, target)  # inheritable
