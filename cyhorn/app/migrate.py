"""``cyhorn migrate``: what a configuration of Gunicorn means here, line by line.

Given is a config file (which is run, as Gunicorn would), or a command line, whose
config file is read too. Each setting gets a line: it is the same, it differs (and
how), it is not served, or it is wrong and the server would not start. The exit
status is 0 when it would run, 1 when not, 2 when the question is not understood.
Nothing is bound, and no application is imported.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

from cyhorn.app import gunicorn_compat
from cyhorn.config import load as sources
from cyhorn.config.arguments import Parser, build_parser, given
from cyhorn.config.config import Config
from cyhorn.config.environment import importable
from cyhorn.config.python_file import ConfigFile
from cyhorn.config.row import Row
from cyhorn.config.settings import SETTINGS, closest, did_you_mean
from cyhorn.config.toml_file import TomlFile
from cyhorn.errors import EXIT_CONFIG, EXIT_OK, EXIT_USAGE, ConfigError

USAGE = """\
usage: cyhorn migrate FILE         a config file of Gunicorn
       cyhorn migrate COMMAND ...  a command line, such as gunicorn -w 4 app:app
"""

SAME, DIFFERS, NOT_SERVED, WRONG = "same", "differs", "not served", "wrong"
KINDS = (SAME, DIFFERS, NOT_SERVED, WRONG)

#: Settings whose default is another one: they matter where nothing is said.
OTHER_DEFAULTS = {
    "keepalive": "75 s, not 2 s, and for sync workers too; 0 is Gunicorn's way for sync",
    "limit_request_line": "8190 bytes, not 4094",
}


#: A variable of the shell, with what stands for it where it is not set.
VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)(?::?-([^}]*))?\})")

#: What stands before a command in a Dockerfile, a unit file, a Procfile or a compose file.
BEFORE_COMMAND = re.compile(r"(?:CMD|ENTRYPOINT|RUN)\s+|ExecStart\s*=\s*[-@:+!|]*|[\w-]+:\s+|-\s+")

SHELLS = ("sh", "bash", "ash", "dash", "zsh")
GUNICORN = ("gunicorn", "gunicorn3", "cyhorn", "gunicorn.app.wsgiapp")


class Report:
    """The findings, in order. `needs_compat` says that something imports gunicorn."""

    def __init__(self) -> None:
        self.findings: list[tuple[str, str, str, str]] = []
        self.needs_compat = False
        self.cfg = Config(prog="cyhorn")

    def add(self, where: str, subject: str, kind: str, text: str = "") -> None:
        self.findings.append((where, subject, kind, text))

    @property
    def would_run(self) -> bool:
        return not any(kind == WRONG for _, _, kind, _ in self.findings)

    def lines(self) -> Iterator[str]:
        """The report as it is printed."""
        for where, subject, kind, text in self.findings:
            yield f"{where}: {subject}: {kind}{': ' if text else ''}{text}"
        named = {name for name in OTHER_DEFAULTS if self.cfg.settings[name].source != "default"}
        for name, text in OTHER_DEFAULTS.items():
            if name not in named:
                yield f"not set: {name}: {DIFFERS}: {text}"
        counts = [(kind, sum(1 for finding in self.findings if finding[2] == kind)) for kind in KINDS]
        told = ", ".join(f"{count} {kind}" for kind, count in counts if count) or "nothing is set"
        if not self.would_run:
            fate = "It would not run."
        elif self.needs_compat:
            fate = "It would run; where Gunicorn is not installed, with --gunicorn-compat."
        else:
            fate = "It would run."
        yield f"{told}. {fate}"

    # -- one setting ------------------------------------------------------------------------------

    def setting(self, where: str, name: str, value: Any) -> None:
        """Say what `value` of the setting `name` means."""
        row = SETTINGS[name]
        try:
            self.cfg.set(name, value, where)
        except ConfigError as problem:
            self.add(where, name, *_wrong(where, problem))
            return
        if row.pending and self.cfg.settings[name].used:
            self.add(where, name, NOT_SERVED, row.pending)
        elif row.scope == "X":
            self.add(where, name, SAME)
        elif row.differs and name != "config":  # which one is read differs only where none is named
            self.add(where, name, DIFFERS, row.differs)
        elif row.note and self.cfg.settings[name].used:
            self.add(where, name, DIFFERS, row.note)
        else:
            self.add(where, name, SAME, _remark(row))

    # -- a config file ------------------------------------------------------------------------------

    def file(self, path: str) -> None:
        """Run the config file and say what each of its names means."""
        location = path.removeprefix("file:")
        if not location.startswith("python:"):
            self._imports(location)
        gunicorn_compat.install()
        try:
            found = sources.read_config(path)
        except ConfigError as problem:
            self.add(location, "the file", WRONG, str(problem))
            return
        names = [name for name in found.values if not _is_own_affair(found, name)]
        with importable(self.cfg):
            for name in sorted(names, key=lambda name: _line(found, name)):
                where = found.source_of(name)
                if name in SETTINGS:
                    self.setting(where, name, found.values[name])
                else:
                    hint = did_you_mean(closest(name))
                    text = f"there is no such setting, which Gunicorn does not notice{hint}"
                    self.add(where, name, WRONG, text)

    def _imports(self, path: str) -> None:
        """Say what the imports of gunicorn in the file `path` are here."""
        try:
            with open(path, "rb") as stream:
                tree = ast.parse(stream.read())
        except (OSError, SyntaxError, ValueError):
            return  # reading it says more
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    self._import(f"{path}:{node.lineno}", alias.name)
            elif isinstance(node, ast.ImportFrom) and not node.level:
                for alias in node.names:
                    self._import(f"{path}:{node.lineno}", node.module or "", alias.name)

    def _import(self, where: str, module: str, name: str = "") -> None:
        if module.split(".")[0] != "gunicorn":
            return
        modules = gunicorn_compat.MODULES
        if f"{module}.{name}" in modules:
            module, name = f"{module}.{name}", ""
        subject = f"import of {module}{' ' * bool(name)}{name}"
        if module not in modules or name not in ("", "*", *gunicorn_compat.names_of(module)):
            self.add(where, subject, WRONG, "it has no counterpart in cyhorn")
            return
        self.needs_compat = True
        own = modules[module]
        instead = f", or import {own}" if own else ""
        self.add(where, subject, DIFFERS, f"where Gunicorn is not installed, give --gunicorn-compat{instead}")

    # -- a command line -----------------------------------------------------------------------------

    def command(self, words: Sequence[str]) -> None:
        """Say what each flag of a command line means, and its config file."""
        parser = build_parser(None, "cyhorn")
        assignments, arguments = split_command(words)
        location = None
        for text in assignments:
            location = self._assignment(parser, text) or location
        location = self._flags(parser, arguments).get("config", location)
        if location:
            self.file(location)
        elif location is None and os.path.exists(sources.GUNICORNS_FILE):
            self.file(sources.GUNICORNS_FILE)

    def _assignment(self, parser: Parser, text: str) -> Any:
        """Say what a variable in front of a command means. Returns the config file that it names, or None."""
        name, _, value = text.partition("=")
        if name == "GUNICORN_CMD_ARGS":
            self.add(name, "the variable", SAME, "read where CYHORN_CMD_ARGS is not set")
            return self._flags(parser, shlex.split(value), f"{name}: ").get("config")
        for row in SETTINGS.values():
            if row.env == name:
                self.setting(name, row.name, row.read_env(value) if row.read_env else value)
        return None

    def _flags(self, parser: Parser, arguments: Sequence[str], before: str = "") -> dict[str, Any]:
        try:
            options, rest = parser.parse_known_args(list(arguments))
        except SystemExit:
            # argparse has said what is wrong on standard error.
            self.add(f"{before}{' '.join(arguments)}", "the command line", WRONG, "it cannot be parsed")
            return {}
        for text in rest:
            near = closest(text.lstrip("-").replace("-", "_"))
            self.add(f"{before}{text}", "flag", WRONG, f"there is no such flag{did_you_mean(near)}")
        values = given(options)
        for name, value in values.items():
            shown = "" if isinstance(value, bool) else value
            if isinstance(value, list):
                shown = " ".join(map(str, value))
            flags = SETTINGS[name].flags + SETTINGS[name].no_flags
            written = [flag for flag in flags if any(_is_flag(word, flag) for word in arguments)]
            self.setting(f"{before}{(written or flags)[0]} {shown}".rstrip(), name, value)
        if options.args:
            self.add(f"{before}{options.args[0]}", "the application", SAME)
        return values

    def contradictions(self) -> None:
        """Say what no setting shows alone."""
        for problem in self.cfg.problems():
            for index, (where, name, _, _) in enumerate(self.findings):
                if problem.endswith(f"({where})") or f" ({where}): " in problem:
                    self.findings[index] = (where, name, *_wrong(where, problem))
                    break
            else:
                self.add("altogether", "settings", WRONG, problem)


def _wrong(where: str, problem: object) -> tuple[str, str]:
    """What to say of a value that is refused: a variable of the shell's may have a good one where it runs."""
    if unknown := VARIABLE.search(where):
        return SAME, f"if {unknown[0]}, which is not set here, has a good value"
    return WRONG, str(problem).replace(f" ({where})", "")


