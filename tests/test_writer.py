"""The response writer (HTTP.md 28 to 34), without a loop: what it appends to its buffer."""

from __future__ import annotations

import sys
import tracemalloc
from typing import Any

import pytest

from cyhorn.errors import ApplicationError
from cyhorn.grammar import FIELD_VALUE, HOP_BY_HOP, TCHAR
from tests.loop.driver import Answer, read_all

SECONDS = 784111777  # Sun, 06 Nov 1994 08:49:37 GMT, the RFC's own


class Response:
    """A writer with its buffer, begun for one request, and the count of its flushes."""

    def __init__(
        self, impl: Any, *, head: bool = False, old: bool = False, keep: bool = True, server: str = "cyhorn"
    ) -> None:
        self.out = impl.writer.OutputBuffer()
        self.flushed: list[bytes] = []
        self.writer = impl.writer.ResponseWriter(self.out, server, lambda: self.flushed.append(self.out.take()))
        self.writer.tick(SECONDS)
        self.method = "HEAD" if head else "GET"
        self.writer.begin(head, not old, keep)

    def start(self, status: str = "200 OK", *headers: tuple[str, str]) -> Any:
        return self.writer.start_response(status, list(headers))

    def finished(self, ended: bool = True) -> Answer:
        """The one answer, once the writer has finished it."""
        self.writer.finish()
        (answer,) = read_all(b"".join(self.flushed) + self.out.take(), self.method, ended=ended)
        return answer


def test_the_answer_is_our_own_version_with_date_and_server_once(impl):
    response = Response(impl)
    response.start("200 OK", ("X-A", "b"))
    response.writer.whole([b"abc"])
    response.writer.finish()
    assert response.out.take() == (
        b"HTTP/1.1 200 OK\r\nServer: cyhorn\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
        b"X-A: b\r\nContent-Length: 3\r\n\r\nabc"
    )


def test_the_applications_own_date_is_kept_once(impl):
    response = Response(impl)
    response.start("200 OK", ("date", "yesterday"), ("Date", "today"))
    assert response.finished().get("Date") == "yesterday"


def test_the_applications_server_is_replaced_unless_ours_is_empty(impl):
    response = Response(impl)
    response.start("200 OK", ("Server", "theirs"))
    assert response.finished().all("Server") == ["cyhorn"]
    response = Response(impl, server="")
    response.start("200 OK", ("Server", "theirs"))
    assert response.finished().all("Server") == ["theirs"]
    response = Response(impl, server="")
    response.start()
    assert response.finished().all("Server") == []


def test_a_new_second_makes_a_new_date(impl):
    response = Response(impl)
    response.writer.tick(SECONDS + 1)
    response.start()
    assert response.finished().get("Date") == "Sun, 06 Nov 1994 08:49:38 GMT"


# -- framing (9112 6) ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [list, tuple])
def test_a_list_or_tuple_gets_the_sum_as_its_length(impl, kind):
    response = Response(impl)
    response.start()
    response.writer.whole(kind([b"ab", b"", b"cde"]))
    answer = response.finished()
    assert (answer.get("Content-Length"), answer.body, answer.chunks) == ("5", b"abcde", None)


def test_an_empty_list_has_length_zero(impl):
    response = Response(impl)
    response.start()
    response.writer.whole([])
    answer = response.finished()
    assert (answer.get("Content-Length"), answer.body) == ("0", b"")
    assert response.writer.keep_alive


def test_an_unknown_length_is_chunked_to_a_1_1_peer(impl):
    response = Response(impl)
    response.start()
    for item in (b"ab", b"", b"c" * 300):
        response.writer.chunk(item)
    answer = response.finished()
    assert answer.chunks == [b"ab", b"c" * 300]
    assert response.writer.keep_alive
    assert response.writer.chunked is True
    assert response.writer.sent == 302


