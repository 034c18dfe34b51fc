"""The rules of the head (HTTP.md 1 to 20, 22, 23; RFC 9110 and 9112), each side by itself.

What is refused is named by its `Code`; `errors.HTTP_ERRORS` gives the status.
"""

from __future__ import annotations

import ipaddress
import time
from random import Random
from typing import Any

import pytest

from cyhorn import grammar
from cyhorn.errors import Code, HttpError

HOST = b"Host: a.example\r\n"
TOKEN = bytes(sorted(grammar.TCHAR))


def head(*fields: bytes, line: bytes = b"GET / HTTP/1.1", host: bytes = HOST) -> bytes:
    """A head of this request line, this Host line and these field lines (without CRLF)."""
    return line + b"\r\n" + host + b"".join(field + b"\r\n" for field in fields) + b"\r\n"


def read(impl: Any, data: bytes, **options: Any) -> Any:
    """The head that is all of `data`."""
    found = impl.parser.RequestParser(**options).parse(data)
    assert found is not None
    assert found.size == len(data)
    return found


def refusal(impl: Any, data: bytes, **options: Any) -> Code:
    """The code that `data` is refused with; the same one when it comes byte by byte."""
    codes = []
    for stops in ((len(data),), range(len(data) + 1)):
        parser = impl.parser.RequestParser(**options)
        with pytest.raises(HttpError) as caught:
            for stop in stops:
                assert parser.parse(data, 0, stop) is None
        codes.append(caught.value.code)
    assert codes[0] is codes[1]
    return codes[0]


# -- the request line -----------------------------------------------------------------------------


def test_a_head_is_read_to_its_empty_line_and_no_further(impl):
    data = head(b"User-Agent: x", b"accept:*/*")
    found = impl.parser.RequestParser().parse(b"before" + data + b"\0after", len(b"before"))
    assert found.size == len(data)
    assert (found.method, found.target, found.path, found.query) == ("GET", "/", "/", "")
    assert found.version == (1, 1)
    assert found.fields == [("HOST", "a.example"), ("USER-AGENT", "x"), ("ACCEPT", "*/*")]
    assert (found.host, found.authority) == ("a.example", None)
    assert (found.content_length, found.chunked) == (-1, False)
    assert (found.keep_alive, found.expect_continue) == (True, False)


def test_one_parser_reads_one_head_after_another(impl):
    first, second = head(line=b"GET /1 HTTP/1.1"), head(b"X: y", line=b"POST /2 HTTP/1.0")
    parser = impl.parser.RequestParser()
    found = parser.parse(first + second)
    assert found.path == "/1"
    again = parser.parse(first + second, found.size)
    assert (again.path, again.version, again.size) == ("/2", (1, 0), len(second))


def test_a_head_in_progress_is_forgotten_by_reset(impl):
    parser = impl.parser.RequestParser()
    assert parser.parse(b"BAD") is None
    parser.reset()
    assert parser.parse(head()).method == "GET"


def test_after_an_error_the_parser_stays_refused_until_reset(impl):
    parser = impl.parser.RequestParser()
    for data in (b"GET /\r\n", head(), head()):
        with pytest.raises(HttpError) as caught:
            parser.parse(data)
        assert (caught.value.code, caught.value.status) == (Code.REQUEST_LINE, 400)
    parser.reset()
    assert parser.parse(head()).path == "/"


def test_one_empty_line_before_the_request_line_is_skipped_and_counted(impl):
    assert read(impl, b"\r\n" + head()).size == 2 + len(head())


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\r\n\r\n" + head(), Code.EMPTY_LINES),
        (b"\n" + head(), Code.BARE_LF),
        (b"\r\r\n" + head(), Code.BARE_CR),
        (b"GET / HTTP/1.1\nHost: a\r\n\r\n", Code.BARE_LF),
        (b"GET / HTTP/1.1\r\nHost: a\n\r\n", Code.BARE_LF),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\n", Code.BARE_LF),
        (b"GET /\rx HTTP/1.1\r\n", Code.BARE_CR),
        (b"GET / HTTP/1.1\r\r\n", Code.BARE_CR),
        (head(b"X: a\rb"), Code.BARE_CR),
        (head(b"X: a\r"), Code.BARE_CR),
        (head(b"X\r: a"), Code.BARE_CR),
        (head(b"\rX: a"), Code.BARE_CR),
        (head(b"\r"), Code.BARE_CR),
        (head(b"X: \0\rb"), Code.BARE_CR),
    ],
)
def test_lines_end_in_crlf_and_hold_no_other_cr_or_lf(impl, data, code):
    assert refusal(impl, data) is code


@pytest.mark.parametrize(
    "data",
    [b"\rG", b"GET / HTTP/1.1\r\r", b"GET /\rx", head()[:-2] + b"X: a\rb", head()[:-2] + b"\rX", head(b"X: a")[:-2] + b"\r\r"],
)
def test_a_cr_is_refused_at_the_byte_that_is_no_lf(impl, data):
    parser = impl.parser.RequestParser()
    assert parser.parse(data[:-1]) is None
    with pytest.raises(HttpError) as caught:
        parser.parse(data)
    assert caught.value.code is Code.BARE_CR


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n\r\n", b"x" * 30, b"x" * 30 + b"\r\n\r\n"])
@pytest.mark.parametrize("place", range(4, 24))
def test_of_a_bare_cr_and_a_line_too_long_the_first_on_the_wire_is_told(impl, place, end):
    line = b"X: aaaaaaaaaaaaaaaaaaaaaaaaaaaa"
    data = head()[:-2] + line[:place] + b"\r" + line[place:] + end
    # The byte behind the CR tells that it is bare; the twentieth without an LF, that the line is too long.
    code = Code.BARE_CR if place + 2 < 20 else Code.FIELD_LENGTH
    assert refusal(impl, data, limit_request_field_size=20) is code
    long = b"GET /" + line[:place].replace(b" ", b"") + b"a\r" + line[place:] + end
    code = Code.BARE_CR if place + 2 + 5 < 22 else Code.REQUEST_LINE_LENGTH
    assert refusal(impl, long, limit_request_line=20) is code


