"""Too few descriptors, a full disk, bodies that are larger than memory should be."""

from __future__ import annotations

import contextlib
import resource
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from reliability.bench import Bench, NotHere, Result, scenario
from tests.integration.accounts import forget_peak, open_files, peak, processor_seconds
from tests.integration.client import Failed, KeptConnection

MEGABYTE = 1 << 20


@scenario("60 connections for which there is no descriptor", "CPU below 30 %, a line or two, all answered later", 37, peers=True, short=True)
def descriptors(bench: Bench) -> Result:
    server = bench.start("workers = 1", ready=1)
    [worker] = server.workers()
    limits = resource.prlimit(worker, resource.RLIMIT_NOFILE)
    resource.prlimit(worker, resource.RLIMIT_NOFILE, (len(open_files(worker)) + 5, limits[1]))
    mark = server.mark()
    crowd = [server.connect() for _ in range(60)]
    time.sleep(0.5)
    try:
        used, begun = processor_seconds(worker), time.monotonic()
        time.sleep(bench.size(4, 2))
        share = (processor_seconds(worker) - used) / (time.monotonic() - begun)
        resource.prlimit(worker, resource.RLIMIT_NOFILE, limits)
    except OSError:
        return Result("the worker died of it", False)
    lines = len(server.lines) - mark
    answered = 0
    for connection in crowd:
        connection.settimeout(5)
        with contextlib.suppress(OSError):
            connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            answered += connection.recv(4096).startswith(b"HTTP/1.1 200")
        connection.close()
    return Result(f"{share:.0%} CPU, {lines} lines, {answered} of 60 answered", share < 0.3 and lines <= 3 and answered == 60)


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    """A file system of `size` at `folder`. Raises NotHere."""
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", folder], capture_output=True)
    if done.returncode:
        raise NotHere("a file system cannot be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=False)


@scenario("a full disk for logs and spool", "that upload is 507, all others are answered, it is said once", 40, 46)
def full_disk(bench: Bench) -> Result:
    disk = bench.folder / "disk"
    with small_disk(disk, "1m"):
        logs = "errorlog = 'disk/error'\naccesslog = 'disk/access'"
        server = bench.start(
            f"workers = 1\nbody_buffer_size = 65536\ntmp_upload_dir = {str(disk)!r}\nbind = 'unix:socket'\n{logs}",
            bind="",
            at=str(bench.folder / "socket"),
        )
        while not (bench.folder / "socket").exists():
            time.sleep(0.02)
        kept, upload = KeptConnection(server.connect), KeptConnection(server.connect)
        kept.ask("/")
        try:
            upload.ask("/length", "POST", b"x" * 3_000_000)
            refused = "taken"
        except Failed as error:
            refused = str(error).partition(": ")[2][:3]
        with open(disk / "filler", "wb") as filler, contextlib.suppress(OSError):
            filler.write(b"x" * MEGABYTE * 2)
        answered = 0
        for _ in range(500):
            answered += kept.ask("/length", "POST", b"y" * 1000).body == b"1000"
        stopped = server.stop()
        said = len([line for line in server.lines if "No space" in line or "cannot be written" in line])
        kept.close()
        upload.close()
    good = refused == "507" and answered == 500 and kept.opened == 1 and stopped == 0
    return Result(f"upload {refused}, {answered} of 500 others, said {said} times, exit {stopped}", good and said <= 4)


@scenario("200 MB up, up chunked, down, down to a slow reader", "less than 24 MB more memory at any time", 39, peers=True, short=True)
def bodies(bench: Bench) -> Result:
    spool = f"tmp_upload_dir = {str(bench.folder)!r}" if bench.who.ours else ""
    server = bench.start(f"workers = 1\ntimeout = 120\n{spool}", ready=1)
    [worker] = server.workers()
    size = 200 * MEGABYTE
    block = b"x" * MEGABYTE
    figures = []
    for how in ("up", "up chunked", "down", "slow"):
        forget_peak(worker)
        before = peak(worker)
        connection = server.connect()
        connection.settimeout(120)
        if how.startswith("up"):
            framing = f"Content-Length: {size}" if how == "up" else "Transfer-Encoding: chunked"
            connection.sendall(f"POST /length HTTP/1.1\r\nHost: a\r\n{framing}\r\nConnection: close\r\n\r\n".encode())
            for _ in range(size // MEGABYTE):
                connection.sendall(block if how == "up" else b"%x\r\n%b\r\n" % (MEGABYTE, block))
            if how != "up":
                connection.sendall(b"0\r\n\r\n")
            received_answer = b""
            while piece := connection.recv(4096):
                received_answer += piece
            whole = received_answer.endswith(str(size).encode())
        else:
            connection.sendall(f"GET /large?{size} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
            if how == "slow":
                time.sleep(1)
            received = 0
            while piece := connection.recv(MEGABYTE):
                received += len(piece)
            whole = received > size
        connection.close()
        figures.append((peak(worker) - before) / MEGABYTE if whole else 1e9)
    shown = " / ".join("broken" if figure > 1e8 else f"{figure:.1f}" for figure in figures)
    return Result(f"{shown} MB", max(figures) < 24)


