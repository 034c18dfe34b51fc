"""What is compared: each server's packages, command line and what it cannot do.

Peers are installed into environments of their own below perf/.venv and kept; they are
never a dependency of cyhorn. A peer that pip cannot install is left out, with the reason.
"""

from __future__ import annotations

import compileall
import functools
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / "perf" / ".venv"
RESULTS = ROOT / "perf" / "results"
HOST = "127.0.0.1"


class Unavailable(Exception):
    """A server cannot be had on this machine; the text says why, in one line."""


@dataclass(frozen=True)
class Start:
    """What one run of a server is given."""

    app: str  # "module:attribute"
    port: int
    access_log: Path | None = None
    workers: int = 1
    threads: int = 1  # for the application, in each worker
    close: bool = False  # every connection serves one request
    preload: bool = False  # the master loads the application
    reuse_port: bool = False  # each worker has a listening socket of its own


@dataclass(frozen=True)
class Server:
    """One row of the comparison."""

    name: str
    command: Callable[[Server, Start], list[str]]
    packages: tuple[str, ...] = ()  # what pip installs; () runs in this interpreter
    loose: tuple[str, ...] = ()  # installed after them without dependencies
    environment: Mapping[str, str] = field(default_factory=dict)
    logs: bool = False  # can write an access log
    preloads: bool = False  # has a master that can load the application
    forks: bool = False  # can be told how many workers to have
    threads: bool = False  # can be told how many threads to have
    ours: bool = False
    reference: bool = False

    @property
    def python(self) -> Path:
        """The interpreter that runs it."""
        if not self.packages:
            return Path(sys.executable)
        return environment_of(self.packages, self.loose) / "bin" / "python"

    def prepare(self) -> None:
        """Install or build what it needs, unless that is done already; raises Unavailable."""
        if self.reference:
            build_reference()
        elif self.packages:
            install(self.packages, self.loose)
        else:
            # As pip leaves the peers: a start is not to be charged with compiling its sources.
            compileall.compile_dir(ROOT / "cyhorn", quiet=1)
            compileall.compile_dir(ROOT / "perf", maxlevels=0, quiet=1)

    def version(self) -> str:
        """The version of its first package, "" for our own."""
        if not self.packages:
            return ""
        name = (self.loose or self.packages)[0].partition("==")[0]
        code = f"from importlib.metadata import version; print(version({name!r}))"
        done = subprocess.run([self.python, "-c", code], capture_output=True, text=True)
        return done.stdout.strip()


def environment_of(packages: tuple[str, ...], loose: tuple[str, ...]) -> Path:
    """Where the environment for this set of packages and this Python stands."""
    label = packages[0].partition("==")[0]
    key = hashlib.sha256(repr((sys.version_info[:3], packages, loose)).encode()).hexdigest()[:8]
    return CACHE / f"{label}-{key}"


