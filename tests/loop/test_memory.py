"""Nothing is left behind by a request, of whatever kind (PERFORMANCE: flat memory; RELIABILITY 38).

References, blocks and bytes of memory and descriptors are counted before and after many more of the same. A leak
of one object, or of one buffer in C, a request would show as thousands. With ``--thorough``
there are 100,000 conversations of each kind, and the process may not grow.
"""

from __future__ import annotations

import ctypes
import gc
import os
import socket
import sys
from typing import Any, NamedTuple

import pytest

from tests.loop.driver import CLOSE, Served, Written, access_lines, chunked, get, post

ROUNDS = 100
#: The same in a thorough run, by side.
THOROUGH_ROUNDS = {"compiled": 100_000, "python": 20_000}
#: What may come and go by chance: caches, the allocator's own.
SLACK = 150
SLACK_BYTES = 64 << 10
SLACK_RESIDENT = 2 << 20

kept: list[Any] = []


class Discarded(Written):
    """A log that keeps nothing."""

    def write(self, lines: bytes, begun: bool) -> None:
        """Let them go."""


def application(environ: Any, start_response: Any) -> Any:
    target = environ["PATH_INFO"]
    if target == "/raise":
        raise ValueError
    if target == "/silent":
        return [b"x"]
    if target == "/hints":
        environ["wsgi.early_hints"]([("Link", "a")])
    if target == "/twice":
        start_response("200 OK", [])
        try:
            raise KeyError
        except KeyError:
            start_response("500 Oh", [("X", "y")], sys.exc_info())
        return [b"x"]
    if target == "/headers":
        start_response("200 OK", [(f"X-{number}", "v" * 40) for number in range(40)] + [("Keep-Alive", "x")])
        return [b"x"]
    if target == "/bad-header":
        start_response("200 OK", [("X", "a\r\nb")])
    write = start_response("200 OK", [("Content-Type", "text/plain")])
    if target == "/keep":
        kept[:] = [start_response, write]
        return [b"x"]
    if target == "/write":
        write(b"abc")
        return []
    if target == "/stream":
        return iter([b"a", b"b" * 20000, b"c"])
    if target == "/late":
        return (item for item in [b"a", "text"])
    if target == "/list":
        return [b"item"] * 50
    if target == "/file":
        return environ["wsgi.file_wrapper"](open(__file__, "rb"))
    if target == "/socket":
        environ["gunicorn.socket"].family  # noqa: B018
    return [environ["wsgi.input"].read(), b"x" * 20000]


BROWSER = (
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Accept-Language: en-US,en;q=0.5",
    "Accept-Encoding: gzip, deflate, br, zstd",
    "Referer: http://a/before",
    "Cookie: session=0123456789abcdef; theme=dark",
    "Upgrade-Insecure-Requests: 1",
    "Sec-Fetch-Dest: document",
    "Sec-Fetch-Mode: navigate",
    "Sec-Fetch-Site: same-origin",
    "Priority: u=0, i",
)


def lines(*names: str) -> bytes:
    return get("/", *(f"{name}: {os.urandom(4).hex()}" for name in names))


#: What one client sends: it leaves when all is answered, or at once where the name says so.
CONVERSATIONS: dict[str, Any] = {
    "keep-alive": lambda: get() * 5,
    "head": lambda: get(method="HEAD") * 5,
    "old": lambda: get(version="1.0"),
    "close": lambda: get("/", CLOSE),
    "browser": lambda: get("/", *BROWSER) * 2,
    "expect": lambda: [post(b"x" * 100, "Expect: 100-continue")[:-100], b"x" * 100],
    "expect too much": lambda: post(b"x", "Expect: cake")[:-1],
    "bodies": lambda: post(b"x" * 100) * 3 + post(b"x" * 70000),
    "chunked": lambda: chunked(b"x" * 100, b"y" * 5000) * 3,
    "new names": lambda: lines("A-" + os.urandom(4).hex(), "Accept", "X-Own"),
    "repeated": lambda: get("/", "A: 1", "a: 2", "Cookie: a", "Cookie: b"),
    "cut": lambda: [get()[:9], get()[9:], post(b"abc")[:-1], b"c"],
    "gone in the head": lambda: get()[:-5],
    "gone in the body": lambda: post(b"x" * 100)[:-1],
    "gone in chunks": lambda: chunked(b"x" * 100)[:-1],
    "gone": lambda: get("/stream") * 3,
    "malformed": lambda: b"BAD\r\n\r\n",
    "malformed chunk": lambda: chunked(b"x", last=b"y\r\n"),
    "too long": lambda: get("/" + "x" * 9000),
    **{
        name: lambda name=name: get(f"/{name}")
        for name in (
            "list", "raise", "silent", "hints", "twice", "headers", "bad-header", "keep", "write", "stream", "late", "file",
            "socket",
        )
    },
}  # fmt: skip


