"""Completion of the command line for bash, zsh and fish, made from the table.

``eval "$(cyhorn --completion bash)"`` (or zsh), ``cyhorn --completion fish | source``. A script
knows flags and what follows them: words to choose from, files, directories, or nothing to complete.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cyhorn.config import classes
from cyhorn.config.row import Row
from cyhorn.config.settings import SETTINGS

FILE, DIRECTORY, WORD = "file", "directory", "word"


@dataclass(frozen=True)
class Option:
    """One option: its spellings, what it is for, and what follows it.

    `takes` is None where nothing follows, else FILE, DIRECTORY or WORD; `words` are what there is to
    choose from. `again` says that it may be repeated.
    """

    flags: tuple[str, ...]
    text: str
    takes: str | None = None
    words: tuple[str, ...] = ()
    again: bool = False


def shells() -> tuple[str, ...]:
    return tuple(SCRIPTS)


def options() -> Iterator[Option]:
    """All options of the command, in the order of the manual."""
    names = ("all", *SETTINGS)
    yield Option(("-h", "--help"), "Show help: the usual settings, one, or all.", WORD, names)
    yield Option(("-v", "--version"), "Show the version and the implementation.")
    yield Option(("--completion",), "Print completion for a shell.", WORD, shells())
    for row in SETTINGS.values():
        if row.flags:
            takes = _takes(row)
            yield Option(row.flags, row.short, takes, _words(row) if takes else (), row.action == "append")
        if row.no_flags:
            yield Option(row.no_flags, f"Turn {row.name} off.")


def _takes(row: Row) -> str | None:
    if row.action not in ("store", "append"):
        return None
    return {"FILE": FILE, "DIR": DIRECTORY, "DIRS": DIRECTORY}.get(row.metavar or "", WORD)


def _words(row: Row) -> tuple[str, ...]:
    if row.name == "worker_class":
        return tuple(classes.WORKERS.aliases())
    if row.name == "loglevel":
        return ("debug", "info", "warning", "error", "critical")
    return row.kind.choices


def script(shell: str) -> str:
    """The script for one of `shells`."""
    return SCRIPTS[shell]()


def bash() -> str:
    cases = []
    for option in options():
        if option.takes is None:
            continue
        how = {
            FILE: 'COMPREPLY=($(compgen -f -- "$word"))',
            DIRECTORY: 'COMPREPLY=($(compgen -d -- "$word"))',
            WORD: f"COMPREPLY=($(compgen -W {_quoted(' '.join(option.words))} -- \"$word\"))",
        }[option.takes]
        cases.append(f"    {'|'.join(option.flags)}) {how}; return ;;")
    flags = " ".join(flag for option in options() for flag in option.flags)
    return "\n".join(
        [
            "# Completion of cyhorn for bash.",
            "_cyhorn() {",
            '  local word="${COMP_WORDS[COMP_CWORD]}" previous="${COMP_WORDS[COMP_CWORD-1]}"',
            "  COMPREPLY=()",
            '  case "$previous" in',
            *cases,
            "  esac",
            '  if [[ "$word" == -* ]]; then',
            f'    COMPREPLY=($(compgen -W {_quoted(flags)} -- "$word"))',
            "  elif (( COMP_CWORD == 1 )); then",
            '    COMPREPLY=($(compgen -W "ctl migrate" -- "$word"))',
            '  elif [[ "${COMP_WORDS[1]}" == migrate ]]; then',
            '    COMPREPLY=($(compgen -f -- "$word"))',
            "  fi",
            "}",
            "complete -o filenames -F _cyhorn cyhorn",
            "",
        ]
    )


def zsh() -> str:
    specs = []
    for option in options():
        text = option.text.replace("\\", "\\\\").replace("[", "\\[").replace("]", "\\]").replace(":", "\\:")
        value = {
            None: "",
            FILE: ":file:_files",
            DIRECTORY: ":directory:_files -/",
            WORD: f":value:({' '.join(option.words)})" if option.words else ":value: ",
        }[option.takes]
        for flag in option.flags:
            again = "*" if option.again else ""
            specs.append(f"    {_quoted(f'{again}{flag}[{text}]{value}')} \\")
    return "\n".join(
        [
            "#compdef cyhorn",
            "# Completion of cyhorn for zsh.",
            "_cyhorn() {",
            "  _arguments -S \\",
            *specs,
            "    '1:application or command:(ctl migrate)' \\",
            "    '*:file:_files'",
            "}",
            "compdef _cyhorn cyhorn",
            "",
        ]
    )


def fish() -> str:
    lines = [
        "# Completion of cyhorn for fish.",
        "complete -c cyhorn -f",
        "complete -c cyhorn -n __fish_is_first_token -a migrate -d 'Say what Gunicorn settings mean here.'",
        "complete -c cyhorn -n __fish_is_first_token -a ctl -d 'Ask or tell a running server.'",
        "complete -c cyhorn -n '__fish_seen_subcommand_from migrate' -F",
    ]
    for option in options():
        spelled = [
            f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}" for flag in option.flags
        ]
        value = {
            None: "",
            FILE: " -r -F",
            DIRECTORY: " -x -a '(__fish_complete_directories)'",
            WORD: f" -x -a {_quoted(' '.join(option.words))}" if option.words else " -x",
        }[option.takes]
        lines.append(f"complete -c cyhorn {' '.join(spelled)}{value} -d {_fish_quoted(option.text)}")
    return "\n".join([*lines, ""])


def _quoted(text: str) -> str:
    """One word of a shell."""
    return "'" + text.replace("'", "'\\''") + "'"


def _fish_quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


SCRIPTS = {"bash": bash, "zsh": zsh, "fish": fish}
