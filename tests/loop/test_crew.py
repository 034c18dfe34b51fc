"""Several threads, one loop: whoever waits for the network calls the application, and is taken over.

The applications here block on events, so that a test decides how long a call lasts; the
loop is led by a crew of threads beside the test.
"""

from __future__ import annotations

import contextvars
import gc
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from cyhorn.errors import TakenOver
from tests.loop.driver import PATIENCE, Served, Written, access_lines, get, post


class Gate:
    """An application that blocks in /wait until it is opened, and says who called it."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.entered = threading.Semaphore(0)
        self.inside = 0
        self.most = 0
        self.lock = threading.Lock()
        self.called: list[str] = []

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        target = environ["PATH_INFO"]
        self.called.append(target)
        if target.startswith("/wait"):
            with self.lock:
                self.inside += 1
                self.most = max(self.most, self.inside)
            self.entered.release()
            assert self.opened.wait(PATIENCE)
            with self.lock:
                self.inside -= 1
        body = target.encode()
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]

    def await_entries(self, count: int) -> None:
        for _ in range(count):
            assert self.entered.acquire(timeout=PATIENCE)


@contextmanager
def crew(impl: Any, application: Callable[..., Any], threads: int = 4, **options: Any) -> Iterator[Served]:
    served = Served(impl, application, max_calls=threads, multithread=True, **options)
    with served, served.in_thread(impl.crew.Crew(served.loop, threads).run):
        yield served


def test_a_blocked_call_keeps_nobody_waiting_while_a_thread_is_free(impl):
    gate = Gate()
    with crew(impl, gate) as served:
        slow = served.connect(get("/wait"))
        gate.await_entries(1)
        assert [served.connect(get(f"/{n}")).answer().body for n in range(20)] == [b"/%d" % n for n in range(20)]
        gate.opened.set()
        assert slow.answer().body == b"/wait"
        assert slow.send(get("/again")).answer().body == b"/again"


def test_no_more_calls_are_made_at_a_time_than_there_are_threads(impl):
    gate = Gate()
    with crew(impl, gate, threads=2) as served:
        slow = [served.connect(get("/wait")) for _ in range(5)]
        gate.await_entries(2)
        late = served.connect(get("/late"))
        assert not gate.entered.acquire(timeout=0.05) and "/late" not in gate.called
        gate.opened.set()
        assert [client.answer().body for client in [*slow, late]] == [b"/wait"] * 5 + [b"/late"]
        assert gate.most == 2


def test_connections_are_seen_to_while_every_thread_is_in_the_application(impl):
    gate = Gate()
    with crew(impl, gate, threads=1, client_header_timeout=0.05) as served:
        slow = served.connect(get("/wait"))
        gate.await_entries(1)
        half = served.connect(b"GET / HT")
        assert half.answer().status == 408
        assert served.connect(b"GET nothing\r\n\r\n").answer().status == 400
        gate.opened.set()
        assert slow.answer().status == 200


def test_pipelined_requests_are_answered_in_order_and_one_after_the_other(impl):
    gate = Gate()
    with crew(impl, gate) as served:
        client = served.connect(get("/a") + get("/wait/b") + get("/c") + get("/d"))
        assert client.answer().body == b"/a"
        gate.await_entries(1)
        served.connect(get("/other")).answer()
        assert gate.called == ["/a", "/wait/b", "/other"]
        gate.opened.set()
        assert [client.answer().body for _ in range(3)] == [b"/wait/b", b"/c", b"/d"]


def test_what_comes_in_during_a_call_is_read_after_it(impl):
    gate = Gate()
    with crew(impl, gate) as served:
        client = served.connect(get("/wait"))
        gate.await_entries(1)
        client.send(post(b"x" * 100_000, target="/post"))
        assert served.connect(get("/")).answer().status == 200
        gate.opened.set()
        assert [client.answer().body for _ in range(2)] == [b"/wait", b"/post"]


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_client_that_leaves_during_its_call_is_only_forgotten_after_it(impl, how):
    gate = Gate()
    with crew(impl, gate) as served:
        client = served.connect(get("/wait"))
        gate.await_entries(1)
        if how == "reset":
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
        began = time.process_time()
        other = served.connect(get("/"))
        other.answer()
        assert time.process_time() - began < 5  # the loop does not spin on the dead connection
        assert served.loop.connections == 2
        gate.opened.set()
        other.wait(lambda: served.loop.connections == 1, "the connection ends")
        assert served.log.of("error", "exception") == []


def test_call_items_and_close_are_in_one_thread_and_one_context(impl):
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")
    seen: dict[str, list[tuple[int, str]]] = {}
    local = threading.local()

    class Body:
        def __init__(self, name: str) -> None:
            self.name = name

        def note(self) -> None:
            seen[self.name].append((threading.get_ident(), variable.get() + local.name))

        def __iter__(self) -> Iterator[bytes]:
            for _ in range(3):
                time.sleep(0.004)  # longer than the watch waits: the loop is taken over meanwhile
                self.note()
                yield b"x"

        def close(self) -> None:
            self.note()

    def application(environ, start_response):
        name = environ["PATH_INFO"]
        assert variable.get() == "none"
        variable.set(name)
        local.name = name
        seen[name] = []
        body = Body(name)
        body.note()
        start_response("200 OK", [])
        return body

    with crew(impl, application, threads=3) as served:
        clients = [served.connect(get(f"/{n}")) for n in range(12)]
        assert [client.answer().body for client in clients] == [b"xxx"] * 12
        clients[0].wait(lambda: all(len(notes) == 5 for notes in seen.values()), "every close()")
    assert all(len(set(notes)) == 1 for notes in seen.values())
    assert all(notes[0][1] == name * 2 for name, notes in seen.items())


def test_a_response_that_was_taken_over_streams_and_is_queued_as_any_other(impl):
    go = threading.Semaphore(0)
    block = b"y" * 300_000

    def application(environ, start_response):
        start_response("200 OK", [])
        if environ["PATH_INFO"] == "/":
            return [b"fast"]

        def items() -> Iterator[bytes]:
            yield b"first"
            assert go.acquire(timeout=PATIENCE)
            for _ in range(20):
                yield block

        return items()

    with crew(impl, application) as served:
        client = served.connect(get("/stream"))
        client.wait(lambda: b"first" in client.data, "the first item")
        assert served.connect(get()).answer().body == b"fast"
        go.release()
        assert client.answer().body == b"first" + block * 20
        assert client.send(get()).answer().body == b"fast"


def test_a_body_is_read_by_the_application_while_others_are_served(impl):
    began = threading.Event()

    def application(environ, start_response):
        body = b"fast"
        if environ["PATH_INFO"] == "/up":
            began.set()
            body = environ["wsgi.input"].read()
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]

    with crew(impl, application, buffer_request_body=False) as served:
        up = served.connect(post(b"1234567890", target="/up")[:-5])
        assert began.wait(PATIENCE)
        assert served.connect(get()).answer().body == b"fast"
        up.send(b"67890")
        answer = up.answer()
        assert answer.body == b"1234567890" and answer.closes


def test_a_stop_lets_the_calls_end_and_says_that_their_connections_do(impl):
    gate = Gate()
    with crew(impl, gate) as served:
        slow = [served.connect(get("/wait")) for _ in range(3)]
        gate.await_entries(3)
        served.loop.stop()
        served.wake()
        slow[0].wait(lambda: served.listener.fileno() == -1, "the listener closes")
        gate.opened.set()
        for client in slow:
            answer = client.answer()
            assert answer.body == b"/wait"
            client.until_end()


def test_a_thread_that_the_application_wants_to_end_lives_on(impl):
    def application(environ, start_response):
        if environ["PATH_INFO"] == "/exit":
            time.sleep(0.004)
            raise SystemExit(3)
        start_response("200 OK", [])
        return [b"alive"]

    with crew(impl, application, threads=2) as served:
        for _ in range(4):
            assert served.connect(get("/exit")).answer().status == 500
        assert served.connect(get()).answer().body == b"alive"


def test_early_hints_belong_to_the_request_of_their_thread(impl):
    together = threading.Barrier(2)

    def application(environ, start_response):
        name = environ["PATH_INFO"]
        together.wait(PATIENCE)
        environ["wsgi.early_hints"]([("Link", name)])
        start_response("200 OK", [("Content-Length", "2")])
        return [b"ok"]

    with crew(impl, application) as served:
        clients = {name: served.connect(get(name)) for name in ("/a", "/b")}
        for name, client in clients.items():
            hints = client.answer()
            assert (hints.status, hints.get("Link")) == (103, name)
            assert client.answer().body == b"ok"


def test_errors_of_a_call_that_was_taken_over_are_answered_and_logged_once(impl):
    def application(environ, start_response):
        time.sleep(0.004)
        raise ValueError("no")

    with crew(impl, application) as served:
        client = served.connect(get("/bad"))
        assert client.answer().status == 500
        assert served.connect(get("/bad")).answer().status == 500
        assert len(served.log.tracebacks) == 2


def test_max_requests_counts_the_calls_of_all_threads(impl):
    reached: list[int] = []
    gate = Gate()
    with crew(impl, gate, max_requests=3, on_max_requests=lambda: reached.append(1)) as served:
        slow = [served.connect(get("/wait")) for _ in range(2)]
        gate.await_entries(2)
        last = served.connect(get("/last")).answer()
        assert last.closes and reached == [1]
        gate.opened.set()
        for client in slow:
            answer = client.answer()
            assert answer.body == b"/wait" and answer.closes


def test_calls_one_after_the_other_by_many_clients_are_all_answered(impl):
    def application(environ, start_response):
        number = int(environ["PATH_INFO"][1:])
        if number % 5 == 0:
            time.sleep(0.002)
        body = str(number).encode()
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]

    with crew(impl, application) as served:
        clients = [served.connect() for _ in range(8)]
        for round_ in range(40):
            for n, client in enumerate(clients):
                client.send(get(f"/{round_ * 8 + n}"))
            for n, client in enumerate(clients):
                assert client.answer().body == str(round_ * 8 + n).encode()


def test_a_call_that_ends_while_the_leader_writes_its_log_does_not_wait_for_the_next_event(impl):
    gate = Gate()

    class Log(Written):
        def write(self, lines: bytes, begun: bool) -> None:
            super().write(lines, begun)
            gate.opened.set()
            caller.join(PATIENCE)

    def call() -> None:
        with suppress(TakenOver):
            served.turn(PATIENCE)

    lines = access_lines(impl, lambda response, environ, seconds: environ["PATH_INFO"], Log())
    options = {"max_calls": 2, "multithread": True, "access_lines": lines, "tick": PATIENCE}
    with Served(impl, gate, **options) as served:
        others = [served.client(), served.client()]
        waiting = served.connect(get("/wait", "Connection: close"))
        caller = threading.Thread(target=call)
        caller.start()
        gate.await_entries(1)
        assert served.loop.take_over(served.loop.call_ticket)
        for client in others:
            client.send(get("/other"))
        served.turn()
        begun = time.monotonic()
        served.turn(PATIENCE)
        assert time.monotonic() - begun < PATIENCE / 2
        assert waiting.answers_until_end()[0].body == b"/wait"


def test_one_thread_leads_also_where_the_collector_runs_while_another_takes_over(impl):
    gate = Gate()
    led_on: list[bool] = []

    def call() -> None:
        with suppress(TakenOver):
            served.turn(PATIENCE)
            led_on.append(True)

    def collects(phase: str, info: dict[str, int]) -> None:
        gate.opened.set()
        caller.join(0.2)  # where the other thread is kept from returning it does so afterwards

    with Served(impl, gate, max_calls=2, multithread=True) as served:
        client = served.connect(get("/wait"))
        caller = threading.Thread(target=call)
        caller.start()
        gate.await_entries(1)
        ticket = served.loop.call_ticket
        thresholds = gc.get_threshold()
        gc.callbacks.append(collects)
        gc.set_threshold(1)
        try:
            led_on.append(served.loop.take_over(ticket))
        finally:
            gc.set_threshold(*thresholds)
            gc.callbacks.remove(collects)
        gate.opened.set()
        caller.join(PATIENCE)
        assert led_on.count(True) == 1
        assert client.answer().body == b"/wait"


class Beats:
    def __init__(self) -> None:
        self.count = 0
        self.requests = self.connections = 0

    def notify(self) -> None:
        self.count += 1


@pytest.mark.parametrize("threads", [1, 2])
def test_a_worker_beats_until_all_its_calls_are_stuck(impl, threads):
    gate, beats = Gate(), Beats()
    with crew(impl, gate, threads=threads, timeout=0.05, tick=0.01, heartbeat=beats) as served:
        slow = [served.connect(get("/wait")) for _ in range(threads - 1)]
        gate.await_entries(threads - 1)
        time.sleep(0.1)  # past the timeout: what is stuck is one less than all
        before = beats.count
        served.connect(get("/")).wait(lambda: beats.count > before + 3, "beats go on")
        slow.append(served.connect(get("/wait")))
        gate.await_entries(1)

        def still() -> bool:
            before = beats.count
            time.sleep(0.05)
            return beats.count == before

        slow[0].wait(still, "the beats end")
        gate.opened.set()
        before = beats.count
        slow[0].wait(lambda: beats.count > before, "beats come back")