@pytest.mark.parametrize(
    ("data", "accept"),
    [
        (head(b"Accept: a", host=b""), "a"),
        (head(b"accept:  a ", b"X: y", b"ACCEPT: b", b"Content-Length: x"), "a,b"),
        (head(b"Accept: a", b"X", b"Accept: b"), "a"),
        (head(b"X", b"Accept: a"), ""),
        (head(b"Accept: a", line=b"GET / HTTP/2.0"), ""),
        (head(b"Accept: a", b"Accept : b"), "a"),
        (head(b"Accept: a", b"X: \r", b"Accept: b"), "a"),
        (head(b"Accept-Charset: a", b"X_Accept: b", b"Host: c"), ""),
        (head(b"Accept: a", b" b", b"X"), "a"),
    ],
)
def test_a_refusal_knows_the_accept_that_was_read_before_it(impl, data, accept):
    for stops in ((len(data),), range(len(data) + 1)):
        parser = impl.parser.RequestParser()
        with pytest.raises(HttpError) as caught:
            for stop in stops:
                parser.parse(data[:stop])
        assert caught.value.accept == accept
    with pytest.raises(HttpError) as caught:
        parser.parse(b"")  # what was read may be gone by now
    assert caught.value.accept == ""


def test_a_refusal_knows_a_folded_accept(impl):
    parser = impl.parser.RequestParser(permit_obsolete_folding=True)
    with pytest.raises(HttpError) as caught:
        parser.parse(head(b"Accept: a,", b"\tb", b"X"))
    assert caught.value.accept == "a, b"


@pytest.mark.parametrize(
    "line",
    [
        b"GET",
        b"GET /",
        b"GET  / HTTP/1.1",
        b"GET /  HTTP/1.1",
        b" GET / HTTP/1.1",
        b"GET / HTTP/1.1 ",
        b"GET / / HTTP/1.1",
        b"GET /a b HTTP/1.1",
        b" ",
        b"  ",
        b"GET / ",
    ],
)
def test_the_request_line_is_three_parts_between_single_spaces(impl, line):
    assert refusal(impl, head(line=line)) is Code.REQUEST_LINE


@pytest.mark.parametrize(
    "method", [b"GET", b"HEAD", b"DELETE", b"M-SEARCH", b"PROPFIND", b"BREW", b"A" * 20, b"!$%"]
)
def test_an_unknown_method_that_fits_is_passed_on(impl, method):
    assert read(impl, head(line=method + b" / HTTP/1.1")).method == method.decode()


@pytest.mark.parametrize(
    "method",
    [b"get", b"Get", b"GE", b"A" * 21, b"GE#T", b"GE(T", b"GET\t", b"GE\0T", b"G\x80T", b"GE/T", b'"GET"'],
)
def test_an_unconventional_method_is_refused(impl, method):
    assert refusal(impl, head(line=method + b" / HTTP/1.1")) is Code.METHOD


@pytest.mark.parametrize("method", [b"get", b"G", b"GE#T", b"A" * 300, TOKEN])
def test_permit_unconventional_http_method_takes_any_token(impl, method):
    found = read(impl, head(line=method + b" / HTTP/1.1"), permit_unconventional_http_method=True)
    assert found.method == method.decode()


@pytest.mark.parametrize("method", [b"G T", b"G\x80T", b"GE(T", b"GET:"])
def test_permit_unconventional_http_method_takes_nothing_but_a_token(impl, method):
    code = refusal(impl, head(line=method + b" / HTTP/1.1"), permit_unconventional_http_method=True)
    assert code in (Code.METHOD, Code.REQUEST_LINE)


def test_casefold_http_method_puts_the_method_in_upper_case(impl):
    assert read(impl, head(line=b"gEt / HTTP/1.1"), casefold_http_method=True).method == "GET"
    assert refusal(impl, head(line=b"ge / HTTP/1.1"), casefold_http_method=True) is Code.METHOD
    assert refusal(impl, head(line=b"connect a:1 HTTP/1.1"), casefold_http_method=True) is Code.CONNECT
    assert read(impl, head(line=b"options * HTTP/1.1"), casefold_http_method=True).path == "*"
    trace = head(b"Content-Length: 1", line=b"trace / HTTP/1.1")
    assert refusal(impl, trace, casefold_http_method=True) is Code.TRACE_BODY


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        (b"/", "/", ""),
        (b"/?", "/", ""),
        (b"/a%2Fb/../c%00%zz", "/a%2Fb/../c%00%zz", ""),
        (b"/a?b?c=/d", "/a", "b?c=/d"),
        (b"//b.example/c", "//b.example/c", ""),
        (b"/*", "/*", ""),
        (bytes(sorted(grammar.TARGET - {0x3F} | {0x2F}, key=lambda byte: byte != 0x2F)), None, ""),
    ],
)
def test_origin_form_is_a_path_and_a_query_as_sent(impl, target, path, query):
    found = read(impl, head(line=b"GET " + target + b" HTTP/1.1"))
    assert found.target == target.decode()
    assert (found.path, found.query) == (target.decode() if path is None else path, query)
    assert found.authority is None


