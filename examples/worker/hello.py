"""A smallest application."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    """``/`` greets, ``/pid`` tells which worker answers."""
    text = str(os.getpid()) if environ["PATH_INFO"] == "/pid" else "Hello from a worker class of your own."
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
    return [f"{text}\n".encode()]
