"""docs/settings.md, written from the table: ``python -m cyhorn.config.document [FILE]``.

Without FILE the page goes to standard output. A test compares the committed page.
"""

from __future__ import annotations

import sys
from pathlib import Path

from cyhorn.config.config import ARGUMENT_VARIABLES
from cyhorn.config.row import Row
from cyhorn.config.settings import SECTIONS, SETTINGS

HEAD = f"""\
# Settings

<!-- Written by `python -m cyhorn.config.document docs/settings.md` from the table in cyhorn/config.
     Change the table, then write this page anew. -->

Every setting has a name, which is what a config file assigns, and most have flags. A value comes
from the first of these that gives one:

1. the command line;
2. flags in the environment variable `{ARGUMENT_VARIABLES[0]}`, or else `{ARGUMENT_VARIABLES[1]}`;
3. the config file: the one that `-c` names, or else `./cyhorn.conf.py`, or else `./gunicorn.conf.py`;
4. the application that embeds cyhorn, for those that do;
5. the environment variable that stands with the setting;
6. the default.

`cyhorn --print-config MODULE:APP` shows every value and where it came from; `cyhorn --check-config
MODULE:APP` says whether the server could start.

A config file is Python. A name in it that is no setting is an error, so that a slip of the pen is
noticed. Modules, functions, classes, imported names, names that begin with `_`, and variables that
the file itself reads are its own affair.

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
    if row.env:
        facts.append(f"- **Environment:** `{row.env}`")
    if row.pending or row.note:
        facts.append(f"- **At start:** when it is used, the log says: {row.pending or row.note}.")
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
