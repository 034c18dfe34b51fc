"""cyhorn behind or before real programs, each on loopback with a directory and ports of its own.

`Backend` is a server with one worker that, when it is left, must have logged nothing out of
the ordinary and hold no descriptor more than before. `Program` is a neighbour: started, awaited
until it listens, ended. `Wire` is a client that reads each answer to the letter and says nothing by itself.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from tests.integration.harness import PATIENCE, Broken, Server, until
from tests.neighbours.application import content

#: What a server says in a life without incident.
ORDINARY = re.compile(
    r"\[\d+\] \[INFO\] (Starting cyhorn|Running |Using worker: |Listening at: |Booting worker with pid: "
    r"|Handling signal: |Shutting down: |Worker exiting|Hang up: |Reload done: )"
)


class Backend(Server):
    """One worker around the `app` of a module. `transport` is tcp, unix or tls (a self-signed certificate)."""

    def __init__(self, folder: Path, side: str, transport: str, *arguments: str, application: str) -> None:
        (folder / "app.py").write_text(f"from {application} import app\n")
        self.unix = transport == "unix"
        bind = f"unix:{folder}/s" if self.unix else "127.0.0.1:0"
        self.certificate: Path | None = None
        trust = None
        if transport == "tls":
            self.certificate = self_signed(folder)
            arguments += ("--certfile", "server.crt", "--keyfile", "server.key")
            trust = ssl.create_default_context(cafile=str(self.certificate))
        self._provoked: list[str] = []
        self._checked = 0
        super().__init__(folder, "sync", side, bind=bind, arguments=("--workers", "1", *arguments), trust=trust)

    @property
    def where(self) -> str:
        """Where it listens, as nginx and HAProxy write it."""
        return f"unix:{self.address}" if self.unix else "{}:{}".format(*self.address)

    @property
    def url(self) -> str:
        return f"{'https' if self.certificate else 'http'}://{self.where}"

    @property
    def worker(self) -> int:
        (pid,) = self.workers()
        return pid

    def answering(self, count: int) -> bool:
        """Whether there are `count` workers and one answers: where there is one, it is loaded."""
        try:
            return len(self.workers()) == count and bool(self.get("/"))
        except (Broken, OSError):
            return False

    def open_files(self) -> list[str]:
        """What the worker holds besides connections, and one "socket" for each of these."""
        names = []
        for entry in os.listdir(f"/proc/{self.worker}/fd"):
            try:
                name = os.readlink(f"/proc/{self.worker}/fd/{entry}")
            except FileNotFoundError:
                continue
            names.append(re.sub(r":\[\d+\]$", "", name))
        return sorted(names)

    def settle(self) -> None:
        """Remember what an idle worker holds: the listener is its only socket, whatever is connected now."""
        self.idle = sorted([*(name for name in self.open_files() if name != "socket"), "socket"])

    def state(self) -> dict[str, int]:
        """The application's counts; asking is a request as well."""
        told: dict[str, int] = json.loads(self.get("/state"))
        return told

    def provoked(self, pattern: str) -> None:
        """Wait for the one line that the test has provoked."""
        self._provoked += self.wait_for(pattern, self._checked)

    def check_log(self) -> None:
        """Since the last check nothing was logged but the ordinary and what was provoked."""
        seen, self._checked = self.lines[self._checked :], len(self.lines)
        odd = [line for line in seen if not ORDINARY.search(line) and line not in self._provoked]
        self._provoked.clear()
        assert odd == [], "\n".join(odd)

    def check_files(self) -> None:
        """The worker lets go of everything once the connections have ended."""
        until(lambda: self.open_files() == self.idle, f"{self.open_files()} to become {self.idle}", 10)


def self_signed(folder: Path) -> Path:
    """A certificate for 127.0.0.1, server.crt in `folder`; its key lies beside it as server.key."""
    made = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    names = "-addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout server.key -out server.crt"
    subprocess.run(["openssl", *made.split(), *names.split()], cwd=folder, check=True, capture_output=True)
    return folder / "server.crt"


@contextmanager
def backend(
    folder: Path, side: str, transport: str, *arguments: str, application: str
) -> Iterator[Backend]:
    """A server that runs for the block, and has to leave it clean."""
    server = Backend(folder, side, transport, *arguments, application=application)
    try:
        server.ready()
        server.settle()
        yield server
        server.check_files()
        assert server.stop() == 0, server.log()
        server.check_log()
    finally:
        server.destroy()


