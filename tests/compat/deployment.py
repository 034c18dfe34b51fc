"""A deployment under one server: started as its Procfile says, asked, signalled, and watched.

A `Deployment` has a directory of its own, a copy of one in `deployments/`. What a script does to it
(`get`, `signal`, `kill_worker`, `stop`) is noted in its `account`, together with what came of it; logs and files
are added at the end. Each action waits until what it sets off has come to rest, so that two accounts can be
compared to the letter. Nothing in an account depends on process ids, times, ports or directories.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

from tests.compat.servers import Kind
from tests.integration.harness import PATIENCE, processes, until

DEPLOYMENTS = Path(__file__).parent / "deployments"


class Answer(NamedTuple):
    """A response: its status line, its fields as ``Name: value``, its body without framing."""

    status: str
    fields: list[str]
    body: str


#: What an application says when a worker, or with preload_app the master, has loaded it.
LOADED = "The application is loaded"
LISTENING = re.compile(r"Listening at: (?:https?://(127\.0\.0\.1|0\.0\.0\.0):(\d+)|unix:([^ \"]+))")
#: The pid in a line of a log: the prefix of the default format, or the field of a JSON object.
PROCESS = re.compile(r"\[(\d+)\] \[[A-Z]+\]|\"pid\": (\d+)")

#: What differs from run to run, in logs and answers.
VARYING = [
    (re.compile(r"\[?\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}\]?"), "<time>"),
    (re.compile(r"\[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\]"), "<time>"),
    (re.compile(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT"), "<date>"),
    (re.compile(r"sessionid=[^;]+"), "sessionid=<signed with the time>"),
    (re.compile(r"(127\.0\.0\.1|0\.0\.0\.0):\d+"), "<address>"),
]


class Account(NamedTuple):
    """What happened to a deployment: its steps, the lines of its logs, the files it has left."""

    steps: list[tuple[str, Any]]
    logs: dict[str, dict[str, list[str]]]
    files: list[str]


class Deployment:
    """The deployment `name` under the server `kind`, in `folder`, which does not exist yet.

    `variables` come beside its ``.env``. `prepare` is called with the new folder and the server's name before the start.
    """

    def __init__(
        self,
        name: str,
        kind: Kind,
        folder: Path,
        tools: Path,
        variables: Mapping[str, str] | None = None,
        prepare: Callable[[Path, str], object] | None = None,
    ) -> None:
        self.kind = kind
        self.folder = folder
        self.steps: list[tuple[str, Any]] = []
        self.pid = 0
        #: Where requests go, if not straight to the server.
        self.front: Any = None
        self.trust: ssl.SSLContext | None = None
        self._masters: list[int] = []
        self._preloads = "--preload" in (DEPLOYMENTS / name / "Procfile").read_text()
        self._pids: set[int] = set()
        self._runtime = tools / f"runtime-{name}-{kind}"
        self._runtime.mkdir()
        shutil.copytree(DEPLOYMENTS / name, folder, ignore=shutil.ignore_patterns("__pycache__"))
        if prepare is not None:
            prepare(folder, kind.name)
        self._own = {str(path.relative_to(folder)) for path in folder.rglob("*")}
        self._metrics = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._metrics.bind(("127.0.0.1", 0))
        agent = {"STATSD_PORT": str(self._metrics.getsockname()[1])}
        environ = kind.environment(tools, {**self._env_file(), **agent, **(variables or {})})
        # The control socket of Gunicorn has a place per user, not per server.
        environ["XDG_RUNTIME_DIR"] = str(self._runtime)
        self._streams = {name: folder.parent / f"{folder.name}.{name}" for name in ("stdout", "stderr")}
        with self._streams["stdout"].open("wb") as stdout, self._streams["stderr"].open("wb") as stderr:
            self.process = subprocess.Popen(
                ["/bin/sh", "-c", f"exec {self._command()}"],
                cwd=folder,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )

    def _env_file(self) -> dict[str, str]:
        file = self.folder / ".env"
        lines = file.read_text().splitlines() if file.exists() else []
        return dict(line.split("=", 1) for line in lines)

    def _command(self) -> str:
        """The Procfile's command, with the server's name in the place of Gunicorn's, if that is its first word."""
        command = (self.folder / "Procfile").read_text().removeprefix("web: ")
        return command.replace("gunicorn ", f"{self.kind.name} ", 1).strip()

    # --- what is there --------------------------------------------------------------------

    def note(self, what: str, value: Any) -> None:
        """Add to the account."""
        self.steps.append((what, self.neutral(value) if isinstance(value, str) else value))

    def neutral(self, text: str) -> str:
        """`text` without what no two runs share."""
        text = text.replace(str(self.folder.resolve()), "<folder>").replace(str(self.folder), "<folder>")
        for pattern, word in VARYING:
            text = pattern.sub(word, text)
        for pid in self._pids:
            # A length or a port may be the same number: pids stand in brackets, after a colon, or first in a line.
            text = re.sub(rf"(?m)(?:^|(?<=[\[(<_:])|(?<=: )){pid}(?!\d)", "<pid>", text)
        return re.sub(r"\b(gunicorn|cyhorn)(/?)[ /]?\d+\.\d+(\.\d+)?\b", r"\1\2 <version>", text)

    def log_files(self) -> dict[str, Path]:
        """What the server writes lines to: its standard streams, and the files named so."""
        written = {path.name: path for path in sorted(self.folder.glob("*.log*"))}
        return {**self._streams, **written}

    def text(self) -> str:
        """All lines up to now."""
        return "".join(path.read_text(errors="replace") for path in self.log_files().values())

    def wait_for(self, pattern: str, count: int = 1) -> list[str]:
        """The first `count` lines that match; waits for them."""

        def found() -> list[str]:
            return [line for line in self.text().splitlines() if re.search(pattern, line)]

        self._until(lambda: len(found()) >= count, f"{count} × {pattern!r}")
        return found()[:count]

    def _until(self, condition: Callable[[], Any], what: str) -> None:
        try:
            until(condition, what)
        except AssertionError as error:
            raise AssertionError(f"{self.kind}: {error}\n{self.text()}") from None

    def children(self) -> dict[int, str]:
        """The children of the master and their states."""
        return {pid: state for pid, parent, state in processes() if parent == self.pid}

    def _at_rest(self, workers: int, gone: set[int]) -> bool:
        """Whether there are as many workers, all of them serving, and nobody waits to be reaped."""
        children = self.children()
        if len(children) != workers or gone & set(children) or "Z" in children.values():
            return False
        text = self.text()
        booted = {int(pid) for pid in re.findall(r"Booting worker with pid: (\d+)", text)}
        self._pids |= booted
        return set(children) <= booted and (self._preloads or text.count(LOADED) >= len(booted))

    # --- what is done to it ---------------------------------------------------------------

    def start(self, workers: int, pidfile: str = "") -> None:
        """Wait until `workers` serve. The master is the process started or, for a daemon, that of `pidfile`."""
        self.pid = self.process.pid
        if pidfile:
            self._until(lambda: self._pid_of(pidfile), f"a pid in {pidfile}")
            self.pid = self._pid_of(pidfile)
        if self.pid != self.process.pid:
            self.note("the command ends", self.process.wait(PATIENCE))
        self._become(self.pid)
        self.settle(workers)
        self.note("workers", workers)

    def _pid_of(self, pidfile: str) -> int:
        try:
            text = (self.folder / pidfile).read_text()
        except FileNotFoundError:
            return 0
        return int(text) if text.endswith("\n") else 0

    def _become(self, pid: int) -> None:
        self.pid = pid
        self._masters.append(pid)
        self._pids.add(pid)

    def settle(self, workers: int, gone: Iterable[int] = ()) -> None:
        """Wait until `workers` serve and those of `gone` have ended."""
        self._until(lambda: self._at_rest(workers, set(gone)), f"{workers} workers without {gone}")

    def workers(self) -> list[int]:
        """The workers, oldest first."""
        return sorted(self.children(), key=_started)

    def signal(self, name: str, workers: int, replaced: int = 0) -> None:
        """Send a signal to the master; then there are `workers`, without the `replaced` oldest of before."""
        before = self.workers()
        done = len(re.findall(f"Handling signal: {name.lower()}", self.text()))
        os.kill(self.pid, getattr(signal, f"SIG{name}"))
        self.wait_for(f"Handling signal: {name.lower()}", done + 1)
        self.settle(workers, before[:replaced])
        self.note(f"SIG{name}", {"workers": workers, "kept": self._kept(before[replaced:])})

    def signal_worker(self, name: str, workers: int) -> None:
        """Send a signal that ends it to the oldest worker; then there are `workers` without it."""
        before = self.workers()
        os.kill(before[0], getattr(signal, f"SIG{name}"))
        self.settle(workers, before[:1])
        self.note(f"SIG{name} to a worker", {"workers": workers, "kept": self._kept(before[1:])})

    def _kept(self, pids: Iterable[int]) -> bool:
        return set(pids) <= set(self.workers())

    def upgrade(self, pidfile: str, workers: int) -> None:
        """USR2, then QUIT to the old master: the new one takes its place and its pid file."""
        old, workers_of_old = self.pid, self.workers()
        os.kill(old, signal.SIGUSR2)
        self._until(lambda: self._pid_of(f"{pidfile}.2"), f"a pid in {pidfile}.2")
        new = self._pid_of(f"{pidfile}.2")
        self.note("USR2", {"pid file": self._pid_of(pidfile) == old, "its child": new in self.children()})
        self._become(new)
        self.settle(workers)
        os.kill(old, signal.SIGQUIT)
        self._until(lambda: self._pid_of(pidfile) == new, "its promotion")
        self._end_of({old, *workers_of_old})
        self.note("promoted", {"pid file .2": self._pid_of(f"{pidfile}.2"), "workers": len(self.workers())})

    def rotate(self, *names: str) -> None:
        """Rename log files and send USR1; then all processes write to new ones."""
        for name in names:
            (self.folder / name).rename(self.folder / f"{name}.1")
        workers = len(self.children())
        self.signal("USR1", workers)
        old = {str((self.folder / f"{name}.1").resolve()) for name in names}
        everyone = [self.pid, *self.children()]
        self._until(lambda: not any(old & _open_files(pid) for pid in everyone), f"{old} left by {everyone}")

    def stop(self, name: str) -> None:
        """End it by a signal, and note the exit status."""
        everyone = {self.pid, *self.children()}
        os.kill(self.pid, getattr(signal, f"SIG{name}"))
        if self.pid == self.process.pid:
            self.note(f"SIG{name}: exit status", self.process.wait(PATIENCE))
        self._end_of(everyone)

    def _end_of(self, pids: set[int]) -> None:
        self._until(lambda: not pids & {pid for pid, _, state in processes() if state != "Z"}, "their end")

    def metrics(self) -> list[str]:
        """What the agent at STATSD_PORT was sent, sorted and without durations."""
        told: list[str] = []
        self._metrics.setblocking(False)
        try:
            while True:
                told += self._metrics.recv(65536).decode().splitlines()
        except BlockingIOError:
            names = [re.sub(rf"\b{self.kind.name}\.", "gunicorn.", line) for line in told]
            return sorted(re.sub(r":[\d.]+\|ms", ":<time>|ms", line) for line in names)

    def destroy(self) -> None:
        """Whatever is left of it, gone."""
        for pid in {self.process.pid, self.pid, *self._pids} - {0}:
            try:
                if pid == self.process.pid or os.readlink(f"/proc/{pid}/cwd") == str(self.folder.resolve()):
                    os.kill(pid, signal.SIGKILL)
            except OSError:
                pass
        self.process.wait()
        self._metrics.close()

    # --- as a client ----------------------------------------------------------------------

    @property
    def address(self) -> Any:
        found = LISTENING.search(self.wait_for(LISTENING.pattern)[0])
        assert found is not None
        return str(self.folder / found[3]) if found[3] else ("127.0.0.1", int(found[2]))

    def connect(self) -> socket.socket:
        address = self.front or self.address
        connection = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
        connection.settimeout(PATIENCE)
        try:
            connection.connect(address)
            return self.trust.wrap_socket(connection, server_hostname="localhost") if self.trust is not None else connection
        except BaseException:
            connection.close()
            raise

    def get(self, target: str, *fields: str, method: str = "GET", body: bytes = b"", logged: int = 1) -> Answer:
        """Send a request, note the answer and return it. Waits for the access log, if it is to be `logged`."""
        lines = [f"{method} {target} HTTP/1.1", "Host: shop.example", "Connection: close", *fields]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        return self.send("\r\n".join(lines).encode() + b"\r\n\r\n" + body, logged)[0]

    def send(self, request: bytes, logged: int = 1) -> list[Answer]:
        """Send bytes on a connection of their own, note the answers and return them.

        Waits for `logged` lines of the access log: it may be written after the answer.
        """
        method, target = request.decode("latin-1").split(" ")[:2]
        lines = self._access_lines(method, target)
        with self.connect() as connection:
            connection.sendall(request)
            answers = list(read_answers(connection, method))
        self._until(
            lambda: self._access_lines(method, target) >= lines + logged, f"an access log line for {target}"
        )
        for answer in answers:
            fields = [self.neutral(field) for field in answer.fields]
            self.note(f"{method} {target}", Answer(answer.status, fields, self.neutral(answer.body)))
        return answers

    def _access_lines(self, method: str, target: str) -> int:
        """How many lines there are for such a request, that no process has put its name to."""
        path = re.escape(target.partition("?")[0])
        line = re.compile(rf'\b{method}(?: |", "U": "){path}[ ?"]')
        return sum(bool(line.search(text) and not PROCESS.search(text)) for text in self.text().splitlines())

    # --- the account of its end -------------------------------------------------------------

    def account(self) -> Account:
        """What there is to say when it has ended."""
        logs = {name: self._sorted_lines(path) for name, path in self.log_files().items()}
        return Account(self.steps, logs, self._files())

    def _sorted_lines(self, path: Path) -> dict[str, list[str]]:
        """The lines of a log: the masters', one after the other, the workers', and those that name no process."""
        by_process: dict[int, list[str]] = {}
        others = []
        for line in without_foreign_frames(path.read_text(errors="replace").splitlines(), self.folder):
            found = PROCESS.search(line)
            if found is None:
                others.append(self.neutral(line))
            else:
                by_process.setdefault(int(found[1] or found[2]), []).append(self.neutral(line))
        # Which worker took a request is chance.
        workers = sorted(line for pid, lines in by_process.items() if pid not in self._masters for line in lines)
        masters = [line for pid in self._masters for line in by_process.get(pid, [])]
        return {"masters": masters, "workers": workers, "others": others}

    def _files(self) -> list[str]:
        """What the server has left in the directory, besides logs."""
        left = [path for path in self.folder.rglob("*") if not path.is_dir() and path not in self.log_files().values()]
        names = [str(path.relative_to(self.folder)) for path in left if "__pycache__" not in path.parts]
        return sorted(self.neutral(name) for name in names if name not in self._own)


