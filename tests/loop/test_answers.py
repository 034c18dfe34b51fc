"""What reaches the wire for what an application does (HTTP.md 27 to 36, 40; PEP 3333)."""

from __future__ import annotations

import asyncio
import contextvars
import sys
from typing import Any

import pytest

from cyhorn.grammar import HOP_BY_HOP
from tests.loop.driver import CLOSE, Served, get, hello, path, post, read_all


class Body:
    """An iterable of `items` that counts its closes; an exception among the items is raised."""

    def __init__(self, *items: Any, failing_close: BaseException | None = None) -> None:
        self.items = iter(items)
        self.closed = 0
        self.taken = 0
        self.failing_close = failing_close

    def __iter__(self) -> Body:
        return self

    def __next__(self) -> Any:
        item = next(self.items)
        self.taken += 1
        if isinstance(item, BaseException):
            raise item
        return item

    def close(self) -> None:
        self.closed += 1
        if self.failing_close is not None:
            raise self.failing_close


def returning(result: Any, status: str = "200 OK", *headers: tuple[str, str]) -> Any:
    def application(environ: Any, start_response: Any) -> Any:
        start_response(status, list(headers))
        return result

    return application


def test_an_answer_carries_our_version_date_server_and_length(impl):
    with Served(impl, hello) as served:
        answer = served.ask(get())
        assert (answer.status, answer.reason, answer.body) == (200, "OK", b"hello")
        assert answer.get("Server") == "cyhorn" and answer.get("Date") and answer.get("Content-Length") == "5"
        assert answer.get("Connection") is None
        assert served.log.lines == []


def test_a_1_0_request_gets_a_1_1_answer_without_chunks(impl):
    with Served(impl, returning(iter([b"a", b"b"]))) as served:
        (answer,) = served.exchange(get(version="1.0"))
        assert answer.raw.startswith(b"HTTP/1.1 200 OK") and answer.chunks is None and answer.body == b"ab"


def test_an_application_with_sendable_length_keeps_a_1_0_connection(impl):
    with Served(impl, hello) as served:
        client = served.client(get("/", "Connection: keep-alive", version="1.0"))
        assert client.answer().get("Connection") == "keep-alive"
        assert client.send(get(version="1.0")).answer().closes
        assert client.until_end() == b""


@pytest.mark.parametrize("method", ["HEAD", "GET"])
@pytest.mark.parametrize("status", ["200 OK", "204 No Content", "205 Reset Content", "304 Not Modified"])
@pytest.mark.parametrize("stream", [False, True])
def test_answers_without_a_body_keep_the_connection_in_step(impl, method, status, stream):
    bodies: list[Body] = []

    def application(environ, start_response):
        start_response(status, [])
        if not stream:
            return [b"body"]
        bodies.append(Body(b"", b"bo", b"dy"))
        return bodies[-1]

    with Served(impl, application) as served:
        client = served.client()
        for _ in range(3):
            client.send(get(method=method))
            answer = client.answer(method)
            assert answer.status == int(status[:3]) and not answer.closes
            if method == "HEAD" or not status.startswith("200"):
                assert answer.body == b"" and client.data == b""
            else:
                assert answer.body == b"body"
        assert client.silent()
        assert [body.closed for body in bodies] == [1] * len(bodies)


def test_a_generator_is_not_run_on_once_nothing_of_it_can_be_sent(impl):
    for method, headers in (("HEAD", []), ("GET", [("Content-Length", "3")])):
        body = Body(b"abc", b"def", b"ghi", b"jkl")

        def application(environ, start_response, body=body, headers=headers):
            start_response("200 OK", headers)
            return body

        with Served(impl, application) as served:
            answer = served.ask(get(method=method), method)
            assert answer.status == 200
            assert body.taken <= 2 and body.closed == 1


