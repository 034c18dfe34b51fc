"""Gunicorn's modules by cyhorn, for files and applications that import gunicorn.

``--gunicorn-compat`` calls `install`. From then on, where Gunicorn itself is not installed,
``gunicorn.glogging`` and the other names of `MODULES` import, and what stands in
them are cyhorn's classes. Where Gunicorn is installed its own modules come first. In either case the
loggers ``gunicorn.error`` and ``gunicorn.access`` are those of this server.

A script that embeds the server under Gunicorn's name is run by

    python -m cyhorn.app.gunicorn_compat SCRIPT.py [ARGUMENTS]
"""

from __future__ import annotations

import copy
import email.utils
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import logging
import os
import random
import runpy
import socket
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import ModuleType
from typing import Any

from cyhorn import SERVER_SOFTWARE, __version__
from cyhorn.log.configuration import ALIASES

#: The version of Gunicorn whose interfaces these are, for files that compare.
GUNICORN_VERSION = (27, 0, 1)

#: Module of Gunicorn → cyhorn's module whose public names it shows. None: `_fill` alone makes it.
MODULES: dict[str, str | None] = {
    "gunicorn": None,
    "gunicorn.app": "cyhorn.app",
    "gunicorn.app.base": "cyhorn.app.base",
    "gunicorn.app.pasterapp": "cyhorn.app.pasterapp",
    "gunicorn.app.wsgiapp": "cyhorn.app.wsgiapp",
    "gunicorn.arbiter": "cyhorn.arbiter",
    "gunicorn.config": "cyhorn.config.config",
    "gunicorn.debug": "cyhorn.app.spew",
    "gunicorn.errors": "cyhorn.errors",
    "gunicorn.glogging": "cyhorn.log.logger",
    "gunicorn.http": None,
    "gunicorn.http.errors": "cyhorn.errors",
    "gunicorn.instrument": None,
    "gunicorn.instrument.statsd": "cyhorn.log.statsd",
    "gunicorn.pidfile": "cyhorn.process.pidfile",
    "gunicorn.systemd": "cyhorn.process.systemd",
    "gunicorn.util": None,
    "gunicorn.workers": "cyhorn.workers",
    "gunicorn.workers.base": "cyhorn.workers.base",
    "gunicorn.workers.ggevent": "cyhorn.workers.ggevent",
    "gunicorn.workers.gthread": "cyhorn.workers.gthread",
    "gunicorn.workers.sync": "cyhorn.workers.sync",
}


def _util() -> dict[str, Any]:
    """The functions of gunicorn.util that config files and applications use."""
    from cyhorn.config import classes
    from cyhorn.net import addresses
    from cyhorn.process import daemon, privileges, title
    from cyhorn.wsgi.load import load_application

    def load_class(uri: Any, default: str = "sync", section: str = "gunicorn.workers") -> Any:
        """The class of a name of the group `section`."""
        family = classes.LOGGERS if section.endswith("loggers") else classes.WORKERS
        return family.load(uri or default)

    def close(sock: Any) -> None:
        with suppress(OSError):
            sock.close()

    def unlink(filename: str) -> None:
        with suppress(FileNotFoundError, NotADirectoryError):
            os.unlink(filename)

    def close_on_exec(fd: Any) -> None:
        os.set_inheritable(fd if isinstance(fd, int) else fd.fileno(), False)

    def set_non_blocking(fd: Any) -> None:
        os.set_blocking(fd if isinstance(fd, int) else fd.fileno(), False)

    def is_fileobject(obj: Any) -> bool:
        try:
            obj.fileno()
        except (AttributeError, OSError):
            return False
        return hasattr(obj, "tell")

    def to_bytestring(value: str | bytes, encoding: str = "utf8") -> bytes:
        return value if isinstance(value, bytes) else value.encode(encoding)

    def bytes_to_str(value: str | bytes) -> str:
        return value if isinstance(value, str) else value.decode("latin-1")

    def http_date(timestamp: float | None = None) -> str:
        return email.utils.formatdate(timestamp, usegmt=True)

    def check_is_writable(path: str) -> None:
        if not privileges.is_writable(path):
            raise RuntimeError(f"Error: {path!r} isn't writable")

    def warn(msg: str) -> None:
        print(f"!!! WARNING: {msg}", file=sys.stderr)

    def seed() -> None:
        random.seed()

    def getcwd() -> str:
        from cyhorn.config.validators import working_directory

        return working_directory()

    return {
        "load_class": load_class,
        "import_app": load_application,
        "parse_address": _parse_address(addresses.parse_address),
        "is_ipv6": addresses.is_ipv6,
        "daemonize": daemon.daemonize,
        "set_owner_process": privileges.set_owner_process,
        "chown": privileges.chown,
        "_setproctitle": title.set_title,
        "check_is_writable": check_is_writable,
        "check_is_writeable": check_is_writable,
        "socket": socket,
        "os": os,
        "sys": sys,
        "close": close,
        "unlink": unlink,
        "close_on_exec": close_on_exec,
        "set_non_blocking": set_non_blocking,
        "is_fileobject": is_fileobject,
        "has_fileno": is_fileobject,
        "to_bytestring": to_bytestring,
        "bytes_to_str": bytes_to_str,
        "http_date": http_date,
        "warn": warn,
        "seed": seed,
        "getcwd": getcwd,
    }


