"""Heartbeat slots: shared between processes, laid out as the compiled loop expects."""

from __future__ import annotations

import os
import struct
import time

import pytest

from cyhorn.process.heartbeat import BOOTING, BUSY, FREE, READY, SLOT_SIZE, STOPPING, HeartbeatTable, NoSlot


def test_a_claimed_slot_is_booting_and_has_just_beaten() -> None:
    before = time.monotonic()
    slot = HeartbeatTable(4).claim()
    assert slot.state == BOOTING
    assert before <= slot.last_update() <= time.monotonic()
    assert (slot.requests, slot.connections, slot.pid) == (0, 0, 0)


def test_fields_stand_where_the_layout_says() -> None:
    table = HeartbeatTable(3)
    table.claim()
    slot = table.claim()
    slot.requests, slot.connections, slot.state, slot.pid = 2**40, 7, READY, 4711
    fields = struct.unpack_from("=qqiiii", table.buffer, slot.offset)
    assert slot.offset == SLOT_SIZE
    assert fields[1:] == (2**40, 7, READY, 4711, 0)
    assert fields[0] / 1e9 == slot.last_update()


def test_what_a_child_writes_its_parent_reads() -> None:
    slot = HeartbeatTable(1).claim()
    beaten = slot.last_update()
    pid = os.fork()
    if pid == 0:
        slot.notify()
        slot.requests = 3
        slot.state = READY
        os._exit(0)
    os.waitpid(pid, 0)
    assert slot.last_update() > beaten
    assert (slot.requests, slot.state) == (3, READY)


def test_the_lowest_free_slot_is_claimed_and_comes_clean() -> None:
    table = HeartbeatTable(2)
    first, second = table.claim(), table.claim()
    with pytest.raises(NoSlot, match="all 2"):
        table.claim()
    first.requests, first.connections = 9, 9
    table.release(first)
    assert first.state == FREE
    again = table.claim()
    assert (again.index, again.requests, again.connections, second.index) == (0, 0, 0, 1)


def test_a_closed_table_gives_its_memory_back() -> None:
    table = HeartbeatTable(1)
    table.claim()
    table.close()
    assert table.buffer.closed


def test_a_worker_may_hold_a_little_more_than_the_mean_of_those_that_accept() -> None:
    table = HeartbeatTable(8)
    slots = [table.claim() for _ in range(4)]
    assert slots[0].fair_share() is None, "the others are booting"
    for slot in slots:
        slot.state = READY
        slot.connections = 16
    assert slots[0].fair_share() == 20
    slots[1].connections = 0
    assert slots[0].fair_share() == 15


def test_another_waits_when_it_is_ready_and_in_no_other_state() -> None:
    table = HeartbeatTable(8)
    one, other = table.claim(), table.claim()
    one.state = READY
    for state in (BOOTING, BUSY, STOPPING, FREE):
        other.state = state
        assert not one.others_wait()
    other.state = READY
    assert one.others_wait()


def test_a_worker_that_is_stuck_or_leaving_takes_no_share() -> None:
    table = HeartbeatTable(8)
    one, other = table.claim(), table.claim()
    one.state = other.state = READY
    one.connections = 100
    assert one.fair_share() == 58
    other.state = STOPPING
    assert one.fair_share() is None
    other.state = BUSY
    table.buffer[other.offset : other.offset + 8] = bytes(8)  # a beat of long ago
    assert one.fair_share() is None
    other.notify()
    assert one.fair_share() == 58
