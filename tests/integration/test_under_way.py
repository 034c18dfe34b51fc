"""What is under way when a worker or its master is to end, or does: answers, streams, uploads, slow readers."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.accounts import open_files
from tests.integration.client import Failed, KeptConnection, Traffic, drip
from tests.integration.harness import SOON, Server, is_alive, processes, until
from tests.loop.driver import read_all

Serve = Callable[..., Server]


class Exchanges:
    """A request of each kind that takes its time: begun when made, and to be brought to its end."""

    def __init__(self, server: Server) -> None:
        self._connections = [server.connect() for _ in range(4)]
        self.answer, self.stream, self.upload, self.reader = self._connections
        self.upload.sendall(b"POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n1")
        self.reader.sendall(b"GET /large?30000000 HTTP/1.1\r\nHost: a\r\n\r\n")
        self._begun = self.reader.recv(1000)
        mark = server.mark()
        self.answer.sendall(b"GET /sleep?0.5 HTTP/1.1\r\nHost: a\r\n\r\n")
        server.wait_for("SLEEPING", mark)
        self.stream.sendall(b"GET /stream?10,0.05 HTTP/1.1\r\nHost: a\r\n\r\n")

    def end_whole(self) -> None:
        """All of them, to the letter."""
        drip(self.upload, b"2345", 0.1)
        bodies = []
        for connection, begun in zip(self._connections, (b"", b"", b"", self._begun), strict=True):
            received = [begun]
            while piece := connection.recv(1 << 20):
                received.append(piece)
            [answer] = read_all(b"".join(received))
            bodies.append(answer.body)
            connection.close()
        assert bodies[0] == b"slept" and len(bodies[1]) == 10 * 1024
        assert bodies[2] == b"5" and len(bodies[3]) == 30_000_000


@pytest.mark.rule(32, 34)
@pytest.mark.parametrize("how", ["TERM", "HUP", "TERM to the worker"])
def test_what_is_under_way_ends_whole(serve_workload: Serve, how: str) -> None:
    server = serve_workload("workers = 1").ready()
    [worker] = server.workers()
    exchanges = Exchanges(server)
    if how == "TERM to the worker":
        os.kill(worker, signal.SIGTERM)
    else:
        server.signal(getattr(signal, f"SIG{how}"))
    exchanges.end_whole()
    until(lambda: not is_alive(worker), "its end")
    assert server.wait_exit() == 0 if how == "TERM" else server.stop() == 0


@pytest.mark.rule(30, 31)
def test_at_term_whoever_connects_is_answered_or_refused(serve_workload: Serve) -> None:
    server = serve_workload("workers = 2").ready(2)
    with Traffic(server.connect, 4, keep_alive=False) as traffic:
        traffic.wait(50)
        server.signal(signal.SIGTERM)
        until(lambda: traffic.counts["refused"], "the end of the listener")
        assert server.wait_exit() == 0
    assert [failure for failure in traffic.failures if "ConnectionRefused" not in failure] == []


@pytest.mark.rule(15)
def test_connections_of_old_generations_cost_the_master_nothing_and_end_with_their_grace(
    serve_workload: Serve,
) -> None:
    server = serve_workload("workers = 1\ngraceful_timeout = 30").ready()
    before = open_files(server.pid)
    held = []
    for _ in range(4):
        reader = server.connect()
        reader.sendall(b"GET /large?30000000 HTTP/1.1\r\nHost: a\r\n\r\n")
        assert reader.recv(100)
        held.append(reader)
        mark = server.mark()
        server.signal(signal.SIGHUP)
        server.wait_for("Reload done", mark)
    assert 1 < len(server.workers()) <= 5, "each of the past has one reader, or more"
    assert open_files(server.pid) == before
    for reader in held:
        while reader.recv(1 << 20):
            pass
        reader.close()
    until(lambda: len(server.workers()) == 1, "the end of the old generations")


@pytest.mark.rule(21, 22)
@pytest.mark.provokes("was sent SIG", "exited with code", "do not stay up")
@pytest.mark.parametrize("target", ["/segfault", "/exit?0", "/exit?7"])
def test_an_application_that_kills_its_worker_costs_that_connection_alone(serve_workload: Serve, target: str) -> None:
    server = serve_workload("workers = 2").ready(2)
    with Traffic(server.connect, 2, keep_alive=False) as others:
        for _ in range(3):
            victim = KeptConnection(server.connect)
            with pytest.raises(Failed, match="lost"):
                victim.ask(target)
            others.wait(20)
    # Fresh connections: one that the dying worker had accepted is lost with it, and no other.
    assert all(failure.startswith("lost") for failure in others.failures) and len(others.failures) <= 6
    until(lambda: server.zombies() == [], "no zombie", SOON)
    until(lambda: len(server.workers()) == 2, "two workers")
    survivor = KeptConnection(server.connect, keep_alive=False)
    assert survivor.ask("/").body == b"ok"


@pytest.mark.rule(27)
@pytest.mark.provokes("WORKER TIMEOUT", "is stuck in", "was sent SIG", "Error handling request GET /hold", "exited with code 1")
def test_a_worker_that_is_blocked_in_c_is_replaced(serve_workload: Serve) -> None:
    server = serve_workload("workers = 1\ntimeout = 1").ready()
    [victim] = server.workers()
    connection = server.send("/hold?30")
    server.wait_for("HOLDING")
    until(lambda: not is_alive(victim), "its end", 2 + SOON)
    server.ready(1)
    connection.close()


@pytest.fixture
def subreaper() -> Iterator[None]:
    """Orphans become children of this process, not of process 1."""
    prctl, set_subreaper = ctypes.CDLL(None).prctl, 36
    assert prctl(set_subreaper, 1, 0, 0, 0) == 0
    yield
    prctl(set_subreaper, 0, 0, 0, 0)


@pytest.mark.rule(24)
def test_orphans_leave_also_under_a_subreaper(serve: Serve, subreaper: None) -> None:
    server = serve("workers = 2").ready(2)
    workers = set(server.workers())
    server.signal(signal.SIGKILL)
    until(lambda: not any(is_alive(pid) for pid in workers), "the end of the orphans", SOON)
    for pid in workers:
        assert any(found == pid and ppid == os.getpid() for found, ppid, _ in processes()), "it came to us"
        os.waitpid(pid, 0)


@pytest.mark.rule(10)
@pytest.mark.provokes(
    "Exception in worker process", "exited with code", "was sent SIGKILL", "cannot be preloaded", "do not stay up"
)
@pytest.mark.parametrize("preload", [False, True])
def test_a_worker_that_dies_after_a_failed_reload_takes_no_other_with_it(serve_any: Serve, preload: bool) -> None:
    """With preload the master has the old code still; without, the new code is tried again ever later."""
    server = serve_any(f"workers = 2\npreload_app = {preload}").ready(2)
    server._replace(server.application_file, "raise RuntimeError('broken')\n")
    server.signal(signal.SIGHUP)
    server.wait_for("Reload failed")
    victim, other = sorted(server.workers())[:2]
    mark = server.mark()
    os.kill(victim, signal.SIGKILL)
    if preload:
        until(lambda: len(set(server.workers()) - {victim}) == 2, "the replacement, from the old code")
    else:
        server.wait_for("exited with code 3", mark, count=3)
        assert len(server.seen("Booting worker", mark)) <= 5, "no crash loop"
    for _ in range(20):
        assert server.get() == "one"
    assert other in server.workers()
    mark = server.mark()
    server.write_application("mended")
    server.signal(signal.SIGHUP)
    server.wait_for("Reload done", mark)
    server.serves("mended")


@pytest.mark.rule(5)
@pytest.mark.provokes("Connection in use", "connection to .* failed|Can't connect|cannot listen at")
def test_the_last_try_to_bind_ends_with_1_and_each_names_address_and_cause(serve_any: Serve, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        host, port = taken.getsockname()
        server = serve_any(bind=f"{host}:{port}")
        assert server.wait_exit() == 1
    tries = server.seen(rf"{host}.*{port}")
    assert len(tries) >= 5 and server.seen("Errno 98")
    assert not server.seen("^Traceback")