def _is_flag(word: str, flag: str) -> bool:
    return word.split("=", 1)[0] == flag or (len(flag) == 2 and word.startswith(flag) and word[:2] != "--")


def _remark(row: Row) -> str:
    return "new in cyhorn" if row.scope == "N" else ""


def _is_own_affair(found: ConfigFile | TomlFile, name: str) -> bool:
    """Whether the name is one of the file's helpers, not a setting nor a slip of the pen."""
    if name in SETTINGS:
        return isinstance(found.values[name], ModuleType)
    return isinstance(found, ConfigFile) and not found.is_suspect(name)


def _line(found: ConfigFile | TomlFile, name: str) -> int:
    match = re.search(r":(\d+)$", found.source_of(name))
    return int(match[1]) if match else 0


def words_of(text: str) -> list[str]:
    """The words of a command as it stands in a shell, a Dockerfile (both forms), a unit file or a Procfile.

    Raises ValueError for a quotation without an end.
    """
    text = re.sub(r"\\\s*\n\s*", " ", text).strip()
    text = text[before.end() :] if (before := BEFORE_COMMAND.match(text)) else text
    if text.startswith("["):
        try:
            words = json.loads(text)
        except ValueError:
            words = None  # Docker, too, takes it for the shell's then
        if isinstance(words, list) and all(isinstance(word, str) for word in words):
            return words
    return shell_words(text)


