"""The rules of the chunked coding and its trailers (HTTP.md 18 to 20; RFC 9112 7.1)."""

from __future__ import annotations

import time
from typing import Any

import pytest

from cyhorn import grammar
from cyhorn.errors import Code, HttpError
from tests.twins.harness import every_cut


def decode(impl: Any, data: bytes, **options: Any) -> tuple[bytes, list[tuple[str, str]]]:
    """The body and the trailers that are all of `data`."""
    decoder = impl.chunked.ChunkedDecoder(**options)
    pieces, after = decoder.feed(data)
    assert (decoder.done, after) == (True, len(data))
    body = b"".join(pieces)
    assert decoder.size == len(body)
    return body, decoder.trailers


def refusal(impl: Any, data: bytes, **options: Any) -> Code:
    """The code that `data` is refused with; the same one when it comes byte by byte."""
    decoder = impl.chunked.ChunkedDecoder(**options)
    with pytest.raises(HttpError) as whole:
        decoder.feed(data)
    decoder.reset()
    with pytest.raises(HttpError) as bytewise:
        for at in range(len(data)):
            assert decoder.feed(data, at, at + 1)[1] == at + 1
    assert whole.value.code is bytewise.value.code
    return whole.value.code


@pytest.mark.parametrize(
    ("data", "body"),
    [
        (b"0\r\n\r\n", b""),
        (b"0000000000000000\r\n\r\n", b""),
        (b"3\r\nabc\r\n0\r\n\r\n", b"abc"),
        (b"a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", b"01234567890123456789"),
        (b"0000000000000003\r\n\r\n\0\r\n0\r\n\r\n", b"\r\n\0"),
    ],
)
def test_chunks_are_joined_until_the_last(impl, data, body):
    assert decode(impl, data) == (body, [])


def test_nothing_after_the_body_is_touched(impl):
    decoder = impl.chunked.ChunkedDecoder()
    data = b"xx3\r\nabc\r\n0\r\n\r\nGET / HTTP/1.1\r\n"
    assert decoder.feed(data, 2) == ([b"abc"], data.index(b"GET"))
    assert decoder.done
    assert decoder.feed(data, 9) == ([], 9)
    decoder.reset()
    assert not decoder.done
    assert decoder.feed(b"0\r\n\r\n") == ([], 5)


def test_any_cut_gives_the_same_body(impl):
    data = b'5;a="\\";"\r\nhello\r\n00B\r\n, everybody\r\n0;x\r\nX-A: 1\r\nX-B: 2\r\n\r\n'
    for cuts in every_cut(len(data)):
        decoder = impl.chunked.ChunkedDecoder()
        body = b""
        for start, stop in zip((0, *cuts), (*cuts, len(data)), strict=True):
            assert not decoder.done or start == stop
            pieces, after = decoder.feed(data, start, stop)
            assert after == stop
            body += b"".join(pieces)
        assert (decoder.done, body) == (True, b"hello, everybody")
        assert decoder.trailers == [("X-A", "1"), ("X-B", "2")]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"3",
        b"3\r",
        b"3\r\nab",
        b"3\r\nabc",
        b"3\r\nabc\r\n",
        b"3\r\nabc\r\n0\r\n",
        b"0\r\nX: y\r\n",
        b"0\r\n\r",
    ],
)
def test_a_premature_end_never_shows_as_a_complete_body(impl, data):
    decoder = impl.chunked.ChunkedDecoder()
    assert decoder.feed(data)[1] == len(data)
    assert not decoder.done