# -- lengths ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("items", [[b"abcdef"], (b"abc", b"def"), iter([b"ab", b"cd", b"ef"])], ids=["one", "two", "iter"])
def test_a_body_longer_than_its_length_is_cut_and_logged_and_the_next_request_is_in_step(impl, items):
    if not isinstance(items, (list, tuple)):
        items = iter([b"ab", b"cd", b"ef"])  # fresh for each side
    with Served(impl, returning(items, "200 OK", ("Content-Length", "4"))) as served:
        client = served.client(get("/long"))
        assert client.answer().body == b"abcd"
        assert client.silent()
        (line,) = served.log.of("warning")
        assert "/long" in line and "4" in line


@pytest.mark.parametrize("items", [[b"ab"], [], Body(b"ab"), Body()], ids=["list", "empty", "stream", "none"])
def test_a_body_shorter_than_its_length_ends_the_connection(impl, items):
    if isinstance(items, Body):
        items = Body(b"ab") if items.taken or items.closed == 0 else items
    with Served(impl, returning(items, "200 OK", ("Content-Length", "5"))) as served:
        data = served.client(get() + get()).until_end()
        head, _, body = data.partition(b"\r\n\r\n")
        assert b"Content-Length: 5" in head and len(body) < 5 and b"HTTP/1.1" not in body
        if isinstance(items, Body):
            assert items.closed == 1


# -- mistakes of the application -------------------------------------------------------------------------------


def silent(environ, start_response):
    return [b"x"]


def silent_stream(environ, start_response):
    yield b"x"


def silent_empty(environ, start_response):
    return iter(())


def twice(environ, start_response):
    start_response("200 OK", [])
    start_response("201 Created", [])
    return [b"x"]


def raising(environ, start_response):
    raise ValueError("secret")


def raising_after_start(environ, start_response):
    start_response("200 OK", [("X-Secret", "1")])
    raise ValueError("secret")


def raising_stream(environ, start_response):
    start_response("200 OK", [("X-Secret", "1")])
    raise ValueError("secret")
    yield b""


def raising_after_empty_items(environ, start_response):
    start_response("200 OK", [("X-Secret", "1")])
    yield b""
    yield b""
    raise ValueError("secret")


def text_items(environ, start_response):
    start_response("200 OK", [])
    return [b"good", "text"]


def text_stream(environ, start_response):
    start_response("200 OK", [])
    yield "text"


def number_stream(environ, start_response):
    start_response("200 OK", [])
    yield 1


def injecting(environ, start_response):
    start_response("200 OK", [("X-Secret", "a\r\nX-Injected: b")])
    return [b"x"]


def injecting_status(environ, start_response):
    start_response("200 OK\r\nX-Injected: b", [])
    return [b"x"]


def informational(environ, start_response):
    start_response("101 Switching Protocols", [])
    return [b"x"]


def two_lengths(environ, start_response):
    start_response("200 OK", [("Content-Length", "1"), ("Content-Length", "2")])
    return [b"x"]


def wrong_arguments(environ):
    return [b"x"]


def exiting_iterator(environ, start_response):
    start_response("200 OK", [])

    class Odd:
        def __iter__(self):
            raise TypeError("secret")

    return Odd()


MISTAKES = [
    silent, silent_stream, silent_empty, twice, raising, raising_after_start, raising_stream,
    raising_after_empty_items, text_items, text_stream, number_stream, injecting, injecting_status, informational,
    two_lengths, wrong_arguments, exiting_iterator,
    *(returning(value) for value in (None, b"bytes", "text", 7, object(), {"a": 1}, bytearray(b"x"))),
]  # fmt: skip


@pytest.mark.parametrize("application", MISTAKES, ids=lambda function: function.__name__)
def test_a_mistake_before_the_first_byte_is_500_and_nothing_of_it_is_sent(impl, application):
    with Served(impl, application) as served:
        client = served.client(get("/the-path") + get("/next"))
        (answer,) = client.answers_until_end()
        assert (answer.status, answer.closes) == (500, True)
        assert b"ecret" not in answer.raw and b"Injected" not in answer.raw and b"the-path" not in answer.raw
        assert answer.get("X-Content-Type-Options") == "nosniff" and answer.get("Content-Type")
        assert len(served.log.tracebacks) == 1
        assert served.log.of("error") == served.log.exceptions == ["Error handling request GET /the-path"]
        client.close()
        served.turn()
        assert served.loop.connections == 0