def read_answers(connection: socket.socket, method: str) -> Iterator[Answer]:
    """The answers up to the end of `connection`, to requests of `method`."""
    file = connection.makefile("rb")
    while line := file.readline():
        fields = []
        while (field := file.readline().rstrip(b"\r\n")) and field:
            fields.append(field.decode("latin-1"))
        status = line.decode("latin-1").rstrip("\r\n")
        yield Answer(status, fields, _body(file, method, status, fields).decode("latin-1"))


def _body(file: IO[bytes], method: str, status: str, fields: list[str]) -> bytes:
    """The body that belongs to a head. One that is cut short ends in ``<cut>``."""
    values = dict(field.lower().split(": ", 1) for field in fields)
    if method == "HEAD" or status.split()[1] in ("100", "204", "304"):
        return b""
    if values.get("transfer-encoding") == "chunked":
        parts = []
        while (size := file.readline().strip()) and int(size, 16):
            parts.append(file.read(int(size, 16)))
            file.readline()
        return b"".join(parts) + (b"" if size and file.readline() else b"<cut>")
    if "content-length" in values:
        body = file.read(int(values["content-length"]))
        return body if len(body) == int(values["content-length"]) else body + b"<cut>"
    return file.read()


def without_foreign_frames(lines: list[str], folder: Path) -> list[str]:
    """`lines` without the frames of tracebacks that are not in files of `folder`."""
    kept: list[str] = []
    skipping = False
    for line in lines:
        frame = re.match(r'  File "([^"]+)"', line)
        if frame:
            skipping = not frame[1].startswith((str(folder), str(folder.resolve())))
        elif not line.startswith("    "):
            skipping = False
        if not skipping:
            kept.append(line)
    return kept


def _started(pid: int) -> int:
    """A number that grows with the start of the process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[19]) * 2**22 + pid


def _open_files(pid: int) -> set[str]:
    found = set()
    for entry in os.listdir(f"/proc/{pid}/fd"):
        try:
            found.add(os.readlink(f"/proc/{pid}/fd/{entry}"))
        except FileNotFoundError:
            continue
    return found