def converse(served: Served, sent: Any, leave: bool) -> None:
    ours, theirs = socket.socketpair()
    ours.settimeout(5)
    served.loop.adopt(theirs)
    for piece in [sent] if isinstance(sent, bytes) else sent:
        ours.sendall(piece)
        served.loop.turn(0)
    if not leave:
        ours.shutdown(socket.SHUT_WR)
        served.loop.turn(0)
        served.loop.turn(0)
        while ours.recv(1 << 20):
            served.loop.turn(0)
    ours.close()
    served.loop.turn(0)
    served.loop.turn(0)


class Use(NamedTuple):
    """What the process uses: pymalloc's blocks, malloc's bytes, references where a debug build counts them,
    descriptors, and resident memory in bytes.
    """

    blocks: int
    bytes: int
    references: int
    descriptors: int
    resident: int


class _Mallinfo(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()
    ]


_mallinfo = getattr(ctypes.CDLL(None), "mallinfo2", None)
if _mallinfo is not None:
    _mallinfo.restype = _Mallinfo


def use() -> Use:
    """What there is now."""
    allocated = 0
    if _mallinfo is not None:
        told = _mallinfo()
        allocated = told.uordblks + told.hblkhd
    with open("/proc/self/statm") as file:
        resident = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    references = getattr(sys, "gettotalrefcount", int)()
    return Use(
        sys.getallocatedblocks(), allocated, references, len(os.listdir("/proc/self/fd")), resident
    )


HOOKED = ("keep-alive", "browser", "malformed", "close", "bodies", "chunked", "stream", "late", "raise", "gone", "gone in the body")


@pytest.mark.parametrize(
    ("name", "hooked"),
    [(name, False) for name in CONVERSATIONS] + [(name, True) for name in HOOKED],
    ids=lambda value: value if isinstance(value, str) else ("hooked" if value else "plain"),
)
@pytest.mark.timeout(1200)
def test_memory_and_descriptors_stay_flat(impl, name, hooked, tmp_path, request):
    rounds = THOROUGH_ROUNDS[impl.name] if request.config.getoption("--thorough") else ROUNDS
    hooks: dict[str, Any] = {}
    if hooked:
        hooks = {
            "pre_request": lambda request: None,
            "post_request": lambda request, environ, response: None,
            "access_lines": access_lines(impl, lambda response, environ, seconds: "line", Discarded()),
        }
    make, leave = CONVERSATIONS[name], name.startswith("gone")
    with Served(impl, application, body_buffer_size=60000, tmp_upload_dir=str(tmp_path), **hooks) as served:

        def run(count: int) -> Use:
            for _ in range(count):
                converse(served, make(), leave)
                served.log.lines.clear()
            assert served.loop.connections == 0
            gc.collect()
            return use()

        run(600 if name == "new names" else 30)  # new names fill tables, which are bounded
        before = run(rounds // 10)
        after = run(rounds)
        grown = Use(*(now - then for now, then in zip(after, before, strict=True)))
        # A table that is bounded still takes names in place of others, of another length.
        of_names = 10 * ROUNDS if name == "new names" else 0
        assert grown.blocks < SLACK + of_names
        assert grown.references < SLACK + of_names
        assert grown.bytes < SLACK_BYTES + 50 * of_names
        assert grown.descriptors == 0
        assert rounds == ROUNDS or grown.resident < SLACK_RESIDENT
    kept.clear()