def test_an_error_answer_to_head_has_no_body(impl):
    with Served(impl, raising) as served:
        (answer,) = served.exchange(get(method="HEAD"), "HEAD")
        assert answer.status == 500 and answer.body == b"" and int(answer.get("Content-Length")) > 0


@pytest.mark.parametrize(
    ("accept", "kind"),
    [("text/plain", "text/plain"), ("application/json", "application/json"), ("*/*", "text/html"), ("a/b", "text/html")],
)
def test_an_error_answer_comes_in_the_form_that_is_accepted(impl, accept, kind):
    with Served(impl, raising) as served:
        (answer,) = served.exchange(get("/", f"Accept: {accept}"))
        assert answer.get("Content-Type") == f"{kind}; charset=utf-8"


@pytest.mark.parametrize("framing", ["chunked", "length", "close"])
def test_an_exception_after_the_first_byte_cuts_the_connection(impl, framing):
    body = Body(b"first", ValueError("late"))
    headers = [("Content-Length", "10")] if framing == "length" else []
    with Served(impl, returning(body, "200 OK", *headers)) as served:
        version = "1.0" if framing == "close" else "1.1"
        data = served.client(get(version=version) + get()).until_end()
        assert data.startswith(b"HTTP/1.1 200 OK")
        assert data.endswith({"chunked": b"5\r\nfirst\r\n", "length": b"first", "close": b"first"}[framing])
        assert not data.endswith(b"0\r\n\r\n")
        assert body.closed == 1 and served.log.tracebacks == ["ValueError"]


def test_text_after_the_first_byte_cuts_the_connection(impl):
    body = Body(b"first", "text")
    with Served(impl, returning(body)) as served:
        assert served.client(get()).until_end().endswith(b"5\r\nfirst\r\n")
        assert body.closed == 1


def test_exc_info_before_the_head_gives_the_applications_own_error_page(impl):
    def application(environ, start_response):
        start_response("200 OK", [("X", "1"), ("Content-Length", "1")])
        try:
            raise KeyError
        except KeyError:
            start_response("503 Later", [("Y", "2")], sys.exc_info())
        return [b"sorry"]

    with Served(impl, application) as served:
        answer = served.ask(get())
        assert (answer.status, answer.get("X"), answer.get("Y"), answer.body) == (503, None, "2", b"sorry")
        assert not answer.closes


def test_exc_info_after_the_head_cuts_the_connection(impl):
    def application(environ, start_response):
        start_response("200 OK", [])
        yield b"first"
        try:
            raise KeyError("late")
        except KeyError:
            start_response("500 Oh", [], sys.exc_info())
        yield b"never"

    with Served(impl, application) as served:
        data = served.client(get()).until_end()
        assert data.endswith(b"5\r\nfirst\r\n") and b"500" not in data
        assert served.log.tracebacks == ["KeyError"]


def test_start_response_may_come_as_late_as_the_first_item(impl):
    def application(environ, start_response):
        yield b""
        start_response("201 Created", [])
        yield b""
        yield b"x"

    with Served(impl, application) as served:
        answer = served.ask(get())
        assert (answer.status, answer.body) == (201, b"x")


def test_clearing_the_environ_changes_nothing_in_the_framing(impl):
    def application(environ, start_response):
        environ.clear()
        start_response("200 OK", [])
        return iter([b"a", b"b"])

    with Served(impl, application) as served:
        client = served.client(get())
        assert client.answer().chunks == [b"a", b"b"]
        assert client.send(get(method="HEAD")).answer("HEAD").body == b""
        (old,) = served.exchange(get(version="1.0"))
        assert old.chunks is None and old.closes


