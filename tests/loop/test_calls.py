"""What the loop writes down about the calls it makes, for a master that cannot ask any more."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from cyhorn.process.calls import METHOD_SIZE, TARGET_SIZE, Call
from cyhorn.process.heartbeat import HeartbeatTable, Slot
from tests.loop.driver import Served, get, post
from tests.loop.test_crew import Gate, crew

pytestmark = pytest.mark.rule(45)


@pytest.fixture
def slot() -> Iterator[Slot]:
    table = HeartbeatTable(1)
    yield table.claim()
    table.close()  # raises where somebody still holds it


class Witness:
    """An application that looks what is written about it while it is called, and while its answer is closed."""

    def __init__(self, slot: Slot) -> None:
        self.slot = slot
        self.seen: list[list[Call]] = []

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        self.look()
        if environ["PATH_INFO"] == "/fails":
            raise RuntimeError("on purpose")
        if environ["PATH_INFO"] == "/leaves":
            raise SystemExit(7)
        if environ["PATH_INFO"] == "/streams":
            return Stream(self, start_response)
        start_response("200 OK", [("Content-Length", "0")])
        return []

    def look(self) -> None:
        self.seen.append(self.slot.calls())


class Stream:
    def __init__(self, witness: Witness, start_response: Any) -> None:
        self._witness = witness
        start_response("200 OK", [])

    def __iter__(self) -> Iterator[bytes]:
        self._witness.look()
        yield b"item"

    def close(self) -> None:
        self._witness.look()


def test_a_call_is_written_down_from_its_beginning_to_its_end(impl, slot):
    witness = Witness(slot)
    with Served(impl, witness, heartbeat=slot) as served:
        before = time.monotonic()
        client = served.connect(get("/path?query"))
        assert client.answer().status == 200
        host, port = client.sock.getsockname()
        [[call]] = witness.seen
        assert call[1:] == (f"{host}:{port}", "GET", "/path?query", False)
        assert before - 0.02 <= call.began <= time.monotonic()
        assert slot.calls() == []


@pytest.mark.parametrize("target", ["/fails", "/streams", "/leaves"])
def test_it_ends_however_the_call_ends(impl, slot, target):
    witness = Witness(slot)
    with Served(impl, witness, heartbeat=slot) as served:
        if target == "/leaves":
            with pytest.raises(SystemExit):
                served.client(get(target))
        else:
            served.client(get(target)).answer()
        assert [len(calls) for calls in witness.seen] == [1] * (3 if target == "/streams" else 1)
        assert slot.calls() == []


def test_each_request_of_a_connection_is_told_by_its_own_name(impl, slot):
    witness = Witness(slot)
    with Served(impl, witness, heartbeat=slot) as served:
        long = "/" + "x" * 300
        client = served.client(get("/1") + post(b"body", target="/2") + get(long) + get("/4"))
        for _ in range(4):
            client.answer()
        told = [(call.method, call.target, call.cut) for [call] in witness.seen]
        kept = long[:TARGET_SIZE]
        assert told == [("GET", "/1", False), ("POST", "/2", False), ("GET", kept, True), ("GET", "/4", False)]


@pytest.mark.parametrize(
    ("sent", "told"),
    [("get", "GET"), ("Baseline-Control", "BASELINE-CONTROL"), ("baseline-control-checkout", "BASELINE-CONTROL")],
)
def test_a_method_is_told_as_the_application_sees_it_as_far_as_it_is_kept(impl, slot, sent, told):
    witness = Witness(slot)
    options = {"casefold_http_method": True, "permit_unconventional_http_method": True}
    with Served(impl, witness, heartbeat=slot, **options) as served:
        served.client(f"{sent} /a HTTP/1.1\r\nHost: a\r\n\r\n".encode()).answer()
        assert witness.seen[0][0].method == told and len(told) <= METHOD_SIZE


def test_the_shortest_head_there_is(impl, slot):
    witness = Witness(slot)
    with Served(impl, witness, heartbeat=slot, permit_unconventional_http_method=True) as served:
        served.client(b"G / HTTP/1.0\r\n\r\n").answers_until_end()
        assert witness.seen[0][0][2:] == ("G", "/", False)


def test_behind_a_proxy_the_peer_is_the_client_that_its_header_names(impl, slot):
    witness = Witness(slot)
    with Served(impl, witness, heartbeat=slot, proxy_protocol="v1", proxy_allow_ips=None) as served:
        served.connect(b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 80\r\n" + get()).answer()
        served.connect(b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 80\r\n" + get()).answer()
        assert [call.peer for [call] in witness.seen] == ["192.0.2.7:4711", "[2001:db8::7]:4711"]


def test_a_peer_of_this_machine_has_no_address(impl, slot, tmp_path):
    witness = Witness(slot)
    with Served(impl, witness, heartbeat=slot, unix=str(tmp_path / "socket")) as served:
        served.connect(get()).answer()
        assert witness.seen[0][0].peer == ""


def test_calls_at_the_same_time_are_told_of_each_the_oldest_first(impl, slot):
    gate = Gate()
    with crew(impl, gate, threads=2, heartbeat=slot) as served:
        clients = []
        for number in range(2):
            clients.append(served.connect(get(f"/wait/{number}")))
            gate.await_entries(1)
        assert [call.target for call in slot.calls()] == ["/wait/0", "/wait/1"]
        gate.opened.set()
        for client in clients:
            assert client.answer().status == 200
        clients[0].wait(lambda: slot.calls() == [], "both have ended")


def test_more_calls_than_records_are_made_all_the_same(impl, slot):
    from cyhorn.process.calls import CALLS

    gate = Gate()
    with crew(impl, gate, threads=CALLS + 2, heartbeat=slot) as served:
        clients = [served.connect(get(f"/wait/{number}")) for number in range(CALLS + 2)]
        gate.await_entries(CALLS + 2)
        assert len(slot.calls()) == CALLS
        gate.opened.set()
        for client in clients:
            assert client.answer().status == 200
