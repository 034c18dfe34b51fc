"""What a server may do to the machine it runs on: rights that are dropped wholly, files that nobody else may write.

The servers here run in a directory of their own that everybody may read, as those of packages do.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import starter
from tests.integration.harness import APPLICATION, Server, is_alive, processes, until

Start = Callable[..., Server]

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")

UID, GID = 65534, 65533

#: ``/body`` tells how long the body was, ``/hold`` keeps the interpreter to itself.
APPENDIX = """
import ctypes

plain, held = app, ctypes.PyDLL(None)

def app(environ, start_response):
    if environ["PATH_INFO"] == "/hold":
        os.write(1, b"HOLDING\\n")
        while True:
            held.sleep(60)
    if environ["PATH_INFO"] == "/body":
        body = str(len(environ["wsgi.input"].read())).encode()
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]
    return plain(environ, start_response)
"""

#: What a worker imports late is imported early: an interpreter may stand where another user cannot read.
CONFIG = f"""
import ctypes, random, tempfile
workers = 1
user, group = {UID}, {GID}
umask = 0o027
bind = "unix:here.sock"
pidfile = "here.pid"
errorlog, accesslog = "error.log", "access.log"
body_buffer_size = 1000
graceful_timeout = 1
timeout = 2
"""


@pytest.fixture
def public(kind: str) -> Iterator[tuple[Start, Path]]:
    """Starts servers in a directory that everybody may read and nobody but root may write, and that directory."""
    folder = Path(tempfile.mkdtemp(prefix="cyhorn-box-"))
    folder.chmod(0o755)
    (folder / "app.py").write_text(APPLICATION.format(version="one") + APPENDIX)
    servers = starter(kind, folder)
    yield next(servers), folder
    for _ in servers:
        pass
    shutil.rmtree(folder)


def status(pid: int) -> dict[str, list[str]]:
    """What the kernel tells of `pid`: name → words."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: words.split() for name, _, words in (line.partition(":") for line in lines)}


def rights(pid: int) -> dict[str, Any]:
    """Whose rights `pid` has."""
    told = status(pid)
    return {
        "uids": told["Uid"],
        "gids": told["Gid"],
        "groups": told["Groups"],
        "capabilities": [int(told[f"Cap{which}"][0], 16) for which in ("Inh", "Prm", "Eff", "Amb")],
    }


DROPPED = {"uids": [str(UID)] * 4, "gids": [str(GID)] * 4, "groups": [], "capabilities": [0] * 4}


@needs_root
@pytest.mark.kinds("sync-compiled", "sync-python", "gevent-compiled")
def test_a_worker_has_nothing_of_root_and_all_that_it_needs(public: tuple[Start, Path]) -> None:
    serve, folder = public
    os.setgroups([0, 4])
    try:
        server = serve(CONFIG, bind="")
    finally:
        os.setgroups([0])
    at = folder / "here.sock"
    [worker] = until(lambda: at.exists() and server.workers(), "a worker")
    until(lambda: rights(worker) == DROPPED, "the drop")
    facts = at.stat()
    assert (facts.st_uid, facts.st_gid, stat.S_IMODE(facts.st_mode)) == (UID, GID, 0o750)

    def ask(target: str, body: bytes = b"") -> bytes:
        with server_socket(at) as connection:
            head = f"POST {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body)
            received = b""
            while data := connection.recv(65536):
                received += data
        assert received.startswith(b"HTTP/1.1 200 "), received
        return received.partition(b"\r\n\r\n")[2]

    assert ask("/body", b"x" * 5000) == b"5000"  # spooled
    # The logs were made by root and given to the worker's user, who opens them again.
    for name in ("access.log", "error.log"):
        (folder / name).rename(folder / f"{name}.1")
        (folder / name).touch()
        os.chown(folder / name, UID, GID)
    server.signal(signal.SIGUSR1)
    until(lambda: ask("/after") and "/after" in (folder / "access.log").read_text(), "the new access log")
    assert "/after" in (folder / "access.log").read_text()
    # Its heartbeat is heard: it lives longer than the timeout.
    aged = 3 * os.sysconf("SC_CLK_TCK")
    until(lambda: age(worker) > aged, "a worker older than the timeout")
    assert server.workers() == [worker]
    assert rights(worker) == DROPPED
    assert "TIMEOUT" not in (folder / "error.log.1").read_text() + (folder / "error.log").read_text()
    # And its end is what it is with the rights of root.
    assert server.stop() == 0
    assert not at.exists() and not (folder / "here.pid").exists()


