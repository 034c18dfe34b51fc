"""A real master process, and what one can see of it from outside.

`Server` starts ``python -m cyhorn`` in a directory of its own, reads its log line by line from
a pipe and waits for lines and conditions instead of sleeping. `get` is a strict HTTP/1.1
client: an answer that is cut short, has no length or carries bytes beyond it is an error.
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 20.0
#: For what comes at once because an event announces it: far below the timeouts and graces of these tests, far
#: above what a loaded machine adds. `python -m reliability` gives the figures and holds them to their bounds.
SOON = 10.0

#: What a server does not log in a life without incident.
_INCIDENT = re.compile(r"\[(WARNING|ERROR|CRITICAL)\]|^Traceback ")
_LINE = re.compile(r"^\[[^]]*\] \[\d+\] \[[A-Z]+\] ")

#: An application that says who it is: ``/`` gives the version of its code; see the paths below.
APPLICATION = """
import os, time

VERSION = {version!r}

def app(environ, start_response):
    path, query = environ["PATH_INFO"], environ["QUERY_STRING"]
    if path == "/pid":
        body = str(os.getpid())
    elif path == "/env":
        body = os.environ.get(query, "")
    elif path == "/sleep":
        os.write(1, b"SLEEPING\\n")  # one write: a line is whole
        time.sleep(float(query))
        body = "slept"
    elif path == "/crash":
        os._exit(int(query))
    else:
        body = VERSION
    body = body.encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]

os.write(1, b"LOADED in %d\\n" % os.getpid())
"""


#: Variables that configure a server and are none of cyhorn's own.
PLATFORM_VARIABLES = ("PWD", "PORT", "WEB_CONCURRENCY", "FORWARDED_ALLOW_IPS", "SENDFILE", "NOTIFY_SOCKET")


class Broken(Exception):
    """A request got no whole answer."""


class Answer(NamedTuple):
    """An answer of any status; field names are in small letters."""

    status: int
    fields: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as what it says in JSON."""
        return json.loads(self.body)


class Deadline:
    """Some seconds of a machine that has time for us.

    Whoever waits asks `is_over` in turns of hundredths of a second. A turn that took longer was others'
    time, which the server did not have either, and counts for `TURN` only; so a promise like "within a
    second" can be tested on a busy machine. After `LIMIT` seconds by the clock it is over in any case.
    """

    TURN = 0.03
    LIMIT = 40.0

    def __init__(self, seconds: float) -> None:
        self._left = seconds
        self._begun = self._last = time.monotonic()
        self._limit = max(seconds, self.LIMIT)

    def is_over(self) -> bool:
        now = time.monotonic()
        self._left -= min(now - self._last, self.TURN)
        self._last = now
        return self._left < 0 or now - self._begun > self._limit


