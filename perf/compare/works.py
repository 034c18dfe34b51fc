"""What the servers are asked to do: one row per work, with cyhorn's targets beside it."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass

from perf import apps, heads
from perf.compare import check

#: Size of the file that `file` is asked for, in bytes.
FILE_SIZE = 100 * 1024 * 1024
FILE_BLOCK = bytes(range(256)) * 4096

#: Size of the body that `upload` sends, in bytes.
UPLOAD_SIZE = 200 * 1024 * 1024


@dataclass(frozen=True)
class Target:
    """What the compiled side is held to; None where nothing was promised."""

    of_reference: float | None = None  # CPU per request ≤ this x the reference
    of_best_peer: float | None = None  # ... ≤ this x the cheapest peer that answers correctly
    user_us: float | None = None  # user time per request
    log_us: float | None = None  # what the access log may add
    pure_of_gunicorn: float | None = None  # the Python side ≤ this x Gunicorn sync, each parser
    growth: int | None = None  # bytes that the largest process may have grown by


@dataclass(frozen=True)
class Work:
    """One kind of load."""

    name: str
    title: str
    app: str
    request: bytes  # what wrk sends, and what is checked
    check: Callable[[int, bool], check.Findings]  # (port, is the reference) -> what was seen
    template: str | None = None  # wrk fills in a number that differs in every request
    connections: int | None = None  # instead of the chosen number
    per_write: int = 1  # answers to one write
    close: bool = False
    log: bool = False  # only servers that write an access log, with it and without
    reader: int = 0  # so many downloads in a round, by our own reader instead of wrk
    uploads: int = 0  # so many uploads of UPLOAD_SIZE in a round instead
    target: Target = Target()

    @property
    def transfers(self) -> bool:
        """Whether it is a fixed number of big bodies, one after the other."""
        return bool(self.reader or self.uploads)


_HELLO = (len(apps.HELLO), check.digest_of(apps.HELLO))
_STREAM = (apps.CHUNKS * len(apps.CHUNK), check.digest_of(apps.CHUNK * apps.CHUNKS))
_LARGE = (len(apps.LARGE), check.digest_of(apps.LARGE))


def _hello(request: bytes, answers: int = 1) -> Callable[[int, bool], check.Findings]:
    return lambda port, reference: check.check_plain(port, request, *_HELLO, answers)


def _close(port: int, reference: bool) -> check.Findings:
    return check.check_close(port, heads.CLOSE, *_HELLO)


def _post(port: int, reference: bool) -> check.Findings:
    return check.check_plain(port, heads.POST, 4, check.digest_of(b"1024"))


def _stream(port: int, reference: bool) -> check.Findings:
    if reference:
        return check.check_plain(port, heads.get("/stream"), *_STREAM)
    seconds = apps.CHUNKS * apps.SLOW
    return check.check_stream(port, heads.get("/stream"), heads.get("/slow"), seconds, *_STREAM)


def _large(port: int, reference: bool) -> check.Findings:
    return check.check_plain(port, heads.get("/large"), *_LARGE)


def file_digest() -> str:
    """The digest of the file that `file` sends."""
    return check.digest_of(FILE_BLOCK * (FILE_SIZE // len(FILE_BLOCK)))


def _file(port: int, reference: bool) -> check.Findings:
    (response,) = check.exchange(port, heads.get("/file"))
    check.demand(response, FILE_SIZE, file_digest())
    findings = check.Findings(response.head_length + response.length)
    findings.persists = response.fields.get("connection", "").lower() != "close"
    if response.fields.get("x-file-wrapper") == "no":
        findings.note(check.NO_WRAPPER)
    return findings


def upload_head(path: str) -> bytes:
    """The head of an upload."""
    return (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
        f"Content-Type: application/octet-stream\r\nContent-Length: {UPLOAD_SIZE}\r\n\r\n"
    ).encode()


def _upload(port: int, reference: bool) -> check.Findings:
    """The server must have seen every byte; the reference only counts them."""
    crc = 0
    with check.connect(port) as sock, sock.makefile("rb") as stream:
        sock.sendall(upload_head("/" if reference else "/crc"))
        for _ in range(UPLOAD_SIZE // len(FILE_BLOCK)):
            sock.sendall(FILE_BLOCK)
            crc = zlib.crc32(FILE_BLOCK, crc)
        response = check.read_response(stream)
    answer = b"%d" % UPLOAD_SIZE if reference else b"%d %08x" % (UPLOAD_SIZE, crc)
    check.demand(response, len(answer), check.digest_of(answer))
    return check.Findings(response.head_length + len(b"%d" % UPLOAD_SIZE), persists=False)


def turns(port: int) -> int:
    """How often the background thread of `apps.threaded` has run."""
    with check.connect(port) as sock:
        sock.sendall(heads.get("/turns").replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        answer = b""
        while piece := sock.recv(65536):
            answer += piece
    return int(answer.rpartition(b"\r\n\r\n")[2])


WORKS: tuple[Work, ...] = (
    Work(
        "small",
        "keep-alive, small head",
        "hello",
        heads.SMALL,
        _hello(heads.SMALL),
        target=Target(of_reference=1.10, of_best_peer=0.85, user_us=1.0, pure_of_gunicorn=1 / 3),
    ),
    Work(
        "browser",
        "keep-alive, 13 browser headers",
        "hello",
        heads.BROWSER,
        _hello(heads.BROWSER),
    ),
    Work(
        "varied",
        "13 browser headers; path, cookie and id differ in every request",
        "hello",
        heads.BROWSER,
        _hello(heads.BROWSER),
        template=heads.BROWSER_TEMPLATE,
        target=Target(of_reference=1.15, of_best_peer=0.85),
    ),
    Work(
        "pipelined",
        f"{heads.PIPELINE_DEPTH} pipelined requests in a write",
        "hello",
        heads.PIPELINED,
        _hello(heads.PIPELINED, heads.PIPELINE_DEPTH),
        per_write=heads.PIPELINE_DEPTH,
        target=Target(of_reference=2.0, of_best_peer=1 / 6),
    ),
    Work(
        "close",
        "a connection for each request",
        "hello",
        heads.CLOSE,
        _close,
        close=True,
        target=Target(of_reference=1.10, of_best_peer=1.0),
    ),
    Work("post", "POST of 1 KB", "post", heads.POST, _post, target=Target(of_reference=1.15)),
    Work(
        "stream",
        "a generator of 20 chunks of 1 KB, no length",
        "stream",
        heads.get("/stream"),
        _stream,
        target=Target(of_best_peer=0.8),
    ),
    Work(
        "large",
        "a body of 1 MB",
        "large",
        heads.get("/large"),
        _large,
        connections=8,
        target=Target(of_best_peer=1.0, growth=4 << 20),
    ),
    Work(
        "file",
        "a file of 100 MB by wsgi.file_wrapper",
        "file",
        heads.get("/file"),
        _file,
        connections=1,
        reader=20,
        target=Target(of_best_peer=1.0, growth=4 << 20),
    ),
    Work(
        "upload",
        "an upload of 200 MB, read by the application in blocks",
        "upload",
        upload_head("/"),
        _upload,
        connections=1,
        uploads=3,
        target=Target(growth=4 << 20),
    ),
    Work(
        "log",
        "keep-alive, small head, access log on",
        "hello",
        heads.SMALL,
        _hello(heads.SMALL),
        log=True,
        target=Target(log_us=0.7),
    ),
    Work(
        "thread",
        "keep-alive, small head, beside a background Python thread",
        "threaded",
        heads.SMALL,
        _hello(heads.SMALL),
    ),
)

BY_NAME = {work.name: work for work in WORKS}
