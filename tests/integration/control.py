"""A client of the control socket that owes nothing to cyhorn's own."""

from __future__ import annotations

import json
import socket
import struct
from pathlib import Path
from typing import Any

PATIENCE = 20.0


class Refused(Exception):
    """The server said no."""


def connect(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(PATIENCE)
    try:
        connection.connect(str(path))
    except BaseException:
        connection.close()
        raise
    return connection


def frame(payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + payload


def request(command: Any, ident: Any = 1, **more: Any) -> bytes:
    return frame(json.dumps({"id": ident, "command": command, **more}).encode())


def exactly(connection: socket.socket, count: int) -> bytes:
    received = b""
    while len(received) < count:
        piece = connection.recv(count - len(received))
        assert piece, f"cut short after {received!r}"
        received += piece
    return received


def read(connection: socket.socket) -> dict[str, Any]:
    """The next answer on `connection`."""
    (length,) = struct.unpack(">I", exactly(connection, 4))
    answer = json.loads(exactly(connection, length))
    assert isinstance(answer, dict)
    return answer


def ask(path: Path, command: str, **more: Any) -> Any:
    """What the server at `path` says to `command`. Raises Refused."""
    with connect(path) as connection:
        connection.sendall(request(command, 7, **more))
        answer = read(connection)
    assert answer["id"] == 7, answer
    if answer["status"] == "error":
        assert set(answer) == {"id", "status", "error"}
        raise Refused(answer["error"])
    assert answer["status"] == "ok" and set(answer) == {"id", "status", "data"}
    return answer["data"]
