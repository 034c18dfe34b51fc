"""The response writer, in Python: the readable specification of its compiled twin.

A `ResponseWriter` turns what the application says (PEP 3333) into the bytes of one
HTTP/1.1 response, appended to an `OutputBuffer`. It knows no socket: whoever owns
the buffer sends it, and gives `flush` to be called when bytes must leave at once.

States of a response, in order::

    begun ── start_response ──▶ started ── first body byte, or finish ──▶ head sent ──▶ finished

`start_response` only checks and stores. The head is serialised together with the
first bytes of the body, when it is known how the body is framed (RFC 9112 6):

    no body     HEAD, 204, 205, 304
    length      the application's Content-Length, believed and enforced; or the sum
                of a list or tuple
    chunked     any other body, to an HTTP/1.1 peer
    close       any other body, to an HTTP/1.0 peer
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import TypeAlias

from cyhorn.errors import ApplicationError
from cyhorn.grammar import HOP_BY_HOP, MAX_LENGTH, REASONS, imf_fixdate

ExcInfo: TypeAlias = (
    "tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]"
)

#: status-line's code and reason (9112 4); an empty reason is allowed, its space is not optional.
_STATUS = re.compile(r"[2-5][0-9]{2} [\t\x20-\x7e\x80-\xff]*").fullmatch
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*").fullmatch
_DIGITS = re.compile(r"[0-9]{1,19}").fullmatch

#: Names that are not simply copied: framing, our own fields, hop-by-hop.
_SPECIAL = HOP_BY_HOP | {"content-length", "date", "server"}
#: Names that are left out of a 103 response, which frames nothing (9110 15.2).
_NOT_IN_HINTS = HOP_BY_HOP | {"content-length"}

#: Serialised field lines, by the application's (name, value), checked. Bounded: emptied when full.
_LINES: dict[tuple[str, str], bytes] = {}
_LINES_MAX = 1024
#: Likewise status lines, with their codes.
_STATUS_LINES: dict[str, tuple[int, bytes]] = {}
_STATUS_LINES_MAX = 64


class OutputBuffer:
    """The bytes that wait to be sent, in order.

    `size` counts them. `take()` hands them over and leaves the buffer empty.
    """

    __slots__ = ("parts", "size")

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.size = 0

    def __len__(self) -> int:
        return self.size

    def append(self, data: bytes) -> None:
        """Add `data` at the end."""
        if not isinstance(data, bytes):
            raise TypeError(f"bytes are due, not {type(data).__name__}")
        self.parts.append(data)
        self.size += len(data)

    def take(self) -> bytes:
        """Return all bytes and forget them."""
        data = self.parts[0] if len(self.parts) == 1 else b"".join(self.parts)
        self.clear()
        return data

    def clear(self) -> None:
        """Forget all bytes."""
        self.parts.clear()
        self.size = 0


def _status_line(status: object) -> tuple[int, bytes]:
    """Check the application's status; its code, and the line (9112 4)."""
    if not isinstance(status, str):
        raise ApplicationError(f"the status is not a string: {status!r}")
    if not _STATUS(status):
        raise ApplicationError(f"the status is not 'NNN reason' with NNN from 200 to 599: {status!r}")
    made = int(status[:3]), "".join(("HTTP/1.1 ", status, "\r\n")).encode("latin-1")
    if type(status) is str:  # a subclass may not be the key that it says
        if len(_STATUS_LINES) >= _STATUS_LINES_MAX:
            _STATUS_LINES.clear()
        _STATUS_LINES[status] = made
    return made


def _field_line(field: object) -> bytes:
    """Check one (name, value) of the application and serialise it (9110 5.1, 5.5)."""
    if type(field) is not tuple or len(field) != 2:
        raise ApplicationError(f"a response header is not a (name, value) tuple: {field!r}")
    name, value = field
    if not isinstance(name, str) or not isinstance(value, str):
        raise ApplicationError(f"a response header is not a pair of strings: {field!r}")
    if not _TOKEN(name):
        raise ApplicationError(f"a response header's name is not a token: {name!r}")
    if not _VALUE(value):
        raise ApplicationError(f"the value of response header {name!r} has a forbidden character")
    # Not an f-string, nor a method of theirs: a str of a subclass goes as the characters it is.
    return "".join((name, ": ", value, "\r\n")).encode("latin-1")


def _held(data: object) -> bytes:
    """What `data` holds, which is a subclass of bytes and may say otherwise. Raises ApplicationError."""
    if not isinstance(data, bytes):
        raise ApplicationError(f"the application gave {type(data).__name__} where bytes are due")
    return bytes.__getitem__(data, slice(None))


