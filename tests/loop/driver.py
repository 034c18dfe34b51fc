"""Drives one loop over socket pairs, and reads what it answers strictly.

`Served` holds a loop and its listener in this thread: nothing happens but in `turn`, so a
test decides what the loop has seen. `Client` is one connection's other end; whatever it
waits for, it turns the loop meanwhile. `in_thread` runs the loop beside the test where
one of the two has to block. `read_answer` takes one HTTP/1.1 answer apart and fails on
anything that RFC 9112 does not allow a server to send.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from cyhorn.wsgi.options import LoopOptions
from cyhorn.wsgi.template import ListenerInfo

#: Seconds after which a test that waits has failed.
PATIENCE = 10.0

_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-5][0-9]{2}) ([\t\x20-\x7e\x80-\xff]*)")
_FIELD_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+): ([\t\x20-\x7e\x80-\xff]*)")
_CHUNK_SIZE = re.compile(rb"[0-9a-f]+")


# -- reading answers ---------------------------------------------------------------------


class Incomplete(Exception):
    """The bytes end before the answer does; it needs at least `size` of them."""

    def __init__(self, data: bytes, size: int = 0) -> None:
        super().__init__(f"{data[:200]!r} and so on")
        self.size = size or len(data) + 1


class Answer(NamedTuple):
    """One answer. `chunks` is None where the body was not chunked; `raw` are all its bytes."""

    status: int
    reason: str
    fields: list[tuple[str, str]]
    body: bytes
    chunks: list[bytes] | None
    raw: bytes

    def all(self, name: str) -> list[str]:
        """The values of every field `name`."""
        return [value for key, value in self.fields if key.lower() == name.lower()]

    def get(self, name: str) -> str | None:
        """The value of field `name`, which must not stand there twice; None without it."""
        values = self.all(name)
        assert len(values) <= 1, f"{name} is there {len(values)} times"
        return values[0] if values else None

    @property
    def closes(self) -> bool:
        """Whether the answer says that the connection ends with it."""
        return self.get("Connection") == "close"


def read_answer(data: bytes, *, method: str = "GET", ended: bool = False) -> tuple[Answer, bytes]:
    """The first answer in `data`, to a request of `method`, and the bytes after it.

    `ended` says that nothing will follow `data`. Raises Incomplete.
    """
    head, separator, rest = data.partition(b"\r\n\r\n")
    if not separator:
        raise Incomplete(data)
    first, *lines = head.split(b"\r\n")
    status_line = _STATUS_LINE.fullmatch(first)
    assert status_line, f"not a status line: {first!r}"
    status = int(status_line[1])
    fields: list[tuple[str, str]] = []
    for line in lines:
        field = _FIELD_LINE.fullmatch(line)
        assert field, f"not a field line: {line!r}"
        fields.append((field[1].decode("ascii"), field[2].decode("latin-1")))
    blank = Answer(status, status_line[2].decode("latin-1"), fields, b"", None, b"")
    length, coding = blank.get("Content-Length"), blank.get("Transfer-Encoding")
    assert length is None or coding is None, "two framings"
    assert length is None or length.isdigit(), f"not a length: {length!r}"
    assert coding in (None, "chunked")
    chunks: list[bytes] | None = None
    body = b""
    if status < 200 or status == 204:
        assert length is None and coding is None, f"{status} with a framing field"
    elif method == "HEAD" or status in (205, 304):
        assert coding is None or method == "HEAD"
    elif coding is not None:
        chunks, rest = _read_chunks(rest)
        body = b"".join(chunks)
    elif length is not None:
        if len(rest) < int(length):
            raise Incomplete(data, len(data) - len(rest) + int(length))
        body, rest = rest[: int(length)], rest[int(length) :]
    elif not ended:
        raise Incomplete(data)
    else:
        assert blank.closes, "neither framed nor closed"
        body, rest = rest, b""
    raw = data[: len(data) - len(rest)]
    return blank._replace(body=body, chunks=chunks, raw=raw), rest


def _read_chunks(data: bytes) -> tuple[list[bytes], bytes]:
    chunks: list[bytes] = []
    while True:
        line, separator, data = data.partition(b"\r\n")
        if not separator:
            raise Incomplete(data)
        assert _CHUNK_SIZE.fullmatch(line), f"not a chunk size: {line!r}"
        size = int(line, 16)
        if len(data) < size + 2:
            raise Incomplete(data)
        assert data[size : size + 2] == b"\r\n", "chunk data without its CRLF"
        if not size:
            return chunks, data[2:]
        chunks.append(data[:size])
        data = data[size + 2 :]


def read_all(data: bytes, *methods: str, ended: bool = True) -> list[Answer]:
    """Every answer in `data`, of which nothing may be left; `methods` are the requests'."""
    answers: list[Answer] = []
    final = 0
    while data:
        method = methods[final] if final < len(methods) else "GET"
        answer, data = read_answer(data, method=method, ended=ended)
        answers.append(answer)
        final += answer.status >= 200
    return answers


