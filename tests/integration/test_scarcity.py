"""Too many clients, bad ones, and too little of what a server lives on: descriptors, disk, memory."""

from __future__ import annotations

import os
import random
import re
import resource
import select
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.accounts import forget_peak, open_files, peak, processor_seconds, threads
from tests.integration.client import KeptConnection, Traffic, drip, reset
from tests.integration.harness import SOON, Server, listens, until

Serve = Callable[..., Server]
MEGABYTE = 1 << 20


def the_worker(server: Server) -> int:
    [pid] = server.workers()
    return pid


@pytest.mark.rule(36)
def test_slow_clients_cost_no_thread_and_hold_up_nobody(serve_workload: Serve) -> None:
    server = serve_workload("workers = 1").ready()
    worker = the_worker(server)
    before = threads(worker)
    beginnings = (b"", b"G", b"GET / HTTP/1.1\r\nHost: a\r\n", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n1234")
    slow = [server.connect() for _ in range(800)]
    for number, connection in enumerate(slow):
        connection.sendall(beginnings[number % len(beginnings)])
    with Traffic(server.connect, 2, keep_alive=False) as others:
        others.wait(200)
    assert others.failures == []
    assert threads(worker) == before
    for connection in slow:
        connection.close()


@pytest.mark.rule(28, 44)
def test_what_moves_slowly_is_no_silent_worker(serve_workload: Serve) -> None:
    """A head, a body, an answer and a stream that each take longer than `timeout`."""
    server = serve_workload("workers = 1\ntimeout = 1").ready()
    worker = the_worker(server)
    upload, head, reader, stream = (server.connect() for _ in range(4))
    upload.sendall(b"POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\n")
    reader.sendall(b"GET /large?20000000 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    slow = [
        threading.Thread(target=drip, args=[upload, b"0123456789ab", 0.2]),
        threading.Thread(target=drip, args=[head, b"GET / HTTP/1.1\r\n", 0.15]),
    ]
    for thread in slow:
        thread.start()
    stream.sendall(b"GET /stream?5,0.5 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    streamed = b""
    while piece := stream.recv(65536):
        streamed += piece
    assert streamed.endswith(b"0\r\n\r\n")
    for thread in slow:
        thread.join()
    assert upload.recv(4096).endswith(b"12")
    received = 0
    while piece := reader.recv(1 << 20):
        received += len(piece)
    assert received > 20_000_000
    assert the_worker(server) == worker
    for connection in (upload, head, reader, stream):
        connection.close()


@pytest.mark.rule(37)
@pytest.mark.provokes("Accepting pauses", "Spooling a request body failed")
def test_without_descriptors_accepting_pauses_cheaply_and_recovers(serve_workload: Serve) -> None:
    server = serve_workload("workers = 1").ready()
    worker = the_worker(server)
    limits = resource.prlimit(worker, resource.RLIMIT_NOFILE)
    room = len(open_files(worker)) + 8
    resource.prlimit(worker, resource.RLIMIT_NOFILE, (room, limits[1]))
    crowd = [server.connect() for _ in range(60)]
    server.wait_for("Accepting pauses")
    cpu, begun = processor_seconds(worker), time.monotonic()
    assert select.select(crowd, [], [], 1.5) == ([], [], [])
    spent = (processor_seconds(worker) - cpu) / (time.monotonic() - begun)
    assert spent < 0.3, f"{spent:.0%} of a processor for waiting"
    assert len(server.seen("Accepting pauses|Too many open files")) <= 3
    resource.prlimit(worker, resource.RLIMIT_NOFILE, limits)
    for connection in crowd:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    for connection in crowd:
        assert connection.recv(4096).endswith(b"ok")
        connection.close()
    assert the_worker(server) == worker


@pytest.mark.rule(38)
def test_clients_that_leave_at_any_point_leave_nothing_behind(serve_workload: Serve) -> None:
    server = serve_workload("workers = 1").ready()
    worker = the_worker(server)
    server.get("/")
    before = open_files(worker)
    requests = (
        b"GET /large?3000000 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /stream?3000 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 2000000\r\n\r\n" + b"x" * 1_500_000,
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 20,
        b"\x16\x03\x01\x02\x00garbage\r\n\r\n",
    )
    chance = random.Random(1)
    for number in range(400):
        request = requests[number % len(requests)]
        connection = server.connect()
        connection.sendall(request[: chance.randrange(len(request) + 1)])
        if chance.random() < 0.5:
            connection.settimeout(0.001)
            try:
                connection.recv(chance.randrange(1, 100_000))
            except TimeoutError:
                pass
        (reset if chance.random() < 0.7 else socket.socket.close)(connection)
    until(lambda: open_files(worker) == before, f"{before} again", SOON)
    assert server.get("/pid") == str(worker)
    assert not server.seen("^Traceback|ERROR|WARNING")


@pytest.mark.rule(39)
@pytest.mark.parametrize("how", ["up", "up chunked", "down", "down to a slow reader"])
def test_memory_does_not_grow_with_what_passes_through(serve_workload: Serve, tmp_path: Path, how: str) -> None:
    server = serve_workload(f"workers = 1\ntmp_upload_dir = {str(tmp_path)!r}").ready()
    worker = the_worker(server)
    server.get("/length")
    size = 96 * MEGABYTE
    connection = server.connect()
    forget_peak(worker)
    before = peak(worker)
    if how.startswith("up"):
        block = b"x" * MEGABYTE
        framing = f"Content-Length: {size}" if how == "up" else "Transfer-Encoding: chunked"
        connection.sendall(f"POST /length HTTP/1.1\r\nHost: a\r\n{framing}\r\nConnection: close\r\n\r\n".encode())
        for _ in range(size // MEGABYTE):
            connection.sendall(block if how == "up" else b"%x\r\n%b\r\n" % (MEGABYTE, block))
        if how != "up":
            connection.sendall(b"0\r\n\r\n")
        assert connection.recv(4096).endswith(str(size).encode())
    else:
        connection.sendall(f"GET /large?{size} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        if how != "down":
            # The reader takes nothing until the application has made all of it.
            kept = KeptConnection(server.connect)
            assert kept.ask("/").body == b"ok"
            kept.close()
        received = 0
        while piece := connection.recv(MEGABYTE):
            received += len(piece)
        assert received > size
    connection.close()
    assert peak(worker) - before < 24 * MEGABYTE


@pytest.mark.rule(46)
@pytest.mark.provokes("Spooling a request body failed", "Invalid request .*SPOOL_FULL", "Accepting pauses")
@pytest.mark.parametrize("scarce", ["disk", "descriptors"])
def test_without_a_spool_that_one_upload_is_507_and_nobody_else_notices(
    serve_workload: Serve, tmp_path: Path, scarce: str
) -> None:
    server = serve_workload(f"workers = 1\nbody_buffer_size = 65536\ntmp_upload_dir = {str(tmp_path)!r}").ready()
    worker = the_worker(server)
    kept, upload = KeptConnection(server.connect), KeptConnection(server.connect)
    assert kept.ask("/").body == b"ok" and upload.ask("/").body == b"ok"
    if scarce == "disk":  # a file may not grow: EFBIG, as ENOSPC would be
        what, limit = resource.RLIMIT_FSIZE, 100_000
    else:
        what, limit = resource.RLIMIT_NOFILE, len(os.listdir(f"/proc/{worker}/fd"))
    limits = resource.prlimit(worker, what)
    resource.prlimit(worker, what, (limit, limits[1]))
    with pytest.raises(Exception, match="error: 507"):
        upload.ask("/length", "POST", b"x" * 500_000)
    assert kept.ask("/length", "POST", b"y" * 60_000).body == b"60000"
    assert kept.opened == 1
    server.wait_for("Spooling a request body failed")
    assert len(server.seen("Spooling a request body failed")) == 1
    resource.prlimit(worker, what, limits)
    assert upload.ask("/length", "POST", b"x" * 500_000).body == b"500000"
    assert the_worker(server) == worker
    upload.close()
    kept.close()


@pytest.mark.rule(40)
@pytest.mark.parametrize("log", ["/dev/full", "closed pipe", "folder gone"])
def test_a_log_that_cannot_be_written_stops_neither_master_nor_worker(
    serve_workload: Serve, tmp_path: Path, log: str
) -> None:
    # Not the one that says on its standard output that it is loaded: that could not be written either.
    (tmp_path / "app.py").write_text("from tests.integration.workload import app\n")
    logs = tmp_path / "logs"
    logs.mkdir()
    where = {"/dev/full": "/dev/full", "closed pipe": "-", "folder gone": str(logs / "log")}[log]
    server = serve_workload(
        f"workers = 1\nbind = 'unix:socket'\npidfile = 'pid'\nerrorlog = accesslog = {where!r}", bind=""
    )
    path = tmp_path / "socket"

    def connect() -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.settimeout(20)
            connection.connect(str(path))
        except OSError:
            connection.close()
            raise
        return connection

    until(lambda: listens(path), "the socket")
    client = KeptConnection(connect)
    assert client.ask("/").body == b"ok"
    if log == "closed pipe":
        assert server.process.stdout is not None
        nothing = os.open("/dev/null", os.O_RDONLY)
        os.dup2(nothing, server.process.stdout.fileno())  # in place of the pipe's only reading end
        os.close(nothing)
    elif log == "folder gone":
        (logs / "log").unlink()
        logs.rmdir()
    server.signal(signal.SIGUSR1)
    server.signal(signal.SIGTTIN)
    until(lambda: len(server.workers()) == 2, "two workers")
    workers = server.workers()
    with Traffic(connect, 2, keep_alive=False) as traffic:
        traffic.wait(50)
    assert traffic.failures == []
    assert server.workers() == workers
    client.close()
    server.signal(signal.SIGTERM)
    assert server.wait_exit() == 0
    assert not path.exists() and not (tmp_path / "pid").exists()


@pytest.mark.rule(41)
def test_rotation_under_load_loses_doubles_and_tears_no_line(serve_workload: Serve, tmp_path: Path) -> None:
    server = serve_workload("workers = 2\naccesslog = 'access'\naccess_log_format = '%(q)s'").ready(2)
    access = tmp_path / "access"
    asked: list[str] = []
    over, guard = threading.Event(), threading.Lock()

    def ask(client: int) -> None:
        connection = KeptConnection(server.connect)
        number = 0
        while not over.is_set():
            number += 1
            mark = f"{client}-{number}-{'x' * 60}"
            assert connection.ask(f"/id?{mark}").body == mark.encode()
            with guard:
                asked.append(mark)
        connection.close()

    clients = [threading.Thread(target=ask, args=[number]) for number in range(3)]
    for client in clients:
        client.start()
    for rotation in range(5):
        seen = len(asked)
        until(lambda seen=seen: len(asked) > seen + 100, "some requests")
        os.rename(access, tmp_path / f"access.{rotation}")
        server.signal(signal.SIGUSR1)
        until(access.exists, "the new file")
    over.set()
    for client in clients:
        client.join()
    assert server.stop() == 0
    lines = [line for file in tmp_path.glob("access*") for line in file.read_text().splitlines()]
    logged = [line for line in lines if re.match(r"\d+-", line)]
    assert sorted(logged) == sorted(asked)