@functools.cache
def install(packages: tuple[str, ...], loose: tuple[str, ...] = ()) -> None:
    """Make the environment and install `packages`; a finished one is used as it stands.

    Raises Unavailable with pip's last words. A marker file says that it is finished.
    """
    where = environment_of(packages, loose)
    marker = where / "installed"
    if marker.exists():
        return
    shutil.rmtree(where, ignore_errors=True)
    where.parent.mkdir(parents=True, exist_ok=True)
    print(f"installing {' '.join(packages + loose)} ...", file=sys.stderr, flush=True)
    pip = [str(where / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    steps = [
        [sys.executable, "-m", "venv", str(where)],
        [*pip, *packages],
    ]
    if loose:
        steps.append([*pip, "--no-deps", "--no-build-isolation", *loose])
    for step in steps:
        done = subprocess.run(step, capture_output=True, text=True)
        if done.returncode:
            words = [line.strip() for line in done.stderr.splitlines() if "error" in line.lower()]
            raise Unavailable(f"not installable: {words[-1][:120] if words else 'pip failed'}")
    marker.touch()


REFERENCE_SOURCE = ROOT / "perf" / "reference" / "epoll.c"
REFERENCE_FLAGS = ("-O2", "-Wall")


def reference_binary() -> Path:
    """Where the built reference stands; the name follows the source, so it is never stale."""
    key = hashlib.sha256(REFERENCE_SOURCE.read_bytes()).hexdigest()[:8]
    return CACHE / f"reference-{key}"


def build_reference() -> Path:
    """Compile the C reference server, unless it is there; raises Unavailable."""
    binary = reference_binary()
    if binary.exists():
        return binary
    compiler = os.environ.get("CC") or shutil.which("cc")
    if not compiler:
        raise Unavailable("no C compiler")
    binary.parent.mkdir(parents=True, exist_ok=True)
    command = [*compiler.split(), *REFERENCE_FLAGS, "-o", str(binary), str(REFERENCE_SOURCE)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise Unavailable(f"does not compile: {done.stderr.strip()[-200:]}")
    return binary


# -- command lines ------------------------------------------------------------------------


def _reference(server: Server, start: Start) -> list[str]:
    command = [str(reference_binary()), str(start.port)]
    if start.close:
        command.append("--close")
    if "CYHORN_PERF_FILE" in os.environ:
        command += ["--file", os.environ["CYHORN_PERF_FILE"]]
    return command


def _cyhorn(server: Server, start: Start) -> list[str]:
    command = [str(server.python), "-m", "cyhorn", start.app, "-b", f"{HOST}:{start.port}"]
    command += ["-w", str(start.workers), "--threads", str(start.threads)]
    if start.access_log:
        command += ["--access-logfile", str(start.access_log)]
    if start.preload:
        command.append("--preload")
    if start.reuse_port:
        command.append("--reuse-port")
    return command


def _launched(server: Server, start: Start) -> list[str]:
    command = [str(server.python), str(ROOT / "perf" / "launch.py"), server.name]
    return [*command, start.app, str(start.port), str(start.threads)]


def _granian(server: Server, start: Start) -> list[str]:
    command = [str(server.python), "-m", "granian", "--interface", "wsgi", "--host", HOST]
    command += ["--port", str(start.port), "--workers", str(start.workers)]
    command += ["--blocking-threads", str(start.threads)]
    command += ["--backpressure", "16384"]  # connections that it takes at a time
    if start.access_log:
        # Its access log goes to standard output, which the harness sends to that file.
        command.append("--access-log")
    return [*command, start.app]


def _gunicorn(parser: str, *more: str) -> Callable[[Server, Start], list[str]]:
    def command(server: Server, start: Start) -> list[str]:
        line = [str(server.python), "-m", "gunicorn", start.app, "-b", f"{HOST}:{start.port}"]
        line += ["-w", str(start.workers), "--threads", str(start.threads), "--http-parser", parser, *more]
        line += ["--keep-alive", "75"]
        if start.access_log:
            line += ["--access-logfile", str(start.access_log)]
        if start.preload:
            line.append("--preload")
        return line

    return command


def _pyuwsgi(server: Server, start: Start) -> list[str]:
    module, _, attribute = start.app.partition(":")
    # Its router in front: the worker alone would serve one connection until the client leaves.
    command = [str(server.python.parent / "pyuwsgi"), "--http", f"{HOST}:{start.port}"]
    command += ["--http-keepalive", "--http-auto-chunked"]
    command += ["--module", module, "--callable", attribute, "--processes", str(start.workers)]
    command += ["--need-app", "--die-on-term", "--enable-threads", "--listen", "1024"]
    if start.access_log:
        return [*command, "--logto", str(start.access_log)]
    return [*command, "--disable-logging"]


_GUNICORN = ("gunicorn", "gunicorn_h1c==0.6.9", "setuptools<81")

SERVERS: tuple[Server, ...] = (
    Server("reference", _reference, reference=True),
    Server(
        "cyhorn",
        _cyhorn,
        environment={"CYHORN_IMPL": "compiled"},
        logs=True,
        preloads=True,
        forks=True,
        threads=True,
        ours=True,
    ),
    Server(
        "cyhorn-pure",
        _cyhorn,
        environment={"CYHORN_IMPL": "python"},
        logs=True,
        preloads=True,
        forks=True,
        threads=True,
        ours=True,
    ),
    Server("bjoern", _launched, ("bjoern",)),
    Server("fastwsgi", _launched, ("fastwsgi", "setuptools<81")),
    Server("fastpysgi", _launched, ("fastpysgi",)),
    Server("meinheld", _launched, ("greenlet", "setuptools<81", "wheel"), loose=("meinheld",)),
    Server("granian", _granian, ("granian",), logs=True, forks=True, threads=True),
    Server("pyuwsgi", _pyuwsgi, ("pyuwsgi",), logs=True, forks=True),
    Server("waitress", _launched, ("waitress",), threads=True),
    Server("cheroot", _launched, ("cheroot",), threads=True),
    Server("gunicorn", _gunicorn("python"), _GUNICORN, logs=True, preloads=True, forks=True),
    Server("gunicorn-h1c", _gunicorn("fast"), _GUNICORN, logs=True, preloads=True, forks=True),
    Server(
        "gunicorn-gthread",
        _gunicorn("fast", "-k", "gthread"),
        _GUNICORN,
        logs=True,
        forks=True,
        threads=True,
    ),
)

BY_NAME = {server.name: server for server in SERVERS}
