"""Consoles of the manual, typed as they stand.

A console block holds commands, ``$ `` before each, and what they print. Everything runs in one
folder with `cyhorn` on the path, in the order of the page. A command that ends in ``&`` stays in the
background; what it prints is part of what the next commands print. Of the output only what is
another each time may differ: ``...``, times, process ids in brackets or behind "pid:", ports.
The port 8000 of the page is a free one.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from tests.manual.blocks import ROOT, Block

PATIENCE = 30.0
PAGE_PORT = "8000"

APPLICATION = """\
def app(environ, start_response):
    body = b"Hello, World!\\n"
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
"""

#: What is another each time, as the page has it → a pattern for it. In the order of trying.
_VARIES = (
    (r"\.\.\.\n", r"(?:.*\n)*?"),
    (r"\.\.\.", r".*"),
    (r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}\]", r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}\]"),
    (r"\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}", r"\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}"),
    (r"([\[(]|pid: ?)\d{2,}([\])]|$)", None),
)
_ANY = re.compile("|".join(f"(?P<v{n}>{pattern})" for n, (pattern, _) in enumerate(_VARIES)), re.M)


def pattern_of(expected: str) -> str:
    """A regular expression for what `expected` stands for."""
    made, position = [], 0
    for found in _ANY.finditer(expected):
        made.append(re.escape(expected[position : found.start()]))
        position = found.end()
        which = next(n for n in range(len(_VARIES)) if found[f"v{n}"] is not None)
        replacement = _VARIES[which][1]
        if which == 0 and found.start() and expected[found.start() - 1] != "\n":
            replacement = r".*\n"  # the end of a line, not lines
        made.append(replacement or re.sub(r"\d+", r"\\d+", re.escape(found[0])))
    return "".join([*made, re.escape(expected[position:])])


def commands(text: str) -> list[tuple[str, str]]:
    """The commands of a console block, each with what it prints."""
    parts = re.split(r"(?m)^\$ ", text)
    if parts[0]:
        raise AssertionError(f"a console that does not begin with a command: {parts[0]!r}")
    typed = []
    for part in parts[1:]:
        command, _, output = part.partition("\n")
        while command.endswith("\\"):
            more, _, output = output.partition("\n")
            command += "\n" + more.removeprefix("> ")
        typed.append((command, output))
    return typed


class Console:
    """One folder, and what is typed there."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder = folder
        self.screen = folder.with_name(folder.name + ".screen")
        self.screen.touch()
        self.port = _free_port()
        self._seen = 0
        self._background: list[subprocess.Popen[bytes]] = []
        (folder / "app.py").write_text(APPLICATION)
        self._environ = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("CYHORN", "GUNICORN", "PYTEST")) and name not in ("PORT", "WEB_CONCURRENCY")
        }
        self._environ |= {
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "XDG_RUNTIME_DIR": str(folder.parent),
            "HOME": str(folder.parent),  # other servers may have their control sockets at home
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
            "CYHORN_BIND": f"127.0.0.1:{self.port}",  # the default, at the port that is free
            "COLUMNS": "100",
            "TERM": "dumb",
        }

    def write(self, name: str, text: str) -> None:
        """Make the file `name`."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self._local(text))

    def type(self, command: str, expected: str) -> None:
        """Run `command`. What it prints is `expected`; or, where it prints nothing, what the background does."""
        command, expected = self._local(command), self._local(expected)
        if command.endswith("&"):
            self._background.append(self._start(command.rstrip("& "), self.screen))
            self._await(command, expected)
            return
        output = self.screen.with_suffix(".output")
        output.write_bytes(b"")
        status = self._start(command, output).wait(PATIENCE)
        printed = output.read_text(errors="replace")
        if not printed and self._background:
            self._await(command, expected)
        elif not re.fullmatch(pattern_of(expected), printed):
            raise AssertionError(f"$ {command}\nprinted\n{printed}\ninstead of\n{expected}")
        assert status == 0 or expected, f"$ {command}\nended with {status}"

    def _start(self, command: str, output: Path) -> subprocess.Popen[bytes]:
        with output.open("ab") as stream:
            return subprocess.Popen(
                ["bash", "-c", command],
                cwd=self.folder,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _await(self, command: str, expected: str) -> None:
        """Wait until the background has printed `expected`; what it prints beyond is for the next."""
        pattern = re.compile(pattern_of(expected))
        deadline = time.monotonic() + PATIENCE
        while not (found := pattern.match(printed := self._unseen())):
            if time.monotonic() > deadline:
                raise AssertionError(f"$ {command}\nprinted\n{printed}\ninstead of\n{expected}")
            time.sleep(0.01)
        self._seen += len(found[0].encode())

    def _unseen(self) -> str:
        return self.screen.read_bytes()[self._seen :].decode(errors="replace")

    def _local(self, text: str) -> str:
        return re.sub(rf"(?<=:){PAGE_PORT}\b", str(self.port), text)

    def close(self) -> None:
        """End what runs in the background."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            for process in self._background:
                try:
                    os.killpg(process.pid, number)
                except ProcessLookupError:
                    pass
            for process in self._background:
                try:
                    process.wait(PATIENCE if number == signal.SIGKILL else 5)
                except subprocess.TimeoutExpired:
                    pass


def tell(found: Iterable[Block], page: str, folder: str, console: Console) -> None:
    """Type what the blocks of one page and folder say, in their order."""
    for block in found:
        if (block.page, block.folder) != (page, folder):
            continue
        if block.kind == "console":
            for command, expected in commands(block.text):
                console.type(command, expected)
        elif block.file:
            console.write(block.file, block.text)


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def install(folder: Path) -> None:
    """Put the commands of the manual into `folder`: this tree's cyhorn, and this Python."""
    for name, arguments in {"cyhorn": "-m cyhorn", "python": "", "python3": ""}.items():
        script = folder / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n')
        script.chmod(script.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