def test_an_error_after_clearing_the_environ_is_told_all_the_same(impl):
    def application(environ, start_response):
        environ.clear()
        environ["HTTP_ACCEPT"] = 7
        raise ValueError

    with Served(impl, application) as served:
        (answer,) = served.exchange(get())
        assert answer.status == 500


@pytest.mark.parametrize("name", sorted(HOP_BY_HOP))
def test_hop_by_hop_fields_never_reach_the_wire_and_are_warned_of_once(impl, name):
    with Served(impl, returning([b"x"], "200 OK", (name.title(), "value"))) as served:
        client = served.client()
        for _ in range(3):
            client.send(get())
            answer = client.answer()
            assert answer.get(name) is None and answer.get("Content-Length") == "1"
        (line,) = served.log.of("warning")
        assert repr(name) in line


def test_connection_close_of_the_application_closes(impl):
    with Served(impl, returning([b"x"], "200 OK", ("Connection", "close"))) as served:
        (answer,) = served.exchange(get() + get())
        assert answer.closes and served.log.lines == []


def test_upgrade_requests_are_answered_as_plain_http(impl):
    with Served(impl, path) as served:
        client = served.client(
            get("/a", "Connection: upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk") + get("/b")
        )
        assert [client.answer().body, client.answer().body] == [b"/a", b"/b"]


# -- write() --------------------------------------------------------------------------------------------------------


def test_write_sends_at_once(impl):
    seen: list[bytes] = []

    def application(environ, start_response):
        write = start_response("200 OK", [])
        write(b"first")
        seen.append(client.sock.recv(65536))
        write(b"")
        write(b"second")
        seen.append(client.sock.recv(65536))
        return [b"third", b"", b"fourth"]

    with Served(impl, application) as served:
        client = served.client()
        client.send(get())
        served.turn()
        assert seen[0].endswith(b"\r\n\r\n5\r\nfirst\r\n") and seen[1] == b"6\r\nsecond\r\n"
        client.data = b"".join(seen)
        assert client.answer().chunks == [b"first", b"second", b"third", b"fourth"]


def test_items_are_sent_without_waiting_for_the_next(impl):
    seen: list[bytes] = []

    def application(environ, start_response):
        start_response("200 OK", [])
        for number in range(3):
            yield b"%d" % number
            seen.append(client.sock.recv(65536))

    with Served(impl, application) as served:
        client = served.client()
        client.send(get())
        served.turn()
        assert [data[-6:] for data in seen] == [b"1\r\n0\r\n", b"1\r\n1\r\n", b"1\r\n2\r\n"]
        client.data = b"".join(seen)
        assert client.answer().body == b"012"


@pytest.mark.parametrize("data", ["text", None, 3])
def test_writing_something_else_is_500(impl, data):
    def application(environ, start_response):
        start_response("200 OK", [])(data)
        return []

    with Served(impl, application) as served:
        (answer,) = served.exchange(get())
        assert answer.status == 500


def test_write_to_a_head_request_sends_only_the_head(impl):
    def application(environ, start_response):
        start_response("200 OK", [])(b"body")
        return []

    with Served(impl, application) as served:
        client = served.client(get(method="HEAD"))
        assert client.answer("HEAD").body == b""
        assert client.send(get(method="HEAD")).answer("HEAD").status == 200


# -- what an application keeps -----------------------------------------------------------------------------------------


def test_a_kept_start_response_or_write_cannot_reach_a_later_request(impl):
    kept: list[Any] = []
    failures: list[Exception] = []

    def application(environ, start_response):
        if environ["PATH_INFO"] == "/keep":
            kept.append(start_response)
            kept.append(start_response("200 OK", []))
            return [b"kept"]
        for call in (lambda: kept[0]("200 OK", [("X-Evil", "1")]), lambda: kept[1](b"evil")):
            try:
                call()
            except Exception as error:
                failures.append(error)
        start_response("200 OK", [])
        return [b"clean"]

    with Served(impl, application) as served:
        client = served.client(get("/keep"))
        assert client.answer().body == b"kept"
        answer = client.send(get("/later")).answer()
        assert answer.body == b"clean" and b"evil" not in answer.raw.lower()
        assert len(failures) == 2
        pipelined = served.client(get("/keep") + get("/later"))
        assert [pipelined.answer().body, pipelined.answer().body] == [b"kept", b"clean"]
        assert len(failures) == 4