@pytest.mark.parametrize(
    ("target", "authority", "path", "query"),
    [
        (b"http://b.example", "b.example", "/", ""),
        (b"http://b.example/", "b.example", "/", ""),
        (b"HTTP://b.example:81/c?d", "b.example:81", "/c", "d"),
        (b"https://[::1]?d/e", "[::1]", "/", "d/e"),
        (b"hTTpS://b//c", "b", "//c", ""),
    ],
)
def test_absolute_form_gives_authority_path_and_query(impl, target, authority, path, query):
    found = read(impl, head(line=b"GET " + target + b" HTTP/1.1"))
    assert (found.target, found.authority) == (target.decode(), authority)
    assert (found.path, found.query) == (path, query)
    assert found.host == "a.example"


@pytest.mark.parametrize(
    "target",
    [
        b"http://", b"http:///c", b"http://?d", b"http://:80/", b"http://u@b/", b"http://u:p@b/",
        b"http://b:x/",
        b"http://b:65536/", b"http://[::1/", b"http://[1]/", b"http:/b", b"http:b", b"ftp://b/", b"ws://b/",
        b"httpx://b/",
        b"http//b", b"b.example", b"b.example:80", b"c/d", b"?d", b"*", b"*x", b"/a#b", b"/\x80", b"/\x7f",
        b"/\0", b"/\t",
        b"http://b#c", b"http://b,c/", b"http://%zz/",
    ],
)  # fmt: skip
def test_a_target_of_no_form_is_refused(impl, target):
    assert refusal(impl, head(line=b"GET " + target + b" HTTP/1.1")) is Code.TARGET


@pytest.mark.parametrize("byte", sorted(set(range(256)) - grammar.TARGET - set(b" \r\n")))
def test_a_target_is_visible_ascii(impl, byte):
    assert refusal(impl, head(line=b"GET /a%cb HTTP/1.1" % byte)) is Code.TARGET


def test_an_asterisk_belongs_to_options_alone(impl):
    found = read(impl, head(line=b"OPTIONS * HTTP/1.1"))
    assert (found.target, found.path, found.query) == ("*", "*", "")
    assert refusal(impl, head(line=b"OPTIONS *?a HTTP/1.1")) is Code.TARGET


@pytest.mark.parametrize(
    ("target", "code"),
    [
        (b"b.example:443", Code.CONNECT),
        (b"[::1]:443", Code.CONNECT),
        (b"b.example", Code.TARGET),
        (b"b.example:", Code.TARGET),
        (b":443", Code.TARGET),
        (b"/", Code.TARGET),
        (b"http://b.example:443/", Code.TARGET),
        (b"u@b.example:443", Code.TARGET),
    ],
)
def test_connect_is_not_served_and_wants_host_and_port(impl, target, code):
    assert refusal(impl, head(line=b"CONNECT " + target + b" HTTP/1.1")) is code


@pytest.mark.parametrize("version", [(1, 0), (1, 1), (1, 2), (1, 9)])
def test_every_version_1_x_is_taken(impl, version):
    assert read(impl, head(line=b"GET / HTTP/%d.%d" % version)).version == version


@pytest.mark.parametrize("version", [b"2.0", b"0.9", b"3.0", b"2.1", b"9.9"])
def test_another_major_version_is_not_served(impl, version):
    data = head(line=b"GET / HTTP/" + version)
    assert refusal(impl, data) is Code.VERSION
    found = read(impl, data, permit_unconventional_http_version=True)
    assert found.version == (int(version[:1]), int(version[2:]))
    assert found.keep_alive is (found.version > (1, 0))


@pytest.mark.parametrize(
    "version",
    [
        b"HTTP/1", b"HTTP/1.", b"HTTP/.1", b"HTTP/1.10", b"HTTP/01.1", b"HTTP/1,1", b"http/1.1", b"HTTP/1.1x",
        b"HTTP 1.1",
        b"HTTP/a.1", b"HTTP/1.a", b"HTTP/1.1\t", b"XTTP/1.1", b"HTTP/1.1\0", b"HTTP/\xb1.1", b"1.1",
    ],
)  # fmt: skip
def test_a_malformed_version_is_refused_under_any_switch(impl, version):
    data = head(line=b"GET / " + version)
    expected = Code.REQUEST_LINE if b" " in version else Code.VERSION_SYNTAX
    assert refusal(impl, data) is expected
    assert refusal(impl, data, permit_unconventional_http_version=True) is expected


