"""Whether what a server sent is what a case expects, byte for byte as RFC 9112 has it.

`judge` takes all the bytes of one connection. What holds for every answer is looked at
here and not written into each case: one Date and one Server, ``Connection: close`` on the
last answer of a connection that closes and on no other, cyhorn's own error pages.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

from tests.loop.driver import Answer, Incomplete, read_answer
from tests.wire.case import Case, Expected

#: What is asked after a case, of a server whose mount point is %b. It asks for a close, so that
#: every delivery ends by itself.
SENTINEL = b"GET %b/sentinel?after HTTP/1.1\r\nHost: sentinel\r\nConnection: close\r\n\r\n"
#: What is asked before a case where that is part of the delivery.
BEFORE = b"GET %b/before HTTP/1.1\r\nHost: before\r\n\r\n"

_ERROR_PAGE = re.compile(
    rb"<!DOCTYPE html>\n<html><head><title>(\d{3} [\w -]+)</title></head>\n<body><h1>\1</h1></body></html>\n"
)


class Output(NamedTuple):
    """What a client received: all bytes, and whether the server then ended or reset the connection."""

    data: bytes
    ended: bool = True
    reset: bool = False


def sentinel(case: Case) -> bytes:
    """The request that follows the case."""
    return b"" if case.quiet or case.ending == "wait" else SENTINEL % case.mount.encode()


def before(case: Case) -> bytes:
    """The request that goes before it."""
    return BEFORE % case.mount.encode()


def answered(case: Case, data: bytes) -> int:
    """How many of the case's answers are whole in `data`, those that may come left out."""
    count = 0
    for expected in case.answers:
        try:
            answer, rest = read_answer(data, method=expected.method)
        except Incomplete:
            break
        if expected.optional:
            if answer.status != expected.status:
                continue
        else:
            count += 1
        data = rest
    return count


def judge(case: Case, output: Output, *, preceded: bool = False) -> None:
    """Raise AssertionError when `output` is not what `case` says.

    `preceded` says that the case came behind `before(case)`.
    """
    assert not output.reset, "the connection was reset"
    data, ended = output.data, output.ended
    if preceded:
        answer, data = read_answer(data)
        _judge_facts(Expected(200, environ={"PATH_INFO": "/before"}, input=b""), answer)
        assert not answer.closes, "the request before was answered with a close"
    answers = case.answers
    for number, expected in enumerate(answers):
        last = number == len(answers) - 1
        if last and case.ending == "cut":
            _judge_cut(expected, data)
            data = b""
            break
        try:
            answer, rest = read_answer(data, method=expected.method, ended=ended)
        except Incomplete:
            if expected.optional:
                continue
            raise AssertionError(f"no whole answer {number + 1}, but {data!r}") from None
        if expected.optional and answer.status != expected.status:
            continue
        data = rest
        _judge_answer(case, expected, answer)
        if answer.status >= 200:
            closes = last and case.ending == "close"
            assert answer.closes == closes, f"answer {number + 1} says {answer.get('Connection')!r}"
    if case.ending == "keep" and not case.quiet:
        answer, data = read_answer(data, ended=ended)
        _judge_sentinel(answer)
    assert not data, f"more than was expected: {data!r}"
    assert ended == (case.ending != "wait"), "the connection was " + ("ended" if ended else "kept")


def _judge_sentinel(answer: Answer) -> None:
    """The next request is seen from its first byte to its last."""
    assert answer.status == 200
    facts = json.loads(answer.body)
    seen = {name: value for name, value in facts["environ"].items() if name.startswith(("HTTP_", "CONTENT_"))}
    assert seen == {"HTTP_HOST": "sentinel", "HTTP_CONNECTION": "close"}, seen
    environ = facts["environ"]
    assert (environ["REQUEST_METHOD"], environ["PATH_INFO"]) == ("GET", "/sentinel")
    assert (environ["QUERY_STRING"], facts["input"]) == ("after", "")


def _judge_answer(case: Case, expected: Expected, answer: Answer) -> None:
    assert answer.status == expected.status, f"{answer.status} and not {expected.status}: {answer.raw!r}"
    if answer.status >= 200:
        assert len(answer.all("Date")) == 1, "not one Date"
        if case.settings.get("server_header") is None and "Server" not in expected.fields:
            assert answer.all("Server") == ["cyhorn"], "not our Server"
    _judge_facts(expected, answer)
    if expected.code is not None:
        _judge_error_page(case, expected, answer)


def _judge_facts(expected: Expected, answer: Answer) -> None:
    assert answer.status == expected.status
    for name, values in expected.fields.items():
        assert answer.all(name) == values, f"{name}: {answer.all(name)}"
    if expected.body is not None:
        assert answer.body == expected.body, f"the content is {answer.body!r}"
    if expected.framing is not None:
        assert _framing(answer) == expected.framing
    if expected.environ or expected.input is not None:
        facts = json.loads(answer.body)
        environ = facts["environ"]
        for name, value in expected.environ.items():
            assert environ.get(name) == value, f"{name} is {environ.get(name)!r}"
        if expected.input is not None:
            assert facts["input"].encode("latin-1") == expected.input, f"the input is {facts['input']!r}"


def _framing(answer: Answer) -> str:
    if answer.get("Transfer-Encoding") is not None:
        return "chunked"
    if answer.get("Content-Length") is not None:
        return "length"
    return "close" if answer.closes and answer.body else "none"


def _judge_error_page(case: Case, expected: Expected, answer: Answer) -> None:
    """Rule 40, for each refusal."""
    assert answer.get("X-Content-Type-Options") == "nosniff"
    kind = answer.get("Content-Type")
    assert kind is not None and kind.endswith("; charset=utf-8")
    if expected.method == "HEAD":
        assert answer.get("Content-Length") != "0"
    elif kind.startswith("text/html"):
        page = _ERROR_PAGE.fullmatch(answer.body)
        assert page and page[1].decode() == f"{answer.status} {answer.reason}"
    else:
        assert str(answer.status).encode() in answer.body and answer.reason.encode() in answer.body


def _judge_cut(expected: Expected, data: bytes) -> None:
    """The answer begins, and does not end."""
    head, separator, content = data.partition(b"\r\n\r\n")
    assert separator and head.startswith(b"HTTP/1.1 %d " % expected.status), data
    assert b"\r\nconnection: close" not in head.lower() or expected.fields.get("Connection") == ["close"]
    try:
        answer, rest = read_answer(data, method=expected.method)
    except Incomplete:
        pass
    else:
        raise AssertionError(f"the answer is whole: {answer.raw!r}, then {rest!r}")
    if expected.body is not None:
        assert _content_so_far(head, content) == expected.body
    if expected.framing is not None:
        assert (b"\r\nTransfer-Encoding: chunked" in head) == (expected.framing == "chunked")


def _content_so_far(head: bytes, content: bytes) -> bytes:
    if b"\r\nTransfer-Encoding: chunked" not in head:
        return content
    whole = b""
    while content:
        size, _, content = content.partition(b"\r\n")
        whole += content[: int(size, 16)]
        content = content[int(size, 16) + 2 :]
    return whole


def facts(answer: Answer) -> Any:
    """What the application `facts` told."""
    return json.loads(answer.body)
