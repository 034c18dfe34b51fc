"""TERM, INT and QUIT: what was accepted is answered, and nothing is left behind."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.harness import SOON, Server, answer, is_alive, until

Serve = Callable[..., Server]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
@pytest.mark.rule(2, 34)
def test_a_signal_that_ends_it_ends_it_with_0_and_leaves_nothing(
    serve: Serve, tmp_path: Path, number: int
) -> None:
    server = serve("workers = 2\npidfile = 'pid'\nbind = 'unix:socket'", bind="").ready(2)
    workers = server.workers()
    server.signal(number)
    assert server.wait_exit(SOON) == 0
    assert not any(is_alive(pid) for pid in workers)
    assert not (tmp_path / "pid").exists() and not (tmp_path / "socket").exists()
    assert not server.seen("^Traceback|ERROR|WARNING")


@pytest.mark.rule(30, 31, 32)
def test_term_answers_what_is_under_way_and_what_the_kernel_has_queued(serve: Serve) -> None:
    server = serve("workers = 1").ready()
    busy = server.occupy(0.5)
    queued = [server.send("/") for _ in range(5)]
    server.signal(signal.SIGTERM)
    assert answer(busy) == "slept"
    assert [answer(connection) for connection in queued] == ["one"] * 5
    assert server.wait_exit() == 0
    for connection in (busy, *queued):
        connection.close()


@pytest.mark.rule(34)
@pytest.mark.provokes("did not stop in time", "was sent SIGKILL")
def test_after_graceful_timeout_workers_are_killed(serve: Serve, tmp_path: Path) -> None:
    server = serve("workers = 2\ngraceful_timeout = 1\npidfile = 'pid'").ready(2)
    workers = server.workers()
    with server.occupy(30):
        until(lambda: server.get("/pid"), "the other worker")
        begun = time.monotonic()
        assert server.stop() == 0
        assert 0.9 < time.monotonic() - begun < SOON
    assert not any(is_alive(pid) for pid in workers)
    assert not (tmp_path / "pid").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
@pytest.mark.rule(33)
@pytest.mark.provokes("Error handling request GET /sleep")
def test_a_quick_stop_does_not_wait_for_requests(serve: Serve, number: int) -> None:
    server = serve("graceful_timeout = 30").ready()
    with server.occupy(30):
        server.signal(number)
        assert server.wait_exit(SOON) == 0


@pytest.mark.rule(33)
@pytest.mark.provokes("did not stop in time", "was sent SIGKILL")
def test_a_thread_that_does_not_end_does_not_hold_up_a_quick_stop(serve: Serve, tmp_path: Path) -> None:
    server = serve("graceful_timeout = 30")
    server.write_application(
        "x", before="import threading, time\nthreading.Thread(target=time.sleep, args=[60]).start()\n"
    )
    server.wait_for("Booting worker")
    until(lambda: server.answering(1), "a worker")
    server.signal(signal.SIGQUIT)
    assert server.wait_exit(SOON) == 0


@pytest.mark.rule(33)
@pytest.mark.provokes("Error handling request GET /sleep")
def test_a_second_term_hastens(serve: Serve) -> None:
    server = serve("graceful_timeout = 30").ready()
    with server.occupy(30):
        server.signal(signal.SIGTERM)
        mark = server.mark()
        server.wait_for("Handling signal: term")
        until(lambda: server.signal(signal.SIGTERM) or server.seen("Quick shutdown requested", mark), "haste")
        assert server.wait_exit(SOON) == 0


def test_the_same_term_twice_is_one(serve: Serve) -> None:
    """Tools send it to a process and to its group."""
    server = serve().ready()
    with server.occupy(0.7) as connection:
        server.signal(signal.SIGTERM)
        server.signal(signal.SIGTERM)
        server.wait_for("Handling signal: term")
        server.signal(signal.SIGTERM)
        assert answer(connection) == "slept"
    assert server.wait_exit() == 0
    assert not server.seen("Quick shutdown")


@pytest.mark.rule(35)
def test_term_during_the_boot_is_obeyed(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("import os, time; os.write(1, b'LOADING\\n'); time.sleep(60)\n")
    server = serve("workers = 2")
    server.wait_for("LOADING", count=2)
    server.signal(signal.SIGTERM)
    assert server.wait_exit(SOON) == 0


@pytest.mark.rule(35)
def test_term_right_after_the_start_is_obeyed(serve_any: Serve, tmp_path: Path) -> None:
    server = serve_any("workers = 2")
    server.wait_for("Listening at")
    assert server.stop() == 0


@pytest.mark.rule(35)
def test_a_term_that_the_booting_application_swallows_is_repeated(serve_any: Serve, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(
        "import os, time\n"
        "try:\n    os.write(1, b'LOADING\\n')\n    time.sleep(60)\n"
        "except BaseException:\n    os.write(1, b'SWALLOWED\\n')\n"
        "time.sleep(60)\n"
    )
    server = serve_any()
    server.wait_for("LOADING")
    server.signal(signal.SIGTERM)
    server.wait_for("SWALLOWED")
    assert server.wait_exit(SOON) == 0
