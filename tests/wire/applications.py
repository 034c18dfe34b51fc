"""The applications of the corpus: ``/app/NAME`` is answered by the function NAME, anything else by `facts`.

Most of them break PEP 3333, each in one way that its name says. `application` is the one
that servers load; it gives the others their environ as it is.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from types import FunctionType
from typing import Any
from wsgiref.validate import validator

Environ = dict[str, Any]
Application = Callable[[Environ, Any], Any]

TEXT = [("Content-Type", "text/plain")]


def application(environ: Environ, start_response: Any) -> Any:
    """Call the application that the path names."""
    path = environ["PATH_INFO"]
    if path.startswith("/app/") and (chosen := NAMED.get(path[5:])):
        return chosen(environ, start_response)
    return facts(environ, start_response)


def facts(environ: Environ, start_response: Any) -> list[bytes]:
    """Tells environ and body as JSON, less what differs from one connection to the next."""
    body = environ["wsgi.input"].read()
    told = {name: value for name, value in environ.items() if isinstance(value, (str, bool, tuple))}
    if "PROXY_PROTOCOL" not in environ:
        told.pop("REMOTE_PORT", None)
    for name, value in told.items():
        if not isinstance(value, str):
            told[name] = repr(value)
    answer = json.dumps({"environ": told, "input": body.decode("latin-1")}).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(answer)))])
    return [answer]


def _fixed(status: Any, headers: Any, items: Any = (b"hello",)) -> Application:
    """Starts with `status` and `headers`, and returns `items`."""

    def answer(environ: Environ, start_response: Any) -> Any:
        start_response(status, headers)
        return list(items) if isinstance(items, tuple) else items

    return answer


def _streamed(status: Any, headers: Any, *items: Any) -> Application:
    """The same, from an iterator whose length nobody knows."""

    def answer(environ: Environ, start_response: Any) -> Iterator[Any]:
        start_response(status, headers)
        return iter(items)

    return answer


def _length(value: str) -> list[tuple[str, str]]:
    return [*TEXT, ("Content-Length", value)]


# -- what is not a matter of one header or one status ---------------------------------------


def raises_at_once(environ: Environ, start_response: Any) -> Any:
    raise RuntimeError("the application failed")


def raises_after_start(environ: Environ, start_response: Any) -> Any:
    start_response("200 OK", TEXT)
    raise RuntimeError("the application failed")


def raises_before_an_item(environ: Environ, start_response: Any) -> Iterator[bytes]:
    start_response("200 OK", TEXT)
    yield b""
    raise RuntimeError("the application failed")


def raises_after_an_item(environ: Environ, start_response: Any) -> Iterator[bytes]:
    start_response("200 OK", TEXT)
    yield b"hello"
    raise RuntimeError("the application failed")


def raises_after_a_declared_part(environ: Environ, start_response: Any) -> Iterator[bytes]:
    start_response("200 OK", _length("10"))
    yield b"hello"
    raise RuntimeError("the application failed")


def raises_after_write(environ: Environ, start_response: Any) -> Any:
    start_response("200 OK", TEXT)(b"hello")
    raise RuntimeError("the application failed")


def raises_a_key_error(environ: Environ, start_response: Any) -> Any:
    raise KeyError("CONTENT_LENGTH")


def raises_cancelled(environ: Environ, start_response: Any) -> Any:
    start_response("200 OK", TEXT)
    raise asyncio.CancelledError


def raises_generator_exit(environ: Environ, start_response: Any) -> Iterator[bytes]:
    start_response("200 OK", TEXT)
    yield b"hello"
    raise GeneratorExit


def clears_its_environ(environ: Environ, start_response: Any) -> list[bytes]:
    environ.clear()
    start_response("200 OK", TEXT)
    return [b"hello"]


def clears_its_environ_and_raises(environ: Environ, start_response: Any) -> Any:
    environ.clear()
    raise RuntimeError("the application failed")


def turns_its_environ_over(environ: Environ, start_response: Any) -> list[bytes]:
    environ.update(
        REQUEST_METHOD="HEAD",
        SERVER_PROTOCOL="HTTP/1.0",
        HTTP_CONNECTION="close",
        CONTENT_LENGTH="99",
        HTTP_ACCEPT=5,
    )
    environ["wsgi.input"] = None
    start_response("200 OK", TEXT)
    return [b"hello"]


def never_calls(environ: Environ, start_response: Any) -> list[bytes]:
    return [b"hello"]


def never_calls_and_is_empty(environ: Environ, start_response: Any) -> list[bytes]:
    return []


def never_calls_and_streams(environ: Environ, start_response: Any) -> Iterator[bytes]:
    return iter([b"hello"])


def calls_twice(environ: Environ, start_response: Any) -> list[bytes]:
    start_response("200 OK", TEXT)
    start_response("200 OK", TEXT)
    return [b"hello"]


def calls_twice_and_minds_not(environ: Environ, start_response: Any) -> list[bytes]:
    start_response("200 OK", TEXT)
    try:
        start_response("404 Not Found", TEXT)
    except Exception:
        return [b"the first call counts"]
    return [b"hello"]


def replaces_its_start(environ: Environ, start_response: Any) -> list[bytes]:
    start_response("200 OK", [("X-First", "1")])
    try:
        raise ValueError("another answer is due")
    except ValueError as error:
        start_response("503 Service Unavailable", TEXT, (type(error), error, error.__traceback__))
    return [b"replaced"]


def replaces_too_late(environ: Environ, start_response: Any) -> Iterator[bytes]:
    start_response("200 OK", TEXT)
    yield b"hello"
    try:
        raise ValueError("another answer is due")
    except ValueError as error:
        start_response("503 Service Unavailable", TEXT, (type(error), error, error.__traceback__))
    yield b"never sent"


def calls_late(environ: Environ, start_response: Any) -> Iterator[bytes]:
    yield b""
    start_response("200 OK", TEXT)
    yield b"late, and in time"


def calls_too_late(environ: Environ, start_response: Any) -> Iterator[bytes]:
    yield b"hello"
    start_response("200 OK", TEXT)


def writes(environ: Environ, start_response: Any) -> list[bytes]:
    write = start_response("200 OK", TEXT)
    write(b"one ")
    write(b"two")
    return []


def writes_and_returns(environ: Environ, start_response: Any) -> list[bytes]:
    start_response("200 OK", TEXT)(b"written, ")
    return [b"returned"]


def writes_nothing(environ: Environ, start_response: Any) -> list[bytes]:
    start_response("200 OK", TEXT)(b"")
    return [b"returned"]


def writes_text(environ: Environ, start_response: Any) -> list[bytes]:
    start_response("200 OK", TEXT)("text")
    return []


def writes_a_declared_body(environ: Environ, start_response: Any) -> list[bytes]:
    write = start_response("200 OK", _length("8"))
    write(b"one ")
    return [b"more"]


def writes_beyond_its_length(environ: Environ, start_response: Any) -> list[bytes]:
    write = start_response("200 OK", _length("5"))
    write(b"hello, ")
    write(b"world")
    return [b"!"]


def streams_beyond_its_length(environ: Environ, start_response: Any) -> Iterator[bytes]:
    start_response("200 OK", _length("5"))
    while True:
        yield b"hello"


def reads_nothing(environ: Environ, start_response: Any) -> list[bytes]:
    start_response("200 OK", TEXT)
    return [b"unread"]


def reads_two(environ: Environ, start_response: Any) -> list[bytes]:
    start_response("200 OK", TEXT)
    return [environ["wsgi.input"].read(2)]


def reads_too_much(environ: Environ, start_response: Any) -> list[bytes]:
    source = environ["wsgi.input"]
    body = source.read(1 << 20) + source.read(1) + source.readline() + source.read()
    start_response("200 OK", TEXT)
    return [body]


def reads_minus_five(environ: Environ, start_response: Any) -> list[bytes]:
    start_response("200 OK", TEXT)
    return [environ["wsgi.input"].read(-5)]


def reads_lines(environ: Environ, start_response: Any) -> list[bytes]:
    source = environ["wsgi.input"]
    lines = [source.readline(), source.readline(3), *source.readlines(1), *source]
    start_response("200 OK", TEXT)
    return [b"|".join(lines)]


def reads_after_answering(environ: Environ, start_response: Any) -> Iterator[bytes]:
    start_response("200 OK", TEXT)
    yield b"got "
    yield environ["wsgi.input"].read()


def closes_its_input(environ: Environ, start_response: Any) -> list[bytes]:
    environ["wsgi.input"].close()
    start_response("200 OK", TEXT)
    return [b"closed"]


class _Closing:
    """An iterable that counts how often it was closed, for `close_count` on the same connection."""

    counts: dict[int, int] = {}

    def __init__(self, environ: Environ, *items: Any) -> None:
        self.key = environ["gunicorn.socket"].fileno()
        self.items = items
        self.counts[self.key] = 0

    def __iter__(self) -> Iterator[Any]:
        for item in self.items:
            if isinstance(item, Exception):
                raise item
            yield item

    def close(self) -> None:
        self.counts[self.key] += 1


def closed(environ: Environ, start_response: Any) -> _Closing:
    start_response("200 OK", _length("5"))
    return _Closing(environ, b"hello")


def closed_after_head(environ: Environ, start_response: Any) -> _Closing:
    start_response("200 OK", _length("5"))
    return _Closing(environ, b"hel", b"lo")


def closed_after_excess(environ: Environ, start_response: Any) -> _Closing:
    start_response("200 OK", _length("5"))
    return _Closing(environ, b"hello", b" and more", b" and more")


def closed_after_an_early_error(environ: Environ, start_response: Any) -> _Closing:
    start_response("200 OK", TEXT)
    return _Closing(environ, RuntimeError("the application failed"))


def close_raises(environ: Environ, start_response: Any) -> Any:
    class Raising(_Closing):
        def close(self) -> None:
            super().close()
            raise RuntimeError("close failed")

    start_response("200 OK", _length("5"))
    return Raising(environ, b"hello")


def close_count(environ: Environ, start_response: Any) -> list[bytes]:
    start_response("200 OK", TEXT)
    return [str(_Closing.counts.pop(environ["gunicorn.socket"].fileno(), None)).encode()]


#: name → what PEP 3333 and RFC 3875 say that it is
_TYPES: dict[str, type] = {
    "REQUEST_METHOD": str, "SCRIPT_NAME": str, "PATH_INFO": str, "QUERY_STRING": str, "SERVER_NAME": str,
    "SERVER_PORT": str, "SERVER_PROTOCOL": str, "REMOTE_ADDR": str, "RAW_URI": str, "SERVER_SOFTWARE": str,
    "wsgi.version": tuple, "wsgi.url_scheme": str, "wsgi.multithread": bool, "wsgi.multiprocess": bool,
    "wsgi.run_once": bool, "wsgi.input_terminated": bool,
}  # fmt: skip


def environ_types(environ: Environ, start_response: Any) -> list[bytes]:
    wrong = [name for name, kind in _TYPES.items() if type(environ.get(name)) is not kind]
    wrong += [name for name, value in environ.items() if isinstance(value, str) and type(value) is not str]
    wrong += [name for name in ("read", "readline", "readlines") if not hasattr(environ["wsgi.input"], name)]
    wrong += [name for name in ("write", "writelines", "flush") if not hasattr(environ["wsgi.errors"], name)]
    wrong += ["environ"] if type(environ) is not dict else []
    wrong += ["wsgi.version"] if environ["wsgi.version"] != (1, 0) else []
    "".join(value for value in environ.values() if type(value) is str).encode("latin-1")
    start_response("200 OK", TEXT)
    return [b" ".join(name.encode() for name in wrong) or b"all as PEP 3333 has it"]


@validator
def validated(environ: Environ, start_response: Any) -> Iterable[bytes]:
    body = environ["wsgi.input"].read(1 << 16)
    environ["wsgi.errors"].write("")
    environ["wsgi.errors"].flush()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body) + 5))])
    return [b"body=", body]


def _file(content: bytes, position: int = 0) -> Any:
    handle, name = tempfile.mkstemp()
    os.unlink(name)
    file = os.fdopen(handle, "w+b")
    file.write(content)
    file.seek(position)
    return file


def file_from_its_position(environ: Environ, start_response: Any) -> Any:
    start_response("200 OK", TEXT)
    return environ["wsgi.file_wrapper"](_file(b"0123456789", 4))


def file_longer_than_declared(environ: Environ, start_response: Any) -> Any:
    start_response("200 OK", _length("4"))
    return environ["wsgi.file_wrapper"](_file(b"0123456789"))


def file_shorter_than_declared(environ: Environ, start_response: Any) -> Any:
    start_response("200 OK", _length("40"))
    return environ["wsgi.file_wrapper"](_file(b"0123456789"))


class _Range:
    """The first bytes of a file, which gives all that it has not itself."""

    def __init__(self, file: Any, size: int) -> None:
        self.file = file
        self.left = size

    def read(self, size: int) -> bytes:
        data: bytes = self.file.read(min(size, self.left))
        self.left -= len(data)
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def file_range(environ: Environ, start_response: Any) -> Any:
    start_response("200 OK", TEXT)
    return environ["wsgi.file_wrapper"](_Range(_file(b"0123456789"), 3))


class _Changed(io.FileIO):
    """A file that reads other bytes than it holds."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read(size).replace(b"0", b"X")