# -- the loop and its log ------------------------------------------------------------------


class Log:
    """A logger that remembers: `lines` are (level, message, exception type's name or None), `exceptions`
    the messages that came by `exception`, which classes of users override."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, str | None]] = []
        self.exceptions: list[str] = []

    def _note(self, level: str, message: str, values: tuple[Any, ...], exc_info: Any) -> None:
        kind = None
        if exc_info:
            import sys

            error = exc_info if isinstance(exc_info, BaseException) else sys.exc_info()[1]
            kind = type(error).__name__
        self.lines.append((level, message % values if values else message, kind))

    def debug(self, message: str, *values: Any, exc_info: Any = None) -> None:
        self._note("debug", message, values, exc_info)

    def info(self, message: str, *values: Any, exc_info: Any = None) -> None:
        self._note("info", message, values, exc_info)

    def warning(self, message: str, *values: Any, exc_info: Any = None) -> None:
        self._note("warning", message, values, exc_info)

    def error(self, message: str, *values: Any, exc_info: Any = None) -> None:
        self._note("error", message, values, exc_info)

    def critical(self, message: str, *values: Any, exc_info: Any = None) -> None:
        self._note("critical", message, values, exc_info)

    def exception(self, message: str, *values: Any, exc_info: Any = True) -> None:
        self._note("error", message, values, exc_info)
        self.exceptions.append(message % values if values else message)

    def of(self, *levels: str) -> list[str]:
        """The messages of `levels`."""
        return [message for level, message, _ in self.lines if level in levels]

    @property
    def tracebacks(self) -> list[str]:
        """The names of the exceptions that were logged with their traceback."""
        return [kind for _, _, kind in self.lines if kind is not None]


class Served:
    """`application` behind one loop of side `impl`, driven from this thread.

    `options` are LoopOptions. `unix` makes the listener one of a unix socket, at that path.
    """

    def __init__(
        self,
        impl: Any,
        application: Callable[..., Any],
        *,
        ssl_context: ssl.SSLContext | None = None,
        unix: str | None = None,
        heartbeat: Any = None,
        watch: dict[int, Callable[[], None]] | None = None,
        on_max_requests: Callable[[], None] | None = None,
        **options: Any,
    ) -> None:
        if unix is not None:
            self.listener = socket.socket(socket.AF_UNIX)
            self.listener.bind(unix)
            self.listener.listen(64)
        else:
            self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.address = self.listener.getsockname()
        self.listener.setblocking(False)
        self.log = Log()
        self.errors = io.StringIO()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        self.loop = impl.loop.Loop(
            LoopOptions(**options),
            [ListenerInfo(self.listener, ssl_context)],
            application,
            log=self.log,
            errors=self.errors,
            heartbeat=heartbeat,
            watch={self._wake_read: self._woken, **(watch or {})},
            on_max_requests=on_max_requests,
        )
        self._clients: list[Client] = []
        self._thread: threading.Thread | None = None

    def _woken(self) -> None:
        os.read(self._wake_read, 64)

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def close(self) -> None:
        """End the loop and close both ends of every connection."""
        for client in self._clients:
            client.sock.close()
        if self._thread is not None:
            self.stop_thread()
        self.loop.close()
        self.listener.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def turn(self, timeout: float | None = 0) -> bool:
        """One turn of the loop."""
        result: bool = self.loop.turn(timeout)
        return result

    def turn_until(self, true: Callable[[], Any]) -> None:
        """Turn until `true()` is."""
        deadline = time.monotonic() + PATIENCE
        while not true():
            assert time.monotonic() < deadline, "the loop did not get there"
            self.turn(0.01)

    def client(self, data: bytes = b"", *, send_buffer: int = 0, receive_buffer: int = 0) -> Client:
        """A new connection over a socket pair, with `data` sent before the loop knows of it.

        `send_buffer` is the server side's SO_SNDBUF, `receive_buffer` the client's SO_RCVBUF.
        """
        ours, theirs = socket.socketpair()
        if send_buffer:
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        if receive_buffer:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        client = Client(self, ours)
        if data:
            ours.sendall(data)
        self.loop.adopt(theirs)
        return client

    def connect(self, data: bytes = b"") -> Client:
        """A new connection through the listener."""
        sock = socket.socket(self.listener.family)
        sock.connect(self.address)
        client = Client(self, sock)
        if data:
            sock.sendall(data)
        return client

    def exchange(self, data: bytes, *methods: str) -> list[Answer]:
        """All answers to `data` on a connection of its own, which has to end with them."""
        return self.client(data).answers_until_end(*methods)

    def ask(self, data: bytes, method: str = "GET") -> Answer:
        """The one answer to `data` on a connection of its own, which is closed after it."""
        client = self.client(data)
        answer = client.answer(method)
        client.close()
        self.turn()
        return answer

    @contextlib.contextmanager
    def in_thread(self, run_loop: Callable[[], None] | None = None) -> Iterator[None]:
        """Run the loop in a thread meanwhile, by `run_loop` or its own `run`. It is stopped at the end."""
        failures: list[BaseException] = []

        def run() -> None:
            try:
                (run_loop or self.loop.run)()
            except BaseException as error:
                failures.append(error)

        self._thread = threading.Thread(target=run)
        self._thread.start()
        try:
            yield
        finally:
            self.stop_thread()
        assert not failures, failures

    def wake(self) -> None:
        """Have the loop's thread look around."""
        os.write(self._wake_write, b"x")

    def stop_thread(self) -> None:
        """Stop the loop gracefully and wait for its thread."""
        if self._thread is None:
            return
        thread, self._thread = self._thread, None
        self.loop.stop()
        for client in self._clients:
            client.sock.close()
        self.wake()
        thread.join(PATIENCE)
        assert not thread.is_alive(), "the loop did not stop"


