"""The parts that both sides of the loop share: error pages, inputs, spools, the client's socket."""

from __future__ import annotations

import io
import json
import os
import socket
from typing import Any

import pytest

from cyhorn.errors import HTTP_ERRORS, ClientDisconnected
from cyhorn.grammar import REASONS
from cyhorn.wsgi.client_socket import ClientSocket
from cyhorn.wsgi.error_page import error_response, preferred_type
from cyhorn.wsgi.input import EMPTY, StreamInput
from cyhorn.wsgi.spool import BodySpool, OutQueue
from tests.loop.driver import read_answer

# -- error pages (HTTP.md 40; 9110 12.5.1, 15) ---------------------------------------------------------------------


@pytest.mark.parametrize("status", sorted({status for status, _ in HTTP_ERRORS.values()} | {500}))
@pytest.mark.parametrize("accept", ["", "text/plain", "application/json"])
def test_every_error_answer_is_complete_and_closes(status, accept):
    answer, rest = read_answer(error_response(status, accept=accept, now=0))
    assert (answer.status, answer.reason, rest) == (status, REASONS[status], b"")
    assert answer.closes and answer.get("X-Content-Type-Options") == "nosniff" and answer.get("Server") == "cyhorn"
    assert answer.get("Date") == "Thu, 01 Jan 1970 00:00:00 GMT"
    assert answer.get("Content-Type") == f"{accept or 'text/html'}; charset=utf-8"
    assert str(status).encode() in answer.body and REASONS[status].encode() in answer.body
    if accept == "application/json":
        assert json.loads(answer.body) == {"status": status, "error": REASONS[status]}


def test_an_error_answer_to_head_has_the_length_and_no_body():
    whole, _ = read_answer(error_response(404, now=0))
    head, rest = read_answer(error_response(404, now=0, head_only=True), method="HEAD")
    assert head.fields == whole.fields and rest == b""


def test_an_error_answer_names_no_server_where_none_is_to_be_named():
    assert read_answer(error_response(500, server_header=""))[0].get("Server") is None


@pytest.mark.parametrize(
    ("accept", "best"),
    [
        ("", "text/html"), ("*/*", "text/html"), ("text/*", "text/html"), ("application/*", "application/json"),
        ("text/plain, text/html;q=0.5", "text/plain"), ("TEXT/PLAIN", "text/plain"), ("image/png", "text/html"),
        ("application/json;q=0.9, */*;q=0.1", "application/json"), ("text/html;q=0, */*", "text/plain"),
        ("text/plain;q=x, application/json;q=0.1", "application/json"), (";;,=", "text/html"),
        ("application/json, */*", "application/json"), ("*/*, text/plain", "text/plain"),
        ("text/html, application/json", "text/html"), ("application/json, text/plain, */*", "text/plain"),
        ("text/html;q=0.2, text/plain;q=0.3, application/json;q=0.25", "text/plain"), ("*/*;q=0", "text/html"),
    ],
)  # fmt: skip
def test_the_form_of_an_error_answer_is_the_one_preferred(accept, best):
    assert preferred_type(accept) == best


# -- inputs (PEP 3333, input and error streams) ------------------------------------------------------------------------


def test_an_empty_input_is_at_its_end_however_it_is_read():
    assert EMPTY.read() == EMPTY.read(5) == EMPTY.read(None) == EMPTY.readline() == EMPTY.readline(3) == b""
    assert EMPTY.readlines() == EMPTY.readlines(4) == list(EMPTY) == []
    assert next(EMPTY, None) is next(iter(EMPTY), None) is None
    assert EMPTY.readinto(bytearray(3)) == 0 and EMPTY.seek(0) == EMPTY.tell() == 0
    EMPTY.close()
    with EMPTY as entered:
        assert entered is EMPTY
    assert EMPTY.read() == b"" and EMPTY.closed is False
    assert io.TextIOWrapper(io.BufferedReader(EMPTY)).read() == ""  # type: ignore[arg-type]


class Source:
    """Gives its pieces to a StreamInput, one a call."""

    def __init__(self, *pieces: Any) -> None:
        self.pieces = list(pieces)
        self.asked = 0

    def __call__(self, size: int) -> bytes:
        self.asked += 1
        piece = self.pieces.pop(0) if self.pieces else b""
        if isinstance(piece, Exception):
            raise piece
        return piece


def test_a_stream_waits_for_no_more_than_was_asked_for():
    source = Source(b"abc", b"d\ne", b"f")
    stream = StreamInput(source)
    assert stream.read(3) == b"abc" and source.asked == 1
    assert stream.readline() == b"d\n" and source.asked == 2
    assert stream.read(2) == b"ef" and stream.read(1) == b"" and stream.read() == b""


@pytest.mark.parametrize(
    ("read", "expected"),
    [
        (lambda stream: stream.read(), b"ab\ncd\nef"), (lambda stream: stream.read(4), b"ab\nc"),
        (lambda stream: stream.read(-1), b"ab\ncd\nef"), (lambda stream: stream.read(None), b"ab\ncd\nef"),
        (lambda stream: stream.readline(), b"ab\n"), (lambda stream: stream.readline(2), b"ab"),
        (lambda stream: stream.readlines(), [b"ab\n", b"cd\n", b"ef"]), (list, [b"ab\n", b"cd\n", b"ef"]),
        (lambda stream: stream.read(0), b""),
    ],
)  # fmt: skip
def test_a_stream_reads_to_the_letter_however_it_comes(read, expected):
    data = b"ab\ncd\nef"
    for size in range(1, len(data) + 1):
        pieces = [data[at : at + size] for at in range(0, len(data), size)]
        assert read(StreamInput(Source(*pieces))) == expected


