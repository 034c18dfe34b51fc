"""Config files in Python: run, and then searched for names that look like mistakes.

The values are those of the module that ran. Its source tells which names it assigns, imports
and reads, so that a helper of the file is not taken for a setting that does not exist.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import importlib.machinery
import importlib.util
import os
import sys
import traceback
from collections.abc import Iterator
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

from cyhorn.config.config import Config
from cyhorn.config.environment import HOOKS
from cyhorn.config.load import CONFIG_MODULE
from cyhorn.config.settings import SETTINGS, closest, did_you_mean, nearest
from cyhorn.errors import ConfigError

#: Values of these types could have been meant for a setting; others are helpers of the file.
DATA = (str, bytes, int, float, list, tuple, dict, set, frozenset, os.PathLike, type(None))


class Names:
    """What the source of a config file says about its names.

    `bound` are names that assignments, functions and classes of the module's own
    scope bind, with the last line that does; `imported` those that imports bind;
    `used` those that anything in the file reads.
    """

    def __init__(self) -> None:
        self.bound: dict[str, int] = {}
        self.imported: set[str] = set()
        self.used: set[str] = set()

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


class ConfigFile(NamedTuple):
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
            if name.startswith("_") or isinstance(value, ModuleType):
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

    def is_suspect(self, name: str) -> bool:
        """Whether `name`, which is no setting, is refused as a mistake."""
        value = self.values[name]
        return (
            self.names is not None
            and name in self.names.bound
            and not name.startswith("_")
            and not callable(value)
            and self._looks_like_a_setting(name, value)
        )

    def _looks_like_a_setting(self, name: str, value: Any) -> bool:
        helper = self.names is not None and (name in self.names.imported or name in self.names.used)
        return isinstance(value, DATA) and not helper

    def _suspect_hook(self, cfg: Config, name: str, value: Any) -> None:
        """A function that nothing in the file uses and that is nearly called like a hook."""
        if self.names is None or name not in self.names.bound or name in self.names.used:
            return
        near = nearest(name, HOOKS, cutoff=0.8)
        if near and isinstance(value, FunctionType):
            cfg.warn(f"{self.source_of(name)}: {name!r} is no hook and is never called{did_you_mean(near)}")


def run_file(path: str) -> ConfigFile:
    """Run the Python file at `path`, .pyc included, as the module ``__config__``. Raises ConfigError."""
    file = os.path.abspath(path)
    compiled = os.path.splitext(path)[1] == ".pyc"
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


def run_module(name: str, fresh: bool = False) -> ConfigFile:
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
    import inspect

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
