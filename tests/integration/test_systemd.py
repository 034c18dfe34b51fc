"""What the service manager is told, and when."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.harness import Server, is_alive, until

Serve = Callable[..., Server]


class Manager:
    """The receiving end of NOTIFY_SOCKET."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.messages: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))

    def wait_for(self, line: str, since: int = 0, patience: float = 15.0) -> str:
        """The first message behind `since` with a line that begins so."""
        deadline = time.monotonic() + patience
        while True:
            for message in self.messages[since:]:
                if any(each.startswith(line) for each in message.split("\n")):
                    return message
            self._socket.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                self.messages.append(self._socket.recv(4096).decode())
            except TimeoutError:
                raise AssertionError(f"{line} was not told: {self.messages}") from None

    def told(self, line: str) -> bool:
        """Whether it was told up to now."""
        self._socket.setblocking(False)
        try:
            while True:
                self.messages.append(self._socket.recv(4096).decode())
        except BlockingIOError:
            pass
        return any(line in message.split("\n") for message in self.messages)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(tmp_path / "notify")
    yield made
    made.close()


def test_ready_is_told_when_the_workers_are_and_not_before(
    serve: Serve, tmp_path: Path, manager: Manager
) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    (tmp_path / "app.py").write_text(f"open({str(gate)!r}).read()\ndef app(environ, start_response): ...\n")
    server = serve("workers = 2", environ={"NOTIFY_SOCKET": str(manager.path)})
    server.wait_for("Booting worker", count=2)
    manager.wait_for("STATUS=0 of 2 workers ready")
    assert not manager.told("READY=1")
    while not manager.told("READY=1"):
        try:
            os.close(os.open(gate, os.O_WRONLY | os.O_NONBLOCK))
        except OSError:
            time.sleep(0.01)
    manager.wait_for("STATUS=2 of 2 workers ready")


@pytest.mark.provokes("Exception in worker process", "exited with code")
def test_a_reload_and_a_stop_are_told(serve: Serve, manager: Manager) -> None:
    server = serve(environ={"NOTIFY_SOCKET": str(manager.path)})
    manager.wait_for("READY=1")
    for code, outcome in (("two", "Reload done"), (None, "Reload failed")):
        mark, since = server.mark(), len(manager.messages)
        if code is None:
            server._replace(server.application_file, "raise RuntimeError\n")
        else:
            server.write_application(code)
        before = time.monotonic_ns() // 1000
        server.signal(signal.SIGHUP)
        message = manager.wait_for("RELOADING=1", since)
        stamp = int(message.split("MONOTONIC_USEC=")[1].split("\n")[0])
        assert before <= stamp <= time.monotonic_ns() // 1000
        manager.wait_for("READY=1", since)
        server.wait_for(outcome, mark)
    server.signal(signal.SIGTERM)
    manager.wait_for("STOPPING=1")
    assert server.wait_exit() == 0


def test_the_watchdog_is_fed_from_the_loop(serve_any: Serve, manager: Manager) -> None:
    server = serve_any(environ={"NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": "1000000"})
    manager.wait_for("READY=1")
    for _ in range(3):
        manager.wait_for("WATCHDOG=1", len(manager.messages), 1.0)  # later, and it would be killed
    server.signal(signal.SIGSTOP)
    manager.told("WATCHDOG=1")
    with pytest.raises(AssertionError, match="was not told"):
        manager.wait_for("WATCHDOG=1", len(manager.messages), 1.5)
    server.signal(signal.SIGCONT)


def test_an_upgrade_makes_the_new_master_the_main_process(serve_any: Serve, manager: Manager) -> None:
    server = serve_any(environ={"NOTIFY_SOCKET": str(manager.path)})
    manager.wait_for("READY=1")
    server.signal(signal.SIGUSR2)
    line = server.wait_for(r"Started a new master \(pid: \d+\)")[0]
    new = int(line.rsplit(" ", 1)[1].rstrip(")"))
    until(lambda: server.workers(new), "its workers")
    since = len(manager.messages)
    server.signal(signal.SIGTERM)
    manager.wait_for(f"MAINPID={new}", since)
    assert server.wait_exit() == 0
    server.wait_for("Master has been promoted")
    assert not manager.told("STOPPING=1")
    os.kill(new, signal.SIGTERM)
    manager.wait_for("STOPPING=1", since)
    until(lambda: not is_alive(new), "its end")
