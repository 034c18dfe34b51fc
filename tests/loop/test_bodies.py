"""Request bodies: limits, 100-continue, spooling, and reading while the application runs (HTTP.md 15 to 22)."""

from __future__ import annotations

import os
import threading
from typing import Any

import pytest

from cyhorn.errors import ClientDisconnected, HttpError
from tests.loop.driver import CLOSE, PATIENCE, Served, chunked, echo, get, hello, path, post

EXPECT = "Expect: 100-continue"


# -- whole before the application is called ------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 100, 65535, 65536, 65537, 300000])
@pytest.mark.parametrize("memory", [0, 10, 100000, 1 << 20])
def test_a_body_arrives_whole_wherever_it_waits(impl, size, memory, tmp_path):
    body = os.urandom(size)
    with Served(impl, echo, body_buffer_size=memory, tmp_upload_dir=str(tmp_path)) as served:
        client = served.client()
        assert client.send(post(body)).answer().body == body
        pieces = [body[at : at + 9000] for at in range(0, size, 9000)]
        assert client.send(chunked(*pieces)).answer().body == body
        assert list(tmp_path.iterdir()) == []


def test_a_chunked_body_tells_the_application_its_length(impl):
    def application(environ, start_response):
        start_response("200 OK", [])
        return [f"{environ['CONTENT_LENGTH']} {environ.get('HTTP_TRANSFER_ENCODING')}".encode()]

    with Served(impl, application) as served:
        assert served.ask(chunked(b"abc", b"de")).body == b"5 chunked"
        assert served.ask(post(b"abc")).body == b"3 None"


@pytest.mark.parametrize("last", [b"0\r\n\r\n", b"0\r\nX-T: 1\r\n\r\n", b"000;a=b\r\n\r\n"])
def test_the_next_request_starts_after_the_chunks_and_trailers(impl, last):
    with Served(impl, echo) as served:
        client = served.client(chunked(b"abc", last=last) + get("/next"))
        assert client.answer().body == b"abc" and client.answer().status == 200


@pytest.mark.parametrize(
    ("last", "status"),
    [(b"x\r\n", 400), (b"0\r\nHost: b\r\n\r\n", 400), (b"5\r\nabcdef\r\n", 400), (b"0\n\n", 400), (b"-1\r\n", 400)],
)
def test_a_broken_chunk_is_refused_and_the_application_not_called(impl, last, status):
    with Served(impl, echo) as served:
        (answer,) = served.exchange(chunked(b"abc", last=last) + get())
        assert answer.status == status and served.loop.requests == 0


def test_the_file_of_a_large_body_is_given_back_with_its_request(impl, tmp_path):
    kept: list[Any] = []

    def application(environ, start_response):
        kept.append(environ["wsgi.input"])
        return hello(environ, start_response)

    with Served(impl, application, body_buffer_size=10, tmp_upload_dir=str(tmp_path)) as served:
        served.ask(post(b"x" * 100))
        served.ask(chunked(b"x" * 100))
        assert [body.closed for body in kept] == [True, True]


# -- limits --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("buffered", [True, False])
def test_a_declared_body_above_the_limit_is_413_before_it_comes(impl, buffered):
    with Served(impl, hello, limit_request_body=10, buffer_request_body=buffered) as served:
        client = served.client(get("/", "Content-Length: 11", EXPECT, method="POST"))
        answer = client.answer()
        assert answer.status == 413 and answer.closes
        assert served.ask(post(b"x" * 10)).status == 200
        assert served.log.of("info")[0].endswith("[BODY_LENGTH]")


def test_a_refusal_whose_body_begins_like_a_head_request_still_has_a_body(impl):
    with Served(impl, hello, limit_request_body=10) as served:
        (answer,) = served.exchange(get("/", "Content-Length: 50", method="POST") + b"HEAD / HTTP/1.1\r\n" + b"x" * 33)
        assert answer.status == 413 and answer.body


def test_a_chunked_body_above_the_limit_is_413(impl):
    with Served(impl, hello, limit_request_body=10) as served:
        assert served.ask(chunked(b"x" * 5, b"x" * 5)).status == 200
        (answer,) = served.exchange(chunked(b"x" * 5, b"x" * 6))
        assert answer.status == 413


def test_a_limit_on_reading_reaches_an_application_that_reads_itself(impl):
    with Served(impl, echo, limit_request_body=10, buffer_request_body=False) as served:
        (answer,) = served.exchange(chunked(b"x" * 5, b"x" * 6))
        assert answer.status == 413


# -- 100-continue ------------------------------------------------------------------------------------------------------


