"""Writer, environ and loop of both sides make the same of the same calls, applications and bytes."""

from __future__ import annotations

import re
import socket
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cyhorn import (
    _access,
    _access_py,
    _environ,
    _environ_py,
    _loop,
    _loop_py,
    _parser,
    _parser_py,
    _writer,
    _writer_py,
)
from cyhorn.errors import HttpError
from tests.loop.driver import Served, access_lines, chunked, get, post

COMPILED = SimpleNamespace(name="compiled", parser=_parser, environ=_environ, writer=_writer, access=_access, loop=_loop)
PURE = SimpleNamespace(
    name="python", parser=_parser_py, environ=_environ_py, writer=_writer_py, access=_access_py, loop=_loop_py
)
SIDES = (COMPILED, PURE)

statuses = st.sampled_from(
    ["200 OK", "200 OK", "201 Created", "204 No Content", "205 Reset", "304 Not Modified", "404 No", "503 Later \xe4",
     "99 x", "100 Continue", "600 x", "200", "200 \r\nX: y", "200 \u2603", "", 200, None]
)  # fmt: skip
names = st.sampled_from(
    ["X-A", "x-a", "Set-Cookie", "Content-Type", "Date", "DATE", "Server", "Connection", "Keep-Alive", "TE", "Upgrade",
     "Transfer-Encoding", "Proxy-Connection", "Content-Length", "content-length", "X Y", "X\n", "", "\xe4", "X\u2603"]
)  # fmt: skip
values = st.sampled_from(
    ["v", "", "close", "keep-alive", "x, Close", "chunked", "0", "1", "3", "5", "12", "5x", "-1", "9" * 19, "9" * 30,
     "a\r\nb", "a\0", "caf\xe9", "\u2603", " padded ", "a\tb"]
)  # fmt: skip
fields = st.one_of(
    st.tuples(names, values),
    st.tuples(
        st.sampled_from(["X-A", "Content-Type", "Date", "Connection"]),
        st.sampled_from(["v", "close", "a, b"]),
    ),
    st.tuples(st.just("Content-Length"), st.sampled_from(["0", "1", "3", "5", "12", "40000"])),
)
odd_fields = st.sampled_from([["X", "y"], ("X",), ("X", 1), (b"X", "y"), None, "Xy"])
headers = st.one_of(
    st.lists(fields, max_size=4),
    st.lists(fields, max_size=4),
    st.lists(st.one_of(fields, odd_fields), max_size=3),
    st.sampled_from([(), None, {}, "X: y"]),
)
good_items = st.sampled_from(
    [b"", b"a", b"abc", b"hello", b"x" * 255, b"y" * 4097, b"z" * 16385, b"w" * 40000]
)
items = st.one_of(
    good_items, good_items, good_items, good_items, st.sampled_from(["text", None, 7, bytearray(b"x")])
)


def told(act: Any) -> Any:
    """What `act` returns, or what it raises."""
    try:
        result = act()
    except Exception as error:
        return (type(error).__name__, str(error))
    return "callable" if callable(result) else result


def exc_info() -> Any:
    try:
        raise KeyError("of the application")
    except KeyError:
        return sys.exc_info()


# -- the writer ----------------------------------------------------------------------------------------------------

calls = st.one_of(
    st.tuples(st.just("start"), statuses, headers, st.booleans()),
    st.tuples(st.just("start"), st.just("200 OK"), st.lists(fields, max_size=2), st.booleans()),
    st.tuples(st.sampled_from(["chunk", "write"]), items),
    st.tuples(st.just("whole"), st.lists(items, max_size=4)),
    st.tuples(st.just("file"), st.integers(0, 50)),
    st.tuples(st.just("early_hints"), headers),
    st.tuples(st.just("fail"), st.sampled_from([499, 500])),
    st.tuples(st.just("finish")),
)
ATTRIBUTES = (
    "chunked", "complete", "dropped", "excess", "full", "headers", "headers_sent", "keep_alive", "response_length",
    "sent", "status", "status_code",
)  # fmt: skip


