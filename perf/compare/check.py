"""One response, read from the socket and judged, before a server is timed.

The reader takes what the answer says about its own framing literally: a wrong length, a
missing terminator or bytes too many are an error, not something to be read around.
"""

from __future__ import annotations

import hashlib
import socket
import time
from dataclasses import dataclass
from typing import BinaryIO

from perf.compare.servers import HOST

TIMEOUT = 20.0
#: Seconds for an answer of a few packets that only waiting can explain.
STALL = 0.030

# Notes on a peer that does less than the work asks for.
BUFFERS = "buffers the stream"
STALLS = "stalls the stream (Nagle)"
NO_WRAPPER = "no wsgi.file_wrapper"
LESS = frozenset((BUFFERS, STALLS, NO_WRAPPER))


class Wrong(Exception):
    """The server's answer is not the one that the work asks for; one line."""


@dataclass(frozen=True)
class Response:
    """A complete response. The body is its length and digest, so that a file may be large."""

    status: int
    fields: dict[str, str]
    framing: str  # "length", "chunked" or "close"
    length: int
    digest: str
    head_length: int
    first_piece: float  # when the first byte of the body was there, monotonic seconds
    finished: float


def digest_of(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def connect(port: int) -> socket.socket:
    """A connection with TCP_NODELAY, so that a delay seen is the server's."""
    sock = socket.create_connection((HOST, port), TIMEOUT)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _line(stream: BinaryIO) -> bytes:
    line = stream.readline(65536)
    if not line.endswith(b"\r\n"):
        raise Wrong("the connection ends inside a response" if not line.endswith(b"\n") else "a bare LF")
    return line[:-2]


def _exactly(stream: BinaryIO, left: int, digest: hashlib._Hash) -> float:
    """Read `left` bytes into the digest; returns when the first piece came."""
    first = 0.0
    while left:
        piece = stream.read1(min(left, 1 << 20))  # type: ignore[attr-defined]
        first = first or time.monotonic()
        if not piece:
            raise Wrong(f"the body ends {left} bytes early")
        digest.update(piece)
        left -= len(piece)
    return first


def read_response(stream: BinaryIO) -> Response:
    """Read one response to a request that is not HEAD; raises Wrong."""
    line = _line(stream)
    if line[:7] != b"HTTP/1." or not line[9:12].isdigit():
        raise Wrong(f"not a status line: {line[:60]!r}")
    head_length = len(line) + 2
    fields: dict[str, str] = {}
    while raw := _line(stream):
        head_length += len(raw) + 2
        name, colon, value = raw.partition(b":")
        if not colon or name != name.strip():
            raise Wrong(f"not a field: {raw[:60]!r}")
        fields[name.decode("latin-1").lower()] = value.strip().decode("latin-1")
    head_length += 2
    digest = hashlib.sha256()
    length = 0
    first = 0.0
    if fields.get("transfer-encoding", "").lower() == "chunked":
        framing = "chunked"
        while size := int(_line(stream).partition(b";")[0], 16):
            first = first or time.monotonic()
            _exactly(stream, size, digest)
            length += size
            if _line(stream):
                raise Wrong("a chunk is longer than its size")
        while _line(stream):
            pass
    elif "content-length" in fields:
        framing = "length"
        length = int(fields["content-length"])
        first = _exactly(stream, length, digest)
    else:
        framing = "close"
        while piece := stream.read1(1 << 20):  # type: ignore[attr-defined]
            first = first or time.monotonic()
            digest.update(piece)
            length += len(piece)
    finished = time.monotonic()
    return Response(
        int(line[9:12]), fields, framing, length, digest.hexdigest(), head_length, first or finished, finished
    )


def demand(response: Response, length: int, digest: str) -> None:
    """Raise Wrong unless it is a 200 with this body."""
    if response.status != 200:
        raise Wrong(f"status {response.status} instead of 200")
    if response.length != length or response.digest != digest:
        raise Wrong(f"the body is wrong ({response.length} bytes, {length} expected)")


@dataclass
class Findings:
    """What was seen of a correct server: notes for the table, facts for the run."""

    response_size: int = 0
    persists: bool = True
    notes: list[str] | None = None

    def note(self, text: str) -> None:
        self.notes = [*(self.notes or []), text]


def exchange(port: int, request: bytes, answers: int = 1) -> list[Response]:
    """Send `request` at once on a new connection and read this many answers."""
    with connect(port) as sock, sock.makefile("rb") as stream:
        sock.sendall(request)
        return [read_response(stream) for _ in range(answers)]


def check_plain(port: int, request: bytes, length: int, digest: str, answers: int = 1) -> Findings:
    """The request gets its answers, and a second one on the same connection, unless the first said close."""
    findings = Findings()
    with connect(port) as sock, sock.makefile("rb") as stream:
        sock.sendall(request)
        for number in range(answers):
            try:
                response = read_response(stream)
            except (Wrong, OSError, ValueError) as error:
                if number:
                    raise Wrong(f"answers {number} of {answers} pipelined requests") from error
                raise
            demand(response, length, digest)
        findings.response_size = response.head_length + response.length
        said_close = response.fields.get("connection", "").lower() == "close"
        findings.persists = not said_close and response.framing != "close"
        if findings.persists:
            sock.sendall(request)
            for _ in range(answers):
                demand(read_response(stream), length, digest)
        elif stream.read(1):
            raise Wrong("bytes follow the response on a connection that closes")
    if answers > 1 and not findings.persists:
        raise Wrong("closes instead of answering pipelined requests")
    if not findings.persists:
        findings.note("closes each connection")
    if "date" not in response.fields:
        findings.note("no Date")
    return findings


def check_close(port: int, request: bytes, length: int, digest: str) -> Findings:
    """`Connection: close` gets its answer and then the end of the connection."""
    with connect(port) as sock, sock.makefile("rb") as stream:
        sock.sendall(request)
        response = read_response(stream)
        demand(response, length, digest)
        sock.settimeout(3)
        try:
            if stream.read(1):
                raise Wrong("bytes follow the response")
        except TimeoutError:
            raise Wrong("leaves the connection open after Connection: close") from None
        except ConnectionResetError:
            raise Wrong("resets the connection after the response") from None
    findings = Findings(response.head_length + response.length, persists=False)
    if "date" not in response.fields:
        findings.note("no Date")
    return findings


def check_stream(
    port: int, request: bytes, slow: bytes, seconds: float, length: int, digest: str
) -> Findings:
    """As check_plain; and says whether the pieces of a slow stream come as they are made.

    `slow` asks for a stream that takes `seconds`. A server that sends each chunk at once
    delivers the first piece that long before the last.
    """
    findings = check_plain(port, request, length, digest)
    began = time.monotonic()
    (response,) = exchange(port, slow)
    demand(response, length, digest)
    if response.finished - began < seconds * 0.8:
        raise Wrong("the slow stream came too fast")
    if response.finished - response.first_piece < seconds * 0.8:
        findings.note(BUFFERS)
    if findings.persists and stall(port, request) > STALL:
        findings.note(STALLS)
    return findings


def stall(port: int, request: bytes, times: int = 15) -> float:
    """The median time of an answer that nothing delays, in seconds.

    A server that leaves Nagle's algorithm on waits for acknowledgements that the client
    delays by 40 ms: it sends fewer packets, and its client waits.
    """
    took = []
    with connect(port) as sock, sock.makefile("rb") as stream:
        for _ in range(times):
            began = time.monotonic()
            sock.sendall(request)
            read_response(stream)
            took.append(time.monotonic() - began)
    return sorted(took)[times // 2]