def test_the_parts_of_the_request_line_are_judged_from_left_to_right(impl):
    assert refusal(impl, b"get x HTTP/9.9\r\n") is Code.METHOD
    assert refusal(impl, b"GET x HTTP/9.9\r\n") is Code.TARGET
    assert refusal(impl, b"CONNECT b:1 HTTP/9.9\r\n") is Code.CONNECT
    assert refusal(impl, b"GET / http/9.9\r\n") is Code.VERSION_SYNTAX
    assert refusal(impl, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n") is Code.TARGET


# -- limits -----------------------------------------------------------------------------------------


def test_limit_request_line_is_the_line_without_its_crlf(impl):
    line = b"GET /" + b"a" * 5 + b" HTTP/1.1"
    assert read(impl, head(line=line), limit_request_line=len(line)).path == "/aaaaa"
    assert refusal(impl, head(line=line), limit_request_line=len(line) - 1) is Code.REQUEST_LINE_LENGTH


def test_limit_request_field_size_is_the_line_with_its_crlf(impl):
    field = b"X: " + b"a" * 30
    assert read(impl, head(field), limit_request_field_size=len(field) + 2).fields[1] == ("X", "a" * 30)
    assert refusal(impl, head(field), limit_request_field_size=len(field) + 1) is Code.FIELD_LENGTH


def test_limit_request_fields_is_a_number_of_lines(impl):
    fields = [b"X%d: a" % number for number in range(4)]
    assert len(read(impl, head(*fields), limit_request_fields=5).fields) == 5
    assert refusal(impl, head(*fields), limit_request_fields=4) is Code.FIELD_COUNT


@pytest.mark.parametrize(
    ("limit", "size", "start", "code"),
    [
        ("limit_request_line", 50, b"GET /", Code.REQUEST_LINE_LENGTH),
        ("limit_request_field_size", 50, b"GET / HTTP/1.1\r\nHost: a\r\nX: ", Code.FIELD_LENGTH),
        ("limit_request_field_size", 50, b"GET / HTTP/1.1\r\nHost: a\r\n", Code.FIELD_LENGTH),
        ("limit_request_field_size", 50, b"GET / HTTP/1.1\r\nHost: a\r\n ", Code.FIELD_LENGTH),
    ],
)
def test_an_endless_line_is_refused_at_its_limit(impl, limit, size, start, code):
    parser = impl.parser.RequestParser(**{limit: size})
    data = start + b"a" * 100
    at = next(stop for stop in range(len(data)) if refused(parser, data[:stop]) is not None)
    begin = data.rfind(b"\n") + 1
    # one byte more could still be the CR of a line that fits
    assert size - 1 <= at - begin <= size + 2
    assert refused(parser, data) is code


def refused(parser: Any, data: bytes) -> Code | None:
    try:
        parser.parse(data)
    except HttpError as error:
        return error.code
    return None


def test_a_field_too_many_is_refused_at_its_first_byte(impl):
    parser = impl.parser.RequestParser(limit_request_fields=1)
    assert refused(parser, b"GET / HTTP/1.1\r\nHost: a\r\n") is None
    assert refused(parser, b"GET / HTTP/1.1\r\nHost: a\r\nX") is Code.FIELD_COUNT


def test_zero_is_no_limit_but_that_of_the_whole_head(impl):
    none = {"limit_request_line": 0, "limit_request_fields": 0, "limit_request_field_size": 0}
    fields = [b"X: %d" % number for number in range(3000)]
    data = head(*fields, b"Y: " + b"y" * 20000, line=b"GET /" + b"a" * 20000 + b" HTTP/1.1")
    assert len(read(impl, data, **none).fields) == 3002


@pytest.mark.parametrize("line", [b"GET / HTTP/1.1", b"GET /" + b"a" * 100 + b" HTTP/1.1"])
def test_the_whole_head_has_a_limit(impl, line):
    none = {"limit_request_line": 0, "limit_request_fields": 0, "limit_request_field_size": 0}
    room = grammar.MAX_HEAD - len(head(b"Y: ", line=line))
    assert read(impl, head(b"Y: " + b"y" * room, line=line), **none).size == grammar.MAX_HEAD
    for data in (
        head(b"Y: " + b"y" * (room + 1), line=line),
        head(b"Y: " + b"y" * (room + 2), line=line) + b"more" * grammar.MAX_HEAD,
        b"GET /" + b"a" * grammar.MAX_HEAD,
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * (grammar.MAX_HEAD // 6),
    ):
        parser = impl.parser.RequestParser(**none)
        assert refused(parser, data) is Code.HEAD_LENGTH
        parser.reset()
        assert refused(parser, data[: grammar.MAX_HEAD - 1]) is None
        assert refused(parser, data) is Code.HEAD_LENGTH


def test_a_line_beyond_its_limit_is_refused_before_the_head_is(impl):
    none = {"limit_request_fields": 0, "limit_request_field_size": 0}
    data = b"GET /" + b"a" * (2 * grammar.MAX_HEAD) + b" HTTP/1.1\r\n"
    for limit, code in ((1 << 19, Code.REQUEST_LINE_LENGTH), (1 << 21, Code.HEAD_LENGTH)):
        for stop in (grammar.MAX_HEAD, len(data)):
            assert refused(impl.parser.RequestParser(limit_request_line=limit, **none), data[:stop]) is code


def test_a_negative_limit_is_an_error_of_the_caller(impl):
    for name in ("limit_request_line", "limit_request_fields", "limit_request_field_size"):
        with pytest.raises(ValueError, match="negative"):
            impl.parser.RequestParser(**{name: -1})


@pytest.mark.parametrize(("start", "stop"), [(-1, None), (0, 11), (5, 4), (11, None)])
def test_bounds_outside_the_data_are_an_error_of_the_caller(impl, start, stop):
    with pytest.raises(ValueError, match="within"):
        impl.parser.RequestParser().parse(b"GET / HTTP", start, stop)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_buffer_is_read_and_none_is_kept(impl, kind):
    buffer = bytearray(head(b"X: y"))
    parser = impl.parser.RequestParser()
    assert parser.parse(kind(bytes(buffer)), 0, 30) is None
    assert parser.parse(kind(bytes(buffer))).fields[1] == ("X", "y")
    parser.parse(buffer, 0, 10)
    buffer.clear()  # an exported buffer would refuse to be resized
    with pytest.raises(TypeError):
        parser.parse("GET / HTTP/1.1\r\n\r\n")


# -- fields -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "field"),
    [
        (b"X:", ("X", "")),
        (b"X: ", ("X", "")),
        (b"X:a", ("X", "a")),
        (b"X: \t a\t \tb \t", ("X", "a\t \tb")),
        (b"x-y_Z: :a:", ("X-Y_Z", ":a:")),
        (TOKEN + b": t", (TOKEN.decode().upper(), "t")),
        (b"X: " + bytes(range(0x80, 0x100)), ("X", bytes(range(0x80, 0x100)).decode("latin-1"))),
        (b"X: \xa0\x85", ("X", "\xa0\x85")),
    ],
)
def test_a_field_is_a_token_and_a_trimmed_value(impl, line, field):
    assert read(impl, head(line)).fields[1] == field
    assert read(impl, head(line, b"Accept: \t")).fields[1:] == [field, ("ACCEPT", "")]


@pytest.mark.parametrize(
    "line",
    [
        b"X",
        b"X a",
        b": a",
        b":",
        b"X : a",
        b"X\t: a",
        b"X y: a",
        b"X\0: a",
        b"X\x80: a",
        b"(X): a",
        b"X\x7f: a",
    ],
)
def test_a_malformed_name_is_refused(impl, line):
    assert refusal(impl, head(line)) is Code.FIELD_NAME


def test_every_byte_that_is_no_token_is_refused_in_a_name(impl):
    for byte in set(range(256)) - grammar.TCHAR - set(b":\r\n"):
        assert refusal(impl, head(b"a%cb: c" % byte)) is Code.FIELD_NAME


@pytest.mark.parametrize("length", [0, 3, 7, 8, 12, 15, 16, 31])
def test_a_control_is_refused_wherever_it_stands_in_a_value(impl, length):
    forbidden = set(range(256)) - grammar.FIELD_VALUE - set(b"\r\n")
    assert forbidden == set(range(0x20)) - {9, 10, 13} | {0x7F}
    for at in {0, length // 2, length}:
        value = bytearray(b"\x80" * length)
        value[at:at] = b"?"
        for byte in range(256):
            value[at] = byte
            if byte in forbidden:
                assert refusal(impl, head(b"X:" + value)) is Code.FIELD_VALUE
            elif byte not in b"\r\n":
                assert read(impl, head(b"X:" + value)).fields[1][1] == value.decode("latin-1").strip(" \t")


def test_strip_header_spaces_takes_white_space_before_the_colon(impl):
    found = read(impl, head(b"X \t: a", b"Content-Length : 3"), strip_header_spaces=True)
    assert found.fields[1:] == [("X", "a"), ("CONTENT-LENGTH", "3")]
    assert found.content_length == 3
    assert refusal(impl, head(b"X y: a"), strip_header_spaces=True) is Code.FIELD_NAME


@pytest.mark.parametrize("fold", [b" b", b"\tb", b" ", b"\t", b" :"])
def test_a_folded_field_is_refused(impl, fold):
    assert refusal(impl, head(b"X: a", fold)) is Code.FIELD_FOLDED


def test_the_first_field_line_is_no_fold_under_any_switch(impl):
    data = b"GET / HTTP/1.1\r\n Host: a\r\n\r\n"
    assert refusal(impl, data) is Code.FIELD_FOLDED
    assert refusal(impl, data, permit_obsolete_folding=True) is Code.FIELD_FOLDED


@pytest.mark.parametrize(
    ("lines", "value"),
    [
        ((b"X: a", b" b"), "a b"),
        ((b"X: a \t", b" \t b\t", b"  c "), "a b c"),
        ((b"X:", b" b"), "b"),
        ((b"X: a", b" "), "a"),
        ((b"X: a", b"\t", b" b"), "a b"),
        ((b"X:", b" ", b"  "), ""),
        ((b"X: a", b" \x80"), "a \x80"),
    ],
)
def test_permit_obsolete_folding_makes_a_fold_one_space(impl, lines, value):
    found = read(impl, head(*lines, b"Y: z"), permit_obsolete_folding=True)
    assert found.fields[1:] == [("X", value), ("Y", "z")]


@pytest.mark.parametrize(
    "line",
    [
        b"Content-Length:",
        b"Content-Length: 5",
        b"transfer-encoding:",
        b"Host: a",
        b"Connection: close",
        b"EXPECT:",
    ],
)
def test_a_folded_field_of_framing_is_refused_under_any_switch(impl, line):
    data = b"GET / HTTP/1.1\r\n" + line + b"\r\n 5\r\n\r\n"
    assert refusal(impl, data, permit_obsolete_folding=True) is Code.FIELD_FOLDED


def test_folded_lines_count_together_for_the_length_of_a_field(impl):
    options = {"permit_obsolete_folding": True, "limit_request_field_size": 30}
    assert (
        read(impl, head(b"X: " + b"a" * 10, b" " + b"b" * 12), **options).fields[1][1]
        == "a" * 10 + " " + "b" * 12
    )
    assert refusal(impl, head(b"X: " + b"a" * 10, b" " + b"b" * 13), **options) is Code.FIELD_LENGTH


def test_a_folded_line_is_no_field_of_its_own(impl):
    data = head(b"X: a", b" b", b" c")
    assert len(read(impl, data, permit_obsolete_folding=True, limit_request_fields=2).fields) == 2


def test_a_control_in_a_folded_line_is_refused(impl):
    assert refusal(impl, head(b"X: a", b" \0"), permit_obsolete_folding=True) is Code.FIELD_VALUE


def test_every_known_field_is_read_in_any_case(impl):
    for name in grammar.KNOWN_FIELDS:
        if name in (b"host", b"content-length", b"transfer-encoding", b"expect"):
            continue
        for spelling in (name, name.upper(), name.title(), name.swapcase(), name + b"x", name[:-1] + b"~"):
            fields = read(impl, head(spelling + b": v")).fields
            assert fields[1] == (spelling.decode().upper(), "v")


@pytest.mark.parametrize("name", sorted(grammar.SINGLETON_FIELDS))
def test_a_single_field_is_refused_when_it_is_repeated(impl, name):
    value = {b"host": b"a", b"content-length": b"3", b"expect": b"100-continue"}.get(name, b"a")
    line = name + b": " + value
    host = b"" if name == b"host" else HOST
    assert read(impl, head(line, host=host)).fields[-1] == (name.decode().upper(), value.decode())
    assert refusal(impl, head(line, b"X: y", line.title(), host=host)) is Code.FIELD_REPEATED


def test_other_fields_may_be_repeated(impl):
    found = read(
        impl, head(b"Cookie: a", b"Cookie: b", b"X: 1", b"X: 2", b"Content_Length: 3", b"Content_Length: 4")
    )
    assert [value for _, value in found.fields[1:]] == ["a", "b", "1", "2", "3", "4"]
    assert found.content_length == -1


# -- Host --------------------------------------------------------------------------------------------

GOOD_HOSTS = [
    b"", b"a", b"a.example", b"A.Example:80", b"a.example:", b"a:0", b"a:65535", b"a:00080", b"127.0.0.1",
    b"999.1.1.1",
    b"a_b.example", b"%41.example", b"a.example.", b"xn--a", b"a!$&'()*+;=~", b"[::]", b"[::1]:80",
    b"[1:2:3:4:5:6:7:8]",
    b"[1:2:3:4:5:6:7::]", b"[::2:3:4:5:6:7:8]", b"[1::8]", b"[1:2:3:4:5:6:1.2.3.4]",
    b"[::ffff:255.255.255.255]",
    b"[::1.2.3.4]", b"[2001:DB8:0000::aBcD]", b"[1:2:3:4:5::1.2.3.4]", b"[v1.a:b]", b"[VF00.~]:1",
]  # fmt: skip
BAD_HOSTS = [
    b"a b", b"a, b", b"a,b", b"u@a", b"a/", b"a/b", b"a?b", b"a#b", b"http://a", b":80", b":", b"a:b",
    b"a:80:80",
    b"a:-1", b"a:+1", b"a:65536", b"a:99999999999999999999", b"a:8\xb2", b"a\x80", b"\xe9", b'"a"', b"a\tb",
    b"a\\b",
    b"%", b"%4", b"%4g", b"a%", b"[", b"]", b"[]", b"[::1", b"::1", b"[::1]80", b"[::1]:x", b"[::1]]",
    b"[[::1]]", b"a[::1]",
    b"[:::]", b"[:]", b"[1]", b"[1:]", b"[:1]", b"[1:2:3:4:5:6:7]", b"[1:2:3:4:5:6:7:8:9]",
    b"[1:2:3:4:5:6:7:8::]",
    b"[::1:2:3:4:5:6:7:8]", b"[1::2::3]", b"[12345::]", b"[g::]", b"[::1%25eth0]", b"[::1%eth0]",
    b"[1.2.3.4]",
    b"[::1.2.3]", b"[::1.2.3.4.5]", b"[::256.1.1.1]", b"[::01.1.1.1]", b"[::1.1.1.1:1]", b"[1.2.3.4::]",
    b"[1:2:3:4:5:6:7:1.2.3.4]", b"[1:2:3:4:5:6::1.2.3.4]", b"[v.a]", b"[v1.]", b"[vg.a]", b"[v1]", b"[va]",
    b"[v1.a b]", b"[v1.[]",
    b"^", b"a|b", b"<a>", b"a`",
]  # fmt: skip


@pytest.mark.parametrize("value", GOOD_HOSTS)
def test_host_is_a_name_or_literal_and_perhaps_a_port(impl, value):
    assert read(impl, head(host=b"Host: " + value + b"\r\n")).host == value.decode()


@pytest.mark.parametrize("value", BAD_HOSTS)
def test_a_malformed_host_is_refused_in_any_version(impl, value):
    assert refusal(impl, head(host=b"Host: " + value + b"\r\n")) is Code.HOST
    assert refusal(impl, head(host=b"Host: " + value + b"\r\n", line=b"GET / HTTP/1.0")) is Code.HOST
    assert refusal(impl, head(host=b"Host: " + value + b"\r\n", line=b"GET http://b/ HTTP/1.1")) is Code.HOST


def test_an_ipv6_literal_is_what_the_standard_library_takes_for_one(impl):
    random = Random(6)
    parts = ["1", "ab", "", "ffff", "0", "g", "12345", ":", "1.2.3.4", "256.1.1.1", "1.2.3"]
    weights = [9, 9, 6, 9, 9, 1, 1, 1, 2, 1, 1]
    taken = 0
    for _ in range(1000):
        text = ":".join(random.choices(parts, weights, k=random.randint(1, 9)))
        try:
            ipaddress.IPv6Address(text)
        except ValueError:
            assert refusal(impl, head(host=b"Host: [%s]\r\n" % text.encode())) is Code.HOST, text
        else:
            taken += 1
            assert read(impl, head(host=b"Host: [%s]\r\n" % text.encode())).host == f"[{text}]"
    assert taken > 50


def test_host_is_needed_from_1_1_on(impl):
    assert refusal(impl, head(host=b"")) is Code.HOST_MISSING
    assert refusal(impl, head(host=b"", line=b"GET http://a/ HTTP/1.1")) is Code.HOST_MISSING
    assert refusal(impl, head(host=b"", line=b"GET / HTTP/1.2")) is Code.HOST_MISSING
    assert read(impl, head(host=b"", line=b"GET / HTTP/1.0")).host is None


# -- the message's length ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "length"),
    [
        (b"0", 0),
        (b"5", 5),
        (b"007", 7),
        (b"9223372036854775807", 2**63 - 1),
        (b"0" * 50 + b"9223372036854775807", 2**63 - 1),
    ],
)
def test_content_length_is_a_number_below_2_to_the_63(impl, value, length):
    assert read(impl, head(b"Content-Length: " + value, line=b"POST / HTTP/1.1")).content_length == length


@pytest.mark.parametrize(
    "value",
    [
        b"", b"+5", b"-5", b"-0", b"5 5", b"5,5", b"5, 5", b"0x5", b"5.0", b"1e3", b"five", b"5;", b"\xb2",
        b"1_0", b"5\x80",
        b"9223372036854775808", b"18446744073709551616", b"18446744073709551621", b"9" * 100, b"9" * 5000,
        b"\xa05",
    ],
)  # fmt: skip
def test_content_length_is_digits_and_nothing_else(impl, value):
    assert refusal(impl, head(b"Content-Length: " + value)) is Code.CONTENT_LENGTH


@pytest.mark.parametrize("second", [b"5", b"6", b"", b"x"])
def test_content_length_stands_once_even_with_the_same_value(impl, second):
    assert refusal(impl, head(b"Content-Length: 5", b"content-length: " + second)) is Code.FIELD_REPEATED


@pytest.mark.parametrize("value", [b"chunked", b"Chunked", b"CHUNKED", b" chunked "])
def test_chunked_is_the_one_transfer_coding(impl, value):
    found = read(impl, head(b"Transfer-Encoding: " + value, line=b"POST / HTTP/1.1"))
    assert (found.chunked, found.content_length) == (True, -1)


@pytest.mark.parametrize(
    "values",
    [
        (b"",), (b"identity",), (b"identity, chunked",), (b"chunked, identity",), (b"chunked, chunked",),
        (b"chunked", b"chunked"),
        (b"chunked, gzip",), (b"chunked", b"gzip"), (b"chunked,",), (b",chunked",), (b"gzip,,chunked",),
        (b"", b"chunked"),
        (b"chunked", b""), (b"chunked;q=1",), (b'"chunked"',), (b"chun ked",), (b"chunked/1",),
        (b"\tchunked",),
        (b"chunked\t",), (b"gzip,\tchunked",), (b"\x80chunked",), (b"chunked\xa0",), (b"[chunked]",),
        (b"gzip;q=1, chunked",),
        (b"gzip", b"chunked", b"chunked"),
    ],
)  # fmt: skip
def test_a_malformed_transfer_encoding_is_refused(impl, values):
    assert (
        refusal(impl, head(*(b"Transfer-Encoding: " + value for value in values))) is Code.TRANSFER_ENCODING
    )


@pytest.mark.parametrize("value", [b"chunked\x0b", b"\x0cchunked", b"chunked\0", b"chunked\x7f"])
def test_a_control_in_transfer_encoding_is_refused_as_in_any_value(impl, value):
    assert refusal(impl, head(b"Transfer-Encoding: " + value)) is Code.FIELD_VALUE


@pytest.mark.parametrize(
    "values",
    [
        (b"gzip",),
        (b"gzip, chunked",),
        (b"gzip", b"chunked"),
        (b"x-foo, deflate , chunked",),
        (b"xchunked",),
        (b"chunked2",),
        (b"cow",),
    ],
)
def test_another_transfer_coding_is_not_served(impl, values):
    assert refusal(impl, head(*(b"Transfer-Encoding: " + value for value in values))) is Code.TRANSFER_CODING


@pytest.mark.parametrize(
    "fields",
    [
        (b"Content-Length: 5", b"Transfer-Encoding: chunked"),
        (b"Transfer-Encoding: chunked", b"Content-Length: 5"),
        (b"Transfer-Encoding: identity", b"Content-Length: x"),
        (b"Transfer-Encoding: gzip", b"Content-Length: 0"),
    ],
)
def test_two_lengths_are_refused(impl, fields):
    assert refusal(impl, head(*fields)) is Code.LENGTH_CONFLICT
    assert refusal(impl, head(*fields, line=b"GET / HTTP/1.0")) is Code.LENGTH_CONFLICT


@pytest.mark.parametrize("value", [b"chunked", b"gzip", b"identity"])
def test_transfer_encoding_is_unknown_to_1_0(impl, value):
    assert (
        refusal(impl, head(b"Transfer-Encoding: " + value, line=b"POST / HTTP/1.0")) is Code.TRANSFER_ENCODING
    )


@pytest.mark.parametrize(
    "line",
    [
        b"Transfer_Encoding: chunked",
        b"Content_Length: x",
        b"X-Transfer-Encoding: gzip",
        b"Transfer-Encodin: gzip",
    ],
)
def test_a_name_that_only_resembles_a_framing_field_frames_nothing(impl, line):
    found = read(impl, head(line))
    assert (found.content_length, found.chunked) == (-1, False)


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"DELETE", b"OPTIONS", b"POST"])
def test_any_other_method_may_have_a_body_when_it_is_framed(impl, method):
    line = method + b" / HTTP/1.1"
    assert read(impl, head(line=line)).content_length == -1
    assert read(impl, head(b"Content-Length: 3", line=line)).content_length == 3
    assert read(impl, head(b"Transfer-Encoding: chunked", line=line)).chunked


