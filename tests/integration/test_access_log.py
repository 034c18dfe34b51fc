"""Under load, one line of the access log for every answer: over reloads, rotations, recycling and the stop."""

from __future__ import annotations

import re
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import starter
from tests.integration.harness import PATIENCE, Server, until

Serve = Callable[..., Server]

LINE = re.compile(
    r'127\.0\.0\.1 - - \[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] "GET /(\d+-\d+)? HTTP/1\.1" (?:200 3|500 0) "-" "-"'
)
ANSWER = re.compile(rb"HTTP/1\.1 200 [^\r\n]*\r\n(?:[^\r\n]+\r\n)*\r\none")
#: Requests that a client sends at once, and clients.
DEPTH = CLIENTS = 4


@pytest.fixture
def serve(impl: Any, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Serve]:
    yield from starter(f"sync-{impl.name}", tmp_path, request)


class Clients:
    """Keep asking, each on connections kept alive, for pages that nobody else asks for.

    `answered` names those that came whole.
    """

    def __init__(self, server: Server, count: int = CLIENTS) -> None:
        self.server = server
        self.address = server.address
        self.answered: list[str] = []
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(n,), daemon=True) for n in range(count)]

    def _ask(self, client: int) -> None:
        asked = 0
        while not self._over.is_set():
            try:
                with socket.create_connection(self.address, timeout=PATIENCE) as connection:
                    while not self._over.is_set():
                        names = [f"{client}-{asked + number}" for number in range(DEPTH)]
                        asked += DEPTH
                        whole = self._exchange(connection, names)
                        self.answered += names[:whole]
                        if whole < DEPTH:
                            break
            except OSError:  # what was asked got no answer
                continue

    @staticmethod
    def _exchange(connection: socket.socket, names: list[str]) -> int:
        """How many of `names` are answered, until the server closes."""
        received = b""
        try:
            connection.sendall("".join(f"GET /{name} HTTP/1.1\r\nHost: a\r\n\r\n" for name in names).encode())
            while len(ANSWER.findall(received)) < len(names):
                chunk = connection.recv(65536)
                if not chunk:
                    break
                received += chunk
        except OSError:
            pass
        return len(ANSWER.findall(received))

    def wait(self, more: int) -> None:
        """Wait until `more` answers have come from now on."""
        wanted = len(self.answered) + more
        until(lambda: len(self.answered) >= wanted, f"{more} more answers")

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        self.wait(1)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()


def logged(folder: Path) -> list[str]:
    """What the lines of all files of the access log are about; each has to be whole."""
    names = []
    for file in folder.glob("access.log*"):
        for line in file.read_text().splitlines():
            found = LINE.fullmatch(line)
            assert found is not None, line
            names += filter(None, [found[1]])  # "/" was asked for when the server was awaited
    return names


#: Struck inside the application, the request under way is answered with 500 and told of.
STRUCK = pytest.mark.provokes("Error handling request GET /\\d")


@pytest.mark.parametrize("end", ["SIGTERM", pytest.param("SIGQUIT", marks=STRUCK)])
def test_every_answer_has_one_line_and_every_line_its_answer(
    impl: Any, serve: Serve, tmp_path: Path, end: str
) -> None:
    log = tmp_path / "access.log"
    server = serve(f"workers = 2\naccesslog = {str(log)!r}\nmax_requests = 300\n").ready(2)
    with Clients(server) as clients:
        for round in range(3):
            mark = server.mark()
            server.signal(signal.SIGHUP)
            server.wait_for("Reload done: 2 new workers", mark)
            clients.wait(50)
            log.rename(tmp_path / f"access.log.{round}")
            server.signal(signal.SIGUSR1)
            until(lambda: log.exists() and log.stat().st_size, "lines in the new file")
        server.wait_for("Autorestarting worker")
        clients.wait(50)
        server.signal(getattr(signal, end))
        assert server.wait_exit() == 0
    lines = logged(tmp_path)
    assert len(set(lines)) == len(lines)
    if end == "SIGTERM":
        assert sorted(lines) == sorted(clients.answered)
        return
    # At once: an answer may cross the end of its connection. Python code can be struck by the signal
    # between taking lines and writing them, of which it has at most what was asked at a time.
    missing = set(clients.answered) - set(lines)
    assert len(missing) <= (0 if impl.name == "compiled" else CLIENTS * DEPTH)


def test_an_access_log_that_cannot_be_written_is_said_once_and_costs_no_answer(serve: Serve) -> None:
    server = serve("workers = 1\naccesslog = '/dev/full'").ready()
    with Clients(server, 2) as clients:
        clients.wait(200)
    assert len(server.seen("cannot write the log /dev/full")) == 1
    server.serves("one")
    assert server.stop() == 0
