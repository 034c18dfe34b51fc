"""The master's view of a worker, from the fork until it is reaped.

The worker says in its heartbeat slot how it is; the master notes when it learned so and what it
asked of it. All times are seconds of the monotonic clock.
"""

from __future__ import annotations

import signal
from typing import Any

from cyhorn.master.forensics import last_words
from cyhorn.process.heartbeat import BOOTING, BUSY, READY, STOPPING, Slot
from cyhorn.process.oom import OomCounter
from cyhorn.process.signals import signal_name
from cyhorn.workers.base import Worker

#: How long after ABRT comes KILL, seconds.
ABORT_GRACE = 1.0
#: A worker that boots is asked to leave this often, seconds.
REMINDER = 1.0


class WorkerRecord:
    """What the arbiter knows about `worker`, whose heartbeat is `slot`."""

    def __init__(self, worker: Worker, pid: int, slot: Slot, generation: int) -> None:
        self.worker = worker
        self.pid = pid
        self.slot = slot
        self.generation = generation
        self.ready_at: float | None = None
        #: When it is killed at the latest: set when it is asked to leave, or leaves by itself.
        self.stop_deadline: float | None = None
        self.asked_at: float | None = None
        self.aborted_at: float | None = None
        self.killed = False

    @property
    def is_booting(self) -> bool:
        return self.ready_at is None and self.slot.state == BOOTING

    @property
    def is_ready(self) -> bool:
        return self.ready_at is not None

    @property
    def has_booted(self) -> bool:
        """The same as `is_ready`, but also for what nobody had time to observe before its end."""
        return self.ready_at is not None or self.slot.state in (READY, BUSY, STOPPING)

    @property
    def stays(self) -> bool:
        """Whether it counts among the workers that serve, or will when booted."""
        return self.stop_deadline is None and self.slot.state != STOPPING

    @property
    def asked(self) -> bool:
        """Whether it was told to leave."""
        return self.asked_at is not None

    def has_not_heard(self, now: float) -> bool:
        """Whether it was asked a while ago and still boots.

        A signal that comes right before the application blocks in a system call is only handled after
        that. A worker that serves has a descriptor that tells it; one that boots has to be asked again.
        """
        return self.asked_at is not None and self.is_booting and now >= self.asked_at + REMINDER

    def observe(self, now: float, grace: float) -> None:
        """Note that it became ready, or is leaving by itself and has `grace` seconds for it."""
        state = self.slot.state
        if self.ready_at is None and state in (READY, BUSY):
            self.ready_at = now
            self.worker.booted = True
        if self.stop_deadline is None and state == STOPPING:
            self.stop_deadline = now + grace

    def kill_due(self) -> float | None:
        """When it is to be killed: too long after ABRT, or after it was to leave."""
        if self.killed:
            return None
        due = [self.stop_deadline, None if self.aborted_at is None else self.aborted_at + ABORT_GRACE]
        return min((moment for moment in due if moment is not None), default=None)


class Departed:
    """What is counted of the workers that are gone: how many had to be `killed`, and their `requests`."""

    def __init__(self) -> None:
        self.killed = self.requests = 0

    def note(self, record: WorkerRecord) -> None:
        """Count a worker that was reaped, before its slot is released."""
        self.killed += record.killed or record.aborted_at is not None
        self.requests += record.slot.requests


def explain_exit(log: Any, record: WorkerRecord, code: int, oom: OomCounter) -> None:
    """Log how a worker ended, and in the middle of what, before its slot is released.

    `code` is its exit status, or minus the signal that ended it.
    """
    # Of one that was silent it has been told before.
    calls = record.slot.calls() if record.aborted_at is None else []
    if code > 0 or (calls and code == 0 and not record.asked):
        log.error("Worker (pid:%s) exited with code %s.%s", record.pid, code, last_words(calls))
    elif code < 0:
        name = signal_name(-code)
        if -code == signal.SIGKILL and not record.killed:
            hint = " The kernel's out-of-memory killer was at work." if oom.moved() else ""
            log.error("Worker (pid:%s) was sent %s!%s%s", record.pid, name, hint, last_words(calls))
        elif record.asked and -code == signal.SIGTERM:
            log.info("Worker (pid:%s) was sent %s!", record.pid, name)
        else:
            log.warning("Worker (pid:%s) was sent %s!%s", record.pid, name, last_words(calls))


def how_it_ended(code: int) -> str:
    """The end of a worker in words, for a sentence that begins with the worker."""
    return f"was sent {signal_name(-code)}" if code < 0 else f"exited with code {code}"
