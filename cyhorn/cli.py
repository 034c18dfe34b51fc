"""The console script ``cyhorn``."""

from __future__ import annotations

from collections.abc import Sequence

from cyhorn.app.wsgiapp import run


def main(argv: Sequence[str] | None = None) -> None:
    """Serve what the command line names. `argv` is without the program's name; None is this process's.

    Exit statuses: 1 for a mistake in the configuration, 2 for one in the
    flags, 3 and 4 for an application that does not load.
    """
    run("cyhorn", argv)
