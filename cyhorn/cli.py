"""The console script ``cyhorn``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from cyhorn.app.wsgiapp import run

#: The commands that do not serve. An application of such a name is served as ``migrate:application``.
MIGRATE = "migrate"
CTL = "ctl"


def main(argv: Sequence[str] | None = None) -> None:
    """Serve what the command line names; ``migrate`` and ``ctl`` as its first word are modules of `app`.

    `argv` is without the program's name; None is this process's. Exit statuses: 1 for a mistake in the
    configuration, 2 for one in the flags, 3 and 4 for an application that does not load.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == [MIGRATE]:
        from cyhorn.app import migrate

        raise SystemExit(migrate.main(arguments[1:]))
    if arguments[:1] == [CTL]:
        from cyhorn.app import ctl

        raise SystemExit(ctl.main(arguments[1:]))
    run("cyhorn", argv)