def age(pid: int) -> float:
    """Ticks since `pid` began."""
    begun = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    return float(Path("/proc/uptime").read_text().split()[0]) * os.sysconf("SC_CLK_TCK") - begun


def server_socket(path: Path) -> Any:
    import socket

    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(20)
    connection.connect(str(path))
    return connection


@needs_root
@pytest.mark.kinds("sync-compiled")
def test_a_worker_without_rights_and_out_of_reach_ends_with_its_master(public: tuple[Start, Path]) -> None:
    """The kernel forgets whom to tell of the master's end when a process changes its user."""
    serve, folder = public
    server = serve(CONFIG.replace("timeout = 2\n", "") + "timeout = 0\n", bind="")
    at = folder / "here.sock"
    [worker] = until(lambda: at.exists() and server.workers(), "a worker")
    until(lambda: rights(worker) == DROPPED, "the drop")
    with server_socket(at) as connection:
        connection.sendall(b"GET /hold HTTP/1.1\r\nHost: a\r\n\r\n")
        server.wait_for("HOLDING")
        server.signal(signal.SIGKILL)
        until(lambda: not is_alive(worker), "its end")


@pytest.mark.kinds("sync-compiled", "sync-python")
def test_nobody_else_may_write_what_a_daemon_makes_though_its_mask_is_zero(public: tuple[Start, Path]) -> None:
    """Gunicorn's default is a mask of zero, for its unix socket; it is not for files."""
    serve, folder = public
    config = (
        "daemon = True\npidfile = 'here.pid'\nerrorlog, accesslog = 'error.log', 'access.log'\n"
        "bind = 'unix:here.sock'\numask = 0\nbody_buffer_size = 1000\ntmp_upload_dir = '.'\n"
    )
    wrapper = "import os, sys; os.umask(0); os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    server = serve(config, bind="", wrapper=wrapper)
    assert server.wait_exit() == 0
    pid = int(until(lambda: (folder / "here.pid").exists() and (folder / "here.pid").read_text(), "a pid file"))
    try:
        at = folder / "here.sock"
        until(at.exists, "the socket")
        with server_socket(at) as connection:
            connection.sendall(b"POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n" + b"x" * 4999)
            # An unlinked file is seen through its descriptor.
            spool = until(lambda: spools(pid), "the spool")
            connection.sendall(b"x")
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        made = {path: path.lstat().st_mode for path in folder.rglob("*") if path.name != "app.py"}
        assert {path.name for path in made} >= {"here.pid", "error.log", "access.log", "here.sock"}
        files = {path.name: mode for path, mode in made.items() if not stat.S_ISSOCK(mode)}
        assert [name for name, mode in files.items() if mode & stat.S_IWOTH] == []
        assert {stat.S_IMODE(mode) for mode in spool} == {0o600}
        assert stat.S_IMODE(at.stat().st_mode) == 0o777  # as asked for
    finally:
        os.kill(pid, signal.SIGTERM)
        until(lambda: not is_alive(pid), "the end of the daemon")


def spools(master: int) -> list[int]:
    """The modes of the spool files that the workers of `master` have open."""
    modes = []
    for pid in [child for child, parent, _ in processes() if parent == master]:
        for fd in os.listdir(f"/proc/{pid}/fd"):
            link = f"/proc/{pid}/fd/{fd}"
            if re.search(r"cyhorn-body-|/#\d+ \(deleted\)", os.readlink(link)):
                modes.append(os.stat(link).st_mode)
    return modes
