"""Flask: sessions, blueprints, uploads, streams; and that a request ends once, where it began."""

from __future__ import annotations

import contextvars
import hashlib
import http.client
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import islice
from pathlib import Path

import pytest
from werkzeug.test import create_environ

from tests.apps import flask_app
from tests.apps.conftest import Serve
from tests.apps.noting import notes
from tests.examples.conftest import Client
from tests.integration.client import reset
from tests.integration.harness import PATIENCE, Server, until

pytestmark = pytest.mark.timeout(120)

ByTheBook = Callable[..., Counter[str]]


@pytest.fixture(scope="module")
def server(serve_shared: Serve) -> Server:
    return serve_shared(module="tests.apps.flask_app")


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with closing(http.client.HTTPConnection(*server.address, timeout=PATIENCE)) as connection:
        yield Client(connection)


def test_a_session_is_kept_whichever_worker_answers(server: Server, client: Client) -> None:
    for number in range(6):
        client.connection.close()  # the next request is on a new connection, and so with any worker
        status, body = client.post("/shop/tea", {})
        assert status == 200
        assert json.loads(body) == {"basket": ["tea"] * (number + 1)}
    with closing(http.client.HTTPConnection(*server.address, timeout=PATIENCE)) as other:
        assert json.loads(Client(other).post("/shop/milk", {})[1]) == {"basket": ["milk"]}


def test_a_blueprint_has_its_prefix_its_hooks_and_its_errors(server: Server, client: Client) -> None:
    told = json.loads(client.get("/shop/sugar%20%26%20salt")[1])
    host, port = server.address
    assert told == {"item": "sugar & salt", "visits": 1, "url": f"http://{host}:{port}/shop/sugar%20&%20salt"}
    assert json.loads(client.get("/shop/tea")[1])["visits"] == 2
    assert client.get("/shop/missing/thing") == (404, b"the shop has none\n")
    assert client.get("/nowhere")[0] == 404


@pytest.mark.parametrize("size", [0, 1, 500_000, 3_000_000])
def test_a_file_of_a_form_arrives_whole(client: Client, size: int) -> None:
    content = random.Random(size).randbytes(size)
    status, body = client.upload("/upload", content, {"title": "grüße"})
    assert status == 200, body
    told = {"name": "sent.bin", "type": "application/octet-stream", "sha256": hashlib.sha256(content).hexdigest()}
    assert json.loads(body) == {"files": {"file": told}, "fields": {"title": ["grüße"]}}


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_is_read_to_its_end_also_without_a_length(client: Client, chunked: bool) -> None:
    content = random.Random(7).randbytes(700_001)
    pieces = (content[start : start + 9_999] for start in range(0, len(content), 9_999))
    client.connection.request("PUT", "/raw", pieces if chunked else content, encode_chunked=chunked)
    response = client.connection.getresponse()
    assert json.loads(response.read()) == {"size": 700_001, "sha256": hashlib.sha256(content).hexdigest()}


def test_a_body_beyond_the_applications_limit_is_its_413_and_the_connection_goes_on(client: Client) -> None:
    assert client.upload("/upload", bytes(9 << 20))[0] == 413
    assert client.get("/")[0] == 200


# --- the end of a request ------------------------------------------------------------------

STREAMS = ("stream", "plain-stream")


@pytest.fixture
def by_the_book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ByTheBook:
    """How often each thing happens when the application is called by hand, to the letter of PEP 3333.

    That `close()` is called once is the server's business. What Flask makes of it is Flask's: 3.1 runs the teardown
    functions twice for `stream_with_context`, when the view has returned and when the stream has ended.
    """
    monkeypatch.chdir(tmp_path)

    def call(target: str, method: str = "GET", items: int | None = None) -> Counter[str]:
        def run() -> None:
            result = flask_app.app(create_environ(target, method=method), lambda *_: lambda _: None)
            try:
                for _ in islice(result, items):
                    pass
            finally:
                result.close()  # type: ignore[attr-defined]

        contextvars.copy_context().run(run)
        return Counter(line["event"] for line in notes(tmp_path, target.partition("?")[0].rpartition("/")[2]))

    return call


