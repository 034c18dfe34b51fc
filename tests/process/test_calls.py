"""The records of calls: laid out as the compiled loop writes them, whole or not read at all."""

from __future__ import annotations

import os
import signal
import struct
import time

import pytest

from cyhorn.process.calls import CALL_SIZE, CALLS, TARGET_SIZE, Call
from cyhorn.process.heartbeat import HeartbeatTable


def test_a_call_is_read_while_it_is_made() -> None:
    slot = HeartbeatTable(4).claim()
    assert slot.calls() == []
    slot.call(0).begin(1, 5_000_000_000, "192.0.2.7:4711", "GET", "/path?query")
    assert slot.calls() == [Call(5.0, "192.0.2.7:4711", "GET", "/path?query", False)]
    slot.call(0).end()
    assert slot.calls() == []


def test_the_oldest_call_comes_first() -> None:
    slot = HeartbeatTable(1).claim()
    for place, began in ((0, 3), (1, 1), (CALLS - 1, 2)):
        slot.call(place).begin(1, began, "", "GET", f"/{began}")
    assert [call.target for call in slot.calls()] == ["/1", "/2", "/3"]


def test_fields_stand_where_the_layout_says() -> None:
    table = HeartbeatTable(3)
    table.claim()
    slot = table.claim()
    slot.call(2).begin(7, 2**40, "[2001:db8::1]:80", "PROPFIND", "/ü")
    at = table.calls_offset + (CALLS + 2) * CALL_SIZE
    assert struct.unpack_from("=qqq", table.buffer, at) == (7, 2**40, 3 - 1)
    assert table.buffer[at + 24 : at + 41] == b"[2001:db8::1]:80\0"
    assert table.buffer[at + 72 : at + 81] == b"PROPFIND\0"
    assert table.buffer[at + 88 : at + 91] == b"/\xfc\0"
    assert table.calls_offset % os.sysconf("SC_PAGESIZE") == 0


@pytest.mark.parametrize(("size", "cut"), [(TARGET_SIZE, False), (TARGET_SIZE + 1, True), (100_000, True)])
def test_of_a_long_target_the_beginning_is_kept(size: int, cut: bool) -> None:
    slot = HeartbeatTable(1).claim()
    slot.call(0).begin(1, 0, "", "GET", "/" * size)
    [call] = slot.calls()
    assert (call.target, call.cut) == ("/" * TARGET_SIZE, cut)


def test_a_long_target_leaves_nothing_behind_for_a_shorter_one() -> None:
    slot = HeartbeatTable(2).claim()
    slot.call(0).begin(1, 0, "192.0.2.100:65535", "OPTIONS", "/" * 500)
    slot.call(0).end()
    slot.call(0).begin(2, 0, "", "GET", "/a")
    assert slot.calls() == [Call(0.0, "", "GET", "/a", False)]
    assert slot.call(1).read() is None


def test_a_record_outlasts_its_worker_until_the_slot_is_claimed_again() -> None:
    table = HeartbeatTable(1)
    slot = table.claim()
    pid = os.fork()
    if pid == 0:
        slot.call(0).begin(1, time.monotonic_ns(), "", "GET", "/last")
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    assert [call.target for call in slot.calls()] == ["/last"]
    table.release(slot)
    assert table.claim().calls() == []


def test_a_record_that_changes_under_the_reader_is_not_read() -> None:
    """Half of one call and half of another would send people looking in the wrong place."""
    slot = HeartbeatTable(1).claim()
    first, second = ("a" * 100, "b" * 100)
    pid = os.fork()
    if pid == 0:
        number = 0
        while os.getppid() != 1:
            for target in (first, second):
                number += 1
                slot.call(0).begin(number, 0, "", target[:5], target)
                slot.call(0).end()
    try:
        read = []
        end = time.monotonic() + 20
        while len(read) < 500 and time.monotonic() < end:
            read += slot.calls()
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert len(read) == 500
    assert {(call.method, call.target) for call in read} <= {(first[:5], first), (second[:5], second)}
