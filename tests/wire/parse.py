"""A case's bytes through parser and chunked decoder alone, without loop, socket or application.

What is read does not depend on how the bytes are cut, nor on the side, and it agrees with
what the case says of answers: as many heads as answers, the code of the refusal, the bodies.
"""

from __future__ import annotations

from typing import Any

from cyhorn.errors import Code, HttpError
from tests.conftest import Implementation
from tests.twins.harness import HEAD_ATTRIBUTES
from tests.wire.case import Case
from tests.wire.deliver import loop_options, plans
from tests.wire.judge import before, sentinel

#: What parser and decoder do not judge, but environ and loop.
NOT_THEIRS = frozenset(
    (
        Code.FIELD_UNDERSCORE,
        Code.SCHEME_CONFLICT,
        Code.PROXY_SYNTAX,
        Code.PROXY_PEER,
        Code.SCRIPT_NAME,
        Code.SCRIPT_NAME_REPEATED,
        Code.TIMEOUT,
    )
)

#: environ key → the head's attribute
_FACTS = (("REQUEST_METHOD", "method"), ("RAW_URI", "target"), ("QUERY_STRING", "query"))

PYTHON = Implementation("python")

Outcome = tuple[Any, ...]


def _switches(case: Case) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arguments of RequestParser and ChunkedDecoder."""
    options = loop_options(case)
    common = {
        name: getattr(options, name)
        for name in (
            "limit_request_fields",
            "limit_request_field_size",
            "strip_header_spaces",
            "permit_obsolete_folding",
        )
    }
    head = {
        name: getattr(options, name)
        for name in (
            "limit_request_line",
            "permit_unconventional_http_method",
            "permit_unconventional_http_version",
            "casefold_http_method",
        )
    }
    return common | head, common | {"limit_request_body": options.limit_request_body}


class Reader:
    """Reads the requests of one connection as their bytes come. `outcomes` is what was found."""

    def __init__(self, side: Implementation, head: dict[str, Any], body: dict[str, Any]) -> None:
        self.outcomes: list[Outcome] = []
        self._parser = side.parser.RequestParser(**head)
        self._decoder = side.chunked.ChunkedDecoder(**body)
        self._limit = body["limit_request_body"]
        self._data = bytearray()
        self._head: Any = None
        self._body = b""
        self._over = False

    def feed(self, piece: bytes) -> None:
        """Read on, with `piece` more."""
        self._data += piece
        try:
            while not self._over and self._step():
                pass
        except HttpError as error:
            self.outcomes.append(("error", error.code.name))
            self._over = True

    def _step(self) -> bool:
        """Read a head or a body; False when bytes are missing."""
        head = self._head
        if head is None:
            if not self._data:
                return False
            head = self._head = self._parser.parse(bytes(self._data))
            if head is None:
                return False
            del self._data[: head.size]
            self._body = b""
            self._decoder.reset()
            if 0 < self._limit < head.content_length:
                self.outcomes.append(("error", "BODY_LENGTH"))
                self._over = True
                return False
        if head.chunked:
            pieces, taken = self._decoder.feed(bytes(self._data))
            self._body += b"".join(pieces)
            complete = self._decoder.done
        else:
            taken = min(len(self._data), max(0, head.content_length) - len(self._body))
            self._body += self._data[:taken]
            complete = len(self._body) == max(0, head.content_length)
        del self._data[:taken]
        if not complete:
            return False
        trailers = self._decoder.trailers if head.chunked else []
        self.outcomes.append(
            ("request", tuple(getattr(head, name) for name in HEAD_ATTRIBUTES), self._body, trailers)
        )
        self._head = None
        self._over = not head.keep_alive
        return not self._over


def on_parser(case: Case, side: Implementation, *, thorough: bool = False) -> int:
    """Deliver `case` in every way to `side`'s parser and decoder. Returns how many ways."""
    if "proxy_protocol" in case.settings:
        return 0
    head, body = _switches(case)
    reference = Reader(PYTHON, head, body)
    reference.feed(case.data + sentinel(case))
    _agrees(case, reference.outcomes)
    leading = Reader(PYTHON, head, body)
    leading.feed(before(case))
    count = 0
    for plan in plans(case, thorough=thorough):
        reader = Reader(side, head, body)
        for pieces in plan.turns:
            for piece in pieces:
                reader.feed(piece)
        expected = leading.outcomes * plan.preceded + reference.outcomes
        assert reader.outcomes == expected, (
            f"{case.path}\n  {plan}\n  gives {reader.outcomes}\n  not   {expected}"
        )
        count += 1
    return count


def _agrees(case: Case, outcomes: list[Outcome]) -> None:
    """What was read is what the case says of its answers, where the parser has a say in them."""
    answers = [answer for answer in case.answers if not answer.optional and answer.status >= 200]
    refusals = [answer.code for answer in answers if answer.code is not None]
    if any(code in NOT_THEIRS for code in refusals) or not case.settings.get("buffer_request_body", True):
        return
    errors = [outcome[1] for outcome in outcomes if outcome[0] == "error"]
    assert errors == [code.name for code in refusals], f"{case.path}: the parser says {errors}"
    requests = [outcome for outcome in outcomes if outcome[0] == "request"]
    if case.ending == "keep" and not case.quiet:
        last = requests.pop()
        assert dict(zip(HEAD_ATTRIBUTES, last[1], strict=True))["target"] == f"{case.mount}/sentinel?after"
    answered = [answer for answer in answers if answer.code is None]
    if case.ending == "keep" or errors:
        assert len(requests) == len(answered), f"{case.path}: {len(requests)} requests were read"
    for answer, (_, values, content, _) in zip(answered, requests, strict=False):
        known = dict(zip(HEAD_ATTRIBUTES, values, strict=True))
        if answer.input is not None:
            assert content == answer.input, f"{case.path}: the body is {content!r}"
        for key, attribute in _FACTS:
            if answer.environ.get(key) is not None:
                assert answer.environ[key] == known[attribute], f"{case.path}: {key}"
