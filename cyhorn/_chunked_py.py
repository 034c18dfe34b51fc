"""The chunked decoder in Python: the readable specification (9112 7.1).

`cyhorn/_chunked.pyx` is the compiled twin. It does the same, byte for byte and code for code; the
two share the data in `grammar` and no code. A trailer is a field line, and that the parser of the
same side reads.

A chunk's first line, its data and the CRLF after it are judged byte by byte, a trailer section line
by line as a head is, so that every way to cut the same bytes gives the same answer.
"""

from __future__ import annotations

import re

from cyhorn import grammar
from cyhorn._parser_py import (
    LF,
    WHITE,
    Buffer,
    append_fold,
    bounds,
    has_bare_cr,
    judge_end,
    one_of,
    split_field,
)
from cyhorn.errors import Code, HttpError, http_error

_FORBIDDEN_TRAILERS = frozenset(name.decode().upper() for name in grammar.FORBIDDEN_TRAILERS)

# A chunk's first line as most senders write it. Fifteen digits cannot exceed MAX_LENGTH.
_PLAIN_SIZE_LINE = re.compile(rb"(" + one_of(grammar.HEXDIG) + rb"{1,15})\r\n")

# States of the decoder, by what the next byte may be.
_SIZE_FIRST = 0  # the first digit of a chunk size
_SIZE = 1  # a further digit, or what follows the size
_SIZE_SPACE = 2  # BWS after the size: an extension has to follow
_NAME_FIRST = 3  # BWS or the first character of chunk-ext-name
_NAME = 4
_NAME_SPACE = 5  # BWS after the name
_VALUE_FIRST = 6  # BWS or the first character of chunk-ext-val
_VALUE = 7
_QUOTED = 8  # within a quoted-string
_QUOTED_PAIR = 9  # after a backslash in it
_QUOTED_END = 10  # after its closing quote
_VALUE_SPACE = 11  # BWS after a value
_SIZE_LF = 12  # the LF of a chunk's first line
_DATA = 13
_DATA_CR = 14
_DATA_LF = 15
_TRAILERS = 16  # trailer fields, or the empty line that ends the body
_DONE = 17

# chunk-ext = *( BWS ";" BWS chunk-ext-name [ BWS "=" BWS ( token / quoted-string ) ] )
# (9112 7.1.1) as state → what may come → next state. What is not listed is an error.
_WHITE_SPACE, _END = frozenset(WHITE), frozenset(b"\r")
_SEMICOLON, _EQUALS, _QUOTE, _BACKSLASH = (frozenset(mark) for mark in (b";", b"=", b'"', b"\\"))
_EXTENSION: dict[int, tuple[tuple[frozenset[int], int], ...]] = {
    _SIZE_SPACE: ((_WHITE_SPACE, _SIZE_SPACE), (_SEMICOLON, _NAME_FIRST)),
    _NAME_FIRST: ((_WHITE_SPACE, _NAME_FIRST), (grammar.TCHAR, _NAME)),
    _NAME: (
        (grammar.TCHAR, _NAME),
        (_WHITE_SPACE, _NAME_SPACE),
        (_EQUALS, _VALUE_FIRST),
        (_SEMICOLON, _NAME_FIRST),
        (_END, _SIZE_LF),
    ),
    _NAME_SPACE: ((_WHITE_SPACE, _NAME_SPACE), (_EQUALS, _VALUE_FIRST), (_SEMICOLON, _NAME_FIRST)),
    _VALUE_FIRST: ((_WHITE_SPACE, _VALUE_FIRST), (_QUOTE, _QUOTED), (grammar.TCHAR, _VALUE)),
    _VALUE: (
        (grammar.TCHAR, _VALUE),
        (_WHITE_SPACE, _VALUE_SPACE),
        (_SEMICOLON, _NAME_FIRST),
        (_END, _SIZE_LF),
    ),
    _QUOTED: ((grammar.QUOTED_TEXT, _QUOTED), (_QUOTE, _QUOTED_END), (_BACKSLASH, _QUOTED_PAIR)),
    _QUOTED_PAIR: ((grammar.QUOTED_PAIR, _QUOTED),),
    _QUOTED_END: ((_WHITE_SPACE, _VALUE_SPACE), (_SEMICOLON, _NAME_FIRST), (_END, _SIZE_LF)),
    _VALUE_SPACE: ((_WHITE_SPACE, _VALUE_SPACE), (_SEMICOLON, _NAME_FIRST)),
}


