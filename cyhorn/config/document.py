"""docs/settings.md, written from the table: ``python -m cyhorn.config.document [FILE]``.

Without FILE the page goes to standard output. A test compares the committed page.
"""

from __future__ import annotations

import sys
from pathlib import Path

from cyhorn.config.config import ARGUMENT_VARIABLES
from cyhorn.config.environment import RESERVED
from cyhorn.config.load import DEFAULT_FILES, PYPROJECT
from cyhorn.config.row import Row
from cyhorn.config.settings import SECTIONS, SETTINGS

_files = [f"`{name}`" + " with a table `[tool.cyhorn]`" * (name == PYPROJECT) for name in DEFAULT_FILES]
_reserved = ", ".join(f"`{name}`" for name in sorted(RESERVED))

HEAD = f"""\
# Settings

<!-- Written by `python -m cyhorn.config.document docs/settings.md` from the table in cyhorn/config.
     Change the table, then write this page anew. -->

Every setting has a name, which is what a config file assigns, and most have flags. A value comes
from the first of these that gives one:

1. the command line;
2. flags in the environment variable `{ARGUMENT_VARIABLES[0]}`, or else `{ARGUMENT_VARIABLES[1]}`;
3. the config file;
4. the application that embeds cyhorn, or the Paste Deploy file, for those that have one;
5. the setting's environment variable, `CYHORN_` and its name in capitals;
6. the variables that platforms set: `PORT`, `WEB_CONCURRENCY`, `FORWARDED_ALLOW_IPS`, `SENDFILE`;
7. the default.

`cyhorn --print-config MODULE:APP` shows every value and where it came from; `cyhorn --check-config
MODULE:APP` says all that would keep the server from starting. It imports the application, and tries
addresses, certificates, users, classes and log files, without disturbing a server that runs:
an address that a running cyhorn has is a warning, one that another program has is an error. Where
another user starts the server (`user` is set, or it runs already), what only this user may not do is
a warning too. What each setting does on a running server is shown in [effects](effects.md).
`cyhorn --help SETTING` says what stands here.

## Config files

The config file is the one that `-c` names, or else `CYHORN_CONFIG`, or else the first of these in the
directory of the start: {', '.join(_files)}. Only one is read.

A file is Python, or TOML where its name ends in `.toml`. In both, a name that is no setting is an
error, so that a slip of the pen is noticed. In Python files modules, functions, classes, imported
names, names that begin with `_`, and variables that the file itself reads are their own affair. In
TOML a hook is a text, `"module:function"`; in a `pyproject.toml` the table `[tool.cyhorn]` counts.

## Environment variables

The variable of a setting holds what a flag would. A switch is `1` or `0` (`true`, `yes`, `on`,
`false`, `no`, `off`). A list holds words as in a shell, `CYHORN_BIND="127.0.0.1:80 unix:/run/x"`;
a dict is JSON; a hook is `module:function`. An empty variable counts as not set, but for those where
nothing is a value: `CYHORN_SERVER_HEADER=` leaves the field out. A variable that begins with `CYHORN_`
and names no setting is warned about. {_reserved} are for other things.

Beside a name, **new** marks a setting that Gunicorn does not have, and **not served** one that is
taken from Gunicorn's files and flags and does nothing but say so at start.
"""

MARKS = {"N": " (new)", "X": " (not served)"}


def default_of(row: Row) -> str:
    """The default as the page shows it: the same on every machine."""
    if row.default_text:
        return row.default_text
    if row.default is None:
        return "not set"
    return f"`{row.default!r}`"


def entry(row: Row) -> str:
    """The page's part about one setting."""
    facts = [f"- **Default:** {default_of(row)}", f"- **Value:** {row.kind.allowed}"]
    if row.flags or row.no_flags:
        value = f" {row.metavar}" if row.action in ("store", "append") and row.metavar and row.flags else ""
        if row.nargs == "?":
            value = f" [{row.metavar}]"
        flags = [f"`{flag}{value}`" for flag in row.flags] + [f"`{flag}`" for flag in row.no_flags]
        again = ", may be repeated" if row.action == "append" else ""
        facts.insert(0, f"- **Flags:** {', '.join(flags)}{again}")
    variables = [f"`{name}`" for name in (row.variable, row.env) if name]
    facts.append(f"- **Environment:** {', or else '.join(variables)}")
    if row.pending or row.note:
        facts.append(f"- **At start:** when it is used, the log says: {row.pending or row.note}.")
    if row.differs:
        facts.append(f"- **Differs from Gunicorn:** {row.differs}")
    mark = MARKS.get(row.scope, "")
    return f"### `{row.name}`{mark}\n\n{row.meaning}\n\n" + "\n".join(facts) + "\n"


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for section in SECTIONS:
        parts.append(f"## {section}\n")
        parts += [entry(row) for row in SETTINGS.values() if row.section == section]
    return "\n".join(parts)


def main() -> None:
    """Write the page to the file that the command line names, or to standard output."""
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(page(), encoding="utf-8")
    else:
        sys.stdout.write(page())


if __name__ == "__main__":
    main()