def write(side: Any, responses: Any, server: str) -> list[Any]:
    """What each call on one writer gave, with the bytes and the attributes after it."""
    out = side.writer.OutputBuffer()
    flushed: list[bytes] = []
    writer = side.writer.ResponseWriter(out, server, lambda: flushed.append(out.take()))
    writer.tick(1)
    seen: list[Any] = []
    for begun, acts in responses:
        writer.begin(*begun)
        for name, *arguments in acts:
            if name == "start":
                status, fields, again = arguments
                result = told(
                    lambda s=status, f=fields, a=again: writer.start_response(s, f, exc_info() if a else None)
                )
            else:
                result = told(lambda n=name, a=arguments: getattr(writer, n)(*a))
            values = [getattr(writer, attribute) for attribute in ATTRIBUTES]
            seen.append((name, result, flushed[:], out.take(), values))
            flushed.clear()
    return seen


@settings(max_examples=400, deadline=None)
@given(
    st.lists(
        st.tuples(st.tuples(st.booleans(), st.booleans(), st.booleans()), st.lists(calls, max_size=6)),
        min_size=1,
        max_size=3,
    ),
    st.sampled_from(["cyhorn", ""]),
)
def test_any_calls_on_a_writer_give_the_same_bytes_errors_and_attributes(responses, server):
    assert write(COMPILED, responses, server) == write(PURE, responses, server)


# -- the environ -----------------------------------------------------------------------------------------------------

request_names = st.sampled_from(
    [b"X-A", b"x_a", b"X_A", b"Accept", b"Cookie", b"cookie", b"User-Agent", b"Content_Length", b"SCRIPT_NAME",
     b"Script-Name", b"X-Forwarded-Proto", b"x-forwarded-ssl", b"X-Own-Scheme", b"Content-Type", b"Via", b"Remote_User"]
)  # fmt: skip
request_values = st.sampled_from(
    [b"", b"v", b"\xe4", b"https", b"http", b"on", b"yes", b"/m", b"/m/", b"*/*", b"a; b"]
)
options = st.fixed_dictionaries(
    {},
    optional={
        "header_map": st.sampled_from(["drop", "refuse", "dangerous"]),
        "forwarder_headers": st.sampled_from([(), ("SCRIPT_NAME",), ("script_name", "REMOTE_USER"), ("*",)]),
        "secure_scheme_headers": st.sampled_from(
            [{}, {"X-FORWARDED-PROTO": "https"}, {"X-Forwarded-Ssl": "on", "X-Own-Scheme": "yes"}]
        ),
        "script_name": st.sampled_from(["", "/", "/m", "/m/"]),
    },
)


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from([b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"get"]),
    st.sampled_from(
        [b"/", b"/m", b"/m/a%20b?c", b"/mm", b"/%", b"/%4", b"/m/%zz%41?", b"http://b", b"http://b:1/m?q"]
    ),
    st.sampled_from([b"1.0", b"1.1"]),
    st.sampled_from([b"a", b"a:81", b"[::1]:80", b""]),
    st.lists(st.tuples(request_names, request_values), max_size=6),
    options,
    st.booleans(),
    st.sampled_from([("s", "80"), ("", "")]),
    st.sampled_from([None, "7"]),
)
def test_any_head_becomes_the_same_environ(method, target, version, host, more, how, trusted, server, port):
    lines = [
        b"%b %b HTTP/%b" % (method, target, version),
        b"Host: " + host,
        *(b"%b: %b" % pair for pair in more),
    ]
    data = b"before" + b"\r\n".join(lines) + b"\r\n\r\nafter"
    template = {
        "SERVER_NAME": server[0],
        "SERVER_PORT": server[1],
        "wsgi.url_scheme": "http",
        "QUERY_STRING": "",
    }
    made = []
    for side in SIDES:
        parser = side.parser.RequestParser(casefold_http_method=True)
        builder = side.environ.EnvironBuilder(template, **how)
        try:
            parser.parse(data, 6)
            once = builder.build(parser, data, 6, "192.0.2.1", port, trusted)
            assert builder.build(parser, data, 6, "192.0.2.1", port, trusted) == once
            made.append(once)
        except HttpError as error:
            made.append(error.code)
    assert made[0] == made[1]