class Program:
    """A running neighbour; `log` is what it has said."""

    def __init__(self, command: Sequence[str], folder: Path, env: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self._sink = folder / "said.log"
        with self._sink.open("ab") as sink:
            self.process = subprocess.Popen(
                command, cwd=folder, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, env=env
            )

    @property
    def log(self) -> str:
        return self._sink.read_text(errors="replace")

    def wait_until_listening(self, port: int) -> bool:
        """Whether it listens at `port`; False when it has ended instead, as another program has the port."""

        def settled() -> bool:
            return self.process.poll() is not None or listens(port)

        until(settled, f"{self.process.args!r} to listen\n{self.log}")
        return self.process.poll() is None

    def end(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


def listens(port: int) -> bool:
    """Whether somebody does, by the kernel's table: connecting would be a connection to account for."""
    wanted = f":{port:04X}"
    return any(
        fields[1].endswith(wanted) and fields[3] == "0A"
        for fields in (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    )


def free_ports(count: int) -> list[int]:
    """Ports that nobody has at the moment."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


@contextmanager
def listening(start: Callable[[list[int]], Program], count: int = 1) -> Iterator[tuple[Program, list[int]]]:
    """What `start` makes of `count` free ports; tries others when somebody was faster."""
    for _ in range(5):
        ports = free_ports(count)
        program = start(ports)
        try:
            if program.wait_until_listening(ports[0]):
                yield program, ports
                return
        finally:
            program.end()
    raise AssertionError(program.log)


class Answer(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def connection(self) -> str:
        """The connection by which the application was reached."""
        name = self.headers["X-Connection"]
        assert isinstance(name, str), (self.status, self.headers.items(), self.body[:200])
        return name

    def json(self) -> Any:
        assert self.status == 200, (self.status, self.body[:200])
        return json.loads(self.body)


class Wire:
    """One connection over which bytes are sent as they are; answers are read one by one."""

    def __init__(self, address: Any, source: str = "") -> None:
        if isinstance(address, str):
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(PATIENCE)
            self.sock.connect(address)
        else:
            bound = (source, 0) if source else None
            self.sock = socket.create_connection(address, timeout=PATIENCE, source_address=bound)
        self.file = self.sock.makefile("rb")

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def head(self) -> tuple[int, http.client.HTTPMessage]:
        line = self.file.readline()
        found = re.fullmatch(rb"HTTP/1\.1 (\d{3})(?: [^\r\n]*)?\r\n", line)
        assert found is not None, line
        return int(found[1]), http.client.parse_headers(self.file)

    def answer(self, method: str = "GET") -> Answer:
        """The next answer, to a request of `method`; 1xx are answers of their own here."""
        status, headers = self.head()
        return Answer(status, headers, self._body(method, status, headers))

    def _body(self, method: str, status: int, headers: http.client.HTTPMessage) -> bytes:
        if method == "HEAD" or status < 200 or status in (204, 304):
            return b""
        if headers["Transfer-Encoding"]:
            assert headers["Transfer-Encoding"] == "chunked" and not headers["Content-Length"]
            parts = []
            while size := int(self.file.readline(), 16):
                parts.append(self._exactly(size))
                assert self.file.readline() == b"\r\n"
            assert self.file.readline() == b"\r\n"
            return b"".join(parts)
        if headers["Content-Length"] is not None:
            return self._exactly(int(headers["Content-Length"]))
        assert headers["Connection"] == "close", headers.items()
        return self.file.read()

    def _exactly(self, size: int) -> bytes:
        data = self.file.read(size)
        assert len(data) == size, f"{size} bytes announced, {len(data)} came"
        return data

    def ask(self, method: str, target: str, body: bytes = b"", **headers: str) -> Answer:
        """Send a whole request, its body by Content-Length, and read the answer."""
        self.send(request(method, target, body, **headers))
        return self.answer(method)

    def at_end(self) -> bool:
        """Wait for the peer's end; whether nothing came before it."""
        return self.file.read(1) == b""

    def abort(self) -> None:
        """Close with a reset, as a client does that is killed."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.close()

    def close(self) -> None:
        self.file.close()
        self.sock.close()

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def request(method: str, target: str, body: bytes = b"", **headers: str) -> bytes:
    """A request's bytes; ``X_Name="v"`` is the field X-Name."""
    fields = {"Host": "neighbour", **{name.replace("_", "-"): value for name, value in headers.items()}}
    if body:
        fields["Content-Length"] = str(len(body))
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{method} {target} HTTP/1.1\r\n{lines}\r\n".encode() + body


def chunked(data: bytes, size: int = 65536) -> Iterator[bytes]:
    """`data` in chunks (9112 7.1), the last one included."""
    for start in range(0, len(data), size):
        piece = data[start : start + size]
        yield b"%x\r\n%s\r\n" % (len(piece), piece)
    yield b"0\r\n\r\n"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def upload_is_whole(told: Mapping[str, Any], size: int) -> bool:
    """Whether `/echo` has seen the first `size` bytes of the content."""
    return (told["size"], told["sha256"]) == (size, sha256(content(size)))


def hang_up(server: Backend) -> None:
    """Reload, and wait until the new worker serves alone."""
    before, mark = server.worker, server.mark()
    server.signal(signal.SIGHUP)
    server.wait_for("Reload done", mark)
    until(lambda: before not in server.workers() and len(server.workers()) == 1, "the old worker's end")


def failures_of_reloads(server: Backend, front: tuple[str, int]) -> list[str]:
    """Reload three times while clients ask at `front` again and again; what did not go well."""
    over = threading.Event()
    failures: list[str] = []
    served: list[Any] = []

    def ask() -> None:
        while not over.is_set():
            try:
                with Wire(front) as wire:
                    for number in range(20):
                        answer = wire.ask("POST" if number % 2 else "GET", "/echo", b"x" * (number % 2))
                        served.append(answer.json())
            except Exception as error:
                failures.append(repr(error))

    def enough(count: int) -> bool:
        return len(served) >= count or bool(failures)

    clients = [threading.Thread(target=ask) for _ in range(4)]
    for client in clients:
        client.start()
    try:
        for _ in range(3):
            until(partial(enough, len(served) + 50), "answers")
            hang_up(server)
    finally:
        over.set()
        for client in clients:
            client.join()
    server.settle()
    return failures


def http_client(port: int) -> closing[http.client.HTTPConnection]:
    return closing(http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE))
