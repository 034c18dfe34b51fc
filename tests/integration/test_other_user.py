"""Workers that become a user who may read neither the interpreter's library nor this package."""

from __future__ import annotations

import os
import pwd
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.harness import Server, until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
Serve = Callable[..., Server]

CONFIG = """
import os, sys

class Unreadable:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if os.geteuid():
            raise ModuleNotFoundError(f"this user may not read {name}", name=name)

sys.meta_path.insert(0, Unreadable)
user, group = USER
preload_app = True  # so that the application is what root may read
accesslog = "access.log"
access_log_format = "%(m)s %(s)s %(D)s %({x-y}i)s"
body_buffer_size = 1000
proxy_protocol = "auto"
timeout = 30
"""
OWN_LOGGER = """
from cyhorn.log.logger import Logger

class Own(Logger):
    def access(self, resp, req, environ, request_time):
        self.access_log.info("OWN %s %s", resp.status_code, request_time.total_seconds() >= 0)

logger_class = Own
"""
APPLICATION = """
def app(environ, start_response):
    size = len(environ["wsgi.input"].read())
    if environ["PATH_INFO"] == "/fails":
        raise ValueError(size)
    body = f"{environ['REMOTE_ADDR']} {size}".encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""


@pytest.mark.provokes("Error handling request GET /fails", "Invalid request from")
@pytest.mark.parametrize("more", ["", OWN_LOGGER], ids=["format", "logger"])
def test_nothing_is_left_to_be_imported_by_such_a_user(serve_sync: Serve, tmp_path: Path, more: str) -> None:
    user = next(user for user in pwd.getpwall() if user.pw_uid > 1 and user.pw_gid > 1)
    (tmp_path / "app.py").write_text(APPLICATION)
    server = serve_sync(CONFIG.replace("USER", repr((user.pw_uid, user.pw_gid))) + more)
    head = b"PROXY TCP4 192.0.2.1 127.0.0.1 1 2\r\nPOST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
    until(lambda: len(server.workers()) == 1, "a worker")
    assert exchange(server, head + b"Content-Length: 100000\r\n\r\n" + b"x" * 100000).endswith(b"192.0.2.1 100000")
    assert exchange(server, b"GET /fails HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").startswith(b"HTTP/1.1 500")
    assert exchange(server, b"GET / HTTP/3\r\n\r\n").startswith(b"HTTP/1.1 400")
    server.signal(signal.SIGHUP)
    server.wait_for("Reload done")
    assert server.stop() == 0
    assert len((tmp_path / "access.log").read_text().splitlines()) == 2
    assert not server.seen("may not read")


def exchange(server: Server, request: bytes) -> bytes:
    """All that comes in answer."""
    received = b""
    with server.connect() as connection:
        connection.sendall(request)
        while chunk := connection.recv(65536):
            received += chunk
    return received
