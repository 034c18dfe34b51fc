"""``cyhorn ctl``: ask a running server, and tell it what to do, by its control socket.

Each command is a connection of its own, so a prompt may wait as long as it likes. Without ``-s`` the
socket is what CYHORN_CONTROL_SOCKET names, else that of the only instance of this user that runs.
What the commands are is in `cyhorn.master.commands`, the frames in `cyhorn.master.control`.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import struct
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from cyhorn.master.control import SUFFIX, directories, encode

#: How long the server may take. Seconds.
PATIENCE = 30.0
VARIABLE = "CYHORN_CONTROL_SOCKET"
PROMPT = "cyhorn> "
LEAVE = ("quit", "exit", "q")

EXIT_OK, EXIT_ERROR, EXIT_INTERRUPTED = 0, 1, 130


class CtlError(Exception):
    """No server, no answer, or one that says no."""


def main(argv: Sequence[str]) -> int:
    """Do what `argv` (without ``ctl``) asks for. Returns the exit status: 1 when it could not be done."""
    parser = argparse.ArgumentParser(
        prog="cyhorn ctl",
        description="Ask a running server, or tell it something. Without a command: one a line, until quit.",
        epilog="cyhorn ctl help lists the commands.",
    )
    parser.add_argument("-s", "--socket", metavar="PATH", help="the server's control socket")
    parser.add_argument("-c", "--command", metavar="COMMAND", help="the command, as one text")
    parser.add_argument("-j", "--json", action="store_true", help="print what the server says as JSON")
    parser.add_argument("words", nargs="*", metavar="COMMAND", help="the command, as words: show workers")
    options = parser.parse_args(argv)
    if options.command is not None and options.words:
        parser.error("the command is given twice")
    command = " ".join(options.words) if options.command is None else options.command
    try:
        path = options.socket or os.environ.get(VARIABLE) or find()
        if not command:
            return converse(path, options.json)
        print(shown(ask(path, command), options.json))
    except CtlError as problem:
        print(f"Error: {problem}", file=sys.stderr)
        return EXIT_ERROR
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return EXIT_OK


def converse(path: str, as_json: bool) -> int:
    """Do one command after another, as they are typed. Returns the exit status."""
    prompt = ""
    if sys.stdin.isatty():
        import readline  # noqa: F401 - lets lines be edited

        prompt = PROMPT
        print(f"{path}: help lists the commands, quit leaves.")
    while True:
        try:
            line = input(prompt).strip()
        except EOFError:
            return EXIT_OK
        if line.lower() in LEAVE:
            return EXIT_OK
        if line:
            try:
                print(shown(ask(path, line), as_json), flush=True)
            except CtlError as problem:
                print(f"Error: {problem}", file=sys.stderr, flush=True)


# --- the socket --------------------------------------------------------------------------


def find() -> str:
    """The socket of the only running instance of this user. Raises CtlError when there is none, or more."""
    running = []
    for directory in directories(os.environ):
        try:
            names = sorted(name for name in os.listdir(directory) if name.endswith(SUFFIX))
        except OSError:
            continue
        running += [path for name in names if _is_listening(path := os.path.join(directory, name))]
    if not running:
        raise CtlError("no server of this user is running at its default path; name its socket with -s PATH")
    if len(running) > 1:
        lines = "".join(f"\n  -s {path}  {_places(path)}" for path in running)
        raise CtlError(f"{len(running)} servers are running, name one of them:{lines}")
    return running[0]


def _is_listening(path: str) -> bool:
    """Whether somebody is there, even if it is too busy to answer: the wrong one must not be told."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        try:
            sock.connect(path)
        except BlockingIOError:
            return True
        except OSError:
            return False
    return True


def _places(path: str) -> str:
    try:
        return ",".join(listener["address"] for listener in ask(path, "show listeners", 2.0)["listeners"])
    except CtlError as problem:
        return f"({problem})"


def ask(path: str, command: str, patience: float = PATIENCE) -> Any:
    """What the server at `path` says to `command`, within `patience` seconds. Raises CtlError."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(patience)
            sock.connect(path)
            sock.sendall(encode({"id": 1, "command": command}))
            (length,) = struct.unpack(">I", _receive(sock, 4))
            answer = json.loads(_receive(sock, length))
    except TimeoutError:
        raise CtlError(f"the server at {path} does not answer") from None
    except OSError as error:
        raise CtlError(f"no server can be reached at {path}: {error.strerror or error}") from None
    except ValueError:
        raise CtlError(f"what is at {path} is no cyhorn") from None
    if not isinstance(answer, dict) or answer.get("status") != "ok":
        raise CtlError(answer.get("error") if isinstance(answer, dict) else f"no cyhorn is at {path}")
    return answer.get("data")


def _receive(sock: socket.socket, length: int) -> bytes:
    received = b""
    while len(received) < length:
        piece = sock.recv(length - len(received))
        if not piece:
            raise OSError("the connection was closed")
        received += piece
    return received


# --- for people --------------------------------------------------------------------------

_WORKER = {
    "pid": "PID",
    "age": "AGE",
    "booted": "BOOTED",
    "state": "STATE",
    "requests": "REQUESTS",
    "connections": "CONNECTIONS",
    "last_heartbeat": "HEARTBEAT",
    "calls": "CALLS",
}
_LISTENER = {"address": "ADDRESS", "type": "TYPE", "fd": "FD", "backlog": "BACKLOG"}


def shown(data: Any, as_json: bool = False) -> str:
    """`data` of an answer as a text: JSON, or what is easier to read."""
    if as_json or not isinstance(data, dict):
        return json.dumps(data, indent=2)
    if "web_workers" in data:
        master = data["arbiter"]
        return f"{master['role']} {master['pid']}\n\n{_table(_WORKER, data['web_workers'])}"
    if "workers" in data and "count" in data:
        return _table(_WORKER, data["workers"])
    if "listeners" in data:
        return _table(_LISTENER, data["listeners"])
    if isinstance(data.get("commands"), dict):
        return _columns(data["commands"].items())
    return _columns((name, _word(value)) for name, value in sorted(data.items()))


def _word(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(_word, value))
    if isinstance(value, dict) and value.keys() >= {"method", "path", "seconds"}:
        return f"{value['method']} {value['path']} ({value['seconds']} s)"
    return json.dumps(value) if isinstance(value, dict) else str(value)


def _table(columns: dict[str, str], rows: Iterable[dict[str, Any]]) -> str:
    lines = [tuple(columns.values()), *(tuple(_word(row.get(name)) for name in columns) for row in rows)]
    return _columns(lines)


def _columns(lines: Iterable[Sequence[str]]) -> str:
    kept = list(lines)
    widths = [max(map(len, column)) for column in zip(*kept, strict=True)]
    texts = ("  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)) for line in kept)
    return "\n".join(text.rstrip() for text in texts)