def file_subclass(environ: Environ, start_response: Any) -> Any:
    start_response("200 OK", TEXT)
    with _file(b"0123456789") as file:
        return environ["wsgi.file_wrapper"](_Changed(os.dup(file.fileno())))


def file_wrapper_subclass(environ: Environ, start_response: Any) -> Any:
    class Upper(environ["wsgi.file_wrapper"]):  # type: ignore[misc]
        """Gives other bytes than the file has."""

        def __next__(self) -> bytes:
            data: bytes = super().__next__()
            return data.upper()

    start_response("200 OK", TEXT)
    return Upper(_file(b"abcdefghij", 4))


def file_named_and_temporary(environ: Environ, start_response: Any) -> Any:
    file = tempfile.NamedTemporaryFile()
    file.write(b"0123456789")
    file.seek(4)
    start_response("200 OK", TEXT)
    return environ["wsgi.file_wrapper"](file)


def file_that_is_none(environ: Environ, start_response: Any) -> Any:
    start_response("200 OK", TEXT)
    return environ["wsgi.file_wrapper"](io.BytesIO(b"0123456789"), 3)


def file_of_no_bytes(environ: Environ, start_response: Any) -> Any:
    start_response("200 OK", TEXT)
    return environ["wsgi.file_wrapper"](_file(b""))