def _parse_address(parse: Callable[..., Any]) -> Callable[..., Any]:
    def parse_address(netloc: str, default_port: int | str = 8000) -> Any:
        return parse(netloc, int(default_port))

    return parse_address


def _glogging() -> dict[str, Any]:
    """The default of logconfig_dict under Gunicorn's names: files copy it and reach into it."""
    from cyhorn.log import configuration
    from cyhorn.log.access_format import SafeAtoms

    config = copy.deepcopy(configuration.CONFIG_DEFAULTS)
    for name, own in configuration.ALIASES.items():
        config["loggers"][name] = config["loggers"].pop(own) | {"qualname": name}
    return {"CONFIG_DEFAULTS": config, "SafeAtoms": SafeAtoms}


def _root() -> dict[str, Any]:
    return {
        "__version__": ".".join(map(str, GUNICORN_VERSION)),
        "version_info": GUNICORN_VERSION,
        "SERVER": "cyhorn",
        "SERVER_SOFTWARE": SERVER_SOFTWARE,
    }


#: What a module shows beside the public names of cyhorn's.
EXTRA: dict[str, Callable[[], dict[str, Any]]] = {
    "gunicorn": _root,
    "gunicorn.glogging": _glogging,
    "gunicorn.util": _util,
}


class StandIn(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds and makes the modules of `MODULES`. Last in sys.meta_path: real ones are found before."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname in MODULES:
            packages = {name.rpartition(".")[0] for name in MODULES}
            origin = f"cyhorn {__version__}"
            return importlib.machinery.ModuleSpec(
                fullname, self, origin=origin, is_package=fullname in packages
            )
        if fullname.startswith("gunicorn."):
            raise ModuleNotFoundError(
                f"{fullname} has no counterpart in cyhorn, which stands in for Gunicorn here", name=fullname
            )
        return None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        source = MODULES[module.__name__]
        if source is not None:
            try:
                shown = vars(importlib.import_module(source))
            except ModuleNotFoundError as error:
                if error.name != source:
                    raise
                raise ModuleNotFoundError(
                    f"{module.__name__}: this version of cyhorn has no such worker", name=module.__name__
                ) from None
            vars(module).update({name: value for name, value in shown.items() if not name.startswith("_")})
        if module.__name__ in EXTRA:
            vars(module).update(EXTRA[module.__name__]())


def names_of(module: str) -> set[str]:
    """What can be imported from a module of `MODULES`: its names and submodules."""
    stand_in = ModuleType(module)
    try:
        StandIn().exec_module(stand_in)
    except ModuleNotFoundError:
        return set()
    inner = {name.removeprefix(f"{module}.") for name in MODULES if name.startswith(f"{module}.")}
    return set(vars(stand_in)) | {name for name in inner if "." not in name}


def install() -> str | None:
    """Let gunicorn be imported from cyhorn. Returns in words why that does nothing, or None."""
    if any(isinstance(finder, StandIn) for finder in sys.meta_path):
        return None
    _share_loggers()
    importlib.invalidate_caches()
    try:
        found = importlib.util.find_spec("gunicorn")
    except ValueError:  # it is in sys.modules without a spec: somebody else stands in
        found = None
    if found is not None:
        return "gunicorn_compat changes no import, as Gunicorn itself is installed and is what is imported"
    sys.meta_path.append(StandIn())
    return None


def _share_loggers() -> None:
    """Let Gunicorn's names of loggers, by which applications log or take handlers over, mean cyhorn's."""
    for name, own in ALIASES.items():
        logging.root.manager.loggerDict[name] = logging.getLogger(own)


def server_name() -> str | None:
    """What a config file has put in the place of ``gunicorn.SERVER`` (or SERVER_SOFTWARE), if it has."""
    module = sys.modules.get("gunicorn")
    if not isinstance(getattr(module, "__loader__", None), StandIn):
        return None
    before = _root()
    for name in ("SERVER", "SERVER_SOFTWARE"):
        value = getattr(module, name, before[name])
        if value != before[name]:
            return str(value)
    return None


def main(argv: Sequence[str] | None = None) -> None:
    """Run a script with `install` done: ``SCRIPT [ARGUMENTS]``."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments:
        print("usage: python -m cyhorn.app.gunicorn_compat SCRIPT [ARGUMENTS]", file=sys.stderr)
        raise SystemExit(2)
    if reason := install():
        warnings.warn(reason, stacklevel=1)
    sys.argv = arguments
    sys.path[0] = os.path.dirname(os.path.abspath(arguments[0]))
    runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    # Under its own name, so that what `install` leaves is the one that others import.
    from cyhorn.app import gunicorn_compat

    gunicorn_compat.main()
