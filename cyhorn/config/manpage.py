"""docs/cyhorn.1, written from the table: ``python -m cyhorn.config.manpage [FILE]``.

Without FILE the page goes to standard output. A test compares the committed page.
"""

from __future__ import annotations

import sys
from pathlib import Path

from cyhorn.config.environment import RESERVED
from cyhorn.config.help import default_text
from cyhorn.config.load import DEFAULT_FILES
from cyhorn.config.row import Row
from cyhorn.config.settings import SECTIONS, SETTINGS

HEAD = r"""
.\" Written by `python -m cyhorn.config.manpage docs/cyhorn.1` from the table in cyhorn/config.
.TH CYHORN 1 "" "cyhorn" "User Commands"
.nh
.SH NAME
cyhorn \- a pre-fork WSGI server, drop-in compatible with Gunicorn
.SH SYNOPSIS
.B cyhorn
.RI [ OPTIONS ]
.RI [ MODULE : APP ]
.br
.B cyhorn migrate
.IR FILE | COMMAND
.br
.B cyhorn ctl
.RB [ \-s
.IR PATH ]
.RB [ \-j ]
.RI [ COMMAND ]
.SH DESCRIPTION
.B cyhorn
serves the WSGI application
.I APP
of the Python module
.IR MODULE .
.I MODULE
alone means
.IR MODULE :application;
.IR MODULE : FACTORY (...)
calls a factory with literal arguments.
.PP
Every setting can be given by a flag, in a config file under its name, and in the environment as
CYHORN_ and its name in capitals.
A value comes from the first of these that gives one: the command line, flags in CYHORN_CMD_ARGS (or
else GUNICORN_CMD_ARGS), the config file, the application that embeds cyhorn, the environment, the default.
.PP
.B cyhorn migrate
reads a config file or a command line of Gunicorn and says for each setting whether it means the same
here. Its exit status is 0 when the server would run with it.
.PP
.B cyhorn ctl
asks a running server, or tells it something, by its control socket; without a command it reads one a line.
.B cyhorn ctl help
lists the commands. Its exit status is 1 when the server cannot be reached or says no.
""".lstrip()

TAIL = r"""
.SH SIGNALS
To the master:
.TP
.B TERM
stop when the requests under way are answered, within graceful_timeout
.TP
.BR INT ", " QUIT
stop at once
.TP
.B HUP
read the configuration and the application anew; the old workers serve until the new ones are ready
.TP
.BR TTIN ", " TTOU
one worker more, one less
.TP
.B USR1
open the log files anew
.TP
.B USR2
start a new master with the same sockets
.TP
.B WINCH
in the background, stop the workers
.SH EXIT STATUS
.TP
.B 0
stopped as asked
.TP
.B 1
a mistake in the configuration
.TP
.B 2
a mistake in the flags
.TP
.B 3
the application does not load
.TP
.B 4
the application that is named is not there
"""


def roff(text: str) -> str:
    """`text` for a line of its own in a page."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + escaped if escaped[:1] in (".", "'") else escaped


def option(row: Row) -> list[str]:
    """The lines about one setting that has flags."""
    takes = row.action in ("store", "append") and row.metavar and row.flags
    spelled = ", ".join(f"\\fB{roff(flag)}\\fR" for flag in row.flags)
    if takes:
        value = f"\\fI{roff(row.metavar or '')}\\fR"
        spelled += f" [{value}]" if row.nargs == "?" else f" {value}"
    both = [spelled] if row.flags else []
    both += [f"\\fB{roff(flag)}\\fR" for flag in row.no_flags]
    default = default_text(row)
    lines = [".TP", ", ".join(both), roff(row.meaning)]
    facts = [f"Setting {row.name}" + (f", default {default}" if default else "") + "."]
    if row.env:
        facts.append(f"Also from {row.env}.")
    if row.differs:
        facts.append(f"Differs from Gunicorn: {row.differs}.")
    if row.pending:
        facts.append(f"Not served: {row.pending}.")
    return [*lines, *map(roff, facts)]


def page() -> str:
    """The whole page."""
    lines = [HEAD.rstrip(), ".SH OPTIONS"]
    for flags, text in (
        ("\\fB\\-h\\fR, \\fB\\-\\-help\\fR [\\fISETTING\\fR|\\fBall\\fR]", "Show help."),
        ("\\fB\\-v\\fR, \\fB\\-\\-version\\fR", "Show the version and the implementation."),
        ("\\fB\\-\\-completion\\fR \\fISHELL\\fR", "Print completion for bash, zsh or fish."),
    ):
        lines += [".TP", flags, text]
    for section in SECTIONS:
        rows = [row for row in SETTINGS.values() if row.section == section]
        with_flags = [row for row in rows if row.flags or row.no_flags]
        others = [row for row in rows if row not in with_flags]
        lines.append(f".SS {roff(section)}")
        for row in with_flags:
            lines += option(row)
        if others:
            lines += [".PP", "In config files and the environment only:"]
            for row in others:
                lines += [".TP", f"\\fB{row.name}\\fR", roff(row.meaning)]
    lines.append(TAIL.strip())
    lines += [".SH FILES"]
    for name in DEFAULT_FILES:
        lines += [".TP", f"\\fI{roff(name)}\\fR", "read when no config file is named; the first that exists"]
    lines += [".SH ENVIRONMENT"]
    lines += [".TP", "\\fBCYHORN_\\fR\\fISETTING\\fR", "every setting"]
    for name in sorted({row.env for row in SETTINGS.values() if row.env} | RESERVED):
        users = [row.name for row in SETTINGS.values() if row.env == name]
        text = f"the default of {users[0]}" if users else OTHER[name]
        lines += [".TP", f"\\fB{name}\\fR", roff(text)]
    return "\n".join(lines) + "\n"


#: What the variables are for that are no settings.
OTHER = {
    "CYHORN_IMPL": "auto, compiled or python: which implementation runs",
    "CYHORN_CMD_ARGS": "flags, below the command line",
    "CYHORN_BUILD": "require or pure: whether a build makes the extension modules",
    "CYHORN_DEBUG": "a build with assertions",
    "CYHORN_SANITIZE": "a build with the compiler's sanitizers",
    "CYHORN_PID": "during an upgrade, the old master",
    "CYHORN_FD": "during an upgrade, the sockets",
}


def main() -> None:
    """Write the page to the file that the command line names, or to standard output."""
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(page(), encoding="utf-8")
    else:
        sys.stdout.write(page())


if __name__ == "__main__":
    main()
