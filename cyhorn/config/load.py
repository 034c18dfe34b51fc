"""Where values come from: the environment, config files, flags.

Precedence, lowest first: default, environment (`cyhorn.config.environment`), the
application's own, config file, flags in CYHORN_CMD_ARGS (or else GUNICORN_CMD_ARGS),
command line. Every function here fills a Config that is not in use yet; all of
them raise ConfigError. What reads a kind of file is imported when there is one.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cyhorn.config.arguments import given
from cyhorn.config.config import COMMAND_LINE, Config
from cyhorn.config.environment import apply_environment as apply_environment
from cyhorn.errors import ConfigError

if TYPE_CHECKING:
    import argparse

    from cyhorn.config.python_file import ConfigFile
    from cyhorn.config.toml_file import TomlFile

GUNICORNS_FILE = "gunicorn.conf.py"
PYPROJECT = "pyproject.toml"
#: What config files are found in the directory of the start; the first that exists is read, a
#: pyproject.toml where it has a table for cyhorn.
DEFAULT_FILES = ("cyhorn.conf.py", "cyhorn.toml", PYPROJECT, GUNICORNS_FILE)
#: The name under which a config file runs, so that it can tell.
CONFIG_MODULE = "__config__"


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
        path for path in paths if os.path.exists(path) and (not path.endswith(PYPROJECT) or _is_ours(path))
    ]


def _is_ours(path: str) -> bool:
    """Whether the pyproject.toml at `path` has a table for cyhorn. Most do not even name it."""
    try:
        with open(path, "rb") as stream:
            if b"cyhorn" not in stream.read():
                return False
    except OSError:
        return False
    from cyhorn.config.toml_file import has_table

    return has_table(path)


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
    if os.path.splitext(path)[1] == ".toml":
        from cyhorn.config.toml_file import read_toml

        return read_toml(path)
    from cyhorn.config.python_file import run_file

    return run_file(path)


def read_module(name: str, fresh: bool = False) -> ConfigFile:
    """Import the module `name`. A fresh import that fails leaves the old module in place."""
    from cyhorn.config.python_file import run_module

    return run_module(name, fresh)
