"""What workers get of an application that was loaded in the master, and what of it cannot be theirs."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.harness import APPLICATION, Server, is_alive, until

Serve = Callable[..., Server]

PRELOAD = "preload_app = True\nworkers = 2\n"

#: Draws at import, as an application that shuffles or makes names does.
DRAWS = """
import random
random.seed(1)
random.random()
"""

#: Tells what each worker draws next.
TELLS = """
import os, random

def post_fork(server, worker):
    os.write(1, b"DRAWN %r\\n" % random.random())
"""

#: Starts a process of its own at import, as one that computes ahead.
STARTS_A_PROCESS = """
import multiprocessing, time
helper = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,), daemon=True)
helper.start()
os.write(1, b"HELPER %d\\n" % helper.pid)
"""

#: Opens a connection at import, and another in the configuration.
CONNECTS = """
import socket
connection = socket.create_connection(("127.0.0.1", {port}))
"""


@pytest.fixture
def port() -> Iterator[int]:
    """Where a service listens."""
    with socket.create_server(("127.0.0.1", 0)) as service:
        yield int(service.getsockname()[1])


def write(folder: Path, more: str) -> None:
    (folder / "app.py").write_text(APPLICATION.format(version="one") + more)


def test_no_two_workers_draw_the_same_numbers(serve_sync: Serve, tmp_path: Path) -> None:
    write(tmp_path, DRAWS)
    server = serve_sync(PRELOAD + TELLS)
    first, second = server.wait_for("^DRAWN", count=2)
    assert first != second


def test_what_pre_fork_closes_is_nothing_to_warn_of(serve_sync: Serve, tmp_path: Path, port: int) -> None:
    write(tmp_path, CONNECTS.format(port=port))
    hook = "\ndef pre_fork(server, worker):\n    import app\n    app.connection.close()\n"
    server = serve_sync(PRELOAD + hook).ready(2)
    assert server.seen("Fork doctor") == []


def test_a_worker_that_leaves_does_not_end_the_processes_of_the_master(serve_sync: Serve, tmp_path: Path) -> None:
    write(tmp_path, STARTS_A_PROCESS)
    server = serve_sync(PRELOAD).ready(3)  # the helper is a child, too
    helper = int(server.wait_for("^HELPER ")[0].split()[1])
    first = next(pid for pid in server.workers() if pid != helper)
    mark = server.mark()
    os.kill(first, signal.SIGTERM)
    until(lambda: not is_alive(first), "its end")
    server.wait_for("Booting worker", mark)
    assert is_alive(helper)
    assert not server.seen("^Traceback")


def test_a_connection_made_while_the_application_is_preloaded_is_named_before_the_first_fork_and_once(
    serve_sync: Serve, tmp_path: Path, port: int
) -> None:
    write(tmp_path, CONNECTS.format(port=port))
    config = f"{PRELOAD}import socket\ntheirs = socket.create_connection(('127.0.0.1', {port}))\n"
    server = serve_sync(config).ready(2)
    (line,) = server.wait_for(
        r"\[WARNING\] Fork doctor: socket.socket in app.connection \(app.py:\d+\) is connected to "
        rf"127.0.0.1:{port}; the workers share the connection"
    )
    assert len(server.seen("Fork doctor")) == 1
    assert server.lines.index(line) < server.lines.index(server.seen("Booting worker")[0])
    assert "connection = " in (tmp_path / "app.py").read_text().splitlines()[int(line.split("app.py:")[1].split(")")[0]) - 1]


def test_it_is_named_again_when_it_is_loaded_again(serve_sync: Serve, tmp_path: Path, port: int) -> None:
    server = serve_sync(PRELOAD).ready(2)
    server.write_application("two", after=CONNECTS.format(port=port))
    mark = server.mark()
    server.signal(signal.SIGHUP)
    server.wait_for("Reload done", mark)
    server.wait_for("Fork doctor: socket.socket in app.connection", mark)
    assert len(server.seen("Fork doctor", mark)) == 1  # not by the rehearsal


def test_nothing_is_said_of_what_each_worker_opens_for_itself(serve_sync: Serve, tmp_path: Path, port: int) -> None:
    write(tmp_path, CONNECTS.format(port=port))
    server = serve_sync("workers = 2").ready(2)
    assert server.stop() == 0
    assert not server.seen("Fork doctor")
