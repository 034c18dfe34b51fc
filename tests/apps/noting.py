"""Notes that an application under test makes for the test: a line of JSON each, in ``notes`` of the server's directory."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from typing import Any

#: For how long an application waits for what a test is to do, seconds.
PATIENCE = 20.0


def note(event: str, token: str, **more: object) -> None:
    """Write down that `event` has happened to the request `token`, and where; one write, so that a line is whole."""
    line = {"event": event, "token": token, "pid": os.getpid(), "thread": threading.get_ident(), **more}
    fd = os.open("notes", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(fd, json.dumps(line).encode() + b"\n")
    finally:
        os.close(fd)


def notes(folder: Path, token: str) -> list[dict[str, Any]]:
    """What has been noted of the request `token` so far, by the server in `folder`."""
    path = folder / "notes"
    lines = path.read_text().splitlines() if path.exists() else []
    return [line for line in map(json.loads, lines) if line["token"] == token]


def wait_for_signal(token: str) -> bool:
    """Wait, in an application, until the test has called `give_signal`; whether it has."""
    until = time.monotonic() + PATIENCE
    while not os.path.exists(f"go-{token}"):
        if time.monotonic() > until:
            return False
        time.sleep(0.005)
    return True


def give_signal(folder: Path, token: str) -> None:
    """Let the request `token` of the server in `folder` go on."""
    (folder / f"go-{token}").touch()