def test_trace_has_no_body(impl):
    line = b"TRACE / HTTP/1.1"
    assert read(impl, head(b"Content-Length: 0", line=line)).content_length == 0
    assert refusal(impl, head(b"Content-Length: 1", line=line)) is Code.TRACE_BODY
    assert refusal(impl, head(b"Transfer-Encoding: chunked", line=line)) is Code.TRACE_BODY


# -- Expect and Connection ---------------------------------------------------------------------------


@pytest.mark.parametrize("value", [b"100-continue", b"100-Continue", b"100-CONTINUE"])
def test_expect_100_continue_is_told_to_the_caller(impl, value):
    assert read(impl, head(b"Expect: " + value, b"Content-Length: 3")).expect_continue is True


@pytest.mark.parametrize("value", [b"", b"x", b"100-continue, x", b"100", b"100-continue;q=1", b"200-ok"])
def test_another_expectation_cannot_be_met(impl, value):
    assert refusal(impl, head(b"Expect: " + value)) is Code.EXPECT


@pytest.mark.parametrize("value", [b"100-continue", b"x"])
def test_1_0_has_no_expectations(impl, value):
    assert read(impl, head(b"Expect: " + value, line=b"POST / HTTP/1.0")).expect_continue is False


@pytest.mark.parametrize(
    ("fields", "in_1_1", "in_1_0"),
    [
        ((), True, False),
        ((b"Connection: keep-alive",), True, True),
        ((b"Connection: Keep-Alive",), True, True),
        ((b"Connection: close",), False, False),
        ((b"Connection: CLOSE",), False, False),
        ((b"Connection: keep-alive, close",), False, False),
        ((b"Connection: close", b"Connection: keep-alive"), False, False),
        ((b"Connection: foo", b"X: y", b"connection: \t,keep-alive\t , bar"), True, True),
        ((b"Connection: foo,close,",), False, False),
        ((b"Connection: closed, xclose, clos, not-close",), True, False),
        ((b"Connection: keep-alives, keep alive",), True, False),
        ((b'Connection: "close"',), True, False),
        ((b"Connection: close;q=1",), True, False),
        ((b"Connection:",), True, False),
        ((b"Connection: ,,",), True, False),
        ((b"Connection: upgrade", b"Upgrade: websocket"), True, False),
        ((b"Proxy-Connection: keep-alive", b"Keep-Alive: timeout=5"), True, False),
    ],
)
def test_connection_is_a_list_of_options_over_all_its_lines(impl, fields, in_1_1, in_1_0):
    assert read(impl, head(*fields)).keep_alive is in_1_1
    assert read(impl, head(*fields, line=b"GET / HTTP/1.0")).keep_alive is in_1_0