class Client:
    """The client's end of one connection. `data` is what has arrived, `ended` whether it is all."""

    def __init__(self, served: Served, sock: Any) -> None:
        self.served = served
        self.sock = sock
        self.sock.setblocking(False)
        self.data = b""
        self.ended = False
        self.reset = False
        served._clients.append(self)

    def send(self, data: bytes) -> Client:
        """Send all of `data`, turning the loop where the socket is full."""
        view = memoryview(data)
        deadline = time.monotonic() + PATIENCE
        while view:
            try:
                view = view[self.sock.send(view) :]
            except (BlockingIOError, ssl.SSLWantWriteError):
                assert time.monotonic() < deadline, "the server does not read"
                self._pump()
        return self

    def end(self) -> Client:
        """Send FIN, and go on reading."""
        self.sock.shutdown(socket.SHUT_WR)
        return self

    def close(self) -> None:
        """Leave."""
        self.sock.close()

    def _pump(self) -> None:
        if self.served._thread is None:
            self.served.turn(0.005)
        else:
            time.sleep(0.0005)

    def _receive(self) -> bool:
        """Take what is there; return whether anything was."""
        try:
            data = self.sock.recv(1 << 20)
        except (BlockingIOError, ssl.SSLWantReadError):
            return False
        except ConnectionResetError:
            self.ended = self.reset = True
            return True
        if not data:
            self.ended = True
        self.data += data
        return True

    def wait(self, done: Callable[[], Any], what: str = "") -> None:
        """Receive, and turn the loop, until `done()`."""
        deadline = time.monotonic() + PATIENCE
        while not done():
            assert not self.ended or what == "end", f"the connection ended; it had sent {self.data[:400]!r}"
            assert time.monotonic() < deadline, f"nothing more came after {self.data[:400]!r}"
            if not self._receive():
                self._pump()

    def receive(self, size: int) -> bytes:
        """The next `size` bytes."""
        self.wait(lambda: len(self.data) >= size)
        data, self.data = self.data[:size], self.data[size:]
        return data

    def answer(self, method: str = "GET") -> Answer:
        """The next answer, to a request of `method`."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                answer, self.data = read_answer(self.data, method=method, ended=self.ended)
                return answer
            except Incomplete as incomplete:
                assert not self.ended, f"the answer was cut: {self.data[:400]!r}"
                pieces, missing = [self.data], max(1, incomplete.size - len(self.data))
                while missing > 0 and not self.ended:
                    assert time.monotonic() < deadline, f"no whole answer in {self.data[:400]!r}"
                    self.data = b""
                    if self._receive():
                        pieces.append(self.data)
                        missing -= len(self.data)
                    else:
                        self._pump()
                self.data = b"".join(pieces)

    def until_end(self) -> bytes:
        """All bytes until the server closes."""
        self.wait(lambda: self.ended, "end")
        data, self.data = self.data, b""
        return data

    def answers_until_end(self, *methods: str) -> list[Answer]:
        """All answers until the server closes, to requests of `methods` (GET unless told)."""
        return read_all(self.until_end(), *methods)

    def silent(self, turns: int = 3) -> bool:
        """Whether nothing comes, and the connection stays, while the loop turns a few times."""
        for _ in range(turns):
            self.served.turn(0)
            if self._receive():
                return False
        return not self.data


class Written:
    """Takes the access log's lines; `times` holds what each write brought."""

    def __init__(self) -> None:
        self.times: list[bytes] = []

    def target(self) -> None:
        """There is no descriptor."""

    def write(self, lines: bytes, begun: bool) -> None:
        assert lines.endswith(b"\n") and not begun
        self.times.append(lines)