def test_an_unknown_length_ends_with_the_connection_to_a_1_0_peer(impl):
    response = Response(impl, old=True)
    response.start()
    response.writer.chunk(b"ab")
    answer = response.finished()
    assert answer.closes and answer.get("Transfer-Encoding") is None
    assert answer.body == b"ab"
    assert not response.writer.keep_alive


def test_a_persistent_1_0_connection_is_told_so(impl):
    response = Response(impl, old=True)
    response.start()
    response.writer.whole([b"x"])
    assert response.finished().get("Connection") == "keep-alive"
    assert response.writer.keep_alive


def test_a_connection_that_will_close_is_told_so(impl):
    for old in (False, True):
        response = Response(impl, old=old, keep=False)
        response.start()
        response.writer.whole([b"x"])
        assert response.finished().closes


def test_an_empty_item_neither_sends_the_head_nor_ends_the_body(impl):
    response = Response(impl)
    response.start()
    response.writer.chunk(b"")
    assert not response.writer.headers_sent and not len(response.out)
    response.writer.chunk(b"a")
    response.writer.chunk(b"")
    response.writer.chunk(b"b")
    assert response.finished().chunks == [b"a", b"b"]


def test_a_body_without_items_has_length_zero(impl):
    response = Response(impl)
    response.start()
    assert response.finished().get("Content-Length") == "0"


def test_the_applications_length_is_believed(impl):
    response = Response(impl)
    response.start("200 OK", ("content-LENGTH", "5"))
    response.writer.chunk(b"ab")
    response.writer.chunk(b"cde")
    answer = response.finished()
    assert (answer.all("Content-Length"), answer.body) == (["5"], b"abcde")
    assert response.writer.keep_alive and response.writer.complete and not response.writer.excess


@pytest.mark.parametrize("pieces", [[b"abcdef"], [b"abc", b"def"], [b"abcd", b"e"]])
def test_what_goes_beyond_the_length_is_cut_and_told(impl, pieces):
    for whole in (False, True):
        response = Response(impl)
        response.start("200 OK", ("Content-Length", "4"))
        if whole:
            response.writer.whole(pieces)
        else:
            for piece in pieces:
                response.writer.chunk(piece)
        assert response.writer.full
        assert response.finished().body == b"abcd"
        assert response.writer.excess and response.writer.keep_alive and response.writer.sent == 4


class Odd(bytes):
    """Bytes that say other things of themselves than they hold."""

    def __len__(self) -> int:
        return 1

    def __bool__(self) -> bool:
        return False

    def __getitem__(self, key: Any) -> Any:
        return "none of them"

    def __buffer__(self, flags: int) -> Any:
        return memoryview(b"others")


@pytest.mark.parametrize("size", [6, 20000])
@pytest.mark.parametrize("length", [(), (("Content-Length", "4"),)])
@pytest.mark.parametrize("whole", [False, True])
def test_of_a_subclass_of_bytes_goes_out_what_it_holds(impl, size, length, whole):
    response = Response(impl)
    response.start("200 OK", *length)
    odd = Odd(b"abcdef" + b"." * (size - 6))
    if whole:
        response.writer.whole([odd])
    else:
        response.writer.chunk(odd)
    answer = response.finished()
    assert answer.body == (b"abcd" if length else b"abcdef" + b"." * (size - 6))
    assert response.writer.excess == bool(length)


def test_a_body_shorter_than_its_length_ends_the_connection(impl):
    response = Response(impl)
    response.start("200 OK", ("Content-Length", "5"))
    response.writer.whole([b"ab"])
    response.writer.finish()
    assert response.out.take().endswith(b"Content-Length: 5\r\nConnection: close\r\n\r\nab")
    assert not response.writer.keep_alive and not response.writer.complete


def test_the_same_length_twice_is_one(impl):
    response = Response(impl)
    response.start("200 OK", ("Content-Length", "1"), ("content-length", "01"))
    response.writer.whole([b"a"])
    assert response.finished().all("Content-Length") == ["1"]


