"""A server that is being measured: started, pinned, counted and stopped.

Each server leads a session of its own, so that its process tree is every process of
that session, whatever forked what.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from perf.compare.servers import HOST, ROOT, Server, Start, Unavailable

TICK = 1.0 / os.sysconf("SC_CLK_TCK")
BOOT_TIMEOUT = 20.0
STOP_TIMEOUT = 4.0


@dataclass(frozen=True)
class Cpu:
    """CPU time of a process tree, in seconds."""

    user: float
    system: float

    @property
    def total(self) -> float:
        return self.user + self.system

    def __sub__(self, other: Cpu) -> Cpu:
        return Cpu(self.user - other.user, self.system - other.system)


@dataclass(frozen=True)
class Memory:
    """Memory of a process tree, in bytes. `unique` is what no other process shares."""

    resident: int
    unique: int


def pinned(cpus: frozenset[int]) -> Callable[[], None]:
    """A preexec function that pins the new process and lets it open many files."""

    def pin() -> None:
        os.sched_setaffinity(0, cpus)
        raise_file_limit()

    return pin


def raise_file_limit() -> int:
    """Take the whole of RLIMIT_NOFILE; returns it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def free_port() -> int:
    """A TCP port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def processes_of(session: int) -> Iterator[tuple[int, list[str]]]:
    """Every process of the session, with the fields of its stat from the third on (proc(5))."""
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) == session:
                    yield int(entry), fields


def cpu_of(session: int) -> Cpu:
    """User and system time of the session, that of its reaped children included."""
    user = system = 0
    for _, fields in processes_of(session):
        user += int(fields[11]) + int(fields[13])
        system += int(fields[12]) + int(fields[14])
    return Cpu(user * TICK, system * TICK)


def memory_of(pid: int) -> Memory:
    """Resident and unique memory of one process."""
    sizes: dict[str, int] = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, _, rest = line.partition(":")
        sizes[name] = int(rest.split()[0]) * 1024
    return Memory(sizes["Rss"], sizes["Private_Clean"] + sizes["Private_Dirty"])


def peak_of(session: int) -> int:
    """The largest resident size that any process of the session has had, in bytes."""
    peak = 0
    for pid, _ in processes_of(session):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    peak = max(peak, int(line.split()[1]) * 1024)
    return peak


def busy_seconds(cpus: frozenset[int]) -> float:
    """How long these CPUs have been busy since the machine booted, for whomever (proc(5), stat)."""
    busy = 0
    for line in Path("/proc/stat").read_text().splitlines():
        name, *rest = line.split()
        if name.startswith("cpu") and name[3:].isdigit() and int(name[3:]) in cpus:
            user, nice, system, _idle, _iowait, irq, softirq, steal, *_ = map(int, rest)
            busy += user + nice + system + irq + softirq + steal
    return busy * TICK


class Running:
    """A started server. Use it as a context manager: leaving stops every process of it."""

    def __init__(self, server: Server, start: Start, cpus: frozenset[int], log: Path) -> None:
        self.server = server
        self.start = start
        self.log = log
        self.command = server.command(server, start)
        environment = os.environ | {"PYTHONPATH": str(ROOT)} | dict(server.environment)
        for name in ("CYHORN_CMD_ARGS", "PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX"):
            environment.pop(name, None)
        self.began = time.monotonic()
        with log.open("wb") as output:
            # Granian writes its access lines to standard output.
            sink = start.access_log.open("wb") if start.access_log else output
            self.process = subprocess.Popen(
                self.command,
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=output,
                start_new_session=True,
                preexec_fn=pinned(cpus),
            )
            if sink is not output:
                sink.close()
        self.session = self.process.pid

    def wait_until_ready(self) -> float:
        """Wait for the first answer; returns the seconds since the start. Raises Unavailable."""
        deadline = self.began + BOOT_TIMEOUT
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise Unavailable(f"does not start: {self.last_words()}")
            with contextlib.suppress(OSError), socket.create_connection((HOST, self.start.port), 2) as probe:
                probe.settimeout(5)
                probe.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
                if probe.recv(12).startswith(b"HTTP/1."):
                    return time.monotonic() - self.began
            time.sleep(0.002)
        raise Unavailable(f"does not answer in {BOOT_TIMEOUT:.0f} s: {self.last_words()}")

    def last_words(self) -> str:
        """The last line that it wrote."""
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1].strip()[:160] if lines else f"exit status {self.process.returncode}"

    def cpu(self) -> Cpu:
        return cpu_of(self.session)

    def worker(self) -> int:
        """The process that serves: the youngest of the tree."""
        return max(processes_of(self.session), key=lambda row: int(row[1][19]))[0]

    def stop(self) -> None:
        """TERM to the first process, KILL to whatever of the session is left."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.session, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_TIMEOUT)
        deadline = time.monotonic() + 1.0
        while (left := [pid for pid, _ in processes_of(self.session)]) and time.monotonic() < deadline:
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.poll()
            time.sleep(0.01)

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()
