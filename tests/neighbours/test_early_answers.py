"""Answers to uploads that cyhorn does not want to the end: everybody in between still gets to see them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import pytest

from tests.conftest import Implementation
from tests.neighbours import test_haproxy, test_nginx
from tests.neighbours.application import content
from tests.neighbours.conftest import Serve
from tests.neighbours.harness import Backend, Wire, chunked, http_client, listening, request

SIZE = 20_000_000

Address = tuple[str, int]
Between = Callable[[Backend, Path], AbstractContextManager[Address]]


def nobody(server: Backend, folder: Path) -> AbstractContextManager[Address]:
    return nullcontext(server.address)


@contextmanager
def nginx(server: Backend, folder: Path) -> Iterator[Address]:
    with listening(lambda ports: test_nginx.start(folder, test_nginx.HTTP, server, ports)) as (_, ports):
        yield "127.0.0.1", ports[0]


@contextmanager
def haproxy(server: Backend, folder: Path) -> Iterator[Address]:
    with test_haproxy.Behind(server, folder) as front:
        yield front.address


def installed(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(name) is None, reason=f"{name} is not installed")


BETWEEN = [
    pytest.param(nobody, id="nobody"),
    pytest.param(nginx, id="nginx", marks=installed("nginx")),
    pytest.param(haproxy, id="haproxy", marks=installed("haproxy")),
]


@pytest.fixture(scope="module")
def limited(impl: Implementation, serve: Serve) -> Iterator[Backend]:
    """A server that takes bodies of up to 100 kB."""
    with serve(impl.name, "tcp", "--limit-request-body", "100000") as server:
        yield server


@pytest.fixture(scope="module")
def streaming(impl: Implementation, serve: Serve) -> Iterator[Backend]:
    """A server whose application is called at the end of the head."""
    with serve(impl.name, "tcp", "--no-buffer-request-body") as server:
        yield server


@pytest.mark.parametrize("between", BETWEEN)
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_who_sends_too_much_is_told_so(
    limited: Backend, between: Between, framing: str, tmp_path: Path
) -> None:
    before = limited.state()["requests"]
    with between(limited, tmp_path) as address:
        with http_client(address[1]) as client:
            pieces = chunked(content(SIZE)) if framing == "chunked" else None
            headers = {"Transfer-Encoding": "chunked"} if pieces else {}
            client.request("POST", "/echo", pieces or content(SIZE), headers)
            response = client.getresponse()
            assert response.status == 413 and response.read()
        limited.provoked(r"Invalid request from ip=127.0.0.1: .*\[BODY_LENGTH\]")
        with Wire(address) as wire:
            assert wire.ask("POST", "/echo", b"x" * 100_000).json()["size"] == 100_000
    assert limited.state()["requests"] == before + 2


@pytest.mark.parametrize("between", BETWEEN)
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_an_application_that_does_not_look_at_an_upload_is_heard(
    streaming: Backend, between: Between, framing: str, tmp_path: Path
) -> None:
    with between(streaming, tmp_path) as address:
        with http_client(address[1]) as client:
            pieces = chunked(content(SIZE)) if framing == "chunked" else None
            headers = {"Transfer-Encoding": "chunked"} if pieces else {}
            client.request("POST", "/unread", pieces or content(SIZE), headers)
            response = client.getresponse()
            assert (response.status, response.read()) == (403, b"not looked at")
        with Wire(address) as wire:
            assert wire.ask("GET", "/").body == b"here"


@pytest.mark.parametrize("between", BETWEEN)
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_an_upload_that_is_read_as_it_comes_arrives_whole(
    streaming: Backend, between: Between, framing: str, tmp_path: Path
) -> None:
    with between(streaming, tmp_path) as address, Wire(address) as wire:
        for _ in range(2):
            if framing == "chunked":
                wire.send(request("POST", "/echo", Transfer_Encoding="chunked"))
                for piece in chunked(content(SIZE)):
                    wire.send(piece)
                answer = wire.answer()
            else:
                answer = wire.ask("POST", "/echo", content(SIZE))
            told = answer.json()
            assert told["size"] == SIZE
            if answer.headers["Connection"] == "close":
                break  # where cyhorn itself is spoken to: it does not know that all was read
        else:
            assert between is not nobody