def assert_ended(server: Server, name: str, expected: Counter[str]) -> None:
    """The request has ended as it should: in one thread, and in the context that its view had."""
    for once in ("view", "close", "call_on_close"):
        assert expected[once] == 1
    until(lambda: len(notes(server.folder, name)) >= expected.total(), f"the end of {name}")
    assert server.get("/")  # whatever would come too often has come by now in a worker that answers again
    seen = notes(server.folder, name)
    assert Counter(line["event"] for line in seen) == expected
    assert len({(line["pid"], line["thread"]) for line in seen}) == 1
    assert {line["variable"] for line in seen} == {name}


def test_without_the_context_of_the_request_everything_happens_once(by_the_book: ByTheBook) -> None:
    ends = "view generator close call_on_close teardown_request teardown_appcontext".split()
    assert by_the_book("/plain-stream/x", items=2) == dict.fromkeys(ends, 1)


@pytest.mark.parametrize("stream", STREAMS)
def test_a_stream_that_is_read_to_its_end_ends_once(
    server: Server, client: Client, by_the_book: ByTheBook, stream: str
) -> None:
    name = f"whole-{stream}"
    expected = by_the_book(f"/{stream}/{name}?lines=3")
    status, body = client.get(f"/{stream}/{name}?lines=3")
    assert status == 200
    assert body == b"".join(f"{line} /{stream}/{name}\n".encode() * 100 for line in range(3))
    assert_ended(server, name, expected)


def test_a_head_request_for_a_stream_ends_once(server: Server, client: Client, by_the_book: ByTheBook) -> None:
    expected = by_the_book("/stream/head?lines=3", "HEAD")
    response = client.open("HEAD", "/stream/head?lines=3")
    assert (response.status, response.read()) == (200, b"")
    assert_ended(server, "head", expected)


@pytest.mark.parametrize("how", ["end", "reset", "unread"])
@pytest.mark.parametrize("stream", STREAMS)
def test_a_stream_whose_client_leaves_ends_once_in_the_thread_and_context_of_the_request(
    server: Server, by_the_book: ByTheBook, stream: str, how: str
) -> None:
    name = f"{stream}-left-by-{how}"
    expected = by_the_book(f"/{stream}/{name}", items=5)
    connection = server.send(f"/{stream}/{name}")
    if how == "unread":
        until(lambda: notes(server.folder, name), "the view")  # nothing is read: what is sent is in the kernel's hands
        reset(connection)
    else:
        received = b""
        while f"5 /{stream}/".encode() not in received:
            received += connection.recv(65536)
        (reset if how == "reset" else type(connection).close)(connection)
    assert_ended(server, name, expected)


def test_streams_that_are_left_together_end_once_each(server: Server, by_the_book: ByTheBook) -> None:
    names = [f"many-{number}" for number in range(2)]
    connections = [server.send(f"/stream/{name}") for name in names]
    for connection in connections:
        assert connection.recv(10)
    for connection in connections:
        reset(connection)
    for name in names:
        assert_ended(server, name, by_the_book(f"/stream/{name}", items=5))


# --- contexts ------------------------------------------------------------------------------


def test_a_thousand_requests_leave_nothing_in_any_context(serve: Serve) -> None:
    server = serve(module="tests.apps.flask_app", workers=1)

    def ask(_: int) -> None:
        with closing(http.client.HTTPConnection(*server.address, timeout=PATIENCE)) as connection:
            for number in range(250):
                how = ("", "?how=fail", "?how=stream")[number % 3]
                connection.request("GET", f"/hold{how}")
                response = connection.getresponse()
                assert response.read()
                assert response.status == (500 if how == "?how=fail" else 200)

    with ThreadPoolExecutor(4) as clients:
        list(clients.map(ask, range(4)))
    left = json.loads(server.get("/left"))
    assert left["requests"] >= 1000
    assert (left["alive"], left["inherited"]) == (0, 0)