@pytest.mark.parametrize("value", ["", " 1", "1 ", "+1", "-1", "1x", "0x1", "1,1", "1_0", "\xb2", "²"])
def test_a_length_that_is_not_digits_is_refused(impl, value):
    with pytest.raises(ApplicationError):
        Response(impl).start("200 OK", ("Content-Length", value))


def test_the_largest_length_is_two_to_the_63_less_one(impl):
    Response(impl).start("200 OK", ("Content-Length", str(2**63 - 1)))
    for value in (str(2**63), "9" * 19, "9" * 20, "0" * 20):
        with pytest.raises(ApplicationError):
            Response(impl).start("200 OK", ("Content-Length", value))


def test_two_different_lengths_are_refused(impl):
    with pytest.raises(ApplicationError, match="two different"):
        Response(impl).start("200 OK", ("Content-Length", "1"), ("Content-Length", "2"))


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("status", ["204 No Content", "205 Reset Content", "304 Not Modified"])
def test_statuses_without_a_body_send_none(impl, status, whole):
    response = Response(impl)
    response.start(status)
    response.writer.whole([b"x"]) if whole else response.writer.chunk(b"x")
    answer = response.finished()
    assert answer.body == b"" and answer.get("Transfer-Encoding") is None
    assert answer.get("Content-Length") == ("0" if status.startswith("205") else None)
    assert response.writer.keep_alive and response.writer.full


def test_204_has_no_length_and_304_may_keep_its_own(impl):
    for status, length in (("204 No Content", None), ("304 Not Modified", "7"), ("205 Reset Content", "0")):
        response = Response(impl)
        response.start(status, ("Content-Length", "7"))
        answer = response.finished()
        assert answer.get("Content-Length") == length
        assert response.writer.keep_alive


def test_head_keeps_the_length_and_sends_no_body(impl):
    response = Response(impl, head=True)
    response.start("200 OK", ("Content-Length", "5"))
    response.writer.whole([b"abcde"])
    answer = response.finished()
    assert (answer.get("Content-Length"), answer.body) == ("5", b"")
    assert response.writer.keep_alive and response.writer.sent == 0


def test_head_learns_the_length_of_a_list_but_not_of_an_empty_one(impl):
    for body, length in (([b"ab"], "2"), ([], None), ([b""], None)):
        response = Response(impl, head=True)
        response.start()
        response.writer.whole(body)
        answer = response.finished()
        assert answer.get("Content-Length") == length
        assert answer.get("Transfer-Encoding") is None


# -- what may not reach the wire (PEP 3333) -----------------------------------------------------------


@pytest.mark.parametrize(
    "status",
    [
        "200", "200OK", "99 Low", "100 Continue", "199 x", "600 x", "2000 OK", "OK", "", " 200 OK", "200\tOK",
        "200 a\r\nX: y", "200 a\nb", "200 a\0", "200 \x7f", "200 ☃", "٢٠٠ OK", "２00 OK",
        b"200 OK", 200, None, ("200 OK",),
    ],
)  # fmt: skip
def test_a_status_that_is_none_is_refused(impl, status):
    response = Response(impl)
    with pytest.raises(ApplicationError):
        response.writer.start_response(status, [])
    with pytest.raises(ApplicationError, match="without calling start_response"):
        response.writer.finish()
    assert not len(response.out)


@pytest.mark.parametrize("status", ["200 ", "599 x", "404 Not Found", "299 caf\xe9", "200 a\tb"])
def test_a_status_with_any_visible_reason_is_taken(impl, status):
    response = Response(impl)
    response.start(status)
    answer = response.finished()
    assert f"{answer.status} {answer.reason}" == status
    assert (response.writer.status, response.writer.status_code) == (status, int(status[:3]))


def test_every_character_of_a_name_is_a_token_character(impl):
    for number in [*range(256), 0x100, 0x2603, 0x1F600]:
        name = f"X{chr(number)}"
        if number in TCHAR:
            response = Response(impl)
            response.start("200 OK", (name, "v"))
            assert response.finished().get(name) == "v"
        else:
            with pytest.raises(ApplicationError):
                Response(impl).start("200 OK", (name, "v"))


