"""Process titles, as ps and top show them: "cyhorn: master [name]", "cyhorn: worker [name]".

By setproctitle. Where it is missing, titles stay as they are and nothing else changes.
"""

from __future__ import annotations

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
