"""Signals as bytes on a descriptor that a sleeping loop can watch.

A `WakeupPipe` is the self-pipe of the arbiter and of every worker: the interpreter's C
handler writes a byte into it the moment a signal arrives, so a poll that is about to sleep
does not. What the signals were is kept elsewhere (a queue, a flag): a full pipe loses
wake-ups, which do no harm, and never signals.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterable
from types import FrameType

from cyhorn.errors import Stopped
from cyhorn.native import native


def signal_name(number: int) -> str:
    """``SIGTERM`` for 15; ``signal 63`` for what has no name here."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class WakeupPipe:
    """A non-blocking pipe, closed on exec, whose read end tells that there is something to do."""

    def __init__(self) -> None:
        self.read_fd, self.write_fd = os.pipe()
        for fd in (self.read_fd, self.write_fd):
            os.set_blocking(fd, False)

    def fileno(self) -> int:
        """The descriptor to poll for reading."""
        return self.read_fd

    def install(self) -> None:
        """Let every signal of this process write here (main thread only)."""
        signal.set_wakeup_fd(self.write_fd, warn_on_full_buffer=False)

    def wakeup(self) -> None:
        """End the sleep. May be called from any thread and from signal handlers."""
        try:
            os.write(self.write_fd, b"\0")
        except OSError:
            pass  # full: the sleeper wakes anyway; closed: nobody sleeps

    def wait(self, timeout: float | None, watched: Iterable[tuple[int, int]] = ()) -> bool:
        """Sleep until woken or for `timeout` seconds. True when woken; the pipe is then empty.

        The sleep also ends when one of the descriptors `watched` has one of its events of poll.
        """
        poller = native("select", "poll")()
        poller.register(self.read_fd, select.POLLIN)
        for fd, events in watched:
            poller.register(fd, events)
        # Rounded up: a deadline that is half a millisecond away must not spin.
        ready = poller.poll(None if timeout is None else int(max(0.0, timeout) * 1000 + 0.999))
        woken = any(fd == self.read_fd for fd, _ in ready)
        if woken:
            self.drain()
        return woken

    def drain(self) -> bytes:
        """Take out whatever is in the pipe: the numbers of signals, and a zero for each other call."""
        told = b""
        try:
            while (piece := os.read(self.read_fd, 4096)):
                told += piece
        except OSError:
            pass
        return told

    def close(self) -> None:
        """Close both ends and stop the signals from writing to them (main thread only)."""
        current = signal.set_wakeup_fd(-1)
        if current not in (-1, self.write_fd):
            signal.set_wakeup_fd(current, warn_on_full_buffer=False)
        self.detach()

    def detach(self) -> None:
        """Close both ends. For a forked child, which keeps no part of its parent's pipe."""
        for fd in (self.read_fd, self.write_fd):
            try:
                os.close(fd)
            except OSError:
                pass


class Blocked:
    """``with Blocked(signals):`` holds them back in this thread; they arrive afterwards."""

    def __init__(self, signals: Iterable[int]) -> None:
        self._signals = set(signals)
        self._before: set[int] = set()

    def __enter__(self) -> Blocked:
        self._before = set(signal.pthread_sigmask(signal.SIG_BLOCK, self._signals))
        return self

    def end(self) -> None:
        """Let them come, before the end of the block."""
        signal.pthread_sigmask(signal.SIG_SETMASK, self._before)

    def __exit__(self, *_: object) -> None:
        self.end()


def stop_at_once(signum: int, frame: FrameType | None) -> None:
    """A handler that ends the process with status 0, wherever it is."""
    raise Stopped(0)