def test_every_character_of_a_value_is_one_that_fields_may_hold(impl):
    for number in [*range(256), 0x100, 0x2603, 0x1F600]:
        value = f"a{chr(number)}b"
        if number in FIELD_VALUE:
            response = Response(impl)
            response.start("200 OK", ("X", value))
            assert response.finished().get("X") == value
        else:
            with pytest.raises(ApplicationError):
                Response(impl).start("200 OK", ("X", value))


@pytest.mark.parametrize(
    "headers",
    [
        (("X", "y"),), None, "X: y", {"X": "y"}, iter([("X", "y")]),
        [["X", "y"]], ["Xy"], [("X",)], [("X", "y", "z")], [()], [None], [("X", None)], [("X", 1)],
        [(b"X", "y")], [("X", b"y")], [(1, "y")], [("", "y")], [({}, "y")],
    ],
)  # fmt: skip
def test_headers_are_a_list_of_pairs_of_strings(impl, headers):
    with pytest.raises(ApplicationError):
        Response(impl).writer.start_response("200 OK", headers)


def test_a_pair_that_is_no_plain_tuple_is_refused_even_after_its_equal_was_taken(impl):
    class Pair(tuple):
        pass

    Response(impl).start("200 OK", ("X-Seen", "y"))
    with pytest.raises(ApplicationError):
        Response(impl).start("200 OK", Pair(("X-Seen", "y")))


def test_a_string_that_equals_every_other_changes_no_later_response(impl):
    class Same(str):
        def __eq__(self, other: object) -> bool:
            return True

        def __hash__(self) -> int:
            return hash("")

    Response(impl).start("200 OK", ("X-Other", Same("evil")))
    response = Response(impl)
    response.start("200 OK", ("X-Other", ""))
    assert response.finished().get("X-Other") == ""


def test_strings_of_a_subclass_go_as_the_characters_they_are(impl):
    class Shy(str):
        def __format__(self, spec: str) -> str:
            return "formatted"

        def __str__(self) -> str:
            return "told"

        def encode(self, *_: Any) -> bytes:
            return b"a\r\nb: c"

        def lower(self) -> str:
            return "lowered"

        def split(self, *_: Any) -> list[str]:
            raise AssertionError("the application's code runs while its headers are checked")

    response = Response(impl)
    response.start(Shy("200 Fine"), (Shy("X-A"), Shy("b")), (Shy("Connection"), Shy("close")))
    answer = response.finished()
    assert (answer.reason, answer.get("X-A"), answer.closes) == ("Fine", "b", True)


@pytest.mark.parametrize("name", sorted(HOP_BY_HOP))
def test_hop_by_hop_fields_are_dropped_and_named(impl, name):
    response = Response(impl)
    response.start("200 OK", (name.title(), "x"), ("X", "y"))
    answer = response.finished()
    assert name not in {key.lower() for key, _ in answer.fields}
    assert answer.get("X") == "y"
    assert response.writer.dropped == [name]


@pytest.mark.parametrize("value", ["close", "Close", "x, CLOSE", " close\t,x"])
def test_connection_close_is_honoured_as_a_wish(impl, value):
    response = Response(impl)
    response.start("200 OK", ("Connection", value))
    assert response.finished().all("Connection") == ["close"]
    assert not response.writer.keep_alive and response.writer.dropped == []


@pytest.mark.parametrize("value", ["closed", "keep-alive", "", "x close"])
def test_other_connection_options_are_dropped(impl, value):
    response = Response(impl)
    response.start("200 OK", ("Connection", value))
    assert response.finished().all("Connection") == []
    assert response.writer.keep_alive and response.writer.dropped == ["connection"]


def test_repeated_fields_stay_repeated_and_in_order(impl):
    response = Response(impl)
    fields = [("Set-Cookie", "a=1"), ("X", "1"), ("Set-Cookie", "b=2"), ("x", "2")]
    response.start("200 OK", *fields)
    answer = response.finished()
    assert [field for field in answer.fields if field[0] in ("Set-Cookie", "X", "x")] == fields