# -- the loop ----------------------------------------------------------------------------------------------------------

usual_items = st.lists(good_items, max_size=4)
bodies = st.one_of(usual_items, usual_items, usual_items, st.lists(items, max_size=4))
usual_headers = st.lists(
    st.sampled_from([("X-A", "v"), ("Content-Type", "a"), ("Date", "d"), ("Set-Cookie", "c")]), max_size=3
)
behaviours = st.fixed_dictionaries(
    {
        "status": st.one_of(
            st.just("200 OK"),
            st.just("200 OK"),
            st.sampled_from(["201 Created", "204 No", "205 Reset", "304 Same"]),
            statuses,
        ),
        "headers": st.one_of(
            usual_headers, usual_headers, usual_headers, st.lists(fields, max_size=2), headers
        ),
        "kind": st.sampled_from(
            ["list", "tuple", "iterator", "generator", "generator", "file"] * 3 + ["none", "bytes"]
        ),
        "items": bodies,
        "writes": st.one_of(st.just([]), st.just([]), st.just([]), usual_items, st.lists(items, max_size=2)),
        "raises": st.sampled_from([None] * 20 + ["call", "started", "items", "close", "disconnect"]),
        "again": st.sampled_from([None] * 20 + ["plain", "exc_info"]),
        "reads": st.sampled_from([0, 3, -1]),
        "starts": st.sampled_from([True] * 20 + [False]),
        "clears": st.booleans(),
    }
)
requests = st.one_of(
    st.builds(
        lambda method, version, more: get("/p?q", *more, version=version, method=method),
        st.sampled_from(["GET", "HEAD", "DELETE", "OPTIONS"]),
        st.sampled_from(["1.1", "1.1", "1.0"]),
        st.sampled_from([(), (), (), ("Connection: close",), ("Connection: keep-alive",), ("Accept: text/plain",)]),
    ),
    st.builds(lambda body: post(body), st.sampled_from([b"", b"abc", b"x" * 3000])),
    st.builds(lambda *pieces: chunked(*pieces), st.just(b"abc"), st.sampled_from([b"d", b"e" * 2000])),
    st.sampled_from(
        [b"BAD\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"HEAD / HTTP/3.0\r\n\r\n", b"\r\n" + get(), chunked(b"a", last=b"x\r\n"),
         get("/", "Content-Length: 99999", method="POST"), b"GET / HT"]
    ),
)  # fmt: skip
loops = st.fixed_dictionaries(
    {},
    optional={
        "buffer_request_body": st.just(False),
        "keepalive": st.just(0.0),
        "limit_request_body": st.just(2500),
        "body_buffer_size": st.just(10),
        "max_requests": st.just(2),
        "context_isolation": st.just(False),
        "server_header": st.just(""),
        "sendfile": st.just(False),
        "response_buffer_size": st.just(1000),
    },
)


class Items:
    """The application's iterable, which counts its closes."""

    def __init__(self, behaviour: Any, closes: list[int]) -> None:
        self.behaviour, self.closes = behaviour, closes

    def __iter__(self) -> Any:
        yield from self.behaviour["items"]
        if self.behaviour["raises"] == "items":
            raise ValueError("of an item")

    def close(self) -> None:
        self.closes.append(1)
        if self.behaviour["raises"] == "close":
            raise ValueError("of close")


