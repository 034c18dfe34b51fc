"""Worker and logger classes by name.

A name is a class itself, a short name, a dotted path (or MODULE:CLASS), ``egg:DIST#NAME``, or an
entry point of the groups ``cyhorn.workers`` and ``gunicorn.workers`` (loggers:
the same with ``loggers``). Modules are imported only when a class is asked for.
"""

from __future__ import annotations

import importlib
from types import FunctionType
from typing import TYPE_CHECKING, Any, NamedTuple

from cyhorn.config.settings import nearest
from cyhorn.errors import ConfigError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

LOGGER = "cyhorn.log.logger.Logger"
STATSD = "cyhorn.log.statsd.Statsd"
THREADED = "gthread"

#: Gunicorn's paths, as they stand in config files, → cyhorn's class or short name.
GUNICORN_PATHS = {
    "gunicorn.glogging.Logger": LOGGER,
    "gunicorn.instrument.statsd.Statsd": STATSD,
    "cyhorn.glogging.Logger": LOGGER,  # where only the word was replaced
    "cyhorn.instrument.statsd.Statsd": STATSD,
    "gunicorn.workers.sync.SyncWorker": "sync",
    "gunicorn.workers.gthread.ThreadWorker": "gthread",
    "gunicorn.workers.ggevent.GeventWorker": "gevent",
    "gunicorn.workers.ggevent.GeventPyWSGIWorker": "gevent_pywsgi",
    "gunicorn.workers.geventlet.EventletWorker": "eventlet",
    "gunicorn.workers.gtornado.TornadoWorker": "tornado",
    "gunicorn.workers.gasgi.ASGIWorker": "asgi",
    # Others' workers for Gunicorn, of a kind that is not served.
    "uvicorn.workers.UvicornWorker": "asgi",
    "uvicorn.workers.UvicornH11Worker": "asgi",
    "uvicorn_worker.UvicornWorker": "asgi",
    "uvicorn_worker.UvicornH11Worker": "asgi",
}

#: Gunicorn's workers that cyhorn does not have, and will not: why, and what instead.
REFUSED = {
    "eventlet": "eventlet is retired by its own authors, and Gunicorn has dropped it; use gevent or gthread",
    "tornado": "Tornado applications run in Tornado's own server; for WSGI use sync or gthread",
    "asgi": "cyhorn serves WSGI, not ASGI; use an ASGI server such as uvicorn or hypercorn",
}

#: The short names of the gevent worker, whose process is to be patched before anything else is imported.
GEVENT = ("gevent", "gevent_wsgi", "gevent_pywsgi")


class ClassFamily(NamedTuple):
    """What is looked for: a setting, the default, the groups of entry points, and what such a class has."""

    setting: str
    default: str
    groups: tuple[str, ...]
    base: str  # to be named to whoever gave another class
    methods: tuple[str, ...]

    def aliases(self) -> dict[str, str]:
        """Short name → dotted path."""
        if self.setting != "worker_class":
            return {"simple": LOGGER}
        # By name: the configuration knows no worker module.
        table: dict[str, str] = importlib.import_module("cyhorn.workers").SUPPORTED_WORKERS
        return table

    def resolve(self, name: str) -> str | EntryPoint:
        """The dotted path or entry point that `name` stands for. Imports no class. Raises ConfigError."""
        name = name.lstrip("#")
        if name.startswith("egg:"):
            distribution, _, entry = name[len("egg:") :].partition("#")
            if distribution not in ("cyhorn", "gunicorn"):
                return self._of_distribution(name, distribution, entry or self.default)
            name = entry or self.default
        given, name = name, GUNICORN_PATHS.get(name, name)
        if "." in name or ":" in name:
            return name.replace(":", ".")
        aliases = self.aliases()
        if name in REFUSED and self.setting == "worker_class":
            raise ConfigError(f"{self.setting} = {given!r} is not served: {REFUSED[name]}")
        if name in aliases:
            return aliases[name]
        for found in self._entries():
            if found.name == name:
                return found
        known = [*aliases, *(found.name for found in self._entries())]
        near = nearest(name, known)
        raise ConfigError(
            f"{self.setting} = {name!r} is unknown: use {', '.join(dict.fromkeys(known))} or a dotted path"
            + (f"; did you mean {near[0]}?" if near else "")
        )

    def load(self, name: Any) -> Any:
        """The class that `name` stands for. Raises ConfigError."""
        if isinstance(name, type):
            return self._checked(name.__name__, name)
        found = self.resolve(name)
        if not isinstance(found, str):
            try:
                loaded = found.load()
            except Exception as cause:
                raise ConfigError(
                    f"{self.setting} = {name!r}: entry point {found.value} does not load: {cause!r}"
                ) from cause
            return self._checked(name, loaded)
        module_name, _, attribute = found.rpartition(".")
        try:
            module = importlib.import_module(module_name)
        except ConfigError as cause:
            raise ConfigError(f"{self.setting} = {name!r}: {cause}") from cause
        except Exception as cause:
            raise ConfigError(
                f"{self.setting} = {name!r}: module {module_name!r} does not import: {cause!r}"
            ) from cause
        if not hasattr(module, attribute):
            near = nearest(attribute, dir(module))
            raise ConfigError(
                f"{self.setting} = {name!r}: module {module_name!r} has no {attribute!r}"
                + (f"; did you mean {near[0]}?" if near else "")
            )
        return self._checked(name, getattr(module, attribute))

    def _checked(self, name: Any, found: Any) -> Any:
        """`found`, unless it is not of this family: a function, say the application itself, or any class."""
        if isinstance(found, FunctionType) or not callable(found):
            raise ConfigError(f"{self.setting} = {name!r}: it is a {type(found).__name__}, not a class")
        lacks = [method for method in self.methods if isinstance(found, type) and not hasattr(found, method)]
        if lacks:
            raise ConfigError(
                f"{self.setting} = {name!r}: the class has no {lacks[0]}(); make it a subclass of {self.base}"
            )
        return found

    def _of_distribution(self, name: str, distribution: str, entry: str) -> EntryPoint:
        # The modules behind it take longer to load than the rest of a start.
        from importlib import metadata

        try:
            entries = metadata.distribution(distribution).entry_points
        except metadata.PackageNotFoundError:
            raise ConfigError(f"{self.setting} = {name!r}: {distribution!r} is not installed") from None
        for group in self.groups:
            for found in entries.select(group=group, name=entry):
                return found
        raise ConfigError(
            f"{self.setting} = {name!r}: {distribution!r} has no entry point {entry!r}"
            f" in {' or '.join(self.groups)}"
        )

    def _entries(self) -> list[EntryPoint]:
        """The entry points of all groups. Those of the first group come first."""
        from importlib import metadata  # as above

        return [found for group in self.groups for found in metadata.entry_points(group=group)]


def is_gevent(name: Any) -> bool:
    """Whether the worker class `name` is the gevent worker, under any of its names. Imports nothing."""
    if not isinstance(name, str) or "gevent" not in name:
        return False
    try:
        found = WORKERS.resolve(name)
    except ConfigError:
        return False
    return found == WORKERS.aliases()["gevent"]


WORKERS = ClassFamily(
    "worker_class",
    "sync",
    ("cyhorn.workers", "gunicorn.workers"),
    "cyhorn.workers.base.Worker",
    ("init_process", "run", "notify"),
)
LOGGERS = ClassFamily(
    "logger_class",
    LOGGER,
    ("cyhorn.loggers", "gunicorn.loggers"),
    LOGGER,
    ("info", "error", "exception", "access", "reopen_files"),
)