class ChunkedDecoder:
    """Takes the chunked coding off a body (9112 7.1).

    Everything up to the trailers is judged byte by byte; a trailer field as a line of a
    head is, its errors being TRAILER, FIELD_COUNT, FIELD_LENGTH and HEAD_LENGTH.
    `limit_request_body` is bytes of data, judged when a chunk announces its size; zero
    is no limit. The other parameters are those of `RequestParser`, for the trailers.
    """

    def __init__(
        self,
        *,
        limit_request_body: int = 0,
        limit_request_fields: int = 100,
        limit_request_field_size: int = 8190,
        strip_header_spaces: bool = False,
        permit_obsolete_folding: bool = False,
    ) -> None:
        if min(limit_request_body, limit_request_fields, limit_request_field_size) < 0:
            raise ValueError("a limit is negative")
        self.limit_request_body = limit_request_body
        self.limit_request_fields = limit_request_fields
        self.limit_request_field_size = limit_request_field_size
        self.strip_header_spaces = bool(strip_header_spaces)
        self.permit_obsolete_folding = bool(permit_obsolete_folding)
        self.reset()

    def reset(self) -> None:
        """Be ready for another body."""
        self._failed: Code | None = None
        self._state = _SIZE_FIRST
        self._size = 0
        self._chunk = 0  # the chunk's size; then, what is missing of its data
        self._digits = 0
        self._extensions = 0  # bytes of them in the whole body
        self._trailers: list[tuple[str, str]] = []
        self._line = bytearray()  # what is there of a trailer line
        self._trailer_bytes = 0  # of the lines before it
        self._field_bytes = 0  # of the last field, its folded lines included

    @property
    def done(self) -> bool:
        """Whether the body and its trailers are complete."""
        return self._state == _DONE

    @property
    def size(self) -> int:
        """Bytes of body seen."""
        return self._size

    @property
    def trailers(self) -> list[tuple[str, str]]:
        """The trailer fields seen, as `RequestHead.fields`."""
        return list(self._trailers)

    def feed(self, data: Buffer, start: int = 0, stop: int | None = None) -> tuple[list[bytes], int]:
        """Decode data[start:stop]. Returns the pieces of the body in it and the offset
        after what was taken: `stop`, or less when the body ended. Raises HttpError, again
        and again until `reset()`.
        """
        stop = bounds(data, start, stop)
        if self._failed is not None:
            raise http_error(self._failed)
        pieces: list[bytes] = []
        try:
            while start < stop and self._state != _DONE:
                if self._state == _DATA:
                    piece = bytes(data[start : min(stop, start + self._chunk)])
                    pieces.append(piece)
                    start += len(piece)
                    self._size += len(piece)
                    self._chunk -= len(piece)
                    if not self._chunk:
                        self._state = _DATA_CR
                elif self._state == _TRAILERS:
                    start = self._take_trailer_bytes(data, start, stop)
                elif self._state == _SIZE_FIRST and (match := _PLAIN_SIZE_LINE.match(data, start, stop)):
                    self._chunk = int(match[1], 16)
                    self._begin_chunk()
                    start = match.end()
                else:
                    self._take_byte(data[start])
                    start += 1
        except HttpError as error:
            self._failed = error.code
            raise
        return pieces, start

    def _take_byte(self, byte: int) -> None:
        """One byte of a chunk's first line, or of the CRLF after its data."""
        state = self._state
        if state == _SIZE_FIRST or (state == _SIZE and byte in grammar.HEXDIG):
            if byte not in grammar.HEXDIG or self._digits == grammar.MAX_CHUNK_SIZE_DIGITS:
                raise http_error(Code.CHUNK_SIZE)
            self._digits += 1
            self._chunk = self._chunk * 16 + int(chr(byte), 16)
            if self._chunk > grammar.MAX_LENGTH:
                raise http_error(Code.CHUNK_SIZE)
            self._state = _SIZE
        elif state == _SIZE:
            if byte == 0x0D:
                self._state = _SIZE_LF
            elif byte in b"; \t":
                self._count_extension()
                self._state = _NAME_FIRST if byte == 0x3B else _SIZE_SPACE
            else:
                raise http_error(Code.CHUNK_SIZE)
        elif state == _SIZE_LF:
            if byte != 0x0A:
                raise http_error(Code.CHUNK_SIZE)
            self._begin_chunk()
        elif state == _DATA_CR:
            if byte != 0x0D:
                raise http_error(Code.CHUNK_DATA)
            self._state = _DATA_LF
        elif state == _DATA_LF:
            if byte != 0x0A:
                raise http_error(Code.CHUNK_DATA)
            self._state = _SIZE_FIRST
        else:
            self._count_extension(byte)
            for characters, following in _EXTENSION[state]:
                if byte in characters:
                    self._state = following
                    return
            raise http_error(Code.CHUNK_EXTENSION)

    def _count_extension(self, byte: int = 0) -> None:
        """Count a byte of the extensions; the CR that ends them is none."""
        self._extensions += byte != 0x0D
        if self._extensions > grammar.MAX_CHUNK_EXTENSIONS:
            raise http_error(Code.CHUNK_EXTENSION)

    def _begin_chunk(self) -> None:
        """The chunk's first line is complete: its data comes, or the trailers."""
        if self._chunk > self.limit_request_body - self._size and self.limit_request_body:
            raise http_error(Code.BODY_LENGTH)
        self._digits = 0
        self._state = _DATA if self._chunk else _TRAILERS

    def _take_trailer_bytes(self, data: Buffer, start: int, stop: int) -> int:
        """Bytes of the trailers up to the next LF. Returns the offset after them."""
        # No line is taken beyond its limit, so the memory for it is bounded.
        most = grammar.MAX_HEAD - self._trailer_bytes - len(self._line)
        found = LF.search(data, start, min(stop, start + most))
        end = found.start() if found else min(stop, start + most)
        seen = len(self._line)
        self._line += data[start:end]
        self._judge_trailer_begun(seen, complete=found is not None)
        if found is None:
            return end
        line = bytes(self._line)
        self._trailer_bytes += len(line) + 1
        self._line.clear()
        if line == b"\r":
            self._state = _DONE
        else:
            try:
                self._take_trailer(judge_end(line))
            except HttpError as error:
                if error.code is Code.TRAILER_NAME:
                    raise
                raise http_error(Code.TRAILER) from None
        return end + 1

    def _judge_trailer_begun(self, seen: int, *, complete: bool) -> None:
        """As `RequestParser._judge_begun`, for a trailer line; `seen` bytes of it were judged."""
        first = bytes(self._line[:1])
        size = len(self._line)
        before = 0  # bytes of the field in the lines before this one
        if first in (b" ", b"\t"):
            if self.permit_obsolete_folding and self._trailers:
                before = self._field_bytes
        elif first and first != b"\r" and len(self._trailers) >= self.limit_request_fields > 0:
            raise http_error(Code.FIELD_COUNT)
        limit = self.limit_request_field_size
        stop = min(size - 1, limit - before - 2) if limit else size - 1
        if has_bare_cr(self._line, max(0, seen - 1), stop):
            raise http_error(Code.TRAILER)
        if before + size + 1 > limit > 0:
            raise http_error(Code.FIELD_LENGTH)
        if not complete and self._trailer_bytes + size >= grammar.MAX_HEAD:
            raise http_error(Code.HEAD_LENGTH)

    def _take_trailer(self, line: bytes) -> None:
        """A trailer field's line (9112 7.1.2)."""
        if line[:1] in (b" ", b"\t"):
            append_fold(self._trailers, line, self.permit_obsolete_folding)
            self._field_bytes += len(line) + 2
            return
        name, value = split_field(line, self.strip_header_spaces)
        if name in _FORBIDDEN_TRAILERS:
            raise http_error(Code.TRAILER_NAME)
        self._trailers.append((name, value))
        self._field_bytes = len(line) + 2
