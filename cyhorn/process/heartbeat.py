"""The heartbeat: one slot per worker in anonymous memory that master and workers share.

The table is mapped before the first fork, so every process sees the same pages and a
beat is a store, not a system call. The master claims a slot before it forks a worker and
releases it after it has reaped it; the worker alone writes it in between. Each field is
naturally aligned and written by one store, so a reader never sees half a value.

Layout of a slot, native byte order::

    int64  beat_ns      @ 0   CLOCK_MONOTONIC of the last beat, nanoseconds
    int64  requests     @ 8   requests served
    int32  connections  @16   open connections
    int32  state        @20   FREE, BOOTING, READY, BUSY or STOPPING
    int32  pid          @24   who writes the slot
    int32  flags        @28   reserved
    bytes  reserved     @32   to 64, a cache line: workers do not share one

Behind the last slot stands one int32: how many slots were ever in use at once, so that
who looks at all workers (`Slot.fair_share`) looks no further. On a page boundary behind it begin
the records of what the workers are doing (`cyhorn.process.calls`), a page for each slot.

States: FREE → BOOTING (claimed) → READY ⇄ BUSY → STOPPING → FREE (released).
"""

from __future__ import annotations

import mmap
import time

from cyhorn.process.calls import CALL_SIZE, CALLS, Call, CallRecord

SLOT_SIZE = 64
BEAT, REQUESTS, CONNECTIONS, STATE, PID, FLAGS = 0, 8, 16, 20, 24, 28

FREE, BOOTING, READY, BUSY, STOPPING = range(5)
STATE_NAMES = ("free", "booting", "ready", "busy", "stopping")


#: A busy worker that has not beaten for so long accepts nobody: it is in the application.
BUSY_NS = 20_000_000


class NoSlot(Exception):
    """All slots of the table are taken."""


class HeartbeatTable:
    """`slots` slots, all of them free. Untouched ones cost no memory."""

    #: What the compiled loop has to know to do by itself what `Slot.mark` and `Slot.fair_share` do.
    LAYOUT = (SLOT_SIZE, CONNECTIONS, STATE, READY, BUSY, BUSY_NS)
    #: And what it has to know to write down its calls: how many records a slot has, and their size.
    CALL_LAYOUT = (CALLS, CALL_SIZE)

    def __init__(self, slots: int) -> None:
        if slots < 1:
            raise ValueError(f"a heartbeat table needs at least one slot, not {slots}")
        self.slots = slots
        self.calls_offset = -(-(slots + 1) * SLOT_SIZE // mmap.PAGESIZE) * mmap.PAGESIZE
        self.buffer = mmap.mmap(-1, self.calls_offset + slots * CALLS * CALL_SIZE)
        self._wide = memoryview(self.buffer).cast("q")
        self._narrow = memoryview(self.buffer).cast("i")
        self._used_at = slots * SLOT_SIZE // 4

    def claim(self) -> Slot:
        """The free slot of the lowest index, now BOOTING and just beaten.

        Raises NoSlot when none is free.
        """
        for index in range(self.slots):
            slot = Slot(self, index)
            if slot.state == FREE:
                self.buffer[slot.offset : slot.offset + SLOT_SIZE] = bytes(SLOT_SIZE)
                self._narrow[self._used_at] = max(self.used, index + 1)
                for place in range(CALLS):
                    slot.call(place).end()  # of a worker before
                slot.notify()
                slot.state = BOOTING
                return slot
        raise NoSlot(f"all {self.slots} heartbeat slots are taken")

    @property
    def used(self) -> int:
        """How many slots, from the first, may be other than free."""
        return self._narrow[self._used_at]

    def release(self, slot: Slot) -> None:
        """Give `slot` back. Its worker must be gone."""
        slot.state = FREE

    def close(self) -> None:
        """Unmap the table in this process. No slot of it may be used any more."""
        self._wide.release()
        self._narrow.release()
        self.buffer.close()


class Slot:
    """One worker's place in `table`, at byte `offset` of ``table.buffer``."""

    __slots__ = ("_narrow", "_narrow_at", "_wide", "_wide_at", "index", "offset", "table")

    def __init__(self, table: HeartbeatTable, index: int) -> None:
        self.table = table
        self.index = index
        self.offset = index * SLOT_SIZE
        self._wide = table._wide
        self._narrow = table._narrow
        self._wide_at = self.offset // 8
        self._narrow_at = self.offset // 4

    def notify(self) -> None:
        """Say that the worker lives."""
        self._wide[self._wide_at] = time.monotonic_ns()

    def last_update(self) -> float:
        """When the worker said so last, in seconds of the monotonic clock."""
        return self._wide[self._wide_at] / 1e9

    @property
    def requests(self) -> int:
        return self._wide[self._wide_at + REQUESTS // 8]

    @requests.setter
    def requests(self, value: int) -> None:
        self._wide[self._wide_at + REQUESTS // 8] = value

    @property
    def connections(self) -> int:
        return self._narrow[self._narrow_at + CONNECTIONS // 4]

    @connections.setter
    def connections(self, value: int) -> None:
        self._narrow[self._narrow_at + CONNECTIONS // 4] = value

    @property
    def state(self) -> int:
        return self._narrow[self._narrow_at + STATE // 4]

    @state.setter
    def state(self, value: int) -> None:
        self._narrow[self._narrow_at + STATE // 4] = value

    @property
    def pid(self) -> int:
        return self._narrow[self._narrow_at + PID // 4]

    @pid.setter
    def pid(self, value: int) -> None:
        self._narrow[self._narrow_at + PID // 4] = value

    @property
    def calls_offset(self) -> int:
        """Where the records of its calls begin, in bytes of ``table.buffer``."""
        return self.table.calls_offset + self.index * CALLS * CALL_SIZE

    def call(self, place: int) -> CallRecord:
        """The record of its calls number `place`, which is below CALLS."""
        return CallRecord(self.table.buffer, self._wide, self.calls_offset + place * CALL_SIZE)

    def calls(self) -> list[Call]:
        """What it is in the application for, the oldest call first. After its end: what it was."""
        calls = [self.call(place).read() for place in range(CALLS)]
        return sorted((call for call in calls if call is not None), key=lambda call: call.began)

    def mark(self, busy: bool) -> None:
        """Say whether the worker works or waits, while it is one of the two."""
        if self.state in (READY, BUSY):
            self.state = BUSY if busy else READY

    def fair_share(self) -> int | None:
        """How many connections this worker may hold before it leaves new ones to the others.

        A little more than the mean of the workers that accept: those that wait, and those
        that have just been busy. None where there is no other, so that nobody waits for a
        worker that is stuck.
        """
        workers = connections = 0
        now = time.monotonic_ns()
        for index in range(self.table.used):
            wide, narrow = index * SLOT_SIZE // 8, index * SLOT_SIZE // 4
            state = self._narrow[narrow + STATE // 4]
            if index == self.index or state == READY or (state == BUSY and now - self._wide[wide] < BUSY_NS):
                workers += 1
                connections += self._narrow[narrow + CONNECTIONS // 4]
        return connections * 9 // (8 * workers) + 2 if workers > 1 else None

    def others_wait(self) -> bool:
        """Whether another worker has nothing to do at the moment."""
        return any(
            self._narrow[index * SLOT_SIZE // 4 + STATE // 4] == READY
            for index in range(self.table.used)
            if index != self.index
        )

    def __repr__(self) -> str:
        return f"<Slot {self.index} {STATE_NAMES[self.state]} pid={self.pid}>"
