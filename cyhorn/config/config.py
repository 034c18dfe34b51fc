"""`Config`: the value of every setting, and where it came from.

A Config is filled once, from the lowest source to the highest, and is then only
read. A reload fills a new one, so that a broken file never touches the one in
use. Attributes, `settings` and the properties are those that hooks, worker
classes and logger classes written for Gunicorn read.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import reprlib
import stat
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from cyhorn.config import classes
from cyhorn.config.contradictions import contradictions
from cyhorn.config.row import Refused, Row
from cyhorn.config.settings import SETTINGS, closest, did_you_mean
from cyhorn.config.validators import is_pattern
from cyhorn.errors import ConfigError

if TYPE_CHECKING:
    import argparse

    from cyhorn.net.addresses import Address

DEFAULT = "default"
VARIABLE = "the environment variable"
APPLICATION = "the application"
COMMAND_LINE = "the command line"

#: Where flags are read from the environment: the first that is set counts.
ARGUMENT_VARIABLES = ("CYHORN_CMD_ARGS", "GUNICORN_CMD_ARGS")

#: What the default logger knows; other logger classes may know more.
LOG_LEVELS = ("debug", "info", "warning", "warn", "error", "critical")

_shown = reprlib.Repr()
_shown.maxstring = _shown.maxother = 120


class Setting:
    """One row's value at work, and its source in words."""

    __slots__ = ("row", "source", "value")

    def __init__(self, row: Row) -> None:
        self.row = row
        self.source = DEFAULT
        self.value = row.kind(row.default)

    @property
    def name(self) -> str:
        return self.row.name

    @property
    def section(self) -> str:
        return self.row.section

    @property
    def default(self) -> Any:
        return self.row.default

    @property
    def cli(self) -> tuple[str, ...]:
        return self.row.flags + self.row.no_flags

    @property
    def short(self) -> str:
        return self.row.short

    @property
    def desc(self) -> str:
        return self.row.meaning

    @property
    def used(self) -> bool:
        """Whether somebody gave a value that is not the default."""
        return self.source != DEFAULT and self.value != Setting(self.row).value

    @property
    def is_low(self) -> bool:
        """Whether the value comes from below the application: it is the default, or a variable's."""
        return self.source == DEFAULT or self.source.startswith(VARIABLE)

    def get(self) -> Any:
        return self.value

    def set(self, value: Any, source: str = APPLICATION) -> None:
        """Convert and keep `value`. Raises ConfigError: name, value, source, what is allowed."""
        try:
            self.value = self.row.kind(value)
        except Exception as cause:
            why = f"{cause}; " if isinstance(cause, Refused) else ""
            raise ConfigError(
                f"{self.name} = {_shown.repr(value)} ({source}): {why}use {self.row.kind.allowed}"
            ) from cause
        self.source = source

    def __repr__(self) -> str:
        return f"<Setting {self.name} = {self.value!r} ({self.source})>"


