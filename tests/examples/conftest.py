"""A real server around an example, and a client with cookies over TCP, unix socket and TLS."""

from __future__ import annotations

import contextlib
import http.client
import http.cookies
import os
import random
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
TRANSPORTS = ("tcp", "unix", "tls")
BOOT_SECONDS = 30


class UnixConnection(http.client.HTTPConnection):
    """HTTP over the unix socket at `path`."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Client:
    """A client that keeps its connection and its cookies."""

    def __init__(self, connection: http.client.HTTPConnection, scheme: str = "http") -> None:
        self.connection = connection
        self.origin = f"{scheme}://{connection.host}:{connection.port}"
        self.cookies: http.cookies.SimpleCookie = http.cookies.SimpleCookie()

    def open(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> http.client.HTTPResponse:
        """The response, its body not yet read."""
        sent = {"Referer": self.origin + path, **(headers or {})}
        if self.cookies:
            sent["Cookie"] = "; ".join(f"{name}={morsel.value}" for name, morsel in self.cookies.items())
        self.connection.request(method, path, body, sent)
        response = self.connection.getresponse()
        for line in response.headers.get_all("Set-Cookie") or ():
            self.cookies.load(line)
        return response

    def get(self, path: str) -> tuple[int, bytes]:
        response = self.open("GET", path)
        return response.status, response.read()

    def post(self, path: str, fields: Mapping[str, str]) -> tuple[int, bytes]:
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        response = self.open("POST", path, urllib.parse.urlencode(fields).encode(), form)
        return response.status, response.read()

    def upload(self, path: str, content: bytes, fields: Mapping[str, str] | None = None) -> tuple[int, bytes]:
        """Post `content` as the file field "file" of a multipart form."""
        mark = "----boundary-of-the-test"
        parts = [
            f'--{mark}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
            for name, value in (fields or {}).items()
        ]
        head = f'--{mark}\r\nContent-Disposition: form-data; name="file"; filename="sent.bin"\r\n'
        parts += [head.encode(), b"Content-Type: application/octet-stream\r\n\r\n", content]
        parts.append(f"\r\n--{mark}--\r\n".encode())
        kind = {"Content-Type": f"multipart/form-data; boundary={mark}"}
        response = self.open("POST", path, b"".join(parts), kind)
        return response.status, response.read()


class Server:
    """A running master; `log` holds what it said so far, `url` where it listens."""

    def __init__(self, process: subprocess.Popen[str], certificate: Path) -> None:
        self.process = process
        self.certificate = certificate
        self.log: list[str] = []
        self.url = ""
        self._clients: list[Client] = []
        self._listening = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line)
            if found := re.search(r"Listening at: (\S+)", line):
                self.url = found[1].rstrip(",")
                self._listening.set()
        self._listening.set()

    def wait_until_listening(self) -> None:
        assert self._listening.wait(BOOT_SECONDS) and self.url, "".join(self.log)

    def stop(self) -> int:
        """Ask the master to stop as an operator does; its exit status."""
        for client in self._clients:
            client.connection.close()
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(BOOT_SECONDS)
        self._reader.join(BOOT_SECONDS)
        assert self.process.stderr is not None
        self.process.stderr.close()
        return status

    def client(self) -> Client:
        """A new client with a connection of its own, closed with the server at the latest."""
        where = urllib.parse.urlsplit(self.url)
        connection: http.client.HTTPConnection
        if self.url.startswith("unix:"):
            connection = UnixConnection(self.url.removeprefix("unix:"), BOOT_SECONDS)
        elif where.scheme == "https":
            trust = ssl.create_default_context(cafile=str(self.certificate))
            connection = http.client.HTTPSConnection(where.netloc, timeout=BOOT_SECONDS, context=trust)
        else:
            connection = http.client.HTTPConnection(where.netloc, timeout=BOOT_SECONDS)
        self._clients.append(Client(connection, where.scheme if where.scheme == "https" else "http"))
        return self._clients[-1]


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for 127.0.0.1; its key lies beside it as server.key."""
    where = tmp_path_factory.mktemp("tls")
    made = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    names = "-addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout server.key -out server.crt"
    subprocess.run(["openssl", *made.split(), *names.split()], cwd=where, check=True, capture_output=True)
    return where / "server.crt"


@pytest.fixture(scope="session")
def serve(
    certificate: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., contextlib.AbstractContextManager[Server]]:
    """``serve(side, transport, directory, *arguments, **environ)``: a server for a ``with`` block."""

    @contextlib.contextmanager
    def started(side: str, transport: str, where: Path, *arguments: str, **environ: str) -> Iterator[Server]:
        bind = "127.0.0.1:0"
        if transport == "unix":
            bind = f"unix:{tmp_path_factory.mktemp('socket') / 's'}"
        tls = ["--certfile", str(certificate), "--keyfile", str(certificate.with_name("server.key"))]
        process = subprocess.Popen(
            [sys.executable, "-m", "cyhorn", "--bind", bind, "--workers", "3"]
            + (tls if transport == "tls" else [])
            + list(arguments),
            cwd=where,
            env={**os.environ, "PYTHONPATH": str(ROOT), "CYHORN_IMPL": side, **environ},
            stderr=subprocess.PIPE,
            text=True,
        )
        server = Server(process, certificate)
        try:
            server.wait_until_listening()
            yield server
        finally:
            if process.poll() is None:
                status = server.stop()
                assert status == 0, "".join(server.log)
        assert "Traceback" not in "".join(server.log), "".join(server.log)

    return started


@pytest.fixture(scope="session")
def content() -> bytes:
    """50 MB that do not compress and do not repeat."""
    return random.Random(50).randbytes(50_000_000)