def test_a_generator_that_calls_start_response_late_gets_an_error(impl):
    caught: list[Exception] = []

    def application(environ, start_response):
        start_response("200 OK", [])
        yield b"x"
        try:
            start_response("200 OK", [])
        except Exception as error:
            caught.append(error)

    with Served(impl, application) as served:
        assert served.ask(get()).body == b"x"
        assert len(caught) == 1


def test_early_hints_go_before_the_answer_and_only_for_the_request_at_hand(impl):
    kept: list[Any] = []

    def application(environ, start_response):
        environ["wsgi.early_hints"]([("Link", "</a.css>; rel=preload; as=style")])
        kept.append(environ["wsgi.early_hints"])
        start_response("200 OK", [])
        return [b"x"]

    with Served(impl, application) as served:
        client = served.client(get())
        hints, answer = client.answer(), client.answer()
        assert (hints.status, hints.fields) == (103, [("Link", "</a.css>; rel=preload; as=style")])
        assert (answer.status, answer.body) == (200, b"x")
        kept[0]([("Link", "late")])
        assert client.silent()
        (old,) = served.exchange(get(version="1.0"))
        assert old.status == 200


# -- close() ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("items", "method", "headers"),
    [
        ([b"a", b"b"], "GET", []), ([b"a"], "HEAD", []), ([], "GET", []), ([b"", b""], "GET", []),
        ([b"abc"], "GET", [("Content-Length", "2")]), ([b"a"], "GET", [("Content-Length", "2")]),
        ([ValueError()], "GET", []), ([b"a", ValueError()], "GET", []), (["text"], "GET", []), ([b"a", 1], "GET", []),
    ],
)  # fmt: skip
@pytest.mark.parametrize("failing", [False, True])
def test_close_is_called_exactly_once(impl, items, method, headers, failing):
    body = Body(*items, failing_close=ValueError("in close") if failing else None)
    with Served(impl, returning(body, "200 OK", *headers)) as served:
        client = served.client(get("/", CLOSE, method=method))
        assert client.until_end()
        assert body.closed == 1
        assert served.log.of("error").count("Error in close() after request /") == failing


def test_close_is_called_when_start_response_never_was(impl):
    body = Body(b"x")
    with Served(impl, lambda environ, start_response: body) as served:
        (answer,) = served.exchange(get())
        assert answer.status == 500 and body.closed == 1


def test_close_that_raises_spoils_neither_this_answer_nor_the_next(impl):
    bodies: list[Body] = []

    def application(environ, start_response):
        start_response("200 OK", [])
        bodies.append(Body(b"x", failing_close=ValueError()))
        return bodies[-1]

    with Served(impl, application) as served:
        client = served.client(get() + get())
        assert [client.answer().body, client.answer().body] == [b"x", b"x"]
        assert [body.closed for body in bodies] == [1, 1] and len(served.log.tracebacks) == 2


def test_close_comes_before_the_next_request_begins(impl):
    order: list[str] = []

    class Told(Body):
        def close(self) -> None:
            order.append("close")

    def application(environ, start_response):
        order.append(environ["PATH_INFO"])
        start_response("200 OK", [])
        return Told(b"x")

    with Served(impl, application) as served:
        client = served.client(get("/1") + get("/2"))
        client.answer(), client.answer()
        assert order == ["/1", "close", "/2", "close"]


def test_the_client_does_not_wait_for_close(impl):
    seen: list[bytes] = []

    class Told(Body):
        def close(self) -> None:
            seen.append(client.sock.recv(65536))

    with Served(impl, returning(Told(b"x"))) as served:
        client = served.client()
        client.send(get())
        served.turn()
        (answer,) = read_all(seen[0])
        assert answer.body == b"x"


