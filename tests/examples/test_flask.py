"""examples/flask under a real server: each side, over TCP, a unix socket and TLS."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterator

import pytest

from .conftest import EXAMPLES, TRANSPORTS, Client, Server

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module", params=TRANSPORTS)
def server(impl, request, serve) -> Iterator[Server]:
    with serve(impl.name, request.param, EXAMPLES / "flask", "app:app") as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    client = server.client()
    yield client
    client.connection.close()


def test_a_session_is_kept_over_requests_and_workers(server: Server, client: Client) -> None:
    assert client.post("/notes", {"note": "first"})[0] == 302
    assert client.post("/notes", {"note": "second & <third>"})[0] == 302
    other = server.client()
    other.cookies = client.cookies
    status, page = other.get("/")
    assert status == 200
    assert re.findall("<li>(.*?)</li>", page.decode()) == ["first", "second &amp; &lt;third&gt;"]
    assert b"Nothing yet" in server.client().get("/")[1]


def test_a_stream_arrives_line_by_line_with_its_request_context(client: Client) -> None:
    response = client.open("GET", "/count?lines=5&pause=0.1")
    first = response.readline()
    began = time.monotonic()
    rest = response.read().splitlines()
    assert first.startswith(b"0 for ")
    assert len(rest) == 4
    assert time.monotonic() - began > 0.3


def test_an_upload_of_50_mb_arrives_whole(client: Client, content: bytes) -> None:
    status, answer = client.upload("/upload", content)
    assert status == 200
    assert json.loads(answer) == {
        "name": "sent.bin",
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def test_json_goes_in_and_comes_out(server: Server, client: Client) -> None:
    sent = {"words": ["grüße", "日本"], "number": 1.5}
    response = client.open(
        "POST", "/echo?a=1&a=2&b=%C3%A9", json.dumps(sent).encode(), {"Content-Type": "application/json"}
    )
    seen = json.loads(response.read())
    assert (seen["method"], seen["path"], seen["json"]) == ("POST", "/echo", sent)
    assert seen["args"] == {"a": ["1", "2"], "b": ["é"]}
    assert seen["scheme"] == ("https" if server.url.startswith("https") else "http")
    assert seen["server"].startswith("cyhorn")


def test_one_connection_carries_many_requests(client: Client) -> None:
    client.get("/echo")
    socket = client.connection.sock
    for _ in range(20):
        assert client.get("/echo")[0] == 200
    assert client.connection.sock is socket