def hints_early(environ: Environ, start_response: Any) -> list[bytes]:
    environ["wsgi.early_hints"]([("Link", "</style.css>; rel=preload"), ("Content-Length", "9")])
    start_response("200 OK", TEXT)
    return [b"hello"]


def hints_with_injection(environ: Environ, start_response: Any) -> list[bytes]:
    environ["wsgi.early_hints"]([("Link", "a\r\nX-Injected: 1")])
    start_response("200 OK", TEXT)
    return [b"hello"]


class Text(str):
    """A string that is one and is not."""


def catches_its_bad_header(environ: Environ, start_response: Any) -> list[bytes]:
    try:
        start_response("200 OK", [("X-Bad", "a\r\nX-Injected: 1")])
    except Exception:
        start_response("200 OK", TEXT)
    return [b"mended"]


def program(environ: Environ, start_response: Any) -> Any:
    """Does what the query says, in words that dots part::

        list        returns its items as a list, and not as an iterator
        closing     asks for a close
        readN       reads N bytes of the input
        lengthN     declares N bytes
        startNNN    start_response
        againNNN    start_response once more
        replaceNNN  start_response with exc_info
        hints       early hints
        writeTEXT   write
        itemTEXT    yields TEXT
        raise       raises
    """
    words = environ["QUERY_STRING"].split(".")
    headers = list(TEXT)
    if "closing" in words:
        headers.append(("Connection", "close"))
    items = _run(environ, start_response, words, headers)
    return list(items) if "list" in words else items


