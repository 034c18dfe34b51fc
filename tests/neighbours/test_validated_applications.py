"""Good applications of every kind, inside wsgiref.validate, through a live server: it finds nothing.

The validator asserts what PEP 3333 demands of both sides; what it finds would be a 500 and a
traceback in the log, and the log has to stay silent.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conftest import Implementation
from tests.neighbours.application import ETAG, content
from tests.neighbours.conftest import Serve
from tests.neighbours.harness import Backend, Wire, chunked, request

MODES = {"buffered": (), "streamed": ("--no-buffer-request-body",)}

BODY = b"first line\nsecond line\r\n\nlast" + content(100_000)


@pytest.fixture(scope="module", params=[(mode, transport) for mode in MODES for transport in ("tcp", "unix")])
def server(request: pytest.FixtureRequest, impl: Implementation, serve: Serve) -> Iterator[Backend]:
    mode, transport = request.param
    with serve(impl.name, transport, *MODES[mode], application="tests.neighbours.validated") as server:
        yield server


@pytest.fixture
def wire(server: Backend) -> Iterator[Wire]:
    with Wire(server.address) as wire:
        yield wire


@pytest.mark.parametrize("kind", ["list", "tuple", "generator", "iterator", "write", "file", "lines", "none"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_nothing_is_found_about_an_answer(wire: Wire, kind: str, method: str) -> None:
    expected = b"" if kind == "none" else b"one\ntwo\nthree\n"
    for _ in range(3):
        answer = wire.ask(method, f"/{kind}")
        assert (answer.status, answer.body) == (200, expected if method == "GET" else b"")


def test_nothing_is_found_about_answers_without_a_body(wire: Wire) -> None:
    assert wire.ask("GET", "/entity", If_None_Match=ETAG).status == 304
    assert wire.ask("GET", "/empty").status == 204
    assert wire.ask("GET", "/list").status == 200


def test_nothing_is_found_about_an_answer_that_was_replaced(wire: Wire) -> None:
    answer = wire.ask("GET", "/replaced")
    assert (answer.status, answer.body) == (503, b"sorry")
    assert wire.ask("GET", "/list").status == 200


@pytest.mark.parametrize("way", ["read", "all", "readline", "readlines", "iterate", "unread"])
@pytest.mark.parametrize("framing", ["length", "chunked", "without"])
def test_nothing_is_found_about_an_upload(server: Backend, way: str, framing: str) -> None:
    body = b"" if framing == "without" else BODY
    with Wire(server.address) as wire:
        if framing == "chunked":
            wire.send(request("POST", f"/upload/{way}", Transfer_Encoding="chunked"))
            wire.send(b"".join(chunked(body, 7777)))
            answer = wire.answer()
        else:
            answer = wire.ask("POST", f"/upload/{way}", body)
        assert (answer.status, answer.body) == (200, b"unread" if way == "unread" else body)
