"""Waiting longer after each failure in a row, so that a crash loop does not spin."""

from __future__ import annotations

import time


class Backoff:
    """Pauses of `first` seconds, doubling up to `limit`; forgotten after `quiet` seconds without a failure.

    Two failures while a pause lasts count once: workers that fail together are one failure.
    """

    def __init__(self, first: float = 0.1, limit: float = 30.0, quiet: float = 60.0) -> None:
        self.first = first
        self.limit = limit
        self.quiet = quiet
        self._pause = 0.0
        self._until = 0.0

    def fail(self, most: float | None = None) -> float:
        """Note a failure. Returns the seconds to wait from now, with `most` no more than that."""
        now = time.monotonic()
        if now < self._until:
            return self._until - now
        if now - self._until > self.quiet:
            self._pause = 0.0
        self._pause = min(self.limit if most is None else most, self._pause * 2 or self.first)
        self._until = now + self._pause
        return self._pause

    @property
    def active(self) -> bool:
        """Whether there were failures that no success has followed."""
        return self._pause > 0

    def remaining(self) -> float:
        """Seconds still to wait, 0 when the next try is due."""
        return max(0.0, self._until - time.monotonic())

    def reset(self) -> None:
        """Note a success."""
        self._pause = 0.0
        self._until = 0.0