def test_close_of_a_list_subclass_is_called(impl):
    closed: list[int] = []

    class Items(list):
        def close(self) -> None:
            closed.append(1)

    with Served(impl, returning(Items([b"a", b"b"]))) as served:
        assert served.ask(get()).body == b"ab" and closed == [1]


def test_an_iterable_by_index_is_an_iterable(impl):
    class Old:
        def __getitem__(self, index: int) -> bytes:
            return [b"a", b"b"][index]

    with Served(impl, returning(Old())) as served:
        assert served.ask(get()).body == b"ab"


def test_a_stream_to_a_client_that_is_gone_ends_and_is_closed(impl):
    class Endless(Body):
        def __next__(self) -> bytes:
            self.taken += 1
            if self.taken == 2:
                client.sock.close()
            assert self.taken < 1000
            return b"x" * 1000

    body = Endless()
    with Served(impl, returning(body)) as served:
        client = served.client()
        client.send(get())
        served.turn()
        assert body.closed == 1 and body.taken < 10
        assert served.loop.connections == 0 and served.log.of("error", "warning") == []
        assert served.log.tracebacks == []


def test_a_write_to_a_client_that_is_gone_raises_and_leaves_no_traceback(impl):
    def application(environ, start_response):
        write = start_response("200 OK", [])
        client.sock.close()
        for _ in range(1000):
            write(b"x" * 1000)
        raise AssertionError("the application wrote on")

    with Served(impl, application) as served:
        client = served.client()
        client.send(get())
        served.turn()
        assert served.log.of("error", "warning") == [] and served.loop.connections == 0


@pytest.mark.parametrize("kind", [asyncio.CancelledError, GeneratorExit])
@pytest.mark.parametrize("place", ["call", "stream", "late"])
def test_another_base_exception_from_inside_the_application_costs_its_own_request_alone(impl, kind, place):
    body = Body(*([b"first"] if place == "late" else []), kind())

    def application(environ, start_response):
        start_response("200 OK", [])
        if environ["PATH_INFO"] == "/next":
            return [b"next"]
        if place == "call":
            raise kind
        return body

    with Served(impl, application) as served:
        client = served.client()
        client.send(get())
        served.turn()
        client._receive()
        if place == "late":
            assert client.data.endswith(b"5\r\nfirst\r\n")
        else:
            (answer,) = read_all(client.data)
            assert answer.status == 500 and answer.closes
        assert body.closed == (place != "call")
        assert served.ask(get("/next")).body == b"next"


# -- what leaves the application -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
@pytest.mark.parametrize("place", ["call", "stream", "late"])
def test_an_exit_from_inside_the_application_leaves_the_loop_with_an_answer(impl, kind, place):
    body = Body(*([b"first"] if place == "late" else []), kind())

    def application(environ, start_response):
        if place == "call":
            raise kind
        start_response("200 OK", [])
        return body

    with Served(impl, application) as served:
        client = served.client()
        client.send(get())
        with pytest.raises(kind):
            served.turn()
        client._receive()
        if place == "late":
            assert client.data.endswith(b"5\r\nfirst\r\n")
        else:
            (answer,) = read_all(client.data)
            assert answer.status == 500 and answer.closes
        assert body.closed == (place != "call")
        assert served.turn()


def test_each_request_has_a_context_of_its_own_with_its_close(impl):
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="clean")
    seen: list[str] = []

    class Told(Body):
        def close(self) -> None:
            seen.append(f"close {variable.get()}")

    def application(environ, start_response):
        seen.append(variable.get())
        variable.set(environ["PATH_INFO"])
        start_response("200 OK", [])
        return Told(b"x")

    for isolation, last in ((True, "clean"), (False, "/2")):
        seen.clear()
        variable.set("clean")
        with Served(impl, application, context_isolation=isolation) as served:
            client = served.client(get("/1") + get("/2"))
            client.answer(), client.answer()
        assert seen == ["clean", "close /1", "clean" if isolation else "/1", "close /2"]
        assert variable.get() == last


