"""The console script ``cyhorn``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from cyhorn.app.wsgiapp import run

#: The command that does not serve. An application of this name is served as ``migrate:application``.
MIGRATE = "migrate"


def main(argv: Sequence[str] | None = None) -> None:
    """Serve what the command line names, or with ``migrate`` as its first word see `cyhorn.app.migrate`.

    `argv` is without the program's name; None is this process's. Exit statuses: 1 for a mistake in the
    configuration, 2 for one in the flags, 3 and 4 for an application that does not load.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == [MIGRATE]:
        from cyhorn.app import migrate

        raise SystemExit(migrate.main(arguments[1:]))
    run("cyhorn", argv)