def test_data_comes_through_while_its_chunk_is_incomplete(impl):
    decoder = impl.chunked.ChunkedDecoder()
    assert decoder.feed(b"7fffffffffffffff\r\nab") == ([b"ab"], 20)
    assert decoder.feed(memoryview(b"cd")) == ([b"cd"], 2)
    assert decoder.size == 4


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n", b"\n", b" 3\r\n", b"+3\r\n", b"-3\r\n", b"0x3\r\n", b"g\r\n", b"3g\r\n", b"\xb2\r\n", b"3\n",
        b"3\rx", b"3\r\r\n",
        b"3 \r\n", b"3\t\r\n", b"3 a\r\n", b"3,\r\n", b"3\x0b\r\n", b"3\0\r\n", b"00000000000000003\r\n",
        b"8000000000000000\r\n",
        b"ffffffffffffffff\r\n", b"10000000000000000\r\n", b";a\r\n", b"3.0\r\n", b"1_0\r\n",
        b"3\r\nabc\r\n\r\n", b"3;a\r\r\n", b"3;a\rb",
    ],
)  # fmt: skip
def test_a_malformed_chunk_size_is_refused(impl, data):
    assert refusal(impl, data) in (Code.CHUNK_SIZE, Code.CHUNK_EXTENSION)


def test_what_is_wrong_with_a_chunk_size_is_named(impl):
    for data in (b"x", b"8000000000000000", b"00000000000000000", b"3\n", b"3\rx", b"3;a\rx"):
        assert refusal(impl, data) is Code.CHUNK_SIZE


@pytest.mark.parametrize(
    "extension",
    [
        b";a", b" ; a", b"\t;\ta", b";a=b", b"; a = b", b";a;b;c", b";a=b;c", b';a=""',
        b';a="b c\t;=,\x80\xff"', b';a="\\"\\\\"',
        b';a="\\\t\\\x80"', b';a="b" ; c="d"', b";a ;b", b";a=b\t;c", b";" + bytes(sorted(grammar.TCHAR)),
    ],
)  # fmt: skip
def test_extensions_are_read_over(impl, extension):
    assert decode(impl, b"1" + extension + b"\r\nx\r\n0" + extension + b"\r\n\r\n") == (b"x", [])


@pytest.mark.parametrize(
    "extension",
    [
        b";", b"; ", b";;", b";a;", b";=", b";=b", b";a=", b";a= ", b";a==b", b";a=b=c", b";a ", b";a=b ",
        b';a="b" ', b';a="b"c',
        b';a="b""c"', b";a b", b";a=b c", b';"a"', b';a=b"c"', b";a\0", b";a\n", b";a=\x80", b";\x80",
        b';a="\0"', b';a="\x7f"',
        b';a="\n"', b';a="\r', b';a="\\\0"', b';a="\\\r', b";a\x0b", b";a,b", b" ;", b";a=;", b";a/b", b";(",
    ],
)  # fmt: skip
def test_a_malformed_extension_is_refused(impl, extension):
    assert refusal(impl, b"1" + extension + b"\r\nx\r\n") is Code.CHUNK_EXTENSION


def test_extensions_are_bounded_over_the_whole_body(impl):
    chunk = b"1;" + b"a" * 1023 + b"\r\nx\r\n"
    assert grammar.MAX_CHUNK_EXTENSIONS == 4 * 1024
    assert decode(impl, chunk * 4 + b"0\r\n\r\n") == (b"xxxx", [])
    assert refusal(impl, chunk * 4 + b"0;") is Code.CHUNK_EXTENSION
    assert refusal(impl, b"1;" + b"a" * 4096) is Code.CHUNK_EXTENSION
    assert refusal(impl, b"1 " + b" " * 4096) is Code.CHUNK_EXTENSION


@pytest.mark.parametrize(
    "data", [b"1\r\nx0", b"1\r\nx\n", b"1\r\nx\rx", b"1\r\nxy\r\n", b"1\r\nx\r\r\n", b"1\r\nx \r\n"]
)
def test_data_is_followed_by_exactly_crlf(impl, data):
    assert refusal(impl, data) is Code.CHUNK_DATA


