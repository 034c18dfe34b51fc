"""The load: wrk with requests made from bytes, or a reader of our own for big files."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass

from perf.compare import check
from perf.compare.process import pinned
from perf.compare.servers import HOST, Unavailable
from perf.compare.works import FILE_BLOCK, FILE_SIZE, UPLOAD_SIZE, Work

GRACE = 30.0  # seconds that wrk may take beyond its run


@dataclass(frozen=True)
class Load:
    """What the client saw of one run."""

    requests: int
    seconds: float
    received: int  # bytes
    errors: int
    p50_us: float
    p99_us: float
    first_error: str = ""


def lua_string(data: bytes) -> str:
    """`data` as a Lua string literal."""
    safe = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ /.:;=-_,*()")
    return '"' + "".join(chr(byte) if byte in safe else f"\\{byte:03d}" for byte in data) + '"'


#: wrk calls `done` once; its totals leave as one line of JSON.
_DONE = """
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    'TOTALS {"requests": %d, "us": %d, "bytes": %d, "connect": %d, "read": %d, "write": %d,' ..
    ' "status": %d, "timeout": %d, "p50": %d, "p99": %d}\\n',
    summary.requests, summary.duration, summary.bytes, e.connect, e.read, e.write,
    e.status, e.timeout, latency:percentile(50), latency:percentile(99)))
end
"""


def script_for(work: Work) -> str:
    """The Lua script that makes wrk send exactly the bytes of `work`."""
    if work.template is None:
        # wrk asks once and repeats the answer without entering Lua again.
        return f"wrk.format = function() return {lua_string(work.request)} end\n{_DONE}"
    parts = [lua_string(part.encode()) for part in work.template.split("{n}")]
    names = [f"p{number}" for number in range(len(parts))]
    lines = [f"local {name} = {part}" for name, part in zip(names, parts, strict=True)]
    lines += [
        "local n = 10000000",
        "function request()",
        "  n = n + 1",
        "  if n > 99999999 then n = 10000000 end",
        f"  return {' .. n .. '.join(names)}",
        "end",
    ]
    return "\n".join(lines) + "\n" + _DONE


def run_wrk(work: Work, port: int, connections: int, seconds: int, cpus: frozenset[int]) -> Load:
    """Run wrk, one thread, for whole `seconds`; raises Unavailable when there is no wrk."""
    wrk = shutil.which("wrk")
    if not wrk:
        raise Unavailable("wrk is not installed (Debian: apt-get install wrk)")
    with tempfile.NamedTemporaryFile("w", suffix=".lua", prefix="perf-") as script:
        script.write(script_for(work))
        script.flush()
        command = [wrk, "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s"]
        done = subprocess.run(
            [*command, "-s", script.name, "--latency", f"http://{HOST}:{port}/"],
            capture_output=True,
            text=True,
            timeout=seconds + GRACE,
            preexec_fn=pinned(cpus),
        )
    for line in done.stdout.splitlines():
        if line.startswith("TOTALS "):
            totals = json.loads(line.removeprefix("TOTALS "))
            break
    else:
        raise Unavailable(f"wrk failed: {(done.stderr or done.stdout).strip()[-160:]}")
    errors = {name: totals[name] for name in ("connect", "read", "write", "status", "timeout")}
    return Load(
        requests=totals["requests"],
        seconds=totals["us"] / 1e6,
        received=totals["bytes"],
        errors=sum(errors.values()),
        p50_us=totals["p50"],
        p99_us=totals["p99"],
        first_error=", ".join(f"{count} {name}" for name, count in errors.items() if count),
    )


def run_transfers(work: Work, port: int) -> Load:
    """The transfers of one round, one after the other, each on a new connection; their bytes are counted.

    The number of requests is exact, where wrk would leave big bodies half done at its end.
    """
    count = work.reader or work.uploads
    one = _download if work.reader else _upload
    took: list[float] = []
    received = 0
    began = time.monotonic()
    for number in range(count):
        start = time.monotonic()
        with check.connect(port) as sock:
            n, error = one(sock, work.request)
        received += n
        if error:
            return Load(number, time.monotonic() - began, received, 1, 0, 0, error)
        took.append(time.monotonic() - start)
    took.sort()
    return Load(
        requests=count,
        seconds=time.monotonic() - began,
        received=received,
        errors=0,
        p50_us=took[len(took) // 2] * 1e6,
        p99_us=took[-1] * 1e6,
    )


def _head(sock: socket.socket) -> tuple[bytes, bytes]:
    """The answer's head and what came behind it; the head is empty when there is none."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = sock.recv(65536)
        if not piece:
            return b"", data
        data += piece
    head, end, rest = data.partition(b"\r\n\r\n")
    return head + end, rest


_ROOM = memoryview(bytearray(1 << 20))


def _download(sock: socket.socket, request: bytes) -> tuple[int, str]:
    """Fetch the file; returns the bytes received and what was wrong."""
    sock.sendall(request)
    head, rest = _head(sock)
    if not head:
        return len(rest), "no head"
    received = len(head) + len(rest)
    left = FILE_SIZE - len(rest)
    while left > 0:
        n = sock.recv_into(_ROOM, min(left, len(_ROOM)))
        if n == 0:
            return received, "a short body"
        left -= n
        received += n
    return received, ""


def _upload(sock: socket.socket, request: bytes) -> tuple[int, str]:
    """Send the body; returns the bytes received and what was wrong."""
    sock.sendall(request)
    for _ in range(UPLOAD_SIZE // len(FILE_BLOCK)):
        sock.sendall(FILE_BLOCK)
    head, rest = _head(sock)
    expected = b"%d" % UPLOAD_SIZE
    while head and len(rest) < len(expected) and (piece := sock.recv(4096)):
        rest += piece
    return len(head) + len(rest), "" if head.startswith(b"HTTP/1.") and rest == expected else "a wrong answer"
