"""Where values come from: the environment, config files, flags.

Precedence, lowest first: default, environment (`cyhorn.config.environment`), the
application's own, config file, flags in CYHORN_CMD_ARGS (or else GUNICORN_CMD_ARGS),
command line. Every function here fills a Config that is not in use yet; all of
them raise ConfigError.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import difflib
import importlib
import importlib.machinery
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from cyhorn.config import toml_file
from cyhorn.config.arguments import given
from cyhorn.config.config import COMMAND_LINE, Config
from cyhorn.config.environment import HOOKS
from cyhorn.config.environment import apply_environment as apply_environment
from cyhorn.config.settings import SETTINGS, closest, did_you_mean
from cyhorn.config.toml_file import TomlFile
from cyhorn.errors import ConfigError

GUNICORNS_FILE = "gunicorn.conf.py"
#: What config files are found in the directory of the start; the first that exists is read, a
#: pyproject.toml where it has a table for cyhorn.
DEFAULT_FILES = ("cyhorn.conf.py", "cyhorn.toml", toml_file.PYPROJECT, GUNICORNS_FILE)
#: The name under which a config file runs, so that it can tell.
CONFIG_MODULE = "__config__"
#: Values of these types could have been meant for a setting; others are helpers of the file.
DATA = (str, bytes, int, float, list, tuple, dict, set, frozenset, os.PathLike, type(None))

def apply_options(cfg: Config, options: argparse.Namespace, source: str = COMMAND_LINE) -> None:
    """The settings that flags gave."""
    for name, value in given(options).items():
        cfg.set(name, value, source)


def discover(directory: str) -> str | None:
    """The config file that is read when none is named."""
    return next(iter(discoverable(directory)), None)


def discoverable(directory: str) -> list[str]:
    """The config files of `directory`, the one that is read first."""
    paths = [os.path.join(directory, name) for name in DEFAULT_FILES]
    return [
        path
        for path in paths
        if os.path.exists(path) and (not path.endswith(toml_file.PYPROJECT) or toml_file.has_table(path))
    ]


# -- config files -------------------------------------------------------------------------


@dataclass
class Names:
    """What the source of a config file says about its names.

    `bound` are names that assignments, functions and classes of the module's own
    scope bind, with the last line that does; `imported` those that imports bind;
    `used` those that anything in the file reads.
    """

    bound: dict[str, int] = field(default_factory=dict)
    imported: set[str] = field(default_factory=set)
    used: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, source: bytes | str) -> Names:
        names = cls()
        tree = ast.parse(source)
        names._scope(tree)
        every = (node for node in ast.walk(tree) if isinstance(node, ast.Name))
        names.used = {node.id for node in every if isinstance(node.ctx, ast.Load)}
        return names

    def _scope(self, node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                self.bound[child.name] = child.lineno
            elif isinstance(child, ast.Import | ast.ImportFrom):
                self.imported |= {(alias.asname or alias.name).split(".")[0] for alias in child.names}
            elif not isinstance(child, ast.Lambda):
                if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store):
                    self.bound[child.id] = child.lineno
                self._scope(child)


@dataclass
class ConfigFile:
    """A config file that has run: its names and values, and what its source says about them.

    `shown` is how errors call it. `names` is None where there is no source.
    """

    shown: str
    values: dict[str, Any]
    names: Names | None = None

    def source_of(self, name: str) -> str:
        """ "FILE:LINE" of the last assignment of `name`, or the file alone."""
        line = self.names.bound.get(name) if self.names else None
        return self.shown if line is None else f"{self.shown}:{line}"

    def apply(self, cfg: Config) -> None:
        """Set every setting that the file names, and refuse names that look like mistakes.

        Let through: modules, functions and classes, names that begin with "_",
        values of types no setting has, imported names, and variables that the
        file itself reads, as its helpers are.
        """
        unknown = []
        for name, value in self.values.items():
            if name.startswith("_") or inspect.ismodule(value):
                continue
            if name in SETTINGS:
                cfg.set(name, value, self.source_of(name))
            elif callable(value):
                self._suspect_hook(cfg, name, value)
            elif self._looks_like_a_setting(name, value):
                unknown.append(name)
        known = [name for name in unknown if self.names and name in self.names.bound]
        if known:
            raise ConfigError(
                ", ".join(
                    f"{self.source_of(name)}: there is no setting {name!r}{did_you_mean(closest(name))}"
                    for name in known
                )
            )
        for name in unknown:
            hint = did_you_mean(closest(name))
            cfg.warn(f"{self.shown}: there is no setting {name!r}{hint}; it is ignored")

    def _looks_like_a_setting(self, name: str, value: Any) -> bool:
        helper = self.names is not None and (name in self.names.imported or name in self.names.used)
        return isinstance(value, DATA) and not helper

    def _suspect_hook(self, cfg: Config, name: str, value: Any) -> None:
        """A function that nothing in the file uses and that is nearly called like a hook."""
        if self.names is None or name not in self.names.bound or name in self.names.used:
            return
        near = difflib.get_close_matches(name, HOOKS, n=1, cutoff=0.8)
        if near and inspect.isfunction(value):
            cfg.warn(f"{self.source_of(name)}: {name!r} is no hook and is never called{did_you_mean(near)}")


def read_config(location: str, fresh: bool = False) -> ConfigFile | TomlFile:
    """Read the config file at `location`: PATH, file:PATH or python:MODULE.

    `fresh` imports a module again that is already imported.
    """
    if location.startswith("python:"):
        return read_module(location[len("python:") :], fresh)
    return read_file(location.removeprefix("file:"))


def read_file(path: str) -> ConfigFile | TomlFile:
    """Read the config file at `path`: TOML, or Python that runs as the module ``__config__``."""
    if not os.path.exists(path):
        raise ConfigError(f"config file {path!r}: there is no such file")
    if os.path.isdir(path):
        raise ConfigError(f"config file {path!r}: it is a directory")
    file, extension = os.path.abspath(path), os.path.splitext(path)[1]
    if extension == ".toml":
        return toml_file.read_toml(path)
    compiled = extension == ".pyc"
    kind = importlib.machinery.SourcelessFileLoader if compiled else importlib.machinery.SourceFileLoader
    spec = importlib.util.spec_from_file_location(CONFIG_MODULE, file, loader=kind(CONFIG_MODULE, file))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    previous = sys.modules.get(CONFIG_MODULE)
    sys.modules[CONFIG_MODULE] = module
    try:
        with _blame(path, file):
            if compiled:
                spec.loader.exec_module(module)
                return ConfigFile(path, vars(module))
            # Compiled here: a bytecode cache would hide a change made within the same second.
            with open(file, "rb") as stream:
                source = stream.read()
            exec(compile(source, file, "exec", dont_inherit=True), vars(module))
            return ConfigFile(path, vars(module), Names.of(source))
    except BaseException:
        if previous is not None:
            sys.modules[CONFIG_MODULE] = previous
        raise


def read_module(name: str, fresh: bool = False) -> ConfigFile:
    """Import the module `name`. A fresh import that fails leaves the old module in place."""
    previous = sys.modules.pop(name, None) if fresh else None
    importlib.invalidate_caches()
    try:
        with _blame(f"python:{name}"):
            module = importlib.import_module(name)
    except ConfigError:
        if previous is not None:
            sys.modules[name] = previous
        raise
    file = getattr(module, "__file__", None)
    try:
        names = Names.of(inspect.getsource(module))
    except (OSError, TypeError, SyntaxError):
        names = None
    return ConfigFile(file or f"python:{name}", vars(module), names)


@contextlib.contextmanager
def _blame(shown: str, file: str | None = None) -> Iterator[None]:
    """Turn what a config file raises into a ConfigError of one line that names the line in it.

    `file` is the absolute name under which it runs, `shown` what the operator wrote.
    """
    try:
        yield
    except (ConfigError, KeyboardInterrupt):
        raise
    except SyntaxError as error:
        where = shown if error.filename in (file, None) else error.filename
        line = f": {error.text.strip()}" if error.text else ""
        what = f"{where}:{error.lineno}: {type(error).__name__}: {error.msg}{line}"
        raise ConfigError(f"config file does not run: {what}") from error
    except BaseException as error:
        where = shown
        for frame in traceback.extract_tb(error.__traceback__):
            if frame.filename == file:
                where = f"{shown}:{frame.lineno}"
            elif file is None and frame.name == "<module>":
                where = f"{frame.filename}:{frame.lineno}"
        if isinstance(error, SystemExit):
            what = f"it calls sys.exit({'' if error.code is None else repr(error.code)})"
        else:
            what = f"{type(error).__name__}: {error}"
            if isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] == "gunicorn":
                what += "; with --gunicorn-compat it finds cyhorn under that name"
        raise ConfigError(f"config file does not run: {where}: {' '.join(what.split())}") from error