# -- start_response (PEP 3333) ---------------------------------------------------------------------------


def error() -> Any:
    try:
        raise KeyError("of the application")
    except KeyError:
        return sys.exc_info()


def test_nothing_is_written_before_the_body_begins(impl):
    response = Response(impl)
    write = response.start()
    assert not len(response.out) and not response.flushed and callable(write)


def test_a_second_call_without_exc_info_raises_and_changes_nothing(impl):
    response = Response(impl)
    response.start("201 Created")
    with pytest.raises(ApplicationError, match="again"):
        response.start("500 No")
    assert response.finished().status == 201


def test_exc_info_replaces_a_head_that_was_not_sent(impl):
    response = Response(impl)
    response.start("200 OK", ("Content-Length", "3"), ("X", "1"), ("Connection", "close"), ("TE", "x"), ("Date", "d"))
    response.writer.start_response("500 Oh", [("Y", "2")], error())
    response.writer.whole([b"gone"])
    answer = response.finished()
    assert (answer.status, answer.get("X"), answer.get("Y"), answer.body) == (500, None, "2", b"gone")
    assert not answer.closes and response.writer.dropped == [] and answer.get("Date") != "d"


def test_exc_info_after_the_head_raises_that_exception_again(impl):
    response = Response(impl)
    write = response.start()
    write(b"x")
    info = error()
    with pytest.raises(KeyError) as caught:
        response.writer.start_response("500 Oh", [], info)
    assert caught.value is info[1]
    assert caught.traceback[-1].name == "error"


def test_exc_info_as_the_first_call_is_an_ordinary_one(impl):
    response = Response(impl)
    response.writer.start_response("500 Oh", [], error())
    assert response.finished().status == 500


def test_an_empty_exc_info_is_none(impl):
    response = Response(impl)
    response.start()
    with pytest.raises(ApplicationError, match="again"):
        response.writer.start_response("200 OK", [], None)
    response.writer.start_response("201 Created", [], (None, None, None))
    assert response.finished().status == 201


def test_a_failed_call_leaves_no_head_behind(impl):
    response = Response(impl)
    response.start("200 OK", ("Content-Length", "5"), ("TE", "x"))
    with pytest.raises(ApplicationError):
        response.writer.start_response("200 OK", [("Keep-Alive", "x"), ("Bad\n", "x")], error())
    assert response.writer.status is None
    with pytest.raises(ApplicationError):
        response.writer.chunk(b"x")
    response.writer.fail(500)
    writer = response.writer
    assert (writer.response_length, writer.dropped, writer.headers, writer.status) == (
        None, [], [], "500 Internal Server Error",
    )  # fmt: skip


def test_a_call_after_the_response_raises(impl):
    response = Response(impl)
    write = response.start()
    response.finished()
    for call in (lambda: response.start(), lambda: write(b"x")):
        with pytest.raises(ApplicationError):
            call()
    assert not len(response.out)


def test_a_late_call_with_exc_info_after_the_response_raises_the_exception(impl):
    response = Response(impl)
    response.start()
    response.finished()
    with pytest.raises(KeyError):
        response.writer.start_response("200 OK", [], error())


def test_no_call_at_all_is_an_error(impl):
    for act in (
        lambda writer: writer.finish(),
        lambda writer: writer.chunk(b"x"),
        lambda writer: writer.whole([b"x"]),
        lambda writer: writer.whole([]),
        lambda writer: writer.write(b"x"),
        lambda writer: writer.file(3),
    ):
        response = Response(impl)
        with pytest.raises(ApplicationError, match="without calling start_response"):
            act(response.writer)
        assert not len(response.out)


def test_write_sends_at_once(impl):
    response = Response(impl)
    write = response.start()
    write(b"ab")
    assert len(response.flushed) == 1 and response.flushed[0].endswith(b"2\r\nab\r\n")
    write(b"c")
    assert response.flushed[1] == b"1\r\nc\r\n"
    write(b"")
    response.writer.chunk(b"d")
    assert response.finished().chunks == [b"ab", b"c", b"d"]