def test_100_continue_is_sent_for_a_head_that_comes_behind_the_rest_of_a_body(impl):
    head = get("/", "Content-Length: 5", EXPECT, method="POST")
    with Served(impl, echo) as served:
        client = served.client(head + b"he")
        served.turn()
        client.send(b"llo" + head)
        assert client.answer().body == b"hello"
        assert client.answer().status == 100
        assert client.send(b"again").answer().body == b"again"


@pytest.mark.parametrize("buffered", [True, False])
def test_100_continue_is_sent_once_when_the_body_has_not_begun(impl, buffered):
    with Served(impl, echo, buffer_request_body=buffered) as served:
        if buffered:
            client = served.client(get("/", "Content-Length: 4", "expect: 100-Continue", method="POST"))
            interim = client.answer()
            assert (interim.status, interim.fields) == (100, [])
            assert client.silent()
            assert client.send(b"body").answer().body == b"body"
            assert client.send(get()).answer().status == 200
            return
        with served.in_thread():
            client = served.connect(get("/", "Content-Length: 4", EXPECT, method="POST"))
            assert client.answer().status == 100
            assert client.send(b"body").answer().body == b"body"


def test_100_continue_goes_before_a_chunked_body_too(impl):
    with Served(impl, echo) as served:
        client = served.client(get("/", "Transfer-Encoding: chunked", EXPECT, method="POST"))
        assert client.answer().status == 100
        assert client.send(b"1\r\nx\r\n0\r\n\r\n").answer().body == b"x"


@pytest.mark.parametrize(
    "data",
    [
        post(b"body", EXPECT), post(b"body", EXPECT)[:-2], get("/", EXPECT), get("/", "Content-Length: 0", EXPECT),
        post(b"body", EXPECT, version="1.0"), get("/", "Content-Length: 4", EXPECT, version="1.0", method="POST"),
    ],
)  # fmt: skip
def test_100_continue_is_not_sent_when_it_is_not_waited_for(impl, data):
    with Served(impl, echo) as served:
        client = served.client(data)
        served.turn()
        client._receive()
        assert b" 100 " not in client.data
        if not client.data:
            missing = b"dy" if b"1.1" in data.partition(b"\r\n")[0] else b"body"
            assert client.send(missing).answer().body == b"body"


def test_100_continue_is_not_sent_before_an_error_that_is_certain(impl):
    with Served(impl, hello, limit_request_body=3) as served:
        for fields in (("Content-Length: 4", EXPECT), ("Content-Length: x", EXPECT), ("Content-Length: 2", "Expect: x")):
            answers = served.exchange(get("/", *fields, method="POST"))
            assert [answer.status for answer in answers] == [{"4": 413, "x": 400, "2": 417}[fields[0][-1]]]


def test_an_answer_without_having_asked_for_the_body_closes(impl):
    with Served(impl, hello, buffer_request_body=False) as served:
        client = served.client(get("/", "Content-Length: 40", EXPECT, method="POST"))
        answer = client.answer()
        assert answer.status == 200 and answer.closes
        client.sock.send(get("/smuggled"))
        assert client.until_end() == b"" and served.loop.requests == 1


def test_a_client_that_is_gone_when_it_is_to_be_asked_leaves_no_traceback(impl):
    with Served(impl, hello) as served:
        for _ in range(20):
            client = served.connect(get("/", "Content-Length: 40", EXPECT, method="POST"))
            client.sock.setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")  # SO_LINGER: close resets
            client.close()
        # The end of a socket pair is known at once: the 100 cannot be sent.
        pair = served.client()
        pair.sock.send(get("/", "Content-Length: 40", EXPECT, method="POST"))
        pair.close()
        served.turn_until(lambda: served.loop.connections == 0)
        assert served.log.tracebacks == [] and served.log.of("warning", "error") == []


# -- where the body waits -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("request_", [post(b"x" * 100), chunked(b"x" * 60, b"x" * 60)], ids=["length", "chunked"])
@pytest.mark.rule(46)
def test_a_body_that_cannot_be_spooled_is_507_and_logged_and_nothing_else_suffers(impl, request_, tmp_path):
    missing = str(tmp_path / "missing")
    with Served(impl, echo, body_buffer_size=50, tmp_upload_dir=missing) as served:
        (answer,) = served.exchange(request_)
        assert answer.status == 507 and answer.closes
        assert any("pool" in line for line in served.log.of("error")) and served.log.tracebacks == []
        assert served.ask(post(b"x" * 50)).status == 200


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("size", [100, 100000])
@pytest.mark.rule(46)
def test_a_full_disk_is_507_also_when_it_shows_at_the_end(impl, size, monkeypatch):
    monkeypatch.setattr("tempfile.TemporaryFile", lambda *_, **__: open("/dev/full", "w+b"))
    with Served(impl, echo, body_buffer_size=50) as served:
        client = served.client()
        client.send(post(b"x" * size))
        answer = client.answer()
        assert answer.status == 507 and answer.closes and served.log.tracebacks == []