class ResponseWriter:
    """One response at a time; `begin` makes it ready for the next.

    Parameters: `out`, the buffer to append to; `server_header`, the Server field's
    value, "" to leave Server to the application; `flush`, called without arguments
    when bytes must be sent at once.

    For hooks and logs: `status` ("200 OK" or None), `status_code`, `headers` (the
    application's own, as given), `headers_sent`, `sent` (body bytes so far, without
    framing), `response_length` (bytes or None).

    For the loop, after `finish`: `keep_alive` says whether the connection may persist,
    `complete` whether the body had the length it promised, `excess` whether it had
    more, `dropped` which hop-by-hop names were left out (lower case).
    """

    __slots__ = (
        "_closing",
        "_date",
        "_finished",
        "_head",
        "_head_only",
        "_http_1_1",
        "_no_body",
        "_seconds",
        "_server",
        "chunked",
        "dropped",
        "excess",
        "flush",
        "headers",
        "headers_sent",
        "keep_alive",
        "out",
        "response_length",
        "sent",
        "server_header",
        "status",
        "status_code",
    )

    def __init__(
        self, out: OutputBuffer, server_header: str = "cyhorn", flush: Callable[[], None] | None = None
    ) -> None:
        self.out = out
        self.flush = flush
        self.server_header = server_header
        self._server = f"Server: {server_header}\r\n".encode("latin-1") if server_header else b""
        self._seconds = -1
        self._date = b""
        self._finished = True
        self.begin(head_only=False, http_1_1=True, keep_alive=True)
        self._finished = True

    def tick(self, seconds: int) -> None:
        """Set the time of the Date field: `seconds` since the epoch (9110 6.6.1)."""
        if seconds != self._seconds:
            self._seconds = seconds
            self._date = f"Date: {imf_fixdate(seconds)}\r\n".encode("latin-1")

    def begin(self, head_only: bool, http_1_1: bool, keep_alive: bool) -> None:
        """Start a response.

        `head_only` for a HEAD request, `http_1_1` when the peer understands chunked,
        `keep_alive` when request and server would let the connection persist.
        """
        self._head_only = head_only
        self._http_1_1 = http_1_1
        self.keep_alive = keep_alive
        self._finished = False
        self._closing = False
        self._no_body = head_only
        self._head: list[bytes] = []
        self.status: str | None = None
        self.status_code = 0
        self.headers: list[tuple[str, str]] = []
        self.headers_sent = False
        self.sent = 0
        self.response_length: int | None = None
        self.chunked = False
        self.excess = False
        self.dropped: list[str] = []

    # -- the application's side -----------------------------------------------------

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None
    ) -> Callable[[bytes], None]:
        """PEP 3333's start_response: check and store; nothing is written yet.

        Returns `write`. Raises ApplicationError when called twice without `exc_info`,
        after the response, or with a status or header that may not reach the wire;
        with `exc_info` after the head was sent, raises that exception again.
        """
        if exc_info:
            try:
                if self.headers_sent and exc_info[1] is not None:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None
        elif self.status is not None:
            raise ApplicationError("start_response was called again without exc_info")
        if self._finished or self.headers_sent:
            raise ApplicationError("start_response was called after the head was sent")
        self._check(status, headers)
        return self.write

    def _check(self, status: str, headers: list[tuple[str, str]]) -> None:
        """Check status and headers and serialise them into `_head`, or raise with neither set."""
        self.status = None
        self.response_length = None
        self.dropped = []
        known = _STATUS_LINES.get(status) if type(status) is str else None
        code, status_line = known or _status_line(status)
        if not isinstance(headers, list):
            raise ApplicationError(f"the response headers are not a list: {type(headers).__name__}")
        lines: list[bytes] = []
        length: int | None = None
        closing = has_date = has_server = False
        dropped: list[str] = []
        for field in headers:
            try:
                line = _LINES.get(field) if type(field) is tuple else None
            except TypeError:
                line = None
            if line is None:
                line = _field_line(field)
                name, value = str.lower(field[0]), field[1]
                if name not in _SPECIAL:
                    # A subclass may say that it equals every other str.
                    if type(field[0]) is str and type(field[1]) is str:
                        if len(_LINES) >= _LINES_MAX:
                            _LINES.clear()
                        _LINES[field] = line
                else:
                    if name == "content-length":
                        if not _DIGITS(value) or int(value) > MAX_LENGTH:
                            raise ApplicationError(f"Content-Length is not a length: {value!r}")
                        if length is not None and length != int(value):
                            raise ApplicationError("there are two different Content-Length headers")
                        length = int(value)
                        continue
                    if name == "date":
                        if has_date:
                            continue
                        has_date = True
                    elif name == "server":
                        if self._server or has_server:
                            continue
                        has_server = True
                    else:
                        if name == "connection" and "close" in [
                            token.strip(" \t").lower() for token in str.split(value, ",")
                        ]:
                            closing = True
                        else:
                            dropped.append(name)
                        continue
            lines.append(line)
        self.status = status
        self.status_code = code
        self.headers = headers
        self.response_length = length
        self.dropped = dropped
        self._closing = closing
        self._no_body = self._head_only or code in (204, 205, 304)
        self._head = [status_line, self._server]
        if not has_date:
            self._head.append(self._date)
        self._head += lines

    def write(self, data: bytes) -> None:
        """PEP 3333's write: send `data` at once."""
        if self._finished:
            raise ApplicationError("write was called after the response was complete")
        self.chunk(data)
        if self.flush is not None:
            self.flush()

    def early_hints(self, headers: Iterable[tuple[str, str]]) -> None:
        """Send a 103 response with `headers` (RFC 8297), to HTTP/1.1 peers before the head."""
        if self._finished or self.headers_sent or not self._http_1_1:
            return
        lines = [
            line
            for field in headers
            if (line := _field_line(field)) and str.lower(field[0]) not in _NOT_IN_HINTS
        ]
        self.out.append(b"".join([b"HTTP/1.1 103 Early Hints\r\n", *lines, b"\r\n"]))
        if self.flush is not None:
            self.flush()

    # -- the loop's side --------------------------------------------------------------

    def chunk(self, data: bytes) -> None:
        """Append one item of the body, framed; the head before the first that is not empty."""
        if type(data) is not bytes:
            data = _held(data)
        if not data:
            return
        if not self.headers_sent:
            self._send_head(None)
        self._body(data)

    def whole(self, parts: list[bytes] | tuple[bytes, ...]) -> None:
        """Append the complete body as a list or tuple of known length."""
        for part in parts:
            if type(part) is not bytes:
                parts = [_held(each) for each in parts]
                break
        if not self.headers_sent:
            self._send_head(sum(map(len, parts)))
        for part in parts:
            if part:
                self._body(part)

    def file(self, count: int) -> int:
        """Append the head for a body of `count` bytes that the caller sends from a file.

        Returns how many of them belong to the body, 0 when it has none; -1 when they
        cannot be sent past the writer because the body is chunked.
        """
        if not self.headers_sent:
            self._send_head(count)
        if self._no_body:
            return 0
        if self.chunked:
            return -1
        if self.response_length is not None:
            room = self.response_length - self.sent
            count = min(count, room)  # a longer file is no mistake: a range is served so
        self.sent += count
        return count

    def finish(self) -> None:
        """Append what ends the response, and decide whether the connection persists."""
        if not self.headers_sent:
            self._send_head(0)
        if self.chunked and not self._no_body:
            self.out.append(b"0\r\n\r\n")
        if not self.complete:
            self.keep_alive = False
        self._finished = True

    def fail(self, status: int) -> None:
        """End the response where it is: what was not sent will not be.

        `status` is what the log says of it unless a head has already told another.
        """
        if not self.headers_sent:
            self.status_code = status
            self.status = f"{status} {REASONS.get(status, 'Client Closed Request')}"
            self.headers = []
            self.response_length = None
            self.dropped = []
        self.keep_alive = False
        self._finished = True

    @property
    def full(self) -> bool:
        """Whether nothing that the application still gives can reach the wire."""
        return self.excess or (self._no_body and self.headers_sent)

    @property
    def complete(self) -> bool:
        """Whether the body has the length it promised."""
        return self._no_body or self.response_length is None or self.sent == self.response_length

    def _send_head(self, known: int | None) -> None:
        """Append the head, and fix the framing; `known` is the body's length where it is known."""
        if self.status is None or self._finished:
            raise ApplicationError("the application sent a body or ended without calling start_response")
        head = self._head
        code = self.status_code
        length = self.response_length
        if self._closing:
            self.keep_alive = False
        if code == 205:
            self.response_length = length = 0
        elif code == 204:
            self.response_length = length = None
        elif length is None and known is not None and code != 304 and (known or not self._no_body):
            # An empty list answers HEAD without saying how long GET's body would be.
            self.response_length = length = known
        if known is not None and length is not None and known < length and not self._no_body:
            self.keep_alive = False  # what is promised will not come: the head says so
        if length is not None:
            head.append(b"Content-Length: %d\r\n" % length)
        elif not self._no_body:
            if self._http_1_1:
                self.chunked = True
                head.append(b"Transfer-Encoding: chunked\r\n")
            else:
                self.keep_alive = False
        if not self.keep_alive:
            head.append(b"Connection: close\r\n")
        elif not self._http_1_1:
            head.append(b"Connection: keep-alive\r\n")
        head.append(b"\r\n")
        self.out.append(b"".join(head))
        self.headers_sent = True

    def _body(self, data: bytes) -> None:
        if self._no_body:
            return
        size = len(data)
        length = self.response_length
        if length is not None and self.sent + size > length:
            self.excess = True
            size = length - self.sent
            if not size:
                return
            data = data[:size]
        self.sent += size
        if self.chunked:
            self.out.append(b"%x\r\n%b\r\n" % (size, data))
        else:
            self.out.append(data)

