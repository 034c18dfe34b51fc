"""The command ``cyhorn`` in a process of its own: run to its end, or as a server that answers."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DROPPED = ("PORT", "WEB_CONCURRENCY", "FORWARDED_ALLOW_IPS", "SENDFILE", "PWD")


def environment(variables: Mapping[str, str] = {}, path: Sequence[Path] = ()) -> dict[str, str]:
    """The process's environment without what configures a server; `path` goes into PYTHONPATH."""
    environ = {
        name: value
        for name, value in os.environ.items()
        if name not in DROPPED and not name.startswith(("CYHORN", "GUNICORN"))
    }
    environ["PYTHONPATH"] = os.pathsep.join(map(str, [*path, ROOT]))
    return environ | {"CYHORN_IMPL": "python", "COLUMNS": "100", "PYTHONUNBUFFERED": "1"} | dict(variables)


def cyhorn(project: Path, *argv: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """``python -m cyhorn`` with `argv` in `project`, to its end."""
    return python(project, "-m", "cyhorn", *argv, **variables)


def python(project: Path, *argv: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Python with `argv` in `project`, to its end."""
    return subprocess.run(
        [sys.executable, *argv],
        cwd=project,
        env=environment(variables),
        capture_output=True,
        text=True,
        timeout=30,
    )


class Running:
    """A server process; `lines` are what it has written."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._news:
                self.lines.append(line.rstrip("\n"))
                self._news.notify_all()
        with self._news:
            self.lines.append("-- the end --")
            self._news.notify_all()

    def wait_for(self, pattern: str, since: int = 0, patience: float = 20.0) -> str:
        """The first line from `since` on that matches."""
        deadline = time.monotonic() + patience
        with self._news:
            while True:
                for line in self.lines[since:]:
                    if re.search(pattern, line):
                        return line
                left = deadline - time.monotonic()
                assert left > 0 and "-- the end --" not in self.lines, (pattern, self.lines)
                self._news.wait(left)

    @property
    def url(self) -> str:
        found = re.search(r"http://[^ ,]+", self.wait_for("Listening at"))
        assert found is not None
        return found[0]

    def get(self, path: str = "/") -> tuple[str, dict[str, str]]:
        """Body and fields of the answer to GET."""
        with urllib.request.urlopen(self.url + path, timeout=20) as answer:
            return answer.read().decode(), dict(answer.headers)

    def until(self, condition: Callable[[], bool], patience: float = 20.0) -> None:
        """Wait until `condition` holds: after a reload old workers may still take a request."""
        deadline = time.monotonic() + patience
        while not condition():
            assert time.monotonic() < deadline, self.lines
            time.sleep(0.02)

    def close(self) -> None:
        """End it, whatever state it is in. Its workers notice that it is gone."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join(10)
        assert self.process.stdout is not None
        if not self._reader.is_alive():
            self.process.stdout.close()

    def stop(self) -> int:
        """TERM and the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


@contextmanager
def serving(
    project: Path, *argv: str, variables: Mapping[str, str] = {}, path: Sequence[Path] = ()
) -> Iterator[Running]:
    """A server: Python with `argv` in `project`; killed at the end of the block if it is still there."""
    process = subprocess.Popen(
        [sys.executable, *argv],
        cwd=project,
        env=environment(variables, path),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    server = Running(process)
    try:
        yield server
    finally:
        server.close()


def distribution(folder: Path, name: str, groups: Mapping[str, Mapping[str, str]]) -> Path:
    """Make `folder` hold the metadata of an installed distribution with these entry points; returns it."""
    info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    text = "".join(
        f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in entries.items())
        for group, entries in groups.items()
    )
    (info / "entry_points.txt").write_text(text)
    return folder
