"""What ``--help`` says: the settings that people use, or all about one.

``--help all`` is argparse's own page of every flag.
"""

from __future__ import annotations

import shutil
import textwrap

from cyhorn.config.row import Row
from cyhorn.config.settings import SETTINGS, closest, did_you_mean

#: The page of ``--help``, by what one wants.
COMMON: dict[str, tuple[str, ...]] = {
    "Where to listen": ("bind", "certfile", "keyfile", "forwarded_allow_ips"),
    "Workers": (
        "workers",
        "worker_class",
        "threads",
        "timeout",
        "keepalive",
        "max_requests",
        "preload_app",
    ),
    "Logs": ("accesslog", "errorlog", "loglevel"),
    "The process": ("config", "chdir", "raw_env", "user", "pidfile", "reload"),
}

#: What else the command line can do: words, and what they are for.
MORE = (
    ("--check-config", "Tell all that would keep the server from starting."),
    ("--print-config", "Show every value and where it came from."),
    ("--help SETTING", "All about one setting, by its name or flag."),
    ("--help all", "Every flag."),
    ("--completion SHELL", "Print completion for bash, zsh or fish."),
    ("--version", "Show the version and the implementation."),
)
COMMANDS = (
    ("{prog} migrate FILE", "Say what a config file of Gunicorn means here."),
    ("{prog} migrate COMMAND", "The same for a command line, as gunicorn -w 4 app:app."),
    ("{prog} ctl [COMMAND]", "Ask a running server, or tell it something; see {prog} ctl help."),
)

INDENT = 29


def width() -> int:
    """The columns to fill: the terminal's, within reason."""
    return max(60, min(shutil.get_terminal_size((100, 24)).columns, 110)) - 2


def default_text(row: Row) -> str:
    """The default in words: the same on every machine. Empty where there is nothing to show."""
    if row.default_text:
        return row.default_text
    if row.default is None or row.default in ("", [], {}):
        return ""
    if isinstance(row.default, list):
        return ", ".join(map(str, row.default))
    if isinstance(row.default, bool):
        return "on" if row.default else "off"
    return str(row.default)


def flags_text(row: Row) -> str:
    """The flags with what they take: ``-w, --workers INT``."""
    takes = row.action in ("store", "append") and row.metavar and row.flags
    value = f" {row.metavar}" if takes else ""
    if row.nargs == "?":
        value = f" [{row.metavar}]"
    return ", ".join([*row.flags, *row.no_flags]) + value


def _entry(left: str, text: str) -> str:
    lines = textwrap.wrap(text, width() - INDENT)
    first = f"  {left:{INDENT - 2}}"
    if len(first) > INDENT or first[-1] != " ":
        return "\n".join([first, *(" " * INDENT + line for line in lines)])
    return "\n".join([first + lines[0], *(" " * INDENT + line for line in lines[1:])])


def short_page(usage: str, prog: str, commands: bool) -> str:
    """The page of ``--help``. With `commands` what else the program does beside serving."""
    parts = [usage.rstrip()]
    for title, names in COMMON.items():
        entries = []
        for row in (SETTINGS[name] for name in names):
            default = default_text(row)
            shown = f" [{default}]" if default and default != "off" else ""
            entries.append(_entry(flags_text(row), row.short + shown))
        parts.append("\n".join([f"{title}:", *entries]))
    entries = [_entry(left, text) for left, text in MORE]
    if commands:
        entries += [_entry(left.format(prog=prog), text) for left, text in COMMANDS]
    parts.append("\n".join(["More:", *entries]))
    parts.append(
        textwrap.fill(
            "Every setting can also stand in a config file (cyhorn.conf.py, cyhorn.toml), and in a variable"
            " CYHORN_<SETTING>.",
            width(),
        )
    )
    return "\n\n".join(parts) + "\n"


def find(word: str) -> Row | None:
    """The setting whose name or flag is `word`; hyphens and case do not count."""
    name = word.lstrip("-").lower().replace("-", "_")
    if name in SETTINGS:
        return SETTINGS[name]
    if name.startswith("cyhorn_") and name[len("cyhorn_") :] in SETTINGS:
        return SETTINGS[name[len("cyhorn_") :]]
    for row in SETTINGS.values():
        if word in row.flags + row.no_flags:
            return row
    for row in SETTINGS.values():
        long = [flag[2:].lower().replace("-", "_") for flag in row.flags if flag.startswith("--")]
        if name in long:
            return row
    return None


def unknown(word: str) -> str:
    """The line for a word that is no setting."""
    near = closest(word.lstrip("-").replace("-", "_"))
    return f"there is no setting {word!r}{did_you_mean(near)}"


def setting_page(row: Row) -> str:
    """All that the table says about one setting."""
    scope = {"N": "new in cyhorn", "X": "not served"}.get(row.scope, "the same")
    facts = [
        ("flags", flags_text(row) + (" (may be repeated)" if row.action == "append" else "")),
        ("environment", ", or else ".join(name for name in (row.variable, row.env) if name)),
        ("value", row.kind.allowed),
        ("default", default_text(row) or "not set"),
        ("Gunicorn", f"differs: {row.differs}" if row.differs else scope),
        ("at start", row.pending or row.note),
    ]
    lines = [f"{row.name}  ({row.section})", ""]
    lines += textwrap.wrap(row.meaning, width() - 2, initial_indent="  ", subsequent_indent="  ")
    lines.append("")
    for name, text in facts:
        if text:
            indent = " " * 15
            head = f"  {name:13}"
            lines += textwrap.wrap(text, width(), initial_indent=head, subsequent_indent=indent)
    return "\n".join(lines) + "\n"
