"""The gthread worker as processes see it: signals, time limits and reloads, whichever thread leads."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.harness import (
    APPLICATION,
    Load,
    Server,
    answer,
    is_alive,
    parse_answer,
    to_the_end,
    until,
)

Serve = Callable[..., Server]

pytestmark = pytest.mark.kinds("gthread-compiled", "gthread-python")

THREADS = "threads = 2\n"

#: Blocks in C and, as ctypes has given the GIL away, where no handler of the main thread can run.
STUCK = """
import ctypes, os
libc = ctypes.CDLL(None)

def wrapped(environ, start_response):
    if environ["PATH_INFO"] == "/stuck":
        os.write(1, b"SLEEPING\\n")
        left = 60.0
        while left:
            left = libc.sleep(60)
    return inner(environ, start_response)

inner, app = app, wrapped
"""


def test_a_request_that_lasts_longer_than_timeout_is_left_alone_while_another_thread_is_free(
    serve: Serve,
) -> None:
    server = serve(THREADS + "timeout = 1").ready()
    worker = server.workers()
    with server.occupy(2.5) as slow:
        assert answer(slow) == "slept"
    assert server.get("/") == "one" and server.workers() == worker


@pytest.mark.provokes("is stuck in", "Error handling request", "exited with code 1", "Traceback")
def test_a_worker_all_of_whose_threads_are_stuck_is_replaced(serve: Serve) -> None:
    server = serve(THREADS + "timeout = 1").ready()
    (worker,) = server.workers()
    with server.occupy(60), server.occupy(60):
        server.wait_for(rf"WORKER TIMEOUT \(pid:{worker}\)")
        until(lambda: not is_alive(worker), "the stuck worker's end")
        server.ready(1)
        assert server.get("/") == "one"


@pytest.mark.rule(45)
@pytest.mark.provokes("WORKER TIMEOUT", "is stuck in", "Error handling request", "exited with code 1", "Traceback")
@pytest.mark.parametrize("target", ["/sleep?60", "/stuck"])
def test_the_clients_of_stuck_threads_are_told_504_also_where_no_thread_can_be_interrupted(
    serve: Serve, tmp_path: Path, target: str
) -> None:
    (tmp_path / "app.py").write_text(APPLICATION.format(version="one") + STUCK)
    server = serve("threads = 3\ntimeout = 1").ready()
    clients = [server.send(target) for _ in range(3)]
    server.wait_for("SLEEPING", count=3)
    for client in clients:
        with client:
            assert parse_answer(to_the_end(client)).status == 504
    server.ready(1)


@pytest.mark.parametrize("busy", [1, 2])
def test_term_lets_requests_end_whichever_thread_has_them(serve: Serve, busy: int) -> None:
    server = serve(THREADS).ready()
    slow = [server.occupy(1) for _ in range(busy)]
    server.signal(signal.SIGTERM)
    for connection in slow:
        with connection:
            assert answer(connection) == "slept"
    assert server.wait_exit() == 0
    assert not server.seen("^Traceback|ERROR|WARNING")


@pytest.mark.provokes("Error handling request", "Traceback")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_a_quick_stop_does_not_wait_for_threads_that_are_stuck_in_c(
    serve: Serve, tmp_path: Path, number: int
) -> None:
    (tmp_path / "app.py").write_text(APPLICATION.format(version="one") + STUCK)
    server = serve(THREADS + "graceful_timeout = 30").ready()
    with server.send("/stuck"), server.send("/stuck"):
        server.wait_for("SLEEPING", count=2)
        server.signal(number)
        assert server.wait_exit(6) == 0


def test_reloads_lose_no_request(serve: Serve) -> None:
    server = serve("workers = 2\n" + THREADS).ready(2)
    with Load(server, clients=4) as load:
        for _ in range(3):
            mark = server.mark()
            before = set(server.workers())
            server.signal(signal.SIGHUP)
            until(lambda: not before & set(server.workers()), "the old workers' end")  # noqa: B023
            server.wait_for("Booting worker", mark, count=2)
            load.wait(20)
    assert load.failures == []
