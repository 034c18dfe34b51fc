"""What a worker needs that waits elsewhere than in the loop: `lead_on`, `fileno` and the option `wait`.

The threads of these tests stand for greenlets: one is inside a call while the test goes on with the loop.
"""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from cyhorn.errors import Stopped, TakenOver
from tests.loop.driver import PATIENCE, Client, Served, get, hello, post

SLICE = 0.001


def is_ready(served: Served) -> bool:
    return bool(select.select([served.loop.fileno()], [], [], 0)[0])


def lead_until(served: Served, client: Client, done: Any) -> None:
    """Lead on in slices until `done()`; `client` receives meanwhile."""
    deadline = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < deadline
        served.loop.lead_on(SLICE)
        client._receive()


@contextmanager
def leading(served: Served) -> Iterator[list[BaseException | float | None]]:
    """One slice in a thread of its own; what came of it is in the list afterwards."""
    came: list[BaseException | float | None] = []

    def lead() -> None:
        try:
            came.append(served.loop.lead_on(SLICE))
        except BaseException as error:
            came.append(error)

    thread = threading.Thread(target=lead)
    thread.start()
    yield came
    thread.join(PATIENCE)
    assert not thread.is_alive()


def test_the_descriptor_is_readable_exactly_while_something_is_ready(impl):
    with Served(impl, hello, max_calls=9) as served:
        assert not is_ready(served)
        client = served.connect(get())
        assert is_ready(served)
        lead_until(served, client, lambda: b"hello" in client.data)
        assert not is_ready(served)
        client.send(get())
        assert is_ready(served)


def test_who_leads_on_does_not_wait_and_says_when_it_is_needed_again(impl):
    with Served(impl, hello, max_calls=9, tick=60.0, client_header_timeout=5.0) as served:
        begun = time.process_time(), time.monotonic()
        assert 50 < served.loop.lead_on(SLICE) <= 60.01
        served.connect(b"GET / HT")
        assert 4 < served.loop.lead_on(SLICE) <= 5.01
        assert min(time.process_time() - begun[0], time.monotonic() - begun[1]) < 1


def test_who_leads_on_serves_for_a_slice_and_leaves_the_rest_ready(impl):
    def application(environ, start_response):
        until = time.monotonic() + SLICE
        while time.monotonic() < until:
            pass
        if len(calls) < 10:
            clients[len(calls) % 2].sock.send(get())  # there is always something ready
        calls.append(None)
        return hello(environ, start_response)

    calls: list[None] = []
    with Served(impl, application, max_calls=9) as served:
        clients = [served.client(), served.client()]
        for client in clients:
            client.sock.send(get())
        served.loop.lead_on(SLICE)
        assert len(calls) == 2 and is_ready(served)
        lead_until(served, clients[0], lambda: len(calls) == 12)


def test_nothing_is_left_to_lead_when_all_is_over(impl):
    with Served(impl, hello, max_calls=9) as served:
        client = served.client(get())
        lead_until(served, client, lambda: b"hello" in client.data)
        served.loop.stop()
        client.close()
        deadline = time.monotonic() + PATIENCE
        while served.loop.lead_on(SLICE) is not None:
            assert time.monotonic() < deadline


def test_who_was_taken_over_while_it_led_on_is_told_and_its_connection_is_seen_to_by_the_next(impl):
    entered, go = threading.Event(), threading.Event()

    def application(environ, start_response):
        if environ["PATH_INFO"] == "/wait":
            entered.set()
            assert go.wait(PATIENCE)
        return hello(environ, start_response)

    with Served(impl, application, max_calls=9) as served:
        slow, fast = served.client(), served.client()
        slow.sock.send(get("/wait") + get("/next"))
        with leading(served) as came:
            assert entered.wait(PATIENCE)
            assert served.loop.take_over(served.loop.call_ticket)
            fast.send(get())
            lead_until(served, fast, lambda: b"hello" in fast.data)
            go.set()
        assert isinstance(came[0], TakenOver)
        slow.sock.setblocking(True)
        slow.sock.settimeout(PATIENCE)
        assert b"hello" in slow.sock.recv(65536)
        slow.sock.setblocking(False)
        lead_until(served, slow, lambda: b"hello" in slow.data)


def test_a_large_answer_waits_for_its_reader_within_its_call(impl):
    """So that others can be served meanwhile."""
    waits: list[tuple[int | None, int, float]] = []

    def wait(fd: int, events: int, seconds: float) -> bool:
        waits.append((served.loop.call_ticket, events, seconds))
        client._receive()
        return True

    def application(environ, start_response):
        start_response("200 OK", [])
        return [b"x" * 3_000_000]

    sizes = {"response_buffer_size": 0, "response_spool_size": 0}
    with Served(impl, application, max_calls=9, wait=wait, send_timeout=7.0, **sizes) as served:
        client = served.client(send_buffer=4096)
        client.sock.send(get())
        lead_until(served, client, lambda: b"x" in client.data)
        assert client.answer().body == b"x" * 3_000_000
    assert {(ticket, events) for ticket, events, _ in waits} == {(1, select.POLLOUT)}
    assert all(0 < seconds <= 1 for *_, seconds in waits)


def test_the_option_waits_for_a_body_that_the_application_reads(impl):
    waits: list[int] = []

    def wait(fd: int, events: int, seconds: float) -> bool:
        waits.append(events)
        if len(waits) < 3:
            return False  # the time is not over
        client.sock.send(b"rest")
        return True

    def application(environ, start_response):
        body = environ["wsgi.input"].read()
        start_response("200 OK", [])
        return [body]

    with Served(impl, application, max_calls=9, wait=wait, buffer_request_body=False) as served:
        client = served.client()
        client.sock.send(post(b"half rest")[:-4])
        lead_until(served, client, lambda: b"half rest" in client.data)
    assert waits == [select.POLLIN] * 3


def test_a_client_that_keeps_the_option_waiting_is_given_up_after_client_body_timeout(impl):
    def wait(fd: int, events: int, seconds: float) -> bool:
        time.sleep(min(seconds, 0.01))
        return False

    def application(environ, start_response):
        environ["wsgi.input"].read()
        return hello(environ, start_response)

    options = {"wait": wait, "buffer_request_body": False, "client_body_timeout": 0.05}
    with Served(impl, application, max_calls=9, **options) as served:
        client = served.client()
        client.sock.send(post(b"half rest")[:-4])
        lead_until(served, client, lambda: client.data)
        assert client.answer().status == 408


@pytest.mark.parametrize(("error", "leaves"), [(SystemExit, False), (Stopped, True)])
def test_only_a_signal_ends_who_leads_outside_of_the_main_thread(impl, error, leaves):
    def application(environ, start_response):
        raise error(7)

    with Served(impl, application, max_calls=9) as served:
        client = served.client()
        client.sock.send(get())
        with leading(served) as came:
            pass
        assert isinstance(came[0], Stopped if leaves else float)
        assert client.answer().status == 500
