"""Process titles, as ps and top show them: "cyhorn: master [name]", "cyhorn: worker [name]".

By setproctitle. Where it is missing, titles stay as they are, and a server is known by its command line.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Final

PREFIX: Final = "cyhorn: "


def _load() -> Callable[[str], None] | None:
    # Its use of Objective-C after a fork makes macOS end the process.
    if sys.platform == "darwin":
        return None
    try:
        from setproctitle import getproctitle, setproctitle
    except ImportError:
        return None
    # It finds the room for titles by walking the memory of the first environment, which must
    # happen before a variable (LISTEN_FDS, say) is removed from it.
    getproctitle()
    return setproctitle


_setproctitle = _load()


def set_title(title: str) -> None:
    """Show this process as "cyhorn: " and `title`, for example "master [app:app]"."""
    if _setproctitle is not None:
        _setproctitle(PREFIX + title)


def process_title(pid: int) -> str:
    """What `ps` shows for `pid`, empty when it cannot be known."""
    return " ".join(_arguments(pid)).strip()


def is_cyhorn(pid: int) -> bool:
    """Whether `pid` is a server of cyhorn, as far as its title or its command line tells."""
    arguments = _arguments(pid)
    if arguments and arguments[0].startswith(PREFIX):
        return True
    names = [os.path.basename(argument) for argument in arguments[:2]] + ["", ""]
    if not names[0].startswith(("python", "pypy")):
        return names[0] == "cyhorn"
    return names[1] == "cyhorn" or arguments[1:3] == ["-m", "cyhorn"]


def _arguments(pid: int) -> list[str]:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().decode(errors="replace").rstrip("\0").split("\0")
    except OSError:
        return []