def test_a_stream_keeps_what_one_piece_had_too_much():
    piece = os.urandom(200_000)
    stream = StreamInput(Source(piece, b"end"))
    assert stream.read(100_000) == piece[:100_000] and stream.read() == piece[100_000:] + b"end"


def test_a_stream_raises_what_its_source_raises_and_is_not_read_once_closed():
    stream = StreamInput(Source(b"ab", ClientDisconnected("gone")))
    assert stream.read(2) == b"ab"
    with pytest.raises(ClientDisconnected):
        stream.read(1)
    stream.close()
    with pytest.raises(ValueError, match="closed"):
        stream.read()


# -- spools -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("memory", [0, 3, 6, 100])
def test_a_body_comes_back_as_it_was_appended(memory, tmp_path):
    spool = BodySpool(memory, str(tmp_path))
    for piece in (b"ab", bytearray(b"cd"), memoryview(b"ef")):
        spool.append(piece)
    body = spool.open()
    assert spool.size == 6 and body.read() == b"abcdef" and isinstance(body, io.BytesIO) is (memory >= 6)
    assert list(tmp_path.iterdir()) == []
    spool.close()
    assert body.closed is (memory < 6)
    spool.close()


def test_a_body_that_is_appended_is_copied():
    spool, piece = BodySpool(10), bytearray(b"ab")
    spool.append(piece)
    piece[:] = b"xx"
    assert spool.open().read() == b"ab"


@pytest.fixture
def pair() -> Any:
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    ours.setblocking(False)
    theirs.setblocking(False)
    yield ours, theirs
    ours.close()
    theirs.close()


def drained(queue: OutQueue, ours: socket.socket, theirs: socket.socket) -> bytes:
    received = b""
    while queue or not received:
        queue.drain(ours.fileno())
        try:
            received += theirs.recv(1 << 20)
        except BlockingIOError:
            break
    return received


@pytest.mark.parametrize(("memory", "spool"), [(1 << 20, 0), (0, 1 << 20), (5000, 1 << 20), (5000, 20_000)])
def test_a_queue_keeps_the_order_across_memory_and_file(pair, tmp_path, memory, spool):
    pieces = [bytes([number]) * (1 + number * 97) for number in range(60)]
    queue = OutQueue(memory, spool, str(tmp_path))
    with open(tmp_path / "own", "w+b", buffering=0) as file:
        file.write(b"from a file" * 1000)
        for number, piece in enumerate(pieces):
            queue.append(piece if number % 2 else memoryview(piece))
            if number == 30:
                queue.append_file(file.fileno(), 11, 8000)
    expected = b"".join(pieces[:31]) + (b"from a file" * 1000)[11:8011] + b"".join(pieces[31:])
    assert len(queue) == len(expected)
    assert drained(queue, *pair) == expected
    assert len(queue) == 0 and not queue and not queue.full
    queue.close()


def test_a_queue_is_full_beyond_memory_and_file_and_has_room_again_when_it_is_empty(pair):
    queue = OutQueue(1000, 2000)
    for number in range(3):
        queue.append(bytes([number]) * 1000)
        assert not queue.full
    queue.append(b"x" * 1000)
    assert queue.full
    assert len(drained(queue, *pair)) == 4000 and not queue.full
    for _ in range(3):
        queue.append(b"y" * 1000)
    assert not queue.full and drained(queue, *pair) == b"y" * 3000
    queue.close()


def test_a_queue_to_a_peer_that_is_gone_says_so(pair):
    ours, theirs = pair
    theirs.close()
    queue = OutQueue(1000, 0)
    queue.append(b"x")
    with pytest.raises(ClientDisconnected):
        queue.drain(ours.fileno())
    queue.close()


def test_a_closed_queue_has_let_go_of_its_descriptors(tmp_path):
    before = len(os.listdir("/proc/self/fd"))
    queue = OutQueue(0, 1000, str(tmp_path))
    queue.append(b"x" * 100)
    queue.append_file(0, 0, 10)
    queue.close()
    assert len(os.listdir("/proc/self/fd")) == before and len(queue) == 0


# -- the client's socket --------------------------------------------------------------------------------------------------------


def test_the_clients_socket_is_a_duplicate_that_ends_with_the_connection(pair):
    ours, theirs = pair
    client = ClientSocket(ours.fileno())
    assert client.fileno() == ours.fileno() and client.family == socket.AF_UNIX
    before = len(os.listdir("/proc/self/fd"))
    client.sendall(b"x")
    client.close()
    ours.send(b"y")
    assert theirs.recv(10) == b"xy"
    client.detach_from_loop()
    client.detach_from_loop()
    assert client.fileno() == -1 and len(os.listdir("/proc/self/fd")) == before - 1
    with pytest.raises(OSError, match="closed"):
        client.family  # noqa: B018