# -- buffer_request_body = False: the application reads from the client ----------------------------------------------------


def streaming(impl: Any, application: Any, **options: Any) -> Served:
    return Served(impl, application, buffer_request_body=False, **options)


@pytest.mark.parametrize("data", [post(b"abcdef"), chunked(b"abc", b"", b"def")[:-5] + b"0\r\n\r\n"], ids=["length", "chunked"])
def test_a_streamed_body_is_read_to_its_end_and_closes(impl, data):
    data = data if b"chunked" not in data else chunked(b"abc", b"def")
    with streaming(impl, echo) as served:
        (answer,) = served.exchange(data + get("/next"))
        assert answer.body == b"abcdef" and answer.closes
        assert served.ask(get()).closes is False


def test_a_streamed_body_is_there_before_it_is_complete(impl):
    seen: list[bytes] = []
    first = threading.Event()

    def application(environ, start_response):
        body = environ["wsgi.input"]
        seen.append(body.read(3))
        first.set()
        seen.extend([body.read(4), body.readline(), body.read()])
        return hello(environ, start_response)

    with streaming(impl, application) as served, served.in_thread():
        client = served.connect(post(b"abcdefghi\njkl")[:-10])
        assert first.wait(PATIENCE)
        client.send(b"defghi\njkl")
        assert client.answer().status == 200
        assert seen == [b"abc", b"defg", b"hi\n", b"jkl"]


def test_answers_before_leave_before_a_body_is_waited_for(impl):
    def application(environ, start_response):
        environ["wsgi.input"].read()
        return path(environ, start_response)

    with streaming(impl, application) as served, served.in_thread():
        warm = served.connect(get() * 100)
        assert [warm.answer().status for _ in range(100)] == [200] * 100
        client = served.connect(get("/1") + post(b"xx", target="/2")[:-1])
        assert client.answer().body == b"/1"
        client.send(b"x")
        assert client.answer().body == b"/2"


def test_a_streamed_body_that_is_not_read_ends_the_connection(impl):
    with streaming(impl, hello) as served:
        (answer,) = served.exchange(post(get("/smuggled")) + get("/next"))
        assert answer.closes and served.loop.requests == 1


def test_a_client_that_leaves_inside_a_streamed_body_is_an_error_for_the_reader_and_none_for_the_log(impl):
    caught: list[Exception] = []

    def application(environ, start_response):
        try:
            environ["wsgi.input"].read()
        except Exception as error:
            caught.append(error)
            raise

    with streaming(impl, application) as served:
        served.connect(post(b"xx")[:-1]).close()
        served.turn_until(lambda: caught)
        assert [type(error) for error in caught] == [ClientDisconnected] and served.loop.connections == 0
        assert served.log.of("error", "warning") == []


def test_a_streamed_body_that_stops_is_408(impl):
    caught: list[Exception] = []

    def application(environ, start_response):
        try:
            environ["wsgi.input"].read()
        except HttpError as error:
            caught.append(error)
            raise

    with streaming(impl, application, client_body_timeout=0.03) as served:
        (answer,) = served.exchange(post(b"xx")[:-1])
        assert answer.status == 408 and answer.closes and len(caught) == 1
        assert served.log.tracebacks == []


def test_a_broken_streamed_chunk_is_400(impl):
    with streaming(impl, echo) as served:
        (answer,) = served.exchange(chunked(b"abc", last=b"x\r\n"))
        assert answer.status == 400 and served.log.tracebacks == []


def test_an_application_may_answer_while_the_client_still_sends(impl):
    def application(environ, start_response):
        start_response("200 OK", [])
        while data := environ["wsgi.input"].read(5):
            yield data.upper()

    with streaming(impl, application) as served, served.in_thread():
        client = served.connect(chunked(b"hello", last=b""))
        client.wait(lambda: b"HELLO" in client.data)
        client.send(b"5\r\nworld\r\n0\r\n\r\n")
        answer = client.answer()
        assert answer.chunks == [b"HELLO", b"WORLD"] and answer.closes


def test_a_kept_input_cannot_read_from_a_later_request(impl):
    kept: list[Any] = []
    caught: list[Exception] = []

    def application(environ, start_response):
        if kept:
            try:
                kept[0].read()
            except Exception as error:
                caught.append(error)
        kept.append(environ["wsgi.input"])
        return hello(environ, start_response)

    with streaming(impl, application) as served:
        served.ask(post(b"first"))
        assert served.ask(post(b"second")).status == 200
        assert [type(error) for error in caught] == [ClientDisconnected]


def test_a_streamed_body_comes_over_many_reads(impl):
    body = os.urandom(3_000_000)
    with streaming(impl, echo) as served, served.in_thread():
        client = served.connect()
        client.send(post(body, CLOSE))
        assert client.answer().body == body
