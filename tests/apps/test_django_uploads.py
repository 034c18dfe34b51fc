"""Uploads to Django whose sizes lie around every limit on their way: one byte below, the limit, one byte above."""

from __future__ import annotations

import hashlib
import http.client
import json
import random
import ssl
from collections.abc import Iterator
from contextlib import closing
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from cyhorn import _connection_py as connection
from cyhorn.config.settings import SETTINGS
from tests.apps.bookshop.prepared import make_database, open_shop
from tests.apps.conftest import Serve, Variant
from tests.integration.harness import PATIENCE
from tests.neighbours.harness import self_signed

#: Bytes → what changes there.
LIMITS = {
    1: "no body",
    8192: "the buffer of a Python file",
    connection.JOIN_MAX: "what cyhorn joins before it writes; a record of TLS",
    connection.RECEIVE_SIZE: "what cyhorn reads at a time; a chunk of Django's upload handlers",
    131_072: "a socket's receive buffer on Linux",
    212_992: "a socket's send buffer on Linux, at most",
    connection.ENCRYPT_SIZE: "what cyhorn encrypts at a time",
    SETTINGS["body_buffer_size"].default: "beyond it cyhorn keeps a body in a file",
    2_621_440: "beyond it Django keeps an upload in a file",
}
SIZES = sorted(limit + step for limit, step in product(LIMITS, (-1, 0, 1)))
WAYS = ("raw", "chunked", "form", "form-tls")

MARK = "boundary-of-the-test"
HEAD = (
    f'--{MARK}\r\nContent-Disposition: form-data; name="title"\r\n\r\ngrüße\r\n'
    f'--{MARK}\r\nContent-Disposition: form-data; name="file"; filename="sent.bin"\r\n'
    "Content-Type: application/octet-stream\r\n\r\n"
).encode()
TAIL = f"\r\n--{MARK}--\r\n".encode()


@cache
def content(size: int) -> bytes:
    """`size` bytes that do not repeat."""
    return random.Random(size).randbytes(size)


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_database(tmp_path_factory.mktemp("database"))


@pytest.fixture(scope="module")
def plain(
    serve_shared: Serve, database: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[http.client.HTTPConnection]:
    """A kept connection to the shop."""
    server = open_shop(serve_shared, database, tmp_path_factory.mktemp("shop"), workers=1)
    with closing(http.client.HTTPConnection(*server.address, timeout=PATIENCE)) as client:
        yield client


@pytest.fixture(scope="module")
def encrypted(
    serve_shared: Serve, database: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[http.client.HTTPConnection]:
    """The same over TLS."""
    folder = tmp_path_factory.mktemp("shop")
    certificate = self_signed(folder)
    arguments = ("--certfile", str(certificate), "--keyfile", str(certificate.with_name("server.key")))
    trust = ssl.create_default_context(cafile=str(certificate))
    server = open_shop(serve_shared, database, folder, workers=1, arguments=arguments, trust=trust)
    with closing(http.client.HTTPSConnection(*server.address, timeout=PATIENCE, context=trust)) as client:
        yield client


def post(client: http.client.HTTPConnection, path: str, body: Any, kind: str) -> Any:
    """What the shop tells of `body`; the connection has to stay open."""
    client.request("POST", path, body, {"Content-Type": kind}, encode_chunked=not isinstance(body, bytes))
    response = client.getresponse()
    told = response.read()
    assert response.status == 200, told[:500]
    assert client.sock is not None
    return json.loads(told)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("way", WAYS)
def test_an_upload_arrives_whole(request: pytest.FixtureRequest, variant: Variant, way: str, size: int) -> None:
    client = request.getfixturevalue("encrypted" if way == "form-tls" else "plain")
    if way in ("raw", "chunked"):
        sent = content(size)
        pieces = (sent[start : start + 9_999] for start in range(0, size, 9_999))
        told = post(client, "/raw", pieces if way == "chunked" else sent, "application/octet-stream")
        assert told == {"size": size, "sha256": hashlib.sha256(sent).hexdigest()}
        return
    # The limit is the file's with "form", and that of the whole body with "form-tls".
    sent = content(size if way == "form" else max(0, size - len(HEAD) - len(TAIL)))
    body = HEAD + sent + TAIL
    told = post(client, "/upload", body, f"multipart/form-data; boundary={MARK}")
    assert told == {
        "size": len(sent),
        "sha256": hashlib.sha256(sent).hexdigest(),
        "kind": "InMemoryUploadedFile" if len(body) <= 2_621_440 else "TemporaryUploadedFile",
        "fields": {"title": "grüße"},
    }


def test_the_sizes_lie_around_every_limit() -> None:
    assert len(SIZES) * len(WAYS) * 8 >= 500
    assert {size + step for size in LIMITS for step in (-1, 0, 1)} == set(SIZES)
