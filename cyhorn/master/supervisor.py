"""What the master tells systemd: see sd_notify(3). Nothing is sent where nobody listens.

READY when the workers are ready; RELOADING and READY around a reload; STOPPING; MAINPID when another
process becomes the main one; STATUS for people; WATCHDOG from the loop, so that a master that
hangs is noticed.
"""

from __future__ import annotations

import os
import time
from typing import Any

from cyhorn.process import systemd


class Supervisor:
    """The service manager above this process, if there is one."""

    def __init__(self, log: Any) -> None:
        self._log = log
        self._listens = bool(os.environ.get("NOTIFY_SOCKET"))
        interval = systemd.watchdog_interval() if self._listens else None
        self._interval = interval / 2 if interval else None
        self._ping_at = time.monotonic()
        self._status = ""

    def notify(self, *lines: str) -> None:
        """Send assignments such as ``READY=1``."""
        if self._listens:
            systemd.sd_notify("\n".join(lines), self._log)

    def reloading(self) -> None:
        """A reload begins; ``READY=1`` is to follow."""
        if self._listens:
            self.notify(systemd.reloading_state())

    def stopping(self, successor: int) -> None:
        """This master ends, or `successor` (a pid, 0 for none) is the main process from now on."""
        self.notify(f"MAINPID={successor}" if successor else "STOPPING=1")

    def status(self, ready: int, wanted: int) -> None:
        """Say how many workers are ready, if that changed."""
        status = f"STATUS={ready} of {wanted} workers ready"
        if self._listens and status != self._status:
            self._status = status
            self.notify(status)

    def ping(self) -> None:
        """Feed the watchdog when it is time."""
        if self._interval is not None and time.monotonic() >= self._ping_at:
            self._ping_at = time.monotonic() + self._interval
            self.notify("WATCHDOG=1")

    def next_ping(self) -> float | None:
        """When `ping` has to be called next, monotonic seconds; None when nobody watches."""
        return self._ping_at if self._interval is not None else None