def test_limit_request_body_is_judged_when_a_chunk_is_announced(impl):
    assert decode(impl, b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", limit_request_body=5)[0] == b"abcde"
    assert refusal(impl, b"6\r\n", limit_request_body=5) is Code.BODY_LENGTH
    assert refusal(impl, b"3\r\nabc\r\n3\r\n", limit_request_body=5) is Code.BODY_LENGTH
    assert refusal(impl, b"3\r\nabc\r\n7fffffffffffffff\r\n", limit_request_body=5) is Code.BODY_LENGTH
    assert refusal(impl, b"7fffffffffffffff\r\n", limit_request_body=2**63 - 2) is Code.BODY_LENGTH


def test_after_an_error_the_decoder_stays_refused_until_reset(impl):
    decoder = impl.chunked.ChunkedDecoder()
    for data in (b"x", b"0\r\n\r\n"):
        with pytest.raises(HttpError) as caught:
            decoder.feed(data)
        assert (caught.value.code, caught.value.status) == (Code.CHUNK_SIZE, 400)
    decoder.reset()
    assert decoder.feed(b"1\r\nx") == ([b"x"], 4)


# -- trailers --------------------------------------------------------------------------------------------


def test_trailers_are_fields(impl):
    trailers = decode(impl, b"0\r\nX-Sum:\t a b \r\nserver-timing:\r\nX_Y: \x80\r\nX-Sum: c\r\n\r\n")[1]
    assert trailers == [("X-SUM", "a b"), ("SERVER-TIMING", ""), ("X_Y", "\x80"), ("X-SUM", "c")]


@pytest.mark.parametrize(
    "lines",
    [
        b"X",
        b": a",
        b"X : a",
        b" X: a",
        b"X: a\r\n b",
        b"X: \0",
        b"X\x80: a",
        b"X: a\rb",
        b"\r",
        b"X: a\n",
        b"\rX: a",
    ],
)
def test_a_malformed_trailer_is_refused(impl, lines):
    assert refusal(impl, b"0\r\n" + lines + b"\r\n\r\n") is Code.TRAILER


@pytest.mark.parametrize("data", [b"0\r\n\rX", b"0\r\nX: a\rb", b"0\r\nX: a\r\r", b"0\r\nX: a\r\n\r\r"])
def test_a_cr_in_a_trailer_is_refused_at_the_byte_that_is_no_lf(impl, data):
    decoder = impl.chunked.ChunkedDecoder()
    assert decoder.feed(data[:-1]) == ([], len(data) - 1)
    with pytest.raises(HttpError) as caught:
        decoder.feed(data[-1:])
    assert caught.value.code is Code.TRAILER


@pytest.mark.parametrize("place", range(4, 24))
def test_of_a_bare_cr_and_a_trailer_too_long_the_first_on_the_wire_is_told(impl, place):
    line = b"X: aaaaaaaaaaaaaaaaaaaaaaaaaaaa"
    data = b"0\r\n" + line[:place] + b"\r" + line[place:]
    for end in (b"", b"\r\n\r\n"):
        for size in (1, len(data + end)):
            decoder = impl.chunked.ChunkedDecoder(limit_request_field_size=20)
            with pytest.raises(HttpError) as caught:
                for start in range(0, len(data + end), size):
                    decoder.feed((data + end)[start : start + size])
            assert caught.value.code is (Code.TRAILER if place + 2 < 20 else Code.FIELD_LENGTH)


def test_the_empty_line_after_trailers_ends_in_crlf(impl):
    assert refusal(impl, b"0\r\n\n") is Code.TRAILER
    assert refusal(impl, b"0\r\nX: y\r\n\n") is Code.TRAILER


@pytest.mark.parametrize("name", sorted(grammar.FORBIDDEN_TRAILERS))
def test_a_field_of_framing_routing_or_content_is_no_trailer(impl, name):
    for spelling in (name, name.upper(), name.title()):
        assert refusal(impl, b"0\r\nX: y\r\n" + spelling + b": a\r\n") is Code.TRAILER_NAME
    assert decode(impl, b"0\r\n" + name + b"x: a\r\n\r\n")[1] == [(name.decode().upper() + "X", "a")]


def test_a_field_that_must_not_be_folded_is_no_trailer():
    assert grammar.UNFOLDABLE_FIELDS <= grammar.FORBIDDEN_TRAILERS


def test_trailers_have_the_limits_of_fields(impl):
    assert len(decode(impl, b"0\r\nX: a\r\nY: b\r\n\r\n", limit_request_fields=2)[1]) == 2
    assert refusal(impl, b"0\r\nX: a\r\nY: b\r\nZ", limit_request_fields=2) is Code.FIELD_COUNT
    line = b"X: " + b"a" * 20 + b"\r\n"
    assert decode(impl, b"0\r\n" + line + b"\r\n", limit_request_field_size=len(line))[1] == [("X", "a" * 20)]
    assert refusal(impl, b"0\r\n" + line, limit_request_field_size=len(line) - 1) is Code.FIELD_LENGTH
    assert refusal(impl, b"0\r\nX: " + b"a" * 100, limit_request_field_size=50) is Code.FIELD_LENGTH


def test_the_trailer_section_has_the_limit_of_a_head(impl):
    none = {"limit_request_fields": 0, "limit_request_field_size": 0}
    for data in (b"X: " + b"a" * grammar.MAX_HEAD, b"X: a\r\n" * (grammar.MAX_HEAD // 6 + 1)):
        decoder = impl.chunked.ChunkedDecoder(**none)
        with pytest.raises(HttpError) as caught:
            decoder.feed(b"0\r\n" + data)
        assert caught.value.code is Code.HEAD_LENGTH
    line = b"X: " + b"a" * (grammar.MAX_HEAD - 100) + b"\r\n"
    assert len(decode(impl, b"0\r\n" + line + b"\r\n", **none)[1]) == 1


def test_trailers_may_be_relaxed_as_fields_may(impl):
    data = b"0\r\nX : a\r\n b\r\n\tc\r\n \r\nY:\r\n d\r\n\r\n"
    options = {"strip_header_spaces": True, "permit_obsolete_folding": True}
    assert decode(impl, data, **options)[1] == [("X", "a b c"), ("Y", "d")]
    assert refusal(impl, b"0\r\n X: a\r\n", **options) is Code.TRAILER
    assert refusal(impl, b"0\r\nX: a\r\n \0\r\n", **options) is Code.TRAILER
    assert (
        refusal(impl, b"0\r\nX: " + b"a" * 20 + b"\r\n " + b"b" * 20, **options, limit_request_field_size=40)
        is Code.FIELD_LENGTH
    )


def test_a_negative_limit_is_an_error_of_the_caller(impl):
    for name in ("limit_request_body", "limit_request_fields", "limit_request_field_size"):
        with pytest.raises(ValueError, match="negative"):
            impl.chunked.ChunkedDecoder(**{name: -1})


@pytest.mark.parametrize(("start", "stop"), [(-1, None), (0, 4), (2, 1), (4, None)])
def test_bounds_outside_the_data_are_an_error_of_the_caller(impl, start, stop):
    with pytest.raises(ValueError, match="within"):
        impl.chunked.ChunkedDecoder().feed(b"0\r\n", start, stop)


def test_a_byte_more_costs_as_much_at_the_end_of_a_long_trailer_as_at_its_start(impl):
    decoder = impl.chunked.ChunkedDecoder(limit_request_field_size=0)
    decoder.feed(b"0\r\nX: ")

    def seconds() -> float:
        times = []
        for _ in range(1000):
            start = time.perf_counter()
            decoder.feed(b"a")
            times.append(time.perf_counter() - start)
        return sorted(times)[len(times) // 2]

    early = seconds()
    decoder.feed(b"a" * 1000000)
    assert seconds() < 10 * early