def test_one_request_is_in_the_application_at_a_time(impl):
    inside = 0

    def application(environ, start_response):
        nonlocal inside
        inside += 1
        assert inside == 1
        start_response("200 OK", [])
        yield b"a"
        yield b"b"
        inside -= 1

    with Served(impl, application) as served:
        clients = [served.client() for _ in range(5)]
        for client in clients:
            client.sock.send(get())
        assert [client.answer().body for client in clients] == [b"ab"] * 5


# -- the environ of a real connection -------------------------------------------------------------------------------------


def test_the_environ_is_complete_and_true(impl):
    seen: list[dict[str, Any]] = []

    def application(environ, start_response):
        assert type(environ) is dict
        seen.append(dict(environ))
        environ["wsgi.errors"].write("told\n")
        environ["wsgi.errors"].writelines(["a", "b"])
        environ["wsgi.errors"].flush()
        start_response("200 OK", [])
        return [environ["wsgi.input"].read()]

    with Served(impl, application, multiprocess=True) as served:
        client = served.connect(get("/p?q", "X-A: b"))
        client.answer()
        environ = seen[0]
        host, port = client.sock.getsockname()
        assert (environ["REMOTE_ADDR"], environ["REMOTE_PORT"]) == (host, str(port))
        assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == ("127.0.0.1", str(served.address[1]))
        assert (environ["wsgi.multithread"], environ["wsgi.multiprocess"], environ["wsgi.run_once"]) == (False, True, False)
        assert environ["wsgi.version"] == (1, 0) and environ["wsgi.input_terminated"] is True
        assert environ["gunicorn.socket"].fileno() == -1 or environ["gunicorn.socket"].getpeername() == (host, port)
        assert all(type(value) is str for key, value in environ.items() if "." not in key)
        assert served.errors.getvalue() == "told\nab"
        client.close()
        served.turn_until(lambda: served.loop.connections == 0)
        assert environ["gunicorn.socket"].fileno() == -1
        with pytest.raises(OSError):
            environ["gunicorn.socket"].getpeername()


def test_wsgi_input_reads_to_the_letter_and_never_past_the_body(impl):
    seen: list[Any] = []

    def application(environ, start_response):
        body = environ["wsgi.input"]
        seen.extend([body.read(2), body.readline(), body.readline(3), body.readlines(), body.read(), body.read(5)])
        start_response("200 OK", [])
        return [b"x"]

    with Served(impl, application) as served:
        client = served.client(post(b"abcd\nefgh\nij\nkl"))
        client.answer()
        assert seen == [b"ab", b"cd\n", b"efg", [b"h\n", b"ij\n", b"kl"], b"", b""]
        client.send(get()).answer()
        assert seen[6:] == [b"", b"", b"", [], b"", b""]


def test_the_body_is_iterable_by_lines(impl):
    def application(environ, start_response):
        start_response("200 OK", [])
        return [b"|".join(environ["wsgi.input"])]

    with Served(impl, application) as served:
        assert served.ask(post(b"a\nb\nc")).body == b"a\n|b\n|c"
        assert served.ask(get()).body == b""


def test_a_body_that_is_not_read_does_not_change_what_follows(impl):
    with Served(impl, path) as served:
        body = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
        client = served.client(post(body, target="/1") + post(body, target="/2") + get("/3", CLOSE))
        assert [answer.body for answer in client.answers_until_end()] == [b"/1", b"/2", b"/3"]




@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "HOST_MISSING"),
        (get(version="2.0"), "VERSION"),
        (get("a:443", method="CONNECT"), "CONNECT"),
        (get("/", "Transfer-Encoding: gzip", method="POST"), "TRANSFER_CODING"),
    ],
)
def test_a_clients_mistake_is_no_error_in_the_log_whatever_its_status(impl, sent, code):
    with Served(impl, hello) as served:
        served.exchange(sent)
        (line,) = served.log.of("info")
        assert line.endswith(f"[{code}]")
        assert served.log.of("warning", "error") == []
