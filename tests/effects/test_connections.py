"""Settings that bound how long a client may take, and how much of a message is held where."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.effects.conftest import Launch
from tests.effects.shows import shows
from tests.integration.harness import parse_answer, to_the_end, until

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST /body HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 10\r\n\r\n"

# -- how long a client may take ---------------------------------------------------------------------

#: What each client sends before it falls silent, and the seconds of the setting that ends its connection.
SILENT = {
    "keepalive": (GET, 1),
    "client_header_timeout": (b"GET / HTTP/1.1\r\nHo", 0.4),
    "client_body_timeout": (POST + b"half", 0.6),
}


@pytest.fixture(scope="module")
def ended(launch: Launch, side: str) -> dict[str, tuple[bytes, float]]:
    """Setting → what its silent client got until the server closed, and after how many seconds that was."""
    server = launch("".join(f"{name} = {seconds}\n" for name, (_, seconds) in SILENT.items()), side).ready()
    clients = {}
    for name, (request, _) in SILENT.items():
        clients[name] = server.connect()
        clients[name].sendall(request)
    begun = time.monotonic()
    found = {}
    for name in sorted(SILENT, key=lambda name: SILENT[name][1]):
        with clients[name] as connection:
            found[name] = (to_the_end(connection), time.monotonic() - begun)
    return found


def is_due(ended: dict[str, tuple[bytes, float]], name: str) -> bool:
    """Whether a connection was closed when it should, on a machine that may be busy."""
    return SILENT[name][1] * 0.9 < ended[name][1] < SILENT[name][1] + 8


@shows("keepalive", "an idle connection is closed after so many seconds; with 0 right after its answer")
def test_an_idle_connection_is_closed(ended: dict[str, tuple[bytes, float]], launch: Launch, side: str) -> None:
    received, _ = ended["keepalive"]
    assert received.count(b"HTTP/1.1 200 OK") == 1 and b"Connection: close" not in received
    assert is_due(ended, "keepalive")
    assert b"Connection: close" in launch("keepalive = 0", side).exchange(GET)


@shows("client_header_timeout", "half a head is answered 408 after so many seconds")
def test_half_a_head_is_not_waited_for(ended: dict[str, tuple[bytes, float]]) -> None:
    assert parse_answer(ended["client_header_timeout"][0]).status == 408
    assert is_due(ended, "client_header_timeout")


@shows("client_body_timeout", "half a body is answered 408 after so many seconds")
def test_half_a_body_is_not_waited_for(ended: dict[str, tuple[bytes, float]]) -> None:
    assert parse_answer(ended["client_body_timeout"][0]).status == 408
    assert is_due(ended, "client_body_timeout")


# -- how much is held where -------------------------------------------------------------------------

BUFFERS = """
tmp_upload_dir = "spool"
body_buffer_size = "64K"
response_buffer_size = "1M"
response_spool_size = "16M"
send_timeout = 1
"""
MEGABYTE = 1 << 20


class Spooling:
    """A server that has a directory for spools, and a look at the spools it has open there."""

    def __init__(self, launch: Launch, side: str, folder: Path) -> None:
        (folder / "spool").mkdir()
        self.server = launch(BUFFERS, side, folder).ready()
        self.directory = str(folder / "spool")
        (self.worker,) = self.server.workers()

    def spools(self) -> list[str]:
        found = []
        for fd in os.listdir(f"/proc/{self.worker}/fd"):
            try:
                found.append(os.readlink(f"/proc/{self.worker}/fd/{fd}"))
            except FileNotFoundError:
                pass  # closed meanwhile
        return [name for name in found if name.startswith(self.directory)]

    def unread(self, megabytes: int) -> tuple[socket.socket, int]:
        """A client that reads nothing of a response so long; how much of it the server took."""
        mark = self.server.mark()
        connection = self.server.connect()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(f"GET /stream?bytes={megabytes * MEGABYTE} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        (line,) = self.server.wait_for(r"^TAKEN \d+$", mark)
        return connection, int(line.split()[1]) // MEGABYTE


@pytest.fixture(scope="module")
def spooling(launch: Launch, side: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spooling]:
    yield Spooling(launch, side, tmp_path_factory.mktemp("server"))


@shows("body_buffer_size", "a longer body is in a file while the application reads it, a shorter one is not")
def test_a_longer_body_goes_to_a_file(spooling: Spooling) -> None:
    for length, files in ((65536, 0), (65537, 1)):
        answer = spooling.server.ask("/body", method="POST", body=b"x" * length).json
        assert answer["length"] == length
        assert sum(name.startswith(spooling.directory) for name in answer["files"]) == files


@shows("tmp_upload_dir", "the file of a long body is in this directory, unlinked")
def test_the_file_of_a_long_body_is_in_the_directory(spooling: Spooling) -> None:
    files = spooling.server.ask("/body", method="POST", body=b"x" * 70000).json["files"]
    (spool,) = [name for name in files if name.startswith(spooling.directory)]
    assert spool.endswith(" (deleted)") and os.listdir(spooling.directory) == []


@shows("response_buffer_size", "what an unread response has beyond it is in a file; the application is done at once")
def test_more_of_a_response_goes_to_a_file(spooling: Spooling) -> None:
    connection, taken = spooling.unread(1)
    with connection:
        assert taken == 1 and spooling.spools() == []
    connection, taken = spooling.unread(12)
    with connection:
        assert taken == 12 and len(spooling.spools()) == 1


@shows("response_spool_size", "beyond it the worker waits for the client; one that reads nothing is given up")
def test_the_worker_waits_for_a_client_that_leaves_more_than_the_file_may_hold(spooling: Spooling) -> None:
    connection, taken = spooling.unread(64)
    with connection:
        assert 16 <= taken < 48  # memory, file, and what the kernel holds


@shows("send_timeout", "what a client has not taken for so many seconds is dropped")
def test_a_client_that_does_not_read_is_given_up(spooling: Spooling) -> None:
    connection, taken = spooling.unread(12)
    with connection:
        assert taken == 12
        begun = time.monotonic()
        until(lambda: not spooling.spools(), "the end of the spool", 10)
        assert time.monotonic() - begun > 0.5


@shows("buffer_request_body", "turned off, the application is called before the body is there")
def test_an_unbuffered_body_is_not_waited_for(spooling: Spooling, launch: Launch, side: str) -> None:
    for server, early in ((spooling.server, False), (launch("buffer_request_body = False", side), True)):
        server.ready()
        mark = server.mark()
        with server.connect() as connection:
            connection.sendall(POST + b"half ")
            if early:
                server.wait_for("^CALLED$", mark)
            else:
                assert server.ask("/").status == 200  # it had its turn since
                assert not server.seen("^CALLED$", mark)
            connection.sendall(b"whole")
            assert parse_answer(to_the_end(connection)).json["length"] == 10