class Config:
    """All settings of one server.

    ``cfg.workers`` is a value; ``cfg.set("workers", 3)`` sets one; ``cfg.settings``
    maps names to `Setting` objects.
    """

    def __init__(self, usage: str | None = None, prog: str | None = None) -> None:
        self.settings = {name: Setting(row) for name, row in SETTINGS.items()}
        self.usage = usage
        self.prog = prog or os.path.basename(sys.argv[0])
        #: The environment before raw_env was put into it.
        self.env_orig = dict(os.environ)
        #: None: a mistake raises. A list, under --check-config: mistakes are kept there, to be told together.
        self.found: list[str] | None = None
        self._notices: list[str] = []
        self._warnings: list[str] = []

    # -- values

    def __getattr__(self, name: str) -> Any:
        settings = self.__dict__.get("settings", {})
        if name not in settings:
            raise AttributeError(f"there is no setting {name!r}{did_you_mean(closest(name))}")
        return settings[name].get()

    def __setattr__(self, name: str, value: Any) -> None:
        if name != "settings" and name in SETTINGS:
            raise AttributeError(f"a setting is set by cfg.set({name!r}, value)")
        super().__setattr__(name, value)

    def set(self, name: str, value: Any, source: str = APPLICATION) -> None:
        """Set one setting. `source` says in words who does so.

        Raises AttributeError for an unknown name, ConfigError for a wrong value.
        """
        if name not in self.settings:
            raise AttributeError(f"there is no setting {name!r}{did_you_mean(closest(name))}")
        with self.collecting():
            self.settings[name].set(value, source)

    def set_text(self, name: str, text: str, source: str) -> None:
        """Set one setting to what the `text` of a variable or an ini file says. Raises as `set`."""
        kind = self.settings[name].row.kind
        try:
            value = kind.of_text(text)
        except Refused as cause:
            self.refuse(f"{name} = {_shown.repr(text)} ({source}): {cause}; use {kind.allowed}")
        else:
            self.set(name, value, source)

    def refuse(self, problem: str) -> None:
        """Raise ConfigError, or keep the problem in `found` and go on."""
        if self.found is None:
            raise ConfigError(problem)
        self.found.append(problem)

    @contextlib.contextmanager
    def collecting(self) -> Iterator[None]:
        """Keep a ConfigError in `found` and go on, where there is that list; else let it through."""
        try:
            yield
        except ConfigError as problem:
            if self.found is None:
                raise
            self.found.append(str(problem))

    def warn(self, line: str) -> None:
        """Keep a line for `warnings`."""
        if line not in self._warnings:
            self._warnings.append(line)

    def note(self, line: str) -> None:
        """Keep a line for `notices`."""
        if line not in self._notices:
            self._notices.append(line)

    def located(self, line: str) -> str:
        """What is wrong with a setting, with where its value came from unless the line says so.

        The line begins with the setting's name, as those of all checks do, or is about an address.
        """
        found = re.match(r"(\w+)( = |: )", "bind: " if line.startswith("cannot listen at") else line)
        setting = self.settings.get(found[1]) if found else None
        if found is None or setting is None or setting.source == DEFAULT or setting.source in line:
            return line
        if line.startswith(found[0]):
            if found[2] == " = ":
                return f"{line} ({setting.source})"
            line = line[found.end() :]
        return f"{setting.name} ({setting.source}): {line}"

    def lines(self) -> list[str]:
        """Every setting as ``name = value  # source``, sorted."""
        assigned = {name: f"{name} = {_literal(self.settings[name].value)}" for name in sorted(self.settings)}
        width = min(60, max(map(len, assigned.values())))
        return [f"{text:{width}}  # {self.settings[name].source}" for name, text in assigned.items()]

    def __str__(self) -> str:
        return "\n".join(self.lines())

    # -- what a start has to say, and what forbids it

    def warnings(self) -> list[str]:
        """Lines for the log at start: what was asked for and is not served, or looks wrong."""
        lines = [*self._warnings, *self._said("pending"), *contradictions(self)]
        patterns = [entry for entry in self.reload_extra_files if is_pattern(entry)]
        if patterns:
            from glob import glob

            lines += [
                f"reload_extra_files: {entry!r} matches no file now"
                for entry in patterns
                if not glob(entry, recursive=True)
            ]
        return lines

    def notices(self) -> list[str]:
        """Lines for the log at start that are good to know and nothing to mend."""
        lines = [*self._notices, *self._said("note")]
        connections = self.settings["worker_connections"]
        if connections.used and self._worker_uri() == classes.WORKERS.default:
            lines.append(
                f"worker_connections ({connections.source}): a sync worker holds as many connections as come"
            )
        named = self.settings["worker_class"]
        if named.value in classes.GEVENT and named.value != classes.GEVENT[0]:
            lines.append(
                f"worker_class = {named.value!r} ({named.source}):"
                " this is the gevent worker, with cyhorn's own server"
            )
        return lines

    def _said(self, column: str) -> list[str]:
        """What a column of the table says about the settings that are used, each text once."""
        users: dict[str, list[str]] = {}
        for setting in self.settings.values():
            if (text := getattr(setting.row, column)) and setting.used:
                users.setdefault(text, []).append(f"{setting.name} ({setting.source})")
        return [f"{', '.join(names)}: {text}" for text, names in users.items()]

    def validate(self) -> None:
        """Check what no value shows alone. Raises ConfigError for the first thing wrong."""
        for problem in self.problems():
            self.refuse(problem)

    def problems(self) -> list[str]:
        """Everything that forbids a start and needs no socket, logger or application to find."""
        found = []
        try:
            self.address  # noqa: B018
        except ConfigError as problem:
            found.append(str(problem))
        for family, value in (
            (classes.WORKERS, self._worker_uri()),
            (classes.LOGGERS, self.settings["logger_class"].value),
        ):
            if isinstance(value, str):
                try:
                    family.resolve(value)
                except ConfigError as problem:
                    found.append(f"{problem} ({self._worker_source(family.setting)})")
        logger, level = self.settings["logger_class"], self.settings["loglevel"]
        if logger.value == logger.default and str(level.value).lower() not in LOG_LEVELS:
            found.append(f"loglevel = {level.value!r} ({level.source}): use one of {', '.join(LOG_LEVELS)}")
        found += self._tls_problems()
        return found

    def _tls_problems(self) -> list[str]:
        found = []
        if self.keyfile and not self.certfile:
            found.append(
                f"keyfile = {self.keyfile!r} ({self.settings['keyfile'].source}): TLS needs certfile too"
            )
        for name in ("certfile", "keyfile", "ca_certs"):
            value = self.settings[name].value
            if value and is_missing(value):
                found.append(f"{name} = {value!r} ({self.settings[name].source}): there is no such file")
        return found

    def _worker_source(self, setting: str) -> str:
        if setting == "worker_class" and self.settings[setting].source == DEFAULT and self.threads > 1:
            return f"threads = {self.threads}, {self.settings['threads'].source}"
        return self.settings[setting].source

    # -- the command line

    def parser(self) -> argparse.ArgumentParser:
        """The argparse parser of the settings' flags."""
        from cyhorn.config.arguments import build_parser

        return build_parser(self.usage, self.prog)

    def arguments_variable(self) -> str | None:
        """The variable that holds flags, if one is set."""
        return next((name for name in ARGUMENT_VARIABLES if name in self.env_orig), None)

    def get_cmd_args_from_env(self) -> list[str]:
        """The flags that the environment holds. Raises ConfigError."""
        variable = self.arguments_variable()
        if variable is None:
            return []
        import shlex

        try:
            return shlex.split(self.env_orig[variable])
        except ValueError as cause:
            raise ConfigError(f"{variable} = {self.env_orig[variable]!r}: {cause}") from None

    # -- what values amount to

    def _worker_uri(self) -> Any:
        uri = self.settings["worker_class"].value
        if isinstance(uri, str) and self.threads > 1 and (uri == "sync" or uri.endswith("SyncWorker")):
            return classes.THREADED
        return uri

    @property
    def worker_class_str(self) -> str:
        """The worker's name as it is logged; sync with threads is gthread."""
        uri = self._worker_uri()
        return uri if isinstance(uri, str) else uri.__name__

    @property
    def worker_class(self) -> Any:
        """The worker class, imported now, after its ``setup()``. Raises ConfigError."""
        worker = classes.WORKERS.load(self._worker_uri())
        if hasattr(worker, "setup"):
            worker.setup()
        return worker

    def logger_uri(self) -> Any:
        """The logger class or its name; statsd_host makes the default one Statsd."""
        uri = self.settings["logger_class"].value
        if isinstance(uri, str) and classes.GUNICORN_PATHS.get(uri, uri) in ("simple", classes.LOGGER):
            return classes.LOGGER if self.statsd_host is None else classes.STATSD
        return uri

    @property
    def logger_class(self) -> Any:
        """The logger class, imported now, after its ``install()``. Raises ConfigError."""
        logger = classes.LOGGERS.load(self.logger_uri())
        if hasattr(logger, "install"):
            logger.install()
        return logger

    @property
    def address(self) -> list[Address]:
        """The addresses of bind. Raises ConfigError."""
        from cyhorn.net.addresses import parse_address

        setting = self.settings["bind"]
        try:
            return [parse_address(text) for text in setting.value]
        except ConfigError as cause:
            raise ConfigError(f"{cause} ({setting.source})") from None

    @property
    def uid(self) -> int:
        uid: int = self.settings["user"].value
        return uid

    @property
    def gid(self) -> int:
        gid: int = self.settings["group"].value
        return gid

    @property
    def proc_name(self) -> str:
        name: str = self.settings["proc_name"].value or self.settings["default_proc_name"].value
        return name

    @property
    def sendfile(self) -> bool:
        return self.settings["sendfile"].value is not False

    @property
    def is_ssl(self) -> bool:
        return bool(self.certfile or self.keyfile)

    @property
    def ssl_options(self) -> dict[str, Any]:
        """The settings of the section SSL."""
        return {name: setting.value for name, setting in self.settings.items() if setting.section == "SSL"}

    @property
    def env(self) -> dict[str, str]:
        """raw_env as a dict."""
        return dict(text.split("=", 1) for text in self.raw_env)

    @property
    def paste_global_conf(self) -> dict[str, str]:
        """raw_paste_global_conf as a dict; an = within a key or value is written \\=."""
        pairs = (re.split(r"(?<!\\)=", text, maxsplit=1) for text in self.raw_paste_global_conf)
        return {pair[0].replace("\\=", "="): pair[-1].replace("\\=", "=") for pair in pairs}

    def forwarded_allow_networks(self) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
        """The networks of forwarded_allow_ips, without "*"."""
        return [ipaddress.ip_network(text) for text in self.forwarded_allow_ips if text != "*"]

    def proxy_allow_networks(self) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
        """The networks of proxy_allow_ips, without "*"."""
        return [ipaddress.ip_network(text) for text in self.proxy_allow_ips if text != "*"]


def is_missing(path: str) -> bool:
    """Whether there is no file `path`; what this user may not look at is not missing."""
    try:
        return not stat.S_ISREG(os.stat(path).st_mode)
    except PermissionError:
        return False
    except (OSError, ValueError):
        return True


def _literal(value: Any) -> str:
    """How --print-config shows a value: as a config file would write it, or the name of a function."""
    if callable(value):
        return f"<{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', repr(value))}>"
    return repr(value)