def test_a_list_after_write_continues_the_body(impl):
    response = Response(impl)
    response.start("200 OK", ("Content-Length", "4"))(b"ab")
    response.writer.whole([b"c", b"d"])
    assert response.finished().body == b"abcd"
    response = Response(impl)
    response.start()(b"ab")
    response.writer.whole([b"c", b"", b"d"])
    assert response.finished().chunks == [b"ab", b"c", b"d"]


@pytest.mark.parametrize("item", ["text", None, 1, bytearray(b"x"), memoryview(b"x"), [b"x"]])
def test_items_that_are_not_bytes_raise_a_clear_error(impl, item):
    for act in ("chunk", "write"):
        response = Response(impl)
        response.start()
        with pytest.raises(ApplicationError, match=type(item).__name__):
            getattr(response.writer, act)(item)
        assert not len(response.out)
    response = Response(impl)
    response.start()
    with pytest.raises(ApplicationError, match=type(item).__name__):
        response.writer.whole([b"good", item])
    assert not len(response.out) and not response.writer.headers_sent


def test_fail_keeps_the_status_that_was_told(impl):
    response = Response(impl)
    response.start("201 Created")
    response.writer.chunk(b"x")
    response.writer.fail(500)
    assert (response.writer.status, response.writer.status_code) == ("201 Created", 201)
    assert not response.writer.keep_alive
    response = Response(impl)
    response.start("201 Created", ("X", "y"))
    response.writer.fail(499)
    assert (response.writer.status, response.writer.status_code) == ("499 Client Closed Request", 499)


def test_a_response_leaves_nothing_to_the_next(impl):
    response = Response(impl)
    response.start("404 Not Found", ("Content-Length", "9"), ("Connection", "close"), ("Date", "d"), ("TE", "x"))
    response.writer.whole([b"x" * 20])
    response.writer.finish()
    response.out.clear()
    response.writer.begin(False, True, True)
    writer = response.writer
    assert (writer.status, writer.status_code, writer.headers, writer.headers_sent, writer.sent) == (
        None, 0, [], False, 0,
    )  # fmt: skip
    assert (writer.response_length, writer.excess, writer.dropped, writer.chunked) == (None, False, [], False)
    response.start()
    response.writer.whole([b"y"])
    answer = response.finished()
    assert (answer.status, answer.closes, answer.body) == (200, False, b"y")


# -- files ---------------------------------------------------------------------------------------------


def test_a_file_gets_its_size_as_length(impl):
    response = Response(impl)
    response.start()
    assert response.writer.file(10) == 10
    response.writer.finish()
    assert b"Content-Length: 10\r\n\r\n" in response.out.take()
    assert response.writer.sent == 10 and response.writer.keep_alive


def test_a_range_of_a_file_is_what_the_length_says(impl):
    response = Response(impl)
    response.start("206 Partial Content", ("Content-Length", "4"))
    assert response.writer.file(10) == 4
    response.writer.finish()
    assert response.writer.keep_alive and not response.writer.excess


def test_a_file_shorter_than_the_length_ends_the_connection(impl):
    response = Response(impl)
    response.start("200 OK", ("Content-Length", "20"))
    assert response.writer.file(10) == 10
    response.writer.finish()
    assert not response.writer.keep_alive


def test_a_file_is_not_sent_where_there_is_no_body(impl):
    response = Response(impl, head=True)
    response.start()
    assert response.writer.file(10) == 0
    assert response.finished().get("Content-Length") == "10"
    response = Response(impl)
    response.start("304 Not Modified")
    assert response.writer.file(10) == 0


def test_a_file_after_write_cannot_pass_a_chunked_writer(impl):
    response = Response(impl)
    response.start()(b"x")
    assert response.writer.file(10) == -1


# -- early hints (8297) ----------------------------------------------------------------------------------