def _run(environ: Environ, start_response: Any, words: list[str], headers: Any) -> Iterator[bytes]:
    write: Any = None
    for word in words:
        name = word.rstrip("0123456789")
        number = word[len(name) :]
        if name == "read":
            yield environ["wsgi.input"].read(int(number))
        elif name == "length":
            headers.append(("Content-Length", number))
        elif name in ("start", "again"):
            write = start_response(f"{number} Told", list(headers))
        elif name == "replace":
            try:
                raise ValueError(word)
            except ValueError as error:
                write = start_response(f"{number} Replaced", TEXT, (ValueError, error, error.__traceback__))
        elif name == "hints":
            environ["wsgi.early_hints"]([("Link", "<a>")])
        elif word == "raise":
            raise RuntimeError(word)
        elif word.startswith("write"):
            write(word[5:].encode("latin-1"))
        elif word.startswith("item"):
            yield word[4:].encode("latin-1")


#: name → application. Where one differs from another by a value only, the value stands here.
NAMED: dict[str, Application] = {
    name: value
    for name, value in list(globals().items())
    if isinstance(value, FunctionType) and value.__module__ == __name__ and name[0] != "_"
}
NAMED |= {
    "validated": validated,
    # rule 28
    "own_date": _fixed("200 OK", [("Date", "Thu, 01 Jan 1970 00:00:00 GMT")]),
    "two_dates": _fixed("200 OK", [("Date", "Thu, 01 Jan 1970 00:00:00 GMT"), ("date", "x")]),
    "own_server": _fixed("200 OK", [("Server", "mine")]),
    "two_servers": _fixed("200 OK", [("Server", "mine"), ("SERVER", "also mine")]),
    # rule 29
    "hello": _fixed("200 OK", TEXT),
    "hello_declared": _fixed("200 OK", _length("5")),
    "hello_streamed": _streamed("200 OK", TEXT, b"hel", b"lo"),
    "empty_declared": _fixed("200 OK", _length("5"), ()),
    "no_content": _fixed("204 No Content", [], ()),
    "no_content_with_body": _fixed("204 No Content", TEXT),
    "no_content_streamed": _streamed("204 No Content", TEXT, b"hel", b"lo"),
    "no_content_with_length": _fixed("204 No Content", _length("5")),
    "not_modified": _fixed("304 Not Modified", [("ETag", '"a"')], ()),
    "not_modified_with_body": _fixed("304 Not Modified", [("ETag", '"a"')]),
    "not_modified_with_length": _fixed("304 Not Modified", _length("1234"), ()),
    "not_modified_streamed": _streamed("304 Not Modified", [], b"hello"),
    "reset_content": _fixed("205 Reset Content", [], ()),
    "reset_content_with_body": _fixed("205 Reset Content", _length("5")),
    "reset_content_streamed": _streamed("205 Reset Content", [], b"hello"),
    # rule 30
    "longer_than_declared": _fixed("200 OK", _length("5"), (b"hello, world",)),
    "longer_than_declared_streamed": _streamed("200 OK", _length("5"), b"hel", b"lo, ", b"world"),
    "shorter_than_declared": _fixed("200 OK", _length("10")),
    "shorter_than_declared_streamed": _streamed("200 OK", _length("10"), b"hel", b"lo"),
    "nothing_of_what_was_declared": _streamed("200 OK", _length("10")),
    "declared_zero": _fixed("200 OK", _length("0"), ()),
    "declared_zero_with_body": _fixed("200 OK", _length("0")),
    "lengths_that_differ": _fixed("200 OK", [("Content-Length", "5"), ("Content-Length", "6")]),
    "lengths_that_agree": _fixed("200 OK", [("Content-Length", "5"), ("content-length", "5")]),
    "length_list": _fixed("200 OK", [("Content-Length", "5, 5")]),
    "length_sign": _fixed("200 OK", [("Content-Length", "+5")]),
    "length_negative": _fixed("200 OK", [("Content-Length", "-5")]),
    "length_space": _fixed("200 OK", [("Content-Length", " 5")]),
    "length_hex": _fixed("200 OK", [("Content-Length", "0x5")]),
    "length_empty": _fixed("200 OK", [("Content-Length", "")]),
    "length_superscript": _fixed("200 OK", [("Content-Length", "5\xb2")]),
    "length_of_63_bits": _fixed("200 OK", [("Content-Length", "9223372036854775807")], ()),
    "length_of_64_bits": _fixed("200 OK", [("Content-Length", "9223372036854775808")], ()),
    "empty_items": _streamed("200 OK", TEXT, b"", b"hel", b"", b"lo", b""),
    "empty_items_only": _streamed("200 OK", TEXT, b"", b""),
    "empty_list": _fixed("200 OK", TEXT, ()),
    "empty_tuple": _fixed("200 OK", TEXT, [(b"")]),
    "several_parts": _fixed("200 OK", TEXT, (b"one ", b"", b"two ", b"three")),
    "generator_of_nothing": _streamed("200 OK", TEXT),
    "set_of_bytes": _fixed("200 OK", TEXT, frozenset((b"hello",))),
    "bytes_themselves": _fixed("200 OK", TEXT, b"hello"),
    # rule 31
    "hop_by_hop": _fixed(
        "200 OK",
        [
            ("Connection", "keep-alive"),
            ("Keep-Alive", "timeout=5"),
            ("Proxy-Authenticate", "Basic"),
            ("TE", "trailers"),
            ("Trailer", "X"),
            ("Transfer-Encoding", "chunked"),
            ("Upgrade", "h2c"),
            ("X-Kept", "1"),
        ],
    ),
    "wants_a_close": _fixed("200 OK", [("Connection", "close")]),
    "wants_a_close_in_a_list": _fixed("200 OK", [("connection", "x , CLOSE")]),
    "wants_an_upgrade": _fixed("200 OK", [("Connection", "upgrade"), ("Upgrade", "websocket")]),
    "says_closed_only": _fixed("200 OK", [("Connection", "closed")]),
    "encodes_by_itself": _streamed(
        "200 OK", [("Transfer-Encoding", "gzip, chunked")], b"5\r\nhello\r\n0\r\n\r\n"
    ),
    "value_with_crlf": _fixed("200 OK", [("X-A", "a\r\nX-Injected: 1")]),
    "value_with_lf": _fixed("200 OK", [("X-A", "a\nX-Injected: 1")]),
    "value_with_cr": _fixed("200 OK", [("X-A", "a\rX-Injected: 1")]),
    "value_that_ends_in_lf": _fixed("200 OK", [("X-A", "a\n")]),
    "value_with_nul": _fixed("200 OK", [("X-A", "a\0b")]),
    "value_with_escape": _fixed("200 OK", [("X-A", "a\x1bb")]),
    "value_with_del": _fixed("200 OK", [("X-A", "a\x7fb")]),
    "value_with_tab": _fixed("200 OK", [("X-A", "a\tb")]),
    "value_empty": _fixed("200 OK", [("X-A", "")]),
    "value_latin_1": _fixed("200 OK", [("X-A", "caf\xe9")]),
    "value_beyond_latin_1": _fixed("200 OK", [("X-A", "\u20ac")]),
    "value_folded": _fixed("200 OK", [("X-A", "a\r\n b")]),
    "value_number": _fixed("200 OK", [("X-A", 5)]),
    "value_bytes": _fixed("200 OK", [("X-A", b"a")]),
    "value_none": _fixed("200 OK", [("X-A", None)]),
    "value_of_a_subclass": _fixed("200 OK", [(Text("X-A"), Text("a"))]),
    "name_with_crlf": _fixed("200 OK", [("X-A: 1\r\nX-Injected", "1")]),
    "name_with_space": _fixed("200 OK", [("X A", "1")]),
    "name_with_trailing_space": _fixed("200 OK", [("Content-Length ", "3")]),
    "name_with_colon": _fixed("200 OK", [("X-A:", "1")]),
    "name_empty": _fixed("200 OK", [("", "1")]),
    "name_latin_1": _fixed("200 OK", [("X-\xe9", "1")]),
    "name_bytes": _fixed("200 OK", [(b"X-A", "1")]),
    "headers_in_a_tuple": _fixed("200 OK", (("X-A", "1"),)),
    "headers_of_lists": _fixed("200 OK", [["X-A", "1"]]),
    "headers_of_three": _fixed("200 OK", [("X-A", "1", "2")]),
    "headers_none": _fixed("200 OK", None),
    "headers_dict": _fixed("200 OK", {"X-A": "1"}),
    "cookies": _fixed("200 OK", [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]),
    "status_with_crlf": _fixed("200 OK\r\nX-Injected: 1", TEXT),
    "status_with_lf": _fixed("200 OK\nX-Injected: 1", TEXT),
    "status_with_nul": _fixed("200 O\0K", TEXT),
    "status_without_reason": _fixed("200", TEXT),
    "status_with_empty_reason": _fixed("200 ", TEXT),
    "status_with_latin_1_reason": _fixed("200 D\xe9j\xe0 vu", TEXT),
    "status_beyond_latin_1": _fixed("200 \u20ac", TEXT),
    "status_of_two_digits": _fixed("20 OK", TEXT),
    "status_of_four_digits": _fixed("2000 OK", TEXT),
    "status_100": _fixed("100 Continue", []),
    "status_101": _fixed("101 Switching Protocols", []),
    "status_199": _fixed("199 Nothing", []),
    "status_599": _fixed("599 Last", TEXT),
    "status_600": _fixed("600 Beyond", TEXT),
    "status_with_arabic_digits": _fixed("\u0662\u0660\u0660 OK", TEXT),
    "status_number": _fixed(200, TEXT),
    "status_bytes": _fixed(b"200 OK", TEXT),
    "status_none": _fixed(None, TEXT),
    "status_of_a_subclass": _fixed(Text("200 OK"), TEXT),
    # rules 33 and 34
    "returns_none": _fixed("200 OK", TEXT, None),
    "returns_text": _fixed("200 OK", TEXT, "hello"),
    "returns_a_number": _fixed("200 OK", TEXT, 5),
    "returns_text_items": _fixed("200 OK", TEXT, ("hello",)),
    "streams_text": _streamed("200 OK", TEXT, "hello"),
    "streams_text_after_bytes": _streamed("200 OK", TEXT, b"hello", "text"),
    "streams_none": _streamed("200 OK", TEXT, None),
    "streams_a_bytearray": _streamed("200 OK", TEXT, bytearray(b"hello")),
}
