"""The setting `spew`: print every line of Python that runs, to standard output."""

from __future__ import annotations

import linecache
import sys
import threading
from types import FrameType
from typing import Any


def _print_line(frame: FrameType, event: str, argument: Any) -> Any:
    if event == "line":
        file, number = frame.f_code.co_filename, frame.f_lineno
        name = frame.f_globals.get("__name__", file)
        print(f"{name}:{number}: {linecache.getline(file, number).rstrip()}")
    return _print_line


def install() -> None:
    """Trace this thread and all that start later. Forked processes inherit it."""
    threading.settrace(_print_line)
    sys.settrace(_print_line)
