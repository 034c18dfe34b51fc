"""Clients that keep their connections: what ends a worker never costs them an answer."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.client import KeptConnection, Traffic
from tests.integration.harness import Server, is_alive, processes, until

Serve = Callable[..., Server]


@pytest.mark.rule(12, 13, 47)
@pytest.mark.parametrize("bind", ["127.0.0.1:0", "unix:socket"])
def test_reloads_scaling_and_recycling_cost_no_client_an_answer(serve_workload: Serve, bind: str) -> None:
    server = serve_workload("workers = 2\nmax_requests = 400\nmax_requests_jitter = 100", bind=bind).ready(2)
    with Traffic(server.connect, 3) as kept, Traffic(server.connect, 2, keep_alive=False) as fresh:
        for _ in range(4):
            mark = server.mark()
            server.signal(signal.SIGHUP)
            server.wait_for("Reload done", mark)
            server.signal(signal.SIGTTIN)
            kept.wait(150)
            server.signal(signal.SIGTTOU)
            fresh.wait(50)
    assert kept.failures == [] and fresh.failures == []
    server.wait_for("Autorestarting worker")
    # A request that crossed the end of an idle connection was asked again: rare, for the end is announced.
    assert kept.counts["retry"] * 50 <= kept.counts["whole"]
    until(lambda: len(server.workers()) == 2, "two workers")


@pytest.mark.rule(13, 47)
@pytest.mark.parametrize("how", ["HUP", "TTOU", "TERM"])
def test_the_answer_before_the_end_says_close_and_idle_connections_end_without_a_reset(
    serve_workload: Serve, tmp_path: Path, how: str
) -> None:
    server = serve_workload("workers = 1").ready()
    [worker] = server.workers()
    idle, busy = KeptConnection(server.connect), server.connect()
    assert idle.ask("/pid").body == b"%d" % worker
    mark = server.mark()
    busy.sendall(b"GET /until?told HTTP/1.1\r\nHost: a\r\n\r\n")
    server.wait_for("SLEEPING", mark)
    if how == "HUP":
        server.signal(signal.SIGHUP)
        server.wait_for("Reload done", mark)
    elif how == "TTOU":  # the oldest leaves when there are two
        server.signal(signal.SIGTTIN)
        until(lambda: len(server.workers()) == 2, "two workers")
        server.signal(signal.SIGTTOU)
        server.signal(signal.SIGWINCH)
        server.wait_for("Handling signal: winch", mark)  # and so the one before has been handled
    else:
        os.kill(worker, signal.SIGTERM)
    (tmp_path / "told").touch()
    received = b""
    while piece := busy.recv(65536):
        received += piece
    assert received.endswith(b"seen") and b"\r\nConnection: close\r\n" in received
    busy.close()
    assert idle._sock is not None
    assert idle._sock.recv(1) == b"", "FIN, not a reset"
    idle.close()
    until(lambda: not is_alive(worker), "its end")


@pytest.mark.rule(19)
def test_the_upgrade_of_nginx_fails_no_request_forward_or_back(serve_workload: Serve, tmp_path: Path) -> None:
    """USR2; WINCH to the old; then either HUP to the old and TERM to the new, or TERM to the old."""
    file, path = tmp_path / "pid", tmp_path / "socket"
    server = serve_workload(
        "daemon = True\nworkers = 2\npidfile = 'pid'\nerrorlog = 'log'\nbind = 'unix:socket'", bind=""
    )
    assert server.wait_exit() == 0
    until(file.exists, "the pid file")
    old = int(file.read_text())
    until(lambda: len(server.workers(old)) == 2, "two workers")

    def connect() -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(20)
        connection.connect(str(path))
        return connection

    def begin() -> int:
        os.kill(old, signal.SIGUSR2)
        until(lambda: (tmp_path / "pid.2").exists(), "the new master")
        new = int((tmp_path / "pid.2").read_text())
        until(lambda: len(server.workers(new)) == 2, "the new workers")
        os.kill(old, signal.SIGWINCH)
        # Its children are the new master alone.
        until(lambda: server.workers(old) == [new], "the end of the old workers")
        both.wait(20)
        return new

    with Traffic(connect, 2) as both, Traffic(connect, 2, keep_alive=False) as fresh:
        new = begin()
        os.kill(old, signal.SIGHUP)
        until(lambda: len(server.workers(old)) == 3, "the old workers again")
        os.kill(new, signal.SIGTERM)
        until(lambda: new not in {pid for pid, _, _ in processes()}, "the old master's notice of its end")
        both.wait(20)
        new = begin()
        os.kill(old, signal.SIGTERM)
        until(lambda: not is_alive(old), "the end of the old master")
        until(lambda: file.exists() and file.read_text() == f"{new}\n", "the pid file")
        both.wait(20)
    assert both.failures == [] and fresh.failures == []
    assert "Traceback" not in (tmp_path / "log").read_text()
    os.kill(new, signal.SIGTERM)
    until(lambda: not is_alive(new) and not path.exists() and not file.exists(), "the end")
