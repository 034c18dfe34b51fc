"""Pyramid (also by Paste: `cyhorn --paste` and `pserve`), Falcon and Bottle: hello, an upload, a stream."""

from __future__ import annotations

import hashlib
import http.client
import json
import random
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.app.command import distribution
from tests.apps.conftest import Serve, Variant
from tests.apps.noting import give_signal, notes
from tests.examples.conftest import Client
from tests.integration.client import reset
from tests.integration.harness import PATIENCE, ROOT, Server, until

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

pytestmark = pytest.mark.timeout(120)

INI = """
[app:main]
use = call:tests.apps.pyramid_app:paste_main

[server:main]
use = egg:cyhorn#main
host = 127.0.0.1
port = 0
worker_class = {worker}
threads = {threads}
preload_app = {preload}
workers = 2
"""
#: `pserve development.ini` instead of `python -m cyhorn` and its arguments.
PSERVE = """
import sys
from pyramid.scripts.pserve import main
sys.exit(main(["pserve", "development.ini"]))
"""

HOWS = ("pyramid", "pyramid --paste", "pserve", "falcon", "bottle")


def write_ini(folder: Path, variant: Variant) -> None:
    threads = 4 if variant.worker == "gthread" else 1
    text = INI.format(worker=variant.worker, threads=threads, preload=variant.preload)
    (folder / "development.ini").write_text(text)


@pytest.fixture(scope="module", params=HOWS)
def server(
    request: pytest.FixtureRequest,
    variant: Variant,
    serve_shared: Serve,
    tmp_path_factory: pytest.TempPathFactory,
) -> Server:
    framework, _, how = request.param.partition(" ")
    if framework == "pserve":
        folder = tmp_path_factory.mktemp("pserve")
        write_ini(folder, variant)
        declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
        installed = distribution(tmp_path_factory.mktemp("installed"), "cyhorn", declared)
        environ = {"PYTHONPATH": f"{installed}:{ROOT}"}
        return serve_shared(None, folder=folder, wrapper=PSERVE, environ=environ)
    if how:
        folder = tmp_path_factory.mktemp("paste")
        write_ini(folder, variant)
        arguments = ["--paste", "development.ini"]
        return serve_shared(None, folder=folder, application="", arguments=arguments)
    return serve_shared(module=f"tests.apps.{framework}_app")


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with closing(http.client.HTTPConnection(*server.address, timeout=PATIENCE)) as connection:
        yield Client(connection)


def test_it_says_hello_and_does_not_know_everything(client: Client) -> None:
    response = client.open("GET", "/")
    assert (response.status, response.read()) == (200, b"Hello, World!\n")
    assert response.headers["Server"].startswith("cyhorn")
    assert client.get("/nothing/here")[0] == 404
    head = client.open("HEAD", "/")
    assert (head.status, head.read(), head.headers["Content-Length"]) == (200, b"", "14")


@pytest.mark.parametrize("size", [0, 1, 65_536, 3_000_000])
def test_an_upload_arrives_whole(client: Client, size: int) -> None:
    content = random.Random(size).randbytes(size)
    status, body = client.upload("/upload", content, {"title": "grüße"})
    assert status == 200, body[:500]
    assert json.loads(body) == {"size": size, "sha256": hashlib.sha256(content).hexdigest(), "title": "grüße"}


def test_a_stream_arrives_as_it_is_made(server: Server, client: Client, variant: Variant) -> None:
    token = "whole"
    response = client.open("GET", f"/stream/{token}")
    assert response.readline() == b"first\n"
    assert notes(server.folder, token) == []
    give_signal(server.folder, token)
    assert response.read() == b"second\n"
    until(lambda: notes(server.folder, token), "the end of the stream")
    assert len(notes(server.folder, token)) == 1


def test_a_stream_whose_client_leaves_ends_once(server: Server) -> None:
    connection = server.send("/stream/left")
    received = b""
    while b"first\n" not in received:
        received += connection.recv(1000)
    reset(connection)
    give_signal(server.folder, "left")
    until(lambda: notes(server.folder, "left"), "the end of the stream")
    assert server.get("/") == "Hello, World!\n"
    assert len(notes(server.folder, "left")) == 1
