"""Reads bytes with one side's parser or decoder, cut anyhow, and says what came of it.

An outcome is a plain value, so that two sides, or two ways to cut, compare by ``==``.
The tests of the twins, the corpus tests and the fuzzer all read through here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from cyhorn.errors import HttpError

Outcome: TypeAlias = tuple[Any, ...]
Options: TypeAlias = Mapping[str, Any]
#: Puts data[:stop] somewhere: (data, stop) → (buffer, start, stop in the buffer)
Place: TypeAlias = Callable[[bytes, int], tuple[Any, int, int]]

HEAD_ATTRIBUTES = (
    "size",
    "method",
    "target",
    "path",
    "query",
    "authority",
    "version",
    "fields",
    "content_length",
    "chunked",
    "keep_alive",
    "expect_continue",
    "host",
)

#: Bytes before the message and after it that a reader has no business with.
BEFORE = b"\r\nGET /before HTTP/1.1\r\n"
AFTER = b"\0\n\x80"

MORE: Outcome = ("more",)


def among_others(data: bytes, stop: int) -> tuple[bytearray, int, int]:
    """data[:stop] in a new buffer, strange bytes on both sides."""
    buffer = bytearray(BEFORE + data[:stop] + AFTER)
    return buffer, len(BEFORE), len(BEFORE) + stop


def read_head(
    side: Any,
    data: bytes,
    cuts: Iterable[int] = (),
    options: Options | None = None,
    place: Place = among_others,
) -> Outcome:
    """What `side.parser.RequestParser` makes of `data`, of which it sees the first bytes up to
    each of `cuts` and then all: a head's attributes, ``("error", code)`` or `MORE`.

    After an error it must stay unusable, and after `reset()` read a plain head.
    """
    parser = side.parser.RequestParser(**(options or {}))
    for stop in (*cuts, len(data)):
        buffer, start, end = place(data, stop)
        try:
            head = parser.parse(buffer, start, end)
        except HttpError as error:
            _assert_stays_failed(lambda: parser.parse(b"GET / HTTP/1.0\r\n\r\n"), error)
            return ("error", error.code.name)
        if head is not None:
            values = tuple((name, getattr(head, name)) for name in HEAD_ATTRIBUTES)
            assert 0 < head.size <= stop
            return ("head", *values)
    return MORE


def decode_body(
    side: Any,
    data: bytes,
    cuts: Iterable[int] = (),
    options: Options | None = None,
    place: Place = among_others,
) -> Outcome:
    """What `side.chunked.ChunkedDecoder` makes of `data`, fed in the pieces between `cuts`:
    ``("body", done, bytes, bytes taken, trailers)`` or ``("error", code)``.
    """
    decoder = side.chunked.ChunkedDecoder(**(options or {}))
    body, taken = b"", 0
    for stop in (*cuts, len(data)):
        if stop < taken:
            continue
        buffer, start, end = place(data[taken:], stop - taken)
        try:
            pieces, after = decoder.feed(buffer, start, end)
        except HttpError as error:
            _assert_stays_failed(lambda: decoder.feed(b""), error)
            return ("error", error.code.name)
        assert all(type(piece) is bytes and piece for piece in pieces)
        assert after == end or decoder.done
        taken += after - start
        body += b"".join(pieces)
        assert decoder.size == len(body)
        if decoder.done:
            assert decoder.feed(b"left alone") == ([], 0)
            break
    return ("body", decoder.done, body, taken, decoder.trailers)


def _assert_stays_failed(again: Any, error: HttpError) -> None:
    try:
        again()
    except HttpError as second:
        assert (second.code, second.status) == (error.code, error.status)
    else:
        raise AssertionError("usable after an error")


def every_cut(size: int) -> Iterator[Sequence[int]]:
    """Whole, every two pieces, and byte by byte."""
    yield ()
    for cut in range(size + 1):
        yield (cut,)
    yield range(size)