def access_lines(impl: Any, tell: Callable[[Any, dict[str, Any], float], Any], log: Any = None) -> Any:
    """Access lines of side `impl` that are what `tell` says of response, environ and seconds."""
    return impl.access.AccessLines(
        lambda response, environ, seconds, clock: str(tell(response, environ, seconds)),
        None,
        str,
        log or Written(),
    )


def get(target: str = "/", *fields: str, version: str = "1.1", method: str = "GET") -> bytes:
    """A request without a body."""
    lines = [f"{method} {target} HTTP/{version}", "Host: a", *fields]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def post(body: bytes, *fields: str, target: str = "/", version: str = "1.1") -> bytes:
    """A request with `body` of that length."""
    return get(target, f"Content-Length: {len(body)}", *fields, version=version, method="POST") + body


def chunked(*pieces: bytes, last: bytes = b"0\r\n\r\n") -> bytes:
    """A chunked POST of `pieces`."""
    head = get("/", "Transfer-Encoding: chunked", method="POST")
    return head + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + last


CLOSE = "Connection: close"


def hello(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """An application."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]


def echo(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """Answers with the request's body."""
    body = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "application/octet-stream")])
    return [body]


def path(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """Answers with the request's path."""
    start_response("200 OK", [])
    return [environ["PATH_INFO"].encode("latin-1")]