def shell_words(text: str) -> list[str]:
    """The words of a shell's command, with the values of variables. Raises ValueError as shlex does."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars=";&|<>")
    lexer.whitespace_split = True
    lexer.commenters = ""
    return [VARIABLE.sub(_value_of, word) for word in lexer]


def _value_of(variable: re.Match[str]) -> str:
    otherwise = variable[0] if variable[3] is None else variable[3]
    return os.environ.get(variable[1] or variable[2]) or otherwise


def split_command(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The assignments in front of a command line, and the arguments of gunicorn in it.

    What stands before the word gunicorn (exec, a path, ``python -m``, ``web:``) is left out, and what a shell
    would run after it. A command that is given to a shell (``sh -c``) is looked into.
    """
    assignments: list[str] = []
    for index, word in enumerate(words):
        if re.fullmatch(r"[A-Za-z_]\w*=.*", word, re.DOTALL):
            assignments.append(word)
        elif os.path.basename(word) in GUNICORN:
            arguments = list(words[index + 1 :])
            operators = (place for place, text in enumerate(arguments) if re.fullmatch("[;&|<>]+", text))
            end = next(operators, len(arguments))
            if end < len(arguments) and arguments[end][0] in "<>" and arguments[end - 1] in ("1", "2"):
                end -= 1  # the number of the file that is redirected
            return assignments, arguments[:end]
        elif os.path.basename(word) in SHELLS:
            rest = list(words[index + 1 :])
            if len(rest) > 1 and re.fullmatch("-[a-z]*c", rest[0]):
                inner, arguments = split_command(shell_words(rest[1]))
                return assignments + inner, arguments
    return assignments, list(words[len(assignments) :])


def main(argv: Sequence[str]) -> int:
    """Answer the question that `argv` (without ``migrate``) asks. Returns the exit status."""
    words = list(argv)
    if not words or words[0] in ("-h", "--help"):
        print(USAGE, end="", file=sys.stdout if words else sys.stderr)
        return EXIT_OK if words else EXIT_USAGE
    report = Report()
    one = words[0] if len(words) == 1 else ""
    if one and (os.path.isfile(one.removeprefix("file:")) or one.startswith("python:")):
        report.file(one)
    else:
        if one:
            try:
                words = words_of(one)
            except ValueError as cause:
                print(f"cyhorn migrate: error: {cause}", file=sys.stderr)
                return EXIT_USAGE
        if not any("gunicorn" in word or word.startswith("-") for word in words):
            what = one or " ".join(words)
            print(f"cyhorn migrate: error: {what!r} is no file and no command of Gunicorn", file=sys.stderr)
            print(USAGE, end="", file=sys.stderr)
            return EXIT_USAGE
        report.command(words)
    report.contradictions()
    for line in report.lines():
        print(line)
    return EXIT_OK if report.would_run else EXIT_CONFIG
