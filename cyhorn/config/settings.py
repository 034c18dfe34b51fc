"""The table of settings: every row, in the order of the manual.

All else is derived from it: the command line, config files, the manual's page.
"""

from __future__ import annotations

from collections.abc import Iterable

from cyhorn.config import rows_foreign, rows_hooks, rows_http, rows_log, rows_server
from cyhorn.config.row import Row

#: The order of sections in ``--help`` and in the manual.
SECTIONS = (
    "Config File",
    "Server Socket",
    "Worker Processes",
    "Connections and Bodies",
    "Security",
    "Server Mechanics",
    "Process Naming",
    "Logging",
    "SSL",
    "Debugging",
    "Server Hooks",
    "Control",
    "HTTP/2",
    "Dirty Arbiters",
    "Dirty Arbiter Hooks",
)

#: name → row.
SETTINGS: dict[str, Row] = {
    row.name: row
    for row in sorted(
        (*rows_server.ROWS, *rows_http.ROWS, *rows_log.ROWS, *rows_hooks.ROWS, *rows_foreign.ROWS),
        key=lambda row: SECTIONS.index(row.section),
    )
}


def nearest(word: str, known: Iterable[str], count: int = 1, cutoff: float = 0.6) -> list[str]:
    """Those of `known` that `word` was probably meant to be, best first."""
    import difflib  # nothing is misspelled in a usual start

    return difflib.get_close_matches(word, list(known), n=count, cutoff=cutoff)


def closest(name: str, count: int = 3) -> list[str]:
    """The names of settings that `name` was probably meant to be, best first."""
    return nearest(name.lower(), SETTINGS, count)


def did_you_mean(names: list[str]) -> str:
    """'; did you mean a or b?', or nothing."""
    return f"; did you mean {' or '.join(names)}?" if names else ""