def until(condition: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    """Wait until `condition` is true, and return its value."""
    deadline = Deadline(patience)
    while not (value := condition()):
        if deadline.is_over():
            raise AssertionError(f"in vain for {patience} s: {what}")
        time.sleep(0.01)
    return value


def listens(path: Path) -> bool:
    """Whether a Unix socket takes connections: a moment earlier there is only its file."""
    with socket.socket(socket.AF_UNIX) as connection:
        return connection.connect_ex(str(path)) == 0


class Server:
    """A master process in `folder`.

    `config` is the text of its config file, None leaves those in `folder` alone; `worker_class` is the class
    under test, `impl` what CYHORN_IMPL says. `application` is what the command line names, `folder`/app.py by
    default. An empty `bind`, `worker_class` or `application` is left to the file. `wrapper` is Python code that is
    run first and is to execute its arguments, with the descriptors `pass_fds` open.
    `at` is where it listens, for one whose log does not come here; `trust` is what its clients verify its
    certificate by, where it serves TLS.
    """

    def __init__(
        self,
        folder: Path,
        worker_class: str,
        impl: str = "python",
        config: str | None = "",
        arguments: Sequence[str] = (),
        environ: Mapping[str, str] | None = None,
        bind: str = "127.0.0.1:0",
        wrapper: str = "",
        pass_fds: Sequence[int] = (),
        application: str = "app:app",
        at: Any = None,
        trust: ssl.SSLContext | None = None,
    ) -> None:
        self.folder = folder
        self.trust = trust
        self.lines: list[str] = []
        self._news = threading.Condition()
        self._finished = False
        self._expected: set[str] = set()
        self.application_file = folder / "app.py"
        self.config_file = folder / "cyhorn.conf.py"
        if not self.application_file.exists():
            self.write_application("one")
        if config is not None:
            self.write_config(config)
        self._at = at
        command = [sys.executable, *(["-c", wrapper] if wrapper else []), "-m", "cyhorn"]
        command += ["-b", bind] if bind else []
        command += ["-k", worker_class] if worker_class else []
        command += [*arguments, *([application] if application else [])]
        env = {
            name: value for name, value in os.environ.items() if not name.startswith(("CYHORN", "GUNICORN"))
        }
        env.update(PYTHONPATH=str(ROOT), CYHORN_IMPL=impl, PYTHONDONTWRITEBYTECODE="1", PYTHONUNBUFFERED="1")
        for name in PLATFORM_VARIABLES:
            env.pop(name, None)
        env.update(environ or {})
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
            pass_fds=pass_fds,
        )
        self.pid = self.process.pid
        assert self.process.stdout is not None
        self._stdout = self.process.stdout.fileno()
        os.set_blocking(self._stdout, False)
        self._begun = b""  # a line without its end
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    # --- its files -----------------------------------------------------------------------

    def write_application(self, version: str, before: str = "", after: str = "") -> None:
        """Replace app.py at once, so that nobody imports half of it."""
        self._replace(self.application_file, before + APPLICATION.format(version=version) + after)

    def write_config(self, text: str) -> None:
        self._replace(self.config_file, text)

    @staticmethod
    def _replace(path: Path, text: str) -> None:
        draft = path.with_suffix(".draft")
        draft.write_text(text)
        os.replace(draft, path)

    # --- its log -------------------------------------------------------------------------

    def _read(self) -> None:
        output = select.poll()
        output.register(self._stdout, select.POLLIN)
        while not self._finished:
            output.poll()
            self._take()

    def _take(self) -> None:
        """Add to `lines` what the processes have written up to now, whether the reader had its turn or not."""
        with self._news:
            while not self._finished:
                try:
                    received = os.read(self._stdout, 65536)
                except BlockingIOError:
                    break
                self._finished = not received
                *lines, self._begun = (self._begun + received).split(b"\n")
                if self._finished and self._begun:
                    lines.append(self._begun)
                self.lines += [line.decode(errors="replace") for line in lines]
            self._news.notify_all()

    def log(self) -> str:
        self._take()
        return "\n".join(self.lines)

    def mark(self) -> int:
        """Where the log is now: `wait_for` looks behind it."""
        self._take()
        return len(self.lines)

    def wait_for(self, pattern: str, since: int = 0, count: int = 1, patience: float = PATIENCE) -> list[str]:
        """The first `count` lines behind `since` that match; waits for them."""
        deadline = Deadline(patience)
        self._expected.add(pattern)
        with self._news:
            while True:
                found = [line for line in self.lines[since:] if re.search(pattern, line)]
                if len(found) >= count:
                    return found[:count]
                if deadline.is_over() or self._finished:
                    raise AssertionError(f"no {pattern!r} ({count}) in the log:\n{self.log()}")
                self._news.wait(0.02)

    def expect(self, *patterns: str) -> None:
        """Lines that match are what the test provokes. What is waited for is expected, too."""
        self._expected.update(patterns)

    def incidents(self) -> list[str]:
        """The warnings, errors and tracebacks that nobody expected.

        A traceback belongs to the line before it.
        """
        self._take()
        found, expected = [], False
        for line in list(self.lines):
            begins = _LINE.search(line)
            if begins:
                expected = any(re.search(pattern, line) for pattern in self._expected)
            if _INCIDENT.search(line) and not (expected or any(re.search(p, line) for p in self._expected)):
                found.append(line)
        return found

    def seen(self, pattern: str, since: int = 0) -> list[str]:
        """The lines behind `since` that match, of all that has been written."""
        self._take()
        return [line for line in self.lines[since:] if re.search(pattern, line)]

    # --- its processes -------------------------------------------------------------------

    def workers(self, master: int | None = None) -> list[int]:
        """The living children of the master."""
        return [pid for pid, ppid, state in processes() if ppid == (master or self.pid) and state not in "ZX"]

    def zombies(self) -> list[int]:
        return [pid for pid, ppid, state in processes() if ppid == self.pid and state == "Z"]

    def ready(self, count: int = 1, since: int = 0) -> Server:
        """Wait until `count` workers serve."""
        self.wait_for("Listening at")
        until(
            lambda: self.answering(count) or self.process.poll() is not None, f"{count} workers\n{self.log()}"
        )
        assert self.process.poll() is None, self.log()
        return self

    def answering(self, count: int) -> bool:
        """Whether there are `count` workers, all of them have loaded the application, and one answers."""
        workers = self.workers()
        loaded = {int(line.split()[-1]) for line in self.seen(r"^LOADED in \d+$")}
        if len(workers) != count or not (loaded >= set(workers) or self.pid in loaded):
            return False
        try:
            return bool(self.get("/"))
        except (Broken, OSError):
            return False

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait_exit(self, patience: float = PATIENCE) -> int:
        deadline = Deadline(patience)
        while (code := self.process.poll()) is None:
            assert not deadline.is_over(), f"the master did not end within {patience} s:\n{self.log()}"
            time.sleep(0.01)
        self._reader.join(2)
        return code

    def stop(self) -> int:
        """TERM and the exit status."""
        self.signal(signal.SIGTERM)
        return self.wait_exit()

    def destroy(self) -> None:
        """Whatever is left of it, gone."""
        pids = {pid for pid, _, _ in processes() if self._is_ours(pid)} | {self.pid}
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait()
        self._reader.join(2)
        assert self.process.stdout is not None
        if not self._reader.is_alive():
            self.process.stdout.close()

    def _is_ours(self, pid: int) -> bool:
        try:
            return os.readlink(f"/proc/{pid}/cwd") == str(self.folder.resolve())
        except OSError:
            return False

    # --- as a client ---------------------------------------------------------------------

    @property
    def address(self) -> Any:
        if self._at is not None:
            return self._at
        line = self.wait_for(r"Listening at: (http|unix:)")[0]
        found = re.search(r"Listening at: (?:https?://(.*?):(\d+)|unix:([^ ,]+))", line)
        assert found is not None, line
        self._at = str(self.folder / found[3]) if found[3] else (found[1].strip("[]"), int(found[2]))
        return self._at

    def connect(self, source: str = "") -> socket.socket:
        """A connection, from the address `source` of this machine if that is given."""
        address = self.address
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        connection = socket.socket(family, socket.SOCK_STREAM)
        connection.settimeout(PATIENCE)
        try:
            if source:
                connection.bind((source, 0))
            connection.connect(address)
            if self.trust is None:
                return connection
            return self.trust.wrap_socket(connection, server_hostname=address[0])
        except BaseException:
            connection.close()
            raise

    def send(self, target: str) -> socket.socket:
        """A connection on which a request for `target` is sent."""
        connection = self.connect()
        connection.sendall(f"GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        return connection

    def occupy(self, seconds: float) -> socket.socket:
        """A connection whose request occupies a worker for `seconds`, which it has begun."""
        mark = self.mark()
        connection = self.send(f"/sleep?{seconds}")
        self.wait_for("SLEEPING", mark)
        return connection

    def get(self, target: str = "/") -> str:
        """The body of the answer to GET `target`. Raises Broken."""
        with self.send(target) as connection:
            return answer(connection)

    def exchange(self, request: bytes, source: str = "") -> bytes:
        """All that comes until the server closes, after these bytes were sent."""
        with self.connect(source) as connection:
            connection.sendall(request)
            return to_the_end(connection)

    def ask(
        self,
        target: str = "/",
        *fields: str,
        method: str = "GET",
        body: bytes = b"",
        version: str = "HTTP/1.1",
        source: str = "",
    ) -> Answer:
        """The answer, whatever its status, to a request with these further `fields` ("Name: value")."""
        lines = [f"{method} {target} {version}", "Host: a", "Connection: close", *fields]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        return parse_answer(self.exchange("\r\n".join([*lines, "", ""]).encode("latin-1") + body, source))

    def serves(self, body: str) -> None:
        """Wait until `body` is the answer. Until the old workers are gone they may still take a request."""
        until(lambda: self.get() == body, f"the answer {body!r}")


def answer(connection: socket.socket) -> str:
    """Read the one answer on `connection` to its end."""
    received = b""
    try:
        while chunk := connection.recv(65536):
            received += chunk
    except OSError as error:
        raise Broken(f"{error} after {received!r}") from error
    head, separator, body = received.partition(b"\r\n\r\n")
    if not separator:
        raise Broken(f"no whole head: {received!r}")
    lines = head.decode("latin-1").split("\r\n")
    if not re.fullmatch(r"HTTP/1\.1 200 .*", lines[0]):
        raise Broken(f"{lines[0]}: {body[:2000]!r}")
    fields = dict(line.lower().split(": ", 1) for line in lines[1:])
    if int(fields["content-length"]) != len(body):
        raise Broken(f"{fields['content-length']} bytes announced, {len(body)} came")
    return body.decode()


def to_the_end(connection: socket.socket) -> bytes:
    """All that comes on `connection` until its end, or until it is reset."""
    received = b""
    try:
        while chunk := connection.recv(65536):
            received += chunk
    except ConnectionResetError:
        pass
    return received


def parse_answer(received: bytes) -> Answer:
    """The one answer that `received` is. Raises Broken."""
    head, separator, body = received.partition(b"\r\n\r\n")
    found = re.match(r"HTTP/1\.1 (\d{3}) ", head.decode("latin-1"))
    if not separator or found is None:
        raise Broken(f"no whole answer: {received!r}")
    fields = (line.split(": ", 1) for line in head.decode("latin-1").split("\r\n")[1:])
    return Answer(int(found[1]), {name.lower(): value for name, value in fields}, body)


class Load:
    """Clients that ask again and again, each on a fresh connection, until the block ends.

    `failures` are the answers that were not whole, `bodies` what the others said.
    """

    def __init__(self, server: Server, clients: int = 3, target: str = "/") -> None:
        self.failures: list[str] = []
        self.bodies: list[str] = []
        self._server = server
        self._target = target
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(clients)]

    def _ask(self) -> None:
        while not self._over.is_set():
            try:
                self.bodies.append(self._server.get(self._target))
            except (Broken, OSError) as error:
                self.failures.append(repr(error))

    def wait(self, more: int) -> None:
        """Wait until `more` answers have come from now on."""
        wanted = len(self.bodies) + more
        until(lambda: len(self.bodies) >= wanted or self.failures, f"{more} more answers")

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        self.wait(1)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(PATIENCE)


def processes() -> list[tuple[int, int, str]]:
    """Every process: pid, parent's pid, state."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            found.append((int(entry), int(fields[1]), fields[0]))
    return found


def is_alive(pid: int) -> bool:
    return any(found == pid and state not in "ZX" for found, _, state in processes())


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def open_files(pid: int) -> set[str]:
    """What the descriptors of `pid` are, those that are closed meanwhile left out."""
    names = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            names.add(os.readlink(f"/proc/{pid}/fd/{fd}"))
        except FileNotFoundError:
            pass
    return names


def title(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
