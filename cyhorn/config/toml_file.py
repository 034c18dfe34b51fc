"""Config files in TOML: a file of its own, or the table ``[tool.cyhorn]`` of a pyproject.toml.

The names are those of Python config files, a hook is a text "module:function". The
parser of the standard library tells no lines, so `lines_of` finds them: it takes the
text apart into statements, which are what parses on its own.
"""

from __future__ import annotations

import os
import re
import sys
from typing import Any, NamedTuple

from cyhorn.config.config import Config
from cyhorn.config.environment import HOOKS, importable
from cyhorn.config.load import PYPROJECT
from cyhorn.config.settings import SETTINGS, closest, did_you_mean
from cyhorn.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TABLE = ("tool", "cyhorn")


class TomlFile(NamedTuple):
    """A TOML file that was read: the names and values of its table, and their lines."""

    shown: str
    values: dict[str, Any]
    lines: dict[str, int]

    def source_of(self, name: str) -> str:
        """ "FILE:LINE" of the setting `name`."""
        line = self.lines.get(name)
        return self.shown if line is None else f"{self.shown}:{line}"

    def apply(self, cfg: Config) -> None:
        """Set every setting that the file names. Raises ConfigError; all names that are none in one."""
        for name in self.values:
            if name in SETTINGS and name not in HOOKS:
                cfg.set(name, self.values[name], self.source_of(name))
        with importable(cfg):
            for name in self.values:
                if name in HOOKS:
                    cfg.set(name, self.values[name], self.source_of(name))
        unknown = [name for name in self.values if name not in SETTINGS]
        if unknown:
            raise ConfigError(
                ", ".join(
                    f"{self.source_of(name)}: there is no setting {name!r}{did_you_mean(closest(name))}"
                    for name in unknown
                )
            )


def read_toml(path: str) -> TomlFile:
    """Read the TOML file at `path`; of a pyproject.toml only its table. Raises ConfigError."""
    text = _text_of(path)
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        what = " ".join(str(error).split())
        found = re.search(r" \(at line (\d+), column \d+\)$", what)
        if found:
            where, what = f"{path}:{found[1]}", what[: found.start()]
        else:  # at end of document
            where = f"{path}:{len(text.splitlines())}"
        raise ConfigError(f"config file is not TOML: {where}: {what}") from error
    table = TABLE if os.path.basename(path) == PYPROJECT else ()
    values: Any = document
    for part in table:
        values = values.get(part) if isinstance(values, dict) else None
    if not isinstance(values, dict):
        raise ConfigError(f"config file {path!r}: it has no table [{'.'.join(table)}]")
    lines = lines_of(text)
    depth = len(table)
    own = {
        key[depth]: line for key, line in lines.items() if len(key) == depth + 1 and key[:depth] == table
    }
    return TomlFile(path, values, own)


def has_table(path: str) -> bool:
    """Whether the pyproject.toml at `path` configures cyhorn. One that is no TOML does if it mentions it."""
    try:
        text = _text_of(path)
    except ConfigError:
        return False
    if "cyhorn" not in text:
        return False
    try:
        tool = tomllib.loads(text).get(TABLE[0])
    except tomllib.TOMLDecodeError:
        return f"[{'.'.join(TABLE)}" in text
    return isinstance(tool, dict) and TABLE[1] in tool


def _text_of(path: str) -> str:
    try:
        with open(path, encoding="utf-8", newline="") as stream:
            return stream.read().replace("\r\n", "\n")
    except FileNotFoundError:
        raise ConfigError(f"config file {path!r}: there is no such file") from None
    except OSError as cause:
        raise ConfigError(f"config file {path!r}: {cause.strerror}") from cause
    except UnicodeDecodeError as cause:
        raise ConfigError(f"config file {path!r}: it is not UTF-8: {cause.reason}") from cause


def lines_of(text: str) -> dict[tuple[str, ...], int]:
    """The line, from 1 on, of every table and key of a valid TOML document: path → line."""
    lines: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    statement: list[str] = []
    start = 1
    for number, line in enumerate(text.split("\n"), 1):
        if not statement:
            start = number
        statement.append(line)
        try:
            parsed = tomllib.loads("\n".join(statement))
        except tomllib.TOMLDecodeError:
            continue  # a text or an array of several lines
        header = statement[0].lstrip().startswith("[")
        statement = []
        path = () if header else table
        while isinstance(parsed, dict) and len(parsed) == 1:
            ((key, parsed),) = parsed.items()
            if isinstance(parsed, list) and header:
                parsed = parsed[0]
            path += (key,)
            lines.setdefault(path, start)
        if header:
            table = path
    return lines
