"""Stopping the workers: ask, wait, hasten, kill.

A graceful stop sends TERM and waits for `graceful_timeout`; a quick one sends QUIT and waits for a
moment. INT or QUIT makes a graceful stop quick, and so does a second TERM; whatever comes after
that kills. A TERM that comes right behind the first is the same one: tools send it to a process and
then to its group.
"""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cyhorn.arbiter import Arbiter

#: How long workers get at a quick stop. Seconds.
QUICK_STOP = 2.0
#: A signal this soon after the one that began this is its echo. Seconds.
ECHO = 0.5
#: A killed process that the kernel holds (in a disk's or network's wait) is waited for this long. Seconds.
UNKILLABLE = 5.0


class Stop:
    """The stop of `arbiter`'s workers, begun now."""

    def __init__(self, arbiter: Arbiter, graceful: bool) -> None:
        self._arbiter = arbiter
        self._grace = arbiter.cfg.graceful_timeout
        self._graceful = graceful
        self._begun = time.monotonic()
        self._limit = self._begun + (self._grace if graceful else min(QUICK_STOP, self._grace))

    def ask(self) -> None:
        """Tell the workers."""
        self._arbiter.kill_workers(signal.SIGTERM if self._graceful else signal.SIGQUIT)

    def wait(self) -> None:
        """Until all workers are gone, killing those that do not go."""
        arbiter = self._arbiter
        arbiter.reap_workers()
        while arbiter.WORKERS and (left := self._limit - time.monotonic()) > 0:
            arbiter.sleep_for(left)
            if self._is_hastened():
                if not self._graceful:
                    break
                self._be_quick()
            arbiter.reap_workers()
            arbiter.remind_workers()
        if not arbiter.WORKERS:
            return
        arbiter.log.warning("Killing %d workers that did not stop in time", len(arbiter.WORKERS))
        for record in arbiter.records():
            record.killed = True
        arbiter.kill_workers(signal.SIGKILL)
        patience = time.monotonic() + UNKILLABLE
        while arbiter.WORKERS and time.monotonic() < patience:
            arbiter.sleep_for(0.1)
            arbiter.reap_workers()

    def _be_quick(self) -> None:
        self._arbiter.log.info("Quick shutdown requested")
        self._graceful = False
        self._begun = time.monotonic()
        self._limit = min(self._limit, self._begun + QUICK_STOP)
        self.ask()

    def _is_hastened(self) -> bool:
        """Whether a signal has come that wants the stop to go faster. Others have no meaning now."""
        wanted = False
        soon = time.monotonic() - self._begun <= ECHO
        while self._arbiter.SIG_QUEUE:
            number = self._arbiter.SIG_QUEUE.popleft()
            stronger = self._graceful and number in (signal.SIGINT, signal.SIGQUIT)
            again = number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT) and not soon
            wanted = wanted or stronger or again
        return wanted
