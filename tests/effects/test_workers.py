"""Settings of worker processes: how many, of what kind, how long they live and how they are replaced."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from tests.effects.conftest import Launch
from tests.effects.shows import shows
from tests.integration.harness import until


@shows("workers", "so many processes serve")
def test_so_many_processes_serve(launch: Launch) -> None:
    server = launch("workers = 3").ready(3)
    assert len(server.workers()) == 3
    assert server.ask("/process").json["multiprocess"] is True


@shows("worker_class", "requests are answered by the named class, and the start says so")
def test_the_named_class_serves(launch: Launch, tmp_path: Path) -> None:
    (tmp_path / "kinds.py").write_text(
        "from tests.integration.line_worker import LineWorker\n"
        "class Loud(LineWorker):\n"
        "    def serve(self, connection, peer):\n"
        "        self.log.info('served by %s', type(self).__name__)\n"
        "        super().serve(connection, peer)\n"
    )
    server = launch("worker_class = 'kinds.Loud'", folder=tmp_path)
    server.wait_for("Using worker: kinds.Loud")
    assert server.ask("/").status == 200
    server.wait_for("served by Loud")


@shows("threads", "more than one make the worker a gthread: a request waits for no other while a thread is free")
def test_requests_do_not_wait_for_each_other_while_a_thread_is_free(launch: Launch) -> None:
    server = launch("threads = 2").ready()
    server.wait_for("Using worker: gthread")
    with server.occupy(20):
        assert server.ask("/process").json["multithread"] is True


@shows("worker_connections", "with threads or gevent more connections wait until others end; a sync worker says that it has no limit")
def test_more_connections_wait_where_there_are_threads(launch: Launch) -> None:
    sync = launch("worker_connections = 2").ready()
    assert len(sync.seen(r"worker_connections \(\./cyhorn\.conf\.py:1\): ")) == 1
    threaded = launch("worker_connections, threads = 2, 2").ready()
    green = launch("worker_connections, worker_class = 2, 'gevent'").ready()
    assert not threaded.seen("worker_connections") and not green.seen("worker_connections")
    for server, limited in ((sync, False), (threaded, True), (green, True)):
        held = [server.connect() for _ in range(2)]
        for connection in held:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        with server.send("/") as further:
            further.settimeout(0.3 if limited else 20)
            if limited:
                with pytest.raises(TimeoutError):
                    further.recv(1)
                further.settimeout(20)
            for connection in held if limited else []:
                connection.close()
            assert further.recv(65536).startswith(b"HTTP/1.1 200")
        for connection in held:
            connection.close()


@shows("max_requests", "after so many requests another process answers")
def test_a_worker_is_replaced_after_so_many_requests(launch: Launch) -> None:
    server = launch("max_requests = 3")
    pids = [server.ask("/").json["pid"] for _ in range(3)]
    server.wait_for("Autorestarting worker after current request")
    server.wait_for(rf"Worker exiting \(pid: {pids[0]}\)")  # it serves what is queued for it
    assert len(set(pids)) == 1 and server.ask("/").json["pid"] != pids[0]


@shows("max_requests_jitter", "workers are replaced after different numbers of requests, none before max_requests")
def test_workers_are_not_replaced_together(launch: Launch) -> None:
    server = launch(
        "workers, max_requests, max_requests_jitter = 3, 2, 10**9\n"
        "def post_worker_init(worker): worker.log.info('UP TO %d', worker.max_requests)\n"
    )
    numbers = [int(line.split()[-1]) for line in server.wait_for("UP TO", count=3)]
    assert min(numbers) >= 2 and max(numbers) <= 2 + 10**9 and len(set(numbers)) == 3
    assert server.ready(3).ask("/").status == 200
    before = server.workers()
    for _ in range(12):  # enough for two of three, if the jitter counted for nothing
        server.ask("/")
    assert server.workers() == before


@shows("timeout", "a worker that shows no life for so long is aborted and replaced")
def test_a_stuck_worker_is_replaced(launch: Launch) -> None:
    server = launch("timeout = 1").ready()
    (old,) = server.workers()
    with server.occupy(60):
        server.wait_for(rf"WORKER TIMEOUT \(pid:{old}\)")
        until(lambda: old not in server.workers() and server.workers(), "another worker")


@shows("graceful_timeout", "a worker that is still busy so long after TERM is killed")
def test_a_busy_worker_has_so_long_to_stop(launch: Launch) -> None:
    server = launch("graceful_timeout = 1").ready()
    with server.occupy(60):
        begun = time.monotonic()
        assert server.stop() == 0
        assert 0.9 < time.monotonic() - begun < 15
    server.wait_for("killed|SIGKILL")


RELOADED = """
workers = 4
reload_concurrency = 1
def post_fork(server, worker):
    worker.log.info("BEGINS")
def post_worker_init(worker):
    import time
    time.sleep(0.05)
    worker.log.info("IS UP")
"""


@shows("reload_concurrency", "a reload boots no more than so many workers at a time")
def test_a_reload_boots_so_many_at_a_time(launch: Launch) -> None:
    server = launch(RELOADED)
    server.wait_for("IS UP", count=4)
    mark = server.mark()
    server.signal(signal.SIGHUP)
    server.wait_for("Reload done", mark)
    events = [line.split("] ")[-1] for line in server.seen("BEGINS|IS UP", mark)]
    assert events == ["BEGINS", "IS UP"] * 4


@shows("preload_app", "the application is loaded once, by the master")
def test_the_master_loads_the_application(launch: Launch) -> None:
    server = launch("preload_app, workers = True, 2").ready(2)
    assert server.seen("^LOADED in") == [f"LOADED in {server.pid}"]


@shows("gc_freeze", "what was loaded before the first request is frozen; turned off, nothing is")
def test_loaded_objects_are_frozen(launch: Launch) -> None:
    assert launch("").ask("/process").json["frozen"] > 1000
    assert launch("gc_freeze = False").ask("/process").json["frozen"] < 1000
