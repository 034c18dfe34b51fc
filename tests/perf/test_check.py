"""The comparison believes no answer that it has not read to its end."""

from __future__ import annotations

import io

import pytest

from perf.compare import check

HEAD = b"HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
HELLO = (13, check.digest_of(b"Hello, World!"))


def read(data: bytes) -> check.Response:
    return check.read_response(io.BufferedReader(io.BytesIO(data)))


@pytest.mark.parametrize(
    ("framing", "answer"),
    [
        ("length", HEAD + b"Content-Length: 13\r\n\r\nHello, World!"),
        ("chunked", HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nHello\r\n8\r\n, World!\r\n0\r\n\r\n"),
        ("close", HEAD + b"\r\nHello, World!"),
    ],
)
def test_each_framing_gives_the_body(framing: str, answer: bytes) -> None:
    response = read(answer)
    assert response.framing == framing
    check.demand(response, *HELLO)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        HEAD + b"Content-Length: 14\r\n\r\nHello, World!",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nHello, World!\r\n0\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nd\r\nHello, World!\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 13\n\nHello, World!",
        HEAD + b"Content-Length : 13\r\n\r\nHello, World!",
    ],
)
def test_an_answer_that_is_cut_or_misframed_is_wrong(answer: bytes) -> None:
    with pytest.raises(check.Wrong):
        read(answer)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 13\r\n\r\nHello, World!",
        HEAD + b"Content-Length: 13\r\n\r\nHello, world!",
        HEAD + b"Content-Length: 0\r\n\r\n",
    ],
)
def test_another_status_or_body_than_the_work_asks_for_is_wrong(answer: bytes) -> None:
    with pytest.raises(check.Wrong):
        check.demand(read(answer), *HELLO)
