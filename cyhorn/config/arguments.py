"""The command line, made from the table.

Texts of flags reach the settings' kinds unconverted, so that a wrong value is
refused with the same words wherever it stands. An unknown flag is an error with
the closest one (exit status 2).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from cyhorn import __version__
from cyhorn.config.row import Row
from cyhorn.config.settings import SECTIONS, SETTINGS, nearest
from cyhorn.errors import EXIT_USAGE

#: The program that has commands beside serving.
PROG = "cyhorn"
#: The shells that `cyhorn.config.completion` writes for.
SHELLS = ("bash", "zsh", "fish")


def version_text() -> str:
    """The version, which implementation runs, and why."""
    from cyhorn import _impl

    return f"version {__version__}, {_impl.NAME}: {_impl.REASON}"


class _Version(argparse.Action):
    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> NoReturn:
        print(f"{parser.prog} ({version_text()})")
        parser.exit()


class _Help(argparse.Action):
    """``--help``, ``--help SETTING`` and ``--help all``."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> NoReturn:
        from cyhorn.config import help

        if values == "all":
            parser.print_help()
        elif values is None or ":" in str(values):  # --help MODULE:APP
            text = help.short_page(parser.format_usage(), parser.prog, commands=parser.prog == PROG)
            print(text, end="")
        else:
            row = help.find(str(values))
            if row is None:
                parser.error(help.unknown(str(values)))
            print(help.setting_page(row), end="")
        parser.exit()


class _Completion(argparse.Action):
    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> NoReturn:
        from cyhorn.config import completion

        print(completion.script(str(values)), end="")
        parser.exit()


class Parser(argparse.ArgumentParser):
    """argparse with one-line errors that name the closest flag and, if given, the `source`."""

    source = ""

    def error(self, message: str) -> NoReturn:
        where = f" in {self.source}" if self.source else ""
        self.exit(EXIT_USAGE, f"{self.prog}: error: {message}{where}\n")

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        options, rest = self.parse_known_args(args, namespace)
        if rest:
            flag = next((text for text in rest if text.startswith("-")), rest[0]).split("=", 1)[0]
            near = nearest(flag, self._option_string_actions, cutoff=0.5)
            hint = f"; did you mean {near[0]}?" if near else f" (see {self.prog} --help)"
            self.error(f"unknown flag {flag}{hint}")
        return options


def build_parser(usage: str | None, prog: str | None) -> Parser:
    """The parser of all flags. An option's destination is its setting's name; None is "not given"."""
    parser = Parser(usage=usage, prog=prog, add_help=False)
    parser.add_argument(
        "-h",
        "--help",
        action=_Help,
        nargs="?",
        metavar="SETTING",
        default=argparse.SUPPRESS,
        help="show the usual settings, all about one, or with 'all' every flag, and exit",
    )
    parser.add_argument(
        "-v",
        "--version",
        action=_Version,
        nargs=0,
        default=argparse.SUPPRESS,
        help="show the version and the implementation, and exit",
    )
    parser.add_argument(
        "--completion",
        action=_Completion,
        choices=SHELLS,
        metavar="SHELL",
        default=argparse.SUPPRESS,
        help="print completion for bash, zsh or fish, and exit",
    )
    parser.add_argument("args", nargs="*", help=argparse.SUPPRESS)
    for section in SECTIONS:
        rows = [row for row in SETTINGS.values() if row.section == section and (row.flags or row.no_flags)]
        if rows:
            group = parser.add_argument_group(section)
            for row in rows:
                _add(group, row)
    return parser


def _add(group: argparse._ArgumentGroup, row: Row) -> None:
    text = row.short
    if row.flags:
        empty = row.default is None or row.default is False or row.default in ("", [])
        shown = row.default_text or ("" if empty else str(row.default))
        described = f"{text} [{shown}]" if shown else text
        options: dict[str, Any] = {
            "dest": row.name,
            "default": None,
            "action": row.action,
            "help": described.replace("%", "%%"),
        }
        if row.action in ("store", "append"):
            options |= {"metavar": row.metavar, "type": row.kind.read}
        if row.nargs is not None:
            options |= {"nargs": row.nargs, "const": row.const}
        group.add_argument(*row.flags, **options)
    if row.no_flags:
        options = {"dest": row.name, "default": None, "action": "store_const", "const": False}
        help_text = "Turn it off." if row.flags else text + " This turns it off."
        group.add_argument(*row.no_flags, **options, help=help_text)


def given(options: argparse.Namespace) -> dict[str, Any]:
    """The settings that a parsed command line gave, name → value."""
    return {name: value for name, value in vars(options).items() if name in SETTINGS and value is not None}
