"""The access log's lines: made one by one, written together.

The loop gives each request to `record` when its answer is on its way, and calls `flush` at the
end of a turn, and before a call of the application where lines have waited for a while: an idle
worker has written all it has to say, and one that is stuck in the application all but the last.

Invariants

* Lines are written in the order of their requests, each exactly once and whole.
* What is logged after a `flush` stands in another write: a log re-opened between them parts there.
* Nothing is raised for a log that cannot be written; `log` says what is to be said.

Knows no logger, file or setting: `log` does. The threads of a worker share one: while one of them
writes, others may add lines, and a signal handler may call `flush` at any moment.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

#: The kinds of steps that show a duration.
DURATIONS = frozenset(("seconds", "milliseconds", "microseconds", "decimal"))
#: Seconds that a line waits for others at most.
LINES_WAIT = 0.004


class Log(Protocol):
    """Where lines go."""

    def write(self, lines: bytes, begun: bool) -> None:
        """Write whole lines in UTF-8; `begun` says that the first one's beginning was written before."""

    def target(self) -> tuple[int, int] | None:
        """A descriptor that takes whole lines as they are, and how many bytes one write keeps together.

        None where lines have to go by `write`, now or always.
        """


class AccessLines:
    """The lines of one turn of the loop.

    `line` makes one of (response, environ, seconds, clock), without its end, and never raises;
    `steps` says the same as a list of (kind, argument), or is None where a list cannot;
    `clock` gives the time as text, the same for a second at least; `log` takes the lines.
    """

    __slots__ = ("_clock", "_line", "_log", "_pending", "_since", "_writing", "timed")

    def __init__(
        self,
        line: Callable[[Any, Mapping[str, Any], float, Callable[[], str]], str],
        steps: Sequence[tuple[str, str]] | None,
        clock: Callable[[], str],
        log: Log,
    ) -> None:
        self._line = line
        self._clock = clock
        self._log = log
        self._pending: list[str] = []
        self._since = 0.0  # when the first line that waits was made
        self._writing = False
        #: Whether a line shows how long its request took; if not, any number of seconds will do.
        self.timed = steps is None or any(kind in DURATIONS for kind, _ in steps)

    @property
    def pending(self) -> bool:
        """Whether lines wait to be written."""
        return bool(self._pending)

    def record(self, response: Any, environ: Mapping[str, Any], seconds: float) -> None:
        """Add the line of one request that took `seconds`."""
        if not self._pending:
            self._since = time.monotonic()
        line = self._line(response, environ, seconds, self._clock)
        self._pending.append(line)  # made before the list is looked up: another thread may swap it meanwhile

    def flush(self) -> None:
        """Write the lines that wait. Called within a call, it leaves them to that."""
        if self._writing:
            return
        self._writing = True
        try:
            while self._pending:
                lines, self._pending = self._pending, []
                self._log.write(("\n".join(lines) + "\n").encode("utf-8", "backslashreplace"), False)
        finally:
            self._writing = False

    def flush_old(self) -> None:
        """Write the lines that wait, if the first of them has waited for a few milliseconds."""
        if self._pending and time.monotonic() - self._since > LINES_WAIT:
            self.flush()
