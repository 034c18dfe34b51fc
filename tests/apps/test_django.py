"""Django: streams from an open cursor, files, conditional requests, and connections to the database that are kept."""

from __future__ import annotations

import http.client
import json
import random
import threading
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.apps.bookshop.prepared import BOOKS, make_database, open_shop
from tests.apps.conftest import Serve, Variant
from tests.apps.noting import give_signal, notes
from tests.examples.conftest import Client
from tests.integration.client import reset
from tests.integration.harness import PATIENCE, Server, to_the_end, until

pytestmark = pytest.mark.timeout(120)

THREADS = 4
CONTENT = random.Random(11).randbytes(3_000_000)


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_database(tmp_path_factory.mktemp("database"))


@pytest.fixture(scope="module")
def server(serve_shared: Serve, database: Path, tmp_path_factory: pytest.TempPathFactory) -> Server:
    server = open_shop(serve_shared, database, tmp_path_factory.mktemp("shop"), threads=THREADS)
    (server.folder / "content").write_bytes(CONTENT)
    return server


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with closing(http.client.HTTPConnection(*server.address, timeout=PATIENCE)) as connection:
        yield Client(connection)


def books(first: int, last: int) -> list[str]:
    return [f"book {number}" for number in range(first, last)]


# --- the database --------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["read", "left"])
def test_a_stream_keeps_its_cursor_while_other_requests_read_and_write(server: Server, variant: Variant, ending: str) -> None:
    token = f"cursor-{ending}"
    before = json.loads(server.get("/connection"))["books"]
    stream = server.send(f"/books/{token}")
    until(lambda: notes(server.folder, token), "the middle of the stream")
    (half,) = notes(server.folder, token)
    others = [json.loads(server.get(f"/add/{token}-{number}" if number % 4 == 0 else "/connection")) for number in range(20)]
    assert others[-1]["books"] == before + 5
    # Nobody else had the stream's connection; with threads others in the same process had theirs.
    holder = (half["pid"], half["connection"])
    assert holder not in {(other["pid"], other["connection"]) for other in others}
    assert (half["pid"], half["thread"]) not in {(other["pid"], other["thread"]) for other in others}
    if ending == "left":
        reset(stream)
    give_signal(server.folder, token)
    if ending == "read":
        with stream:
            received = to_the_end(stream).decode()
        assert [line for line in received.splitlines() if line.startswith("book ")] == books(0, BOOKS)
        assert token not in received.partition("\r\n\r\n")[2], "the cursor has seen what was written later"
        assert received.endswith("0\r\n\r\n")
    until(lambda: len(notes(server.folder, token)) == 2, "the end of the stream")
    ended = notes(server.folder, token)[-1]
    assert (ended["event"], ended["pid"], ended["connection"]) == ("ended", *holder)


def served(server: Server, requests: int, clients: int = 8) -> list[dict[str, Any]]:
    """What `requests` requests by so many clients at a time were told of their connection to the database."""
    told: list[dict[str, Any]] = []
    lock = threading.Lock()

    def ask(number: int) -> None:
        with closing(http.client.HTTPConnection(*server.address, timeout=PATIENCE)) as connection:
            for _ in range(requests // clients):
                connection.request("GET", "/connection")
                answer = json.loads(connection.getresponse().read())
                with lock:
                    told.append(answer)

    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(ask, range(clients)))
    return told


def by_process(told: list[dict[str, Any]]) -> dict[int, list[dict[str, Any]]]:
    processes = defaultdict(list)
    for answer in told:
        processes[answer["pid"]].append(answer)
    return processes


def test_connections_are_kept_and_there_are_no_more_than_threads(server: Server, variant: Variant) -> None:
    # One thread more than calls at a time sees to the connections of clients, and may be in the next call.
    most = THREADS + 1 if variant.worker == "gthread" else 1
    processes = by_process(served(server, 200))
    for answers in processes.values():
        assert max(answer["opened"] for answer in answers) <= most
        assert len({answer["connection"] for answer in answers}) <= most
        of_threads = defaultdict(set)
        for answer in answers:
            of_threads[answer["thread"]].add(answer["connection"])
        assert all(len(connections) == 1 for connections in of_threads.values())
    assert sum(map(len, processes.values())) == 200


@pytest.mark.preload(False)
def test_connections_that_are_not_to_be_kept_end_with_their_request(
    serve: Serve, database: Path, tmp_path: Path
) -> None:
    server = open_shop(serve, database, tmp_path, conn_max_age=0, workers=1)
    answers = served(server, 40, clients=1)
    assert [answer["opened"] for answer in answers] == list(range(1, 41))
    until(lambda: open_databases(server) == [], "the end of the last connection")


def open_databases(server: Server) -> list[str]:
    """The database files that the worker has open."""
    (pid,) = server.workers()
    names = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            names.append(str(entry.readlink()))
        except FileNotFoundError:
            continue
    return [name for name in names if "sqlite3" in name]


# --- files ---------------------------------------------------------------------------------

SIZES = [0, 1, 4095, 65_535, 65_536, 65_537, 1 << 20, 2_500_000]


@pytest.mark.parametrize("kind", ["file", "offset", "memory", "temporary"])
def test_a_file_is_sent_whole_and_closed_once(server: Server, client: Client, kind: str) -> None:
    for size in SIZES:
        token = f"{kind}-{size}"
        response = client.open("GET", f"/file/{kind}/{token}?size={size}")
        body = response.read()
        expected = CONTENT if kind == "file" else CONTENT[len(CONTENT) - size :] if kind == "offset" else CONTENT[:size]
        assert (response.status, response.headers["Content-Length"]) == (200, str(len(expected)))
        assert body == expected
        assert_closed_once(server, token)
    assert client.connection.sock is not None  # all of them on one connection


def test_a_file_has_its_name_and_its_length_also_for_head(server: Server, client: Client) -> None:
    response = client.open("HEAD", "/file/file/head")
    assert (response.read(), response.headers["Content-Length"]) == (b"", str(len(CONTENT)))
    assert response.headers["Content-Disposition"] == "attachment; filename*=utf-8''gr%C3%B6%C3%9Fe.bin"
    assert_closed_once(server, "head")


def test_a_file_whose_client_leaves_is_closed_once(server: Server) -> None:
    connection = server.send("/file/file/left")
    assert connection.recv(1000)
    reset(connection)
    assert_closed_once(server, "left")


def assert_closed_once(server: Server, token: str) -> None:
    until(lambda: notes(server.folder, token), f"the end of {token}")
    assert [(line["event"], line["closed"]) for line in notes(server.folder, token)] == [("close", True)]


def test_what_has_not_changed_is_not_sent_again(client: Client) -> None:
    first = client.open("GET", "/media/content")
    assert (first.status, first.read()) == (200, CONTENT)
    again = client.open("GET", "/media/content", headers={"If-Modified-Since": first.headers["Last-Modified"]})
    assert (again.status, again.read()) == (304, b"")
    page = client.open("GET", "/")
    assert page.read() == b"Hello, World!\n"
    again = client.open("GET", "/", headers={"If-None-Match": page.headers["ETag"]})
    assert (again.status, again.read(), again.headers["ETag"]) == (304, b"", page.headers["ETag"])
    assert client.get("/") == (200, b"Hello, World!\n")
