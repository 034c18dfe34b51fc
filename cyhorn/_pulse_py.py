"""A worker's sign of life and its place among the others.

The master kills a worker that does not beat, and shows its figures and calls; workers that share a
listener leave new connections to those that hold fewer. All of it goes through the slot
of shared memory that the worker was given (`cyhorn.process.heartbeat`). A loop that was
given less, as in a test or another kind of worker, beats by `notify()` and shares nothing.
"""

from __future__ import annotations

from typing import Any


class Pulse:
    """The heartbeat of one worker. `heartbeat` is its slot, something with `notify()`, or None.

    `multiprocess` says that the slot's table has other workers in it, `shared_listeners` that
    they accept what this one leaves: under `reuse_port` each has a queue of its own.
    """

    def __init__(self, heartbeat: Any, multiprocess: bool, shared_listeners: bool = True) -> None:
        self._heartbeat = heartbeat
        self._slot = heartbeat if getattr(heartbeat, "table", None) is not None else None
        self._shares = multiprocess and shared_listeners

    def beat(self) -> None:
        """Say that the worker lives."""
        if self._heartbeat is not None:
            self._heartbeat.notify()

    def mark(self, busy: bool) -> None:
        """Say whether this worker waits or works; what else it is, others have said."""
        if self._slot is not None:
            self._slot.mark(busy)

    def publish(self, requests: int, connections: int) -> None:
        """Tell the master and the other workers how many there are."""
        if self._heartbeat is not None:
            self._heartbeat.requests = requests
            self._heartbeat.connections = connections

    def has_its_share(self, connections: int) -> bool:
        """Whether this worker, with its `connections`, holds more than the others that accept."""
        if self._slot is None or not self._shares:
            return False
        share = self._slot.fair_share()
        return share is not None and connections >= share

    def others_wait(self) -> bool:
        """Whether another worker has nothing to do at the moment."""
        return self._slot is not None and self._slot.others_wait()

    def call_record(self, place: int) -> Any:
        """Where request cycle number `place` writes down its calls; None where nobody reads it."""
        if self._slot is None or place >= self._slot.table.CALL_LAYOUT[0]:
            return None
        return self._slot.call(place)

    def close(self) -> None:
        """Let go of the table, which can then be unmapped."""
        self._heartbeat = self._slot = None
