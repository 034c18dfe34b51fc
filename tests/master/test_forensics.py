"""The words for what a worker was doing: nothing secret, nothing that a terminal or a log reader obeys."""

from __future__ import annotations

import time

import pytest

from cyhorn.master.forensics import describe, last_words, path_of, tell_silence
from cyhorn.process.calls import Call
from cyhorn.process.heartbeat import READY, HeartbeatTable
from tests.loop.driver import Log


def call(target: str = "/", peer: str = "192.0.2.7:4711", method: str = "GET", began: float = 0, cut: bool = False) -> Call:
    return Call(began, peer, method, target, cut)


def test_a_call_is_told_by_method_path_peer_and_age() -> None:
    assert describe(call("/orders/7"), 30.24) == "GET /orders/7 from 192.0.2.7:4711 for 30.2 s"
    assert describe(call(peer=""), 0.5) == "GET / from a unix socket for 0.5 s"
    assert describe(call(began=2.0), 1.9).endswith("for 0.0 s"), "the coarse clock lags behind"


@pytest.mark.parametrize(
    ("target", "cut", "path"),
    [
        ("/login?password=x", False, "/login"),
        ("/login?password=" + "x" * 300, True, "/login"),
        ("/" + "x" * 9, True, "/xxxxxxxxx..."),
        ("/a\x1b[2J\nb\xfc\x7f c", False, "/a\\x1b[2J\\x0ab\\xfc\\x7f\\x20c"),
        ("*", False, "*"),
        ("http://host/path?q", False, "http://host/path"),
    ],
)
def test_of_a_target_its_path_is_told_without_the_query_and_escaped(target: str, cut: bool, path: str) -> None:
    assert path_of(call(target, cut=cut)) == path


def test_the_end_of_a_worker_names_its_oldest_calls() -> None:
    now = time.monotonic()
    assert last_words([]) == ""
    assert last_words([call(began=now - 3)]) == " It was in GET / from 192.0.2.7:4711 for 3.0 s."
    several = last_words([call(f"/{number}", began=now) for number in range(7)])
    assert several.count(" from ") == 4 and several.endswith("; and 3 more.") and "/3 " in several


def test_a_silent_worker_in_no_request_is_told_of_where_it_boots() -> None:
    slot, log = HeartbeatTable(1).claim(), Log()
    tell_silence(log, 7, slot)
    slot.state = READY
    tell_silence(log, 7, slot)
    assert log.lines == [("critical", "Worker (pid:7) is stuck in its boot", None)]
    slot.call(0).begin(1, time.monotonic_ns(), "", "GET", "/one")
    slot.call(1).begin(1, time.monotonic_ns(), "", "GET", "/two")
    tell_silence(log, 7, slot)
    told = [message.split(" from ")[0] for message in log.of("critical")[1:]]
    assert told == ["Worker (pid:7) is stuck in GET /one", "Worker (pid:7) is stuck in GET /two"]
