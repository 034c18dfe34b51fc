"""Workers that die, hang, leave or are too many, and masters that die."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.harness import (
    APPLICATION,
    SOON,
    Broken,
    Load,
    Server,
    answer,
    is_alive,
    open_files,
    parse_answer,
    to_the_end,
    until,
)

Serve = Callable[..., Server]

#: ``/hold`` calls into C, as an extension module may that computes, or waits, without letting anybody else run.
HOLDS_THE_INTERPRETER = """
import ctypes

plain = app

def app(environ, start_response):
    if environ["PATH_INFO"] == "/hold":
        os.write(1, b"HOLDING\\n")
        while True:
            ctypes.PyDLL(None).sleep(60)
    return plain(environ, start_response)
"""


@pytest.mark.rule(21, 22)
def test_a_killed_worker_is_replaced_at_once_and_its_end_is_explained(serve: Serve) -> None:
    server = serve("workers = 2").ready(2)
    victim, other = server.workers()
    mark = server.mark()
    os.kill(victim, signal.SIGKILL)
    until(lambda: len(set(server.workers()) - {victim}) == 2, "the replacement", SOON)
    line = server.wait_for(rf"Worker \(pid:{victim}\) was sent SIGKILL!", mark)[0]
    assert "memory" not in line
    assert other in server.workers()
    until(lambda: server.zombies() == [], "no zombie", SOON)


@pytest.mark.rule(22)
@pytest.mark.provokes("was sent SIGKILL")
def test_workers_that_are_killed_young_again_and_again_are_replaced_within_a_second(serve_any: Serve) -> None:
    """They may crash by themselves as soon as they serve: that costs a pause, but one below a second."""
    server = serve_any("workers = 1").ready()
    for _ in range(6):
        os.kill(server.workers()[0], signal.SIGKILL)
        until(lambda: server.answering(1), "the replacement")
    assert not server.seen("do not stay up")


@pytest.mark.rule(22)
def test_workers_that_exit_by_themselves_are_named_with_their_status(serve: Serve) -> None:
    server = serve("workers = 2").ready(2)
    for status in (3, 4, 255):  # which end the master only while it boots
        mark = server.mark()
        with pytest.raises(Broken):
            server.get(f"/crash?{status}")
        server.wait_for(rf"Worker \(pid:\d+\) exited with code {status}", mark)
        until(lambda: server.answering(2), "the replacement")
    assert server.stop() == 0


@pytest.mark.rule(1, 21)
@pytest.mark.provokes("was sent SIGKILL")
def test_when_all_workers_are_killed_at_once_connections_are_queued_not_refused(serve_any: Serve) -> None:
    server = serve_any("workers = 2").ready(2)
    for pid in server.workers():
        os.kill(pid, signal.SIGKILL)
    assert server.get() == "one"
    until(lambda: server.zombies() == [], "no zombie", SOON)


@pytest.mark.rule(23)
def test_the_workers_of_a_killed_master_leave_at_once(serve: Serve) -> None:
    server = serve("workers = 3").ready(3)
    workers = server.workers()
    server.signal(signal.SIGKILL)
    until(lambda: not any(is_alive(pid) for pid in workers), "the end of the idle orphans", SOON)


@pytest.mark.rule(23)
def test_a_stuck_worker_outlives_its_master_by_graceful_timeout_only(serve: Serve) -> None:
    server = serve("graceful_timeout = 1").ready()
    [worker] = server.workers()
    with server.occupy(60):
        server.signal(signal.SIGKILL)
        until(lambda: not is_alive(worker), "the end of the stuck orphan", SOON)


@pytest.mark.rule(23)
@pytest.mark.kinds("sync-compiled")  # the guard of the others is a thread, which is held too
def test_a_worker_that_keeps_the_interpreter_to_itself_outlives_its_master_no_longer(
    serve: Serve, tmp_path: Path
) -> None:
    (tmp_path / "app.py").write_text(APPLICATION.format(version="one") + HOLDS_THE_INTERPRETER)
    server = serve("graceful_timeout = 1").ready()
    [worker] = server.workers()
    mark = server.mark()
    with server.send("/hold"):
        server.wait_for("HOLDING", mark)
        server.signal(signal.SIGKILL)
        until(lambda: not is_alive(worker), "the end of the stuck orphan")


@pytest.mark.rule(3, 6)
@pytest.mark.provokes("Connection in use|connection to .* failed")
def test_the_successor_of_a_killed_master_gets_the_address(serve_any: Serve, tmp_path: Path) -> None:
    first = serve_any("pidfile = 'pid'").ready()
    host, port = first.address
    first.signal(signal.SIGKILL)
    second = serve_any("pidfile = 'pid'", bind=f"{host}:{port}").ready()
    assert second.get() == "one"
    assert (tmp_path / "pid").read_text() == f"{second.pid}\n"


@pytest.mark.rule(27, 45)
@pytest.mark.provokes("is stuck in", "Error handling request GET /sleep", "exited with code 1")
def test_a_silent_worker_is_aborted_with_the_stacks_in_the_log_and_replaced(serve: Serve) -> None:
    server = serve("timeout = 1").ready()
    [victim] = server.workers()
    mark = server.mark()
    with server.occupy(60):
        server.wait_for(rf"\[CRITICAL\] WORKER TIMEOUT \(pid:{victim}\)", mark, patience=SOON)
        server.wait_for(r'File ".*app\.py", line \d+ in app', mark)
        until(lambda: server.workers() not in ([], [victim]), "the replacement", SOON)
    server.serves("one")


@pytest.mark.rule(45)
@pytest.mark.kinds("sync-compiled", "sync-python")
@pytest.mark.provokes("WORKER TIMEOUT", "is stuck in", "Error handling request GET /sleep", "exited with code 1")
def test_the_client_of_a_stuck_worker_is_answered_504(serve: Serve) -> None:
    server = serve("timeout = 1\naccesslog = '-'").ready()
    with server.occupy(60) as client:
        assert parse_answer(to_the_end(client)).status == 504
    server.wait_for(r'"GET /sleep\?60 HTTP/1.1" 504 ')


@pytest.mark.rule(27)
@pytest.mark.provokes("WORKER TIMEOUT", "is stuck in", "was sent SIGKILL")
def test_a_worker_that_cannot_handle_abrt_is_killed_soon_after(serve: Serve) -> None:
    server = serve("timeout = 1").ready()
    [victim] = server.workers()
    os.kill(victim, signal.SIGSTOP)
    until(lambda: not is_alive(victim), "its end", 1 + SOON)
    server.serves("one")


@pytest.mark.rule(29)
def test_idle_workers_do_not_time_out_and_neither_with_a_silent_connection(
    serve: Serve, kind: str
) -> None:
    server = serve("timeout = 1\nworkers = 2").ready(2)
    workers = server.workers()
    # A blocking worker of a third party would wait for the silent one.
    silent = [server.connect() for _ in range(0 if kind == "third-party" else 8)]
    time.sleep(2.5)  # what must not happen within it, is what is waited for
    assert server.workers() == workers
    for connection in silent:
        connection.close()


@pytest.mark.rule(47)
def test_a_worker_that_recycles_itself_is_replaced_before_it_is_gone(serve: Serve) -> None:
    server = serve("workers = 1\nmax_requests = 3").ready()
    with Load(server, clients=2) as load:
        load.wait(40)
    assert load.failures == []
    server.wait_for("Autorestarting worker after current request")
    assert not server.seen("ERROR|WARNING|^Traceback")


def test_a_worker_that_is_terminated_by_hand_is_replaced_at_once(serve: Serve) -> None:
    server = serve("workers = 1").ready()
    [old] = server.workers()
    connection = server.occupy(1)
    os.kill(old, signal.SIGTERM)
    server.get("/pid")  # while the old one still works
    assert is_alive(old)
    assert answer(connection) == "slept"
    connection.close()


@pytest.mark.rule(25)
def test_stray_signals_harm_neither_master_nor_workers(serve: Serve) -> None:
    server = serve("workers = 1").ready()
    [worker] = server.workers()
    for name in ("CHLD", "CONT", "WINCH", "PIPE", "USR1"):
        server.signal(getattr(signal, f"SIG{name}"))
    for name in ("CHLD", "CONT", "WINCH", "PIPE", "USR1", "HUP", "USR2", "TTIN", "TTOU"):
        os.kill(worker, getattr(signal, f"SIG{name}"))
    server.wait_for("Handling signal: winch")
    assert server.get("/pid") == str(worker)
    assert server.workers() == [worker]


@pytest.mark.rule(25, 26)
def test_ttin_and_ttou_are_counted_exactly_and_never_go_under_one(serve: Serve) -> None:
    server = serve("workers = 1").ready()
    for _ in range(4):
        server.signal(signal.SIGTTIN)
        time.sleep(0.15)  # the spacing at which they must be told apart
    until(lambda: len(server.workers()) == 5, "five workers")
    for _ in range(3):
        server.signal(signal.SIGTTOU)
        time.sleep(0.15)
    until(lambda: len(server.workers()) == 2, "two workers")
    for _ in range(4):
        server.signal(signal.SIGTTOU)
        time.sleep(0.15)
    until(lambda: len(server.workers()) == 1, "one worker")
    server.serves("one")
    assert len(server.seen("Handling signal: ttou")) == 7


def test_the_oldest_worker_leaves_first(serve_any: Serve) -> None:
    server = serve_any("workers = 1").ready()
    [first] = server.workers()
    server.signal(signal.SIGTTIN)
    until(lambda: len(server.workers()) == 2, "two workers")
    server.signal(signal.SIGTTOU)
    until(lambda: len(server.workers()) == 1, "one worker")
    assert server.workers() != [first]


@pytest.mark.rule(41)
def test_usr1_moves_master_and_workers_to_new_log_files(serve: Serve, tmp_path: Path) -> None:
    server = serve("errorlog = 'error.log'\nworkers = 2\nbind = 'unix:socket'", bind="")
    log = tmp_path / "error.log"
    until(lambda: log.exists() and log.read_text().count("Booting worker") == 2, "the boot")
    until(lambda: (tmp_path / "socket").exists(), "the socket")
    os.rename(log, tmp_path / "error.log.1")
    server.signal(signal.SIGUSR1)
    until(log.exists, "the new file")
    pids = [server.pid, *server.workers()]

    until(lambda: all(str(log) in open_files(pid) for pid in pids), "all processes at the new file")
    server.signal(signal.SIGTERM)
    assert server.wait_exit() == 0
    text = log.read_text()
    assert text.count("Worker exiting") == 2 and "Shutting down: Master" in text


@pytest.mark.rule(8)
@pytest.mark.provokes("Exception in worker process", "was sent SIGKILL", "do not stay up")
def test_crashes_in_a_row_are_tried_again_ever_later(serve_any: Serve, tmp_path: Path) -> None:
    server = serve_any().ready()
    server._replace(server.application_file, "raise RuntimeError('gone bad')\n")
    mark = server.mark()
    os.kill(server.workers()[0], signal.SIGKILL)
    begun = time.monotonic()
    server.wait_for("exited with code 3", mark, count=4)
    # Pauses of 0.1, 0.2 and 0.4 s lie between four boots.
    assert time.monotonic() - begun > 0.7
    assert server.process.poll() is None
    server.write_application("good again")
    until(lambda: server.answering(1), "the service")
    assert server.get() == "good again"


@pytest.mark.rule(21)
@pytest.mark.provokes("was sent SIGKILL", "do not stay up")
def test_no_worker_is_lost_or_doubled_in_a_storm_of_deaths(serve_any: Serve) -> None:
    server = serve_any("workers = 4").ready(4)
    for _ in range(5):
        for pid in server.workers():
            with contextlib.suppress(ProcessLookupError):  # the last round's may be dying still
                os.kill(pid, signal.SIGKILL)
        until(lambda: server.workers(), "new workers")
    until(lambda: server.answering(4), "four workers")
    until(lambda: server.zombies() == [], "no zombie", SOON)
    assert server.stop() == 0