def test_early_hints_come_before_the_head(impl):
    response = Response(impl)
    response.writer.early_hints([("Link", "</a.css>; rel=preload")])
    response.start("200 OK", ("X", "y"))
    response.writer.early_hints(iter([("Link", "</b.js>")]))
    response.writer.finish()
    hints, more, answer = read_all(b"".join(response.flushed) + response.out.take())
    assert (hints.status, hints.fields) == (103, [("Link", "</a.css>; rel=preload")])
    assert (more.status, more.fields) == (103, [("Link", "</b.js>")])
    assert (answer.status, answer.get("X"), answer.get("Link")) == (200, "y", None)


def test_early_hints_do_not_go_to_a_1_0_peer_nor_after_the_head(impl):
    response = Response(impl, old=True)
    response.writer.early_hints([("Link", "a")])
    assert not response.flushed and not len(response.out)
    response = Response(impl)
    response.start()(b"x")
    response.writer.early_hints([("Link", "a")])
    assert len(response.flushed) == 1 and not len(response.out)


def test_early_hints_are_checked_like_any_field(impl):
    response = Response(impl)
    for headers in ([("Link", "a\r\nX: y")], [("L ink", "a")], [["Link", "a"]], [("Link", b"a")]):
        with pytest.raises(ApplicationError):
            response.writer.early_hints(headers)
    assert not response.flushed and not len(response.out)


def test_early_hints_carry_no_framing_and_no_hop_by_hop_field(impl):
    response = Response(impl)
    response.writer.early_hints(
        [("Content-Length", "3"), ("Transfer-Encoding", "chunked"), ("Connection", "close"), ("Link", "a")]
    )
    (hints,) = read_all(response.flushed[0])
    assert hints.fields == [("Link", "a")]


def test_early_hints_survive_an_application_that_starts_its_response_meanwhile(impl):
    response = Response(impl)
    response.start("200 OK", *[(f"X-{number}", "v" * 100) for number in range(50)])

    def hints() -> Any:
        yield ("Link", "a")
        response.writer.start_response("201 Created", [("Y", "z")], error())
        yield ("Link", "b")

    response.writer.early_hints(hints())
    response.writer.finish()
    told, answer = read_all(b"".join(response.flushed) + response.out.take())
    assert told.fields == [("Link", "a"), ("Link", "b")]
    assert (answer.status, answer.get("Y")) == (201, "z")


# -- the buffer ---------------------------------------------------------------------------------------------


def test_the_buffer_gives_back_what_was_put_in_order(impl):
    buffer = impl.writer.OutputBuffer()
    parts = [b"a", b"b" * 20000, b"c" * 100, b"d" * 16384, b"e" * 16385, b"", b"f" * 70000, b"g"]
    for part in parts:
        buffer.append(part)
    assert len(buffer) == buffer.size == sum(map(len, parts))
    assert buffer.take() == b"".join(parts)
    assert len(buffer) == 0 and buffer.take() == b""
    buffer.append(b"x" * 20000)
    buffer.clear()
    buffer.append(b"y")
    assert buffer.take() == b"y"


def test_the_buffer_takes_many_large_parts(impl):
    buffer = impl.writer.OutputBuffer()
    parts = [bytes([number % 256]) * 17000 for number in range(100)]
    for part in parts:
        buffer.append(part)
    assert buffer.take() == b"".join(parts)


def test_the_buffer_lets_go_of_the_memory_of_a_large_answer(impl):
    buffer = impl.writer.OutputBuffer()
    part = b"x" * 16000
    tracemalloc.start()
    try:
        for act in (buffer.take, buffer.clear):
            for _ in range(1000):
                buffer.append(part)
            act()
            assert tracemalloc.get_traced_memory()[0] < 1_000_000
        assert impl.name == "python" or tracemalloc.get_traced_memory()[1] > 16_000_000
    finally:
        tracemalloc.stop()


def test_the_buffer_takes_only_bytes(impl):
    for wrong in ("text", None, 3, bytearray(b"x")):
        with pytest.raises(TypeError):
            impl.writer.OutputBuffer().append(wrong)