def test_what_concerns_the_whole_head_is_judged_in_one_order(impl):
    wrong = [
        (b"Content-Type: a\r\nContent-Type: b\r\n", Code.FIELD_REPEATED),
        (b"Host: a b\r\n", Code.HOST),
        (b"Transfer-Encoding: gzip\r\nContent-Length: x\r\n", Code.LENGTH_CONFLICT),
        (b"Expect: x\r\n", Code.EXPECT),
    ]
    for first, (_, code) in enumerate(wrong):
        host = b"" if first < 2 else b"Host: a\r\n"
        lines = b"".join(line for line, _ in reversed(wrong[first:]))
        assert refusal(impl, b"TRACE / HTTP/1.1\r\n" + host + lines + b"\r\n") is code
    assert (
        refusal(impl, head(b"Content-Length: 1", b"Expect: x", line=b"TRACE / HTTP/1.1")) is Code.TRACE_BODY
    )


# -- drip-fed heads --------------------------------------------------------------------------------------


def test_a_byte_more_costs_as_much_at_the_end_of_a_long_line_as_at_its_start(impl):
    """A million bytes of one line, looked at again at every byte, would cost 100 times as much."""
    data = b"GET / HTTP/1.0\r\nX: " + b"a" * 1000000 + b"\r\n\r\n"
    parser = impl.parser.RequestParser(limit_request_field_size=0)

    def seconds(begin: int) -> float:
        parser.parse(data, 0, begin)
        times = []
        for stop in range(begin + 1, begin + 1001):
            start = time.perf_counter()
            assert parser.parse(data, 0, stop) is None
            times.append(time.perf_counter() - start)
        return sorted(times)[len(times) // 2]

    early, late = seconds(100), seconds(998000)
    assert late < 10 * early
    assert parser.parse(data).size == len(data)
