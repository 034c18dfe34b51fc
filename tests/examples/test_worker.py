"""The worker class of examples/worker: its README, and that the master treats it like one of its own."""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.harness import Server, is_alive, until
from tests.manual.transcript import Console, commands, install

from .conftest import EXAMPLES

CLASS = "plain_worker.PlainWorker"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the example."""
    return Path(shutil.copytree(EXAMPLES / "worker", tmp_path / "worker"))


@pytest.fixture
def serve_plain(folder: Path) -> Iterator[Callable[..., Server]]:
    """Starts a server with the example's worker and application."""
    servers: list[Server] = []

    def start(config: str = "", **options: Any) -> Server:
        arguments = ["--pythonpath", ".", "--workers", "2"]
        server = Server(folder, CLASS, config=config, arguments=arguments, application="hello:app", **options)
        servers.append(server)
        server.wait_for("Booting worker", count=2)
        return server

    yield start
    incidents = [line for server in servers for line in server.incidents()]
    for server in servers:
        server.destroy()
    assert incidents == []


def greets(server: Server) -> bool:
    """Whether it answers. wsgiref speaks HTTP/1.0 and announces the length."""
    return server.exchange(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").endswith(
        b"\r\n\r\nHello from a worker class of your own.\n"
    )


def test_its_readme_works_as_typed(folder: Path, tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    install(programs)
    console = Console(folder, programs)
    (block,) = re.findall(r"(?ms)^```console\n(.*?)^```$", (folder / "README.md").read_text())
    try:
        for command, expected in commands(block):
            console.type(command, expected)
    finally:
        console.close()


def test_it_is_replaced_when_it_is_killed_and_stops_with_0(serve_plain: Callable[..., Server]) -> None:
    server = serve_plain()
    assert greets(server)
    victim = server.workers()[0]
    server.expect("was sent SIGKILL")
    os.kill(victim, signal.SIGKILL)
    until(lambda: not is_alive(victim) and len(server.workers()) == 2, "the replacement")
    assert greets(server)
    assert server.stop() == 0


def test_it_reloads(serve_plain: Callable[..., Server]) -> None:
    server = serve_plain()
    before = set(server.workers())
    server.signal(signal.SIGHUP)
    server.wait_for("Reload done")
    until(lambda: not before & set(server.workers()), "the end of the old workers")
    assert greets(server)


def test_it_recycles_itself_without_a_request_lost(serve_plain: Callable[..., Server]) -> None:
    server = serve_plain("max_requests = 5\n")
    before = set(server.workers())
    assert all(greets(server) for _ in range(40))
    until(lambda: not before & set(server.workers()), "the end of the old workers")
    assert greets(server)


def test_an_idle_one_is_not_taken_for_a_stuck_one(serve_plain: Callable[..., Server]) -> None:
    server = serve_plain("timeout = 1\n")
    workers = server.workers()
    time.sleep(2.5)  # what must not happen within it, is what is waited for
    assert greets(server) and server.workers() == workers