def behaving(behaviour: Any, closes: list[int]) -> Any:
    """An application that does what `behaviour` says."""

    def application(environ: Any, start_response: Any) -> Any:
        if behaviour["reads"]:
            environ["wsgi.input"].read(behaviour["reads"])
        if behaviour["clears"]:
            environ.clear()
        if behaviour["raises"] == "call":
            raise ValueError("of the call")
        if behaviour["starts"]:
            write = start_response(behaviour["status"], behaviour["headers"])
            if behaviour["again"] == "plain":
                start_response("202 Again", [])
            elif behaviour["again"] == "exc_info":
                start_response("203 Again", [("X-Again", "1")], exc_info())
            for data in behaviour["writes"]:
                write(data)
        if behaviour["raises"] == "started":
            raise ValueError("after start_response")
        if behaviour["raises"] == "disconnect":
            raise BrokenPipeError("of something else")
        made = {
            "list": list,
            "tuple": tuple,
            "iterator": iter,
            "generator": lambda _: Items(behaviour, closes),
        }
        if behaviour["kind"] == "file":
            return environ.get("wsgi.file_wrapper", iter)(open(__file__, "rb"))
        result = made.get(behaviour["kind"], lambda _: {"none": None, "bytes": b"bytes"}[behaviour["kind"]])
        return result(behaviour["items"])

    return application


def serve(side: Any, behaviour: Any, data: bytes, cuts: Any, how: Any) -> Any:
    """The bytes, log lines and counts that come of `data` in pieces between `cuts`."""
    closes: list[int] = []
    accesses: list[Any] = []

    def access(response: Any, environ: Any, seconds: float) -> None:
        accesses.append((response.status, response.sent, response.response_length, response.headers))

    with Served(side, behaving(behaviour, closes), access_lines=access_lines(side, access), **how) as served:
        ours, theirs = socket.socketpair()
        served.loop.adopt(theirs)
        ours.settimeout(5)
        at = 0
        for cut in (*cuts, len(data)):
            try:
                ours.sendall(data[at:cut])
            except OSError:
                break
            at = max(at, cut)
            if cut != len(data):
                served.turn(0)
        try:
            ours.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        answered = b""
        for _ in range(500):
            served.turn(0)
            ours.setblocking(False)
            try:
                piece = ours.recv(1 << 20)
            except BlockingIOError:
                continue
            except ConnectionResetError:
                break
            if not piece:
                break
            answered += piece
        ours.close()
        served.turn(0)
        answered = re.sub(rb"Date: [^\r]{29}\r\n", b"Date: now\r\n", answered)
        lines = [line for line in served.log.lines if line[0] != "debug"]
        return answered, lines, len(closes), accesses, served.loop.requests, served.loop.connections


@settings(max_examples=250, deadline=None)
@given(
    behaviours,
    st.lists(requests, min_size=1, max_size=4).map(b"".join),
    st.lists(st.integers(0, 6000), max_size=3).map(sorted),
    loops,
)
def test_any_application_and_any_requests_give_the_same_answers_and_log(behaviour, data, cuts, how):
    if how.get("buffer_request_body") is False:
        cuts = ()  # this thread cannot send while the application reads
    cuts = [cut for cut in cuts if cut < len(data)]
    compiled = serve(COMPILED, behaviour, data, cuts, how)
    assert compiled == serve(PURE, behaviour, data, cuts, how)
    assert compiled == serve(PURE, behaviour, data, (), how)


PLAIN = {
    "status": "200 OK", "headers": [], "kind": "list", "items": [b"hello"], "writes": [], "raises": None, "again": None,
    "reads": -1, "starts": True, "clears": False,
}  # fmt: skip
CONVERSATION = (
    get("/1")
    + post(b"body")
    + chunked(b"ab", b"c", last=b"0\r\nT: u\r\n\r\n")
    + get("/", "Connection: close")
)


@pytest.mark.parametrize("kind", ["list", "generator"])
def test_a_conversation_cut_anywhere_is_the_same(kind):
    behaviour = {**PLAIN, "kind": kind}
    expected = serve(PURE, behaviour, CONVERSATION, (), {})
    assert expected[0].count(b"HTTP/1.1 200 OK") == 4
    for side in SIDES:
        assert serve(side, behaviour, CONVERSATION, range(len(CONVERSATION)), {}) == expected
        for cut in range(0, len(CONVERSATION), 1 if kind == "list" else 5):
            assert serve(side, behaviour, CONVERSATION, (cut,), {}) == expected, (side.name, cut)
