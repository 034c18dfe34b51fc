"""examples/nginx and examples/haproxy in front of a real server, with only addresses changed."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from .conftest import BOOT_SECONDS, EXAMPLES

FLASK = EXAMPLES / "flask"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def proxy(command: list[str], where: Path, port: int) -> Iterator[http.client.HTTPConnection]:
    """A connection to `port`, where `command` listens from now until the block is left."""
    log = where / "proxy.log"
    with log.open("w") as sink:
        process = subprocess.Popen(command, cwd=where, stdout=sink, stderr=sink)
    try:
        deadline = time.monotonic() + BOOT_SECONDS
        while True:
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except ConnectionRefusedError:
                time.sleep(0.01)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=BOOT_SECONDS)
        with closing(connection):
            yield connection
    finally:
        process.terminate()
        process.wait(BOOT_SECONDS)


@contextmanager
def nginx(where: Path, server: str, fields: str = "") -> Iterator[http.client.HTTPConnection]:
    """A connection to examples/nginx before `server` (host:port or unix:path), with further lines for its location."""
    port = free_port()
    text = (EXAMPLES / "nginx/nginx.conf").read_text()
    text = text.replace("unix:/run/app/cyhorn.sock", server).replace("127.0.0.1:8080", f"127.0.0.1:{port}")
    text = text.replace("proxy_pass http://app;", f"proxy_pass http://app;\n{fields}")
    # The server is given a directory of the test's own, so that it runs as any user.
    paths = [f"{kind}_temp_path {where};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")]
    (where / "nginx.conf").write_text(text.replace("http {", "http {\n" + "\n".join(paths), 1))
    # Nor does it drop root where the test is root: only the owner reaches the socket.
    more = "daemon off;" + (" user root;" if os.geteuid() == 0 else "")
    command = ["nginx", "-p", str(where), "-c", "nginx.conf", "-e", "stderr", "-g", more]
    with proxy(command, where, port) as connection:
        yield connection


@contextmanager
def haproxy(
    where: Path, server: str, rules: str = "", proxy_protocol: bool = True
) -> Iterator[http.client.HTTPConnection]:
    """A connection to examples/haproxy before `server` (host:port), with further lines for its frontend."""
    port = free_port()
    text = (EXAMPLES / "haproxy/haproxy.cfg").read_text()
    text = text.replace("127.0.0.1:8080", f"127.0.0.1:{port}").replace("127.0.0.1:8000", server)
    text = text.replace("default_backend app", f"{rules}\n    default_backend app")
    if not proxy_protocol:
        text = text.replace(" send-proxy-v2 check-send-proxy", "")
    (where / "haproxy.cfg").write_text(text)
    with proxy(["haproxy", "-db", "-f", "haproxy.cfg"], where, port) as connection:
        yield connection


def echo(connection: http.client.HTTPConnection) -> dict[str, object]:
    connection.request("POST", "/echo", json.dumps(["x"] * 1000), {"Content-Type": "application/json"})
    response = connection.getresponse()
    body = response.read()
    assert response.status == 200, body
    seen: dict[str, object] = json.loads(body)
    assert seen["json"] == ["x"] * 1000
    return seen


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
def test_nginx_passes_requests_over_a_unix_socket(impl, serve, tmp_path: Path) -> None:
    with (
        serve(impl.name, "unix", FLASK, "app:app") as server,
        nginx(tmp_path, server.url) as connection,
    ):
        for _ in range(3):
            assert echo(connection)["scheme"] == "http"


@pytest.mark.skipif(shutil.which("haproxy") is None, reason="haproxy is not installed")
def test_haproxy_passes_the_clients_address_by_the_proxy_protocol(impl, serve, tmp_path: Path) -> None:
    flags = ("--proxy-protocol", "v2", "--proxy-allow-from", "127.0.0.1", "app:app")
    with (
        serve(impl.name, "tcp", FLASK, *flags) as server,
        haproxy(tmp_path, re.sub(r"^http://", "", server.url)) as connection,
    ):
        for _ in range(3):
            assert echo(connection)["remote"] == "127.0.0.1"
