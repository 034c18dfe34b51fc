"""The two protocols of systemd: sockets passed at start, and notifications of state.

See sd_listen_fds(3), sd_notify(3) and sd_watchdog_enabled(3). Everything here reads the
process environment; nothing here raises into the server: a service manager that does not
listen costs a debug line.
"""

from __future__ import annotations

import os
import socket
import time
from typing import Any, Final

from cyhorn.native import native

#: The first passed descriptor; the others follow it without gaps.
LISTEN_FDS_START: Final = 3

#: How long a notification may wait for room in systemd's socket, in seconds.
NOTIFY_TIMEOUT: Final = 1.0

_LISTEN_VARIABLES: Final = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


def listen_fds(unset_environment: bool = True) -> int:
    """How many sockets systemd passed to this process, from `LISTEN_FDS_START` on.

    Zero when LISTEN_PID names another process: then the variables were meant for a parent and
    stay as they are. Otherwise they are removed, so that no child takes them for its own, unless
    `unset_environment` is false.
    """
    if _number("LISTEN_PID") != os.getpid():
        return 0
    count = _number("LISTEN_FDS")
    if unset_environment:
        for name in _LISTEN_VARIABLES:
            os.environ.pop(name, None)
    return count


def sd_notify(state: str, log: Any, unset_environment: bool = False) -> bool:
    """Tell the service manager `state`, lines such as "READY=1" or "STATUS=text".

    Returns whether it was told; false also when there is no service manager. With
    `unset_environment` it is forgotten afterwards, by this process and its children.
    """
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return False
    try:
        with native("socket", "socket")(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.settimeout(NOTIFY_TIMEOUT)
            sock.connect("\0" + address[1:] if address.startswith("@") else address)
            sock.sendall(state.encode("utf-8", "surrogateescape"))
    except (OSError, ValueError) as error:
        log.debug("systemd was not notified at %s: %s", address, error)
        return False
    finally:
        if unset_environment:
            os.environ.pop("NOTIFY_SOCKET", None)
    return True


def reloading_state() -> str:
    """The notification that a reload begins, dated as Type=notify-reload wants it."""
    return f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}"


def watchdog_interval() -> float | None:
    """Seconds within which systemd wants "WATCHDOG=1" from this process, or None.

    Notify at half of it, as sd_watchdog_enabled(3) advises.
    """
    if "WATCHDOG_PID" in os.environ and _number("WATCHDOG_PID") != os.getpid():
        return None
    microseconds = _number("WATCHDOG_USEC")
    return microseconds / 1e6 if microseconds else None


def _number(name: str) -> int:
    """The variable as a number without sign; 0 when it is missing or anything else."""
    text = os.environ.get(name, "")
    return int(text) if text.isascii() and text.isdigit() else 0
