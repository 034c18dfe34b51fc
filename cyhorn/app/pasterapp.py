"""Paste Deploy: applications, and settings of the server, from ini files.

``cyhorn --paste FILE[#APP]`` loads the application that the file composes, takes the
settings of its section ``[server:main]`` and, where it has ``[loggers]``, logs by it.
The other way round, a program such as pserve runs cyhorn where the section says
``use = egg:cyhorn#main``, through `serve`.

Settings of the file count as the application's own: below config files, flags
and the command line. PasteDeploy is imported here and nowhere else.
"""

from __future__ import annotations

import argparse
import configparser
import os
from collections.abc import Callable, Mapping
from typing import Any

from cyhorn.app.wsgiapp import WSGIApplication
from cyhorn.config.config import APPLICATION, Config
from cyhorn.config.settings import SETTINGS, closest, did_you_mean
from cyhorn.errors import AppImportError, ConfigError

MAIN = "main"


def loadwsgi() -> Any:
    """PasteDeploy's module. Raises ConfigError when it is not installed."""
    try:
        from paste.deploy import loadwsgi as module
    except ImportError as cause:
        raise ConfigError(
            f"paste: PasteDeploy does not import ({cause}); install it with: pip install cyhorn[paste]"
        ) from None
    return module


def place(uri: str, directory: str) -> tuple[str, str]:
    """The absolute path and the application's name of FILE[#APP]; FILE may begin with ``config:``."""
    path, _, name = uri.removeprefix("config:").partition("#")
    return os.path.join(directory, path), name or MAIN


def load_application(uri: str, directory: str, global_conf: Mapping[str, str]) -> Callable[..., Any]:
    """The application that FILE[#APP] composes, names counting from `directory`.

    Raises AppImportError where the file or the section is missing, and what the factories raise.
    """
    module = loadwsgi()
    path, name = place(uri, directory)
    if not os.path.isfile(path):
        raise AppImportError(f"paste: there is no file {path!r}")
    try:
        application: Callable[..., Any] = module.loadapp(
            f"config:{path}", name=name, global_conf=dict(global_conf)
        )
    except LookupError as cause:
        raise AppImportError(f"paste: {path!r}: {_one_line(cause)}") from cause
    except configparser.Error as cause:
        raise AppImportError(f"paste: {path!r}: {_one_line(cause)}") from cause
    return application


def _one_line(cause: BaseException) -> str:
    return " ".join(str(cause).split())


def server_settings(
    uri: str, directory: str, global_conf: Mapping[str, str]
) -> tuple[dict[str, Any], list[str]]:
    """What FILE says about the server: the settings and, in words, what is not taken.

    Raises ConfigError for a file that cannot be read.
    """
    module = loadwsgi()
    path, _ = place(uri, directory)
    if not os.path.isfile(path):
        raise ConfigError(f"paste: there is no file {path!r}")
    try:
        section, foreign = _own_section(module, path, global_conf)
        try:
            context = module.loadcontext(
                module.SERVER, f"config:{path}", name=MAIN, global_conf=dict(global_conf)
            )
            section = context.local_conf
        except (LookupError, ImportError):
            pass  # no such section, or its `use` names a server that is not installed
    except configparser.Error as cause:
        raise ConfigError(f"paste: {path!r}: {_one_line(cause)}") from cause
    settings, unknown = translate(section)
    if settings.pop("config", None) is not None:
        unknown.append("config: with --paste it is -c that names a config file")
    if has_loggers(path):
        settings.setdefault("logconfig", path)
    return settings, [] if foreign else [f"{path}: [server:main] {text}" for text in unknown]


def _own_section(module: Any, path: str, global_conf: Mapping[str, str]) -> tuple[dict[str, str], bool]:
    """``[server:main]`` without following its ``use``, and whether that names another server."""
    loader = module.ConfigLoader(path)
    loader.update_defaults(dict(global_conf), overwrite=False)
    if not loader.parser.has_section("server:main"):
        return {}, False
    section = dict(loader.parser.items("server:main"))
    for default in loader.parser.defaults():
        section.pop(default, None)
    use = section.pop("use", "")
    return section, "cyhorn" not in use and "gunicorn" not in use


def translate(local: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """Settings from the keys of a server section, and a text for each key that is none."""
    keys = dict(local)
    keys.pop("use", None)
    host, port = keys.pop("host", ""), keys.pop("port", "")
    settings: dict[str, Any] = {}
    if host and port:
        settings["bind"] = [f"[{host}]:{port}" if ":" in host else f"{host}:{port}"]
    elif host:
        settings["bind"] = [part.strip() for part in host.split(",")]
    elif port:
        settings["bind"] = [f"127.0.0.1:{port}"]
    unknown = []
    for key, value in keys.items():
        name = key.lower()
        if name not in SETTINGS:
            unknown.append(f"{key}: there is no such setting{did_you_mean(closest(key))}")
        elif value is not None:
            settings[name] = SETTINGS[name].kind.of_text(value) if isinstance(value, str) else value
    return settings, unknown


def has_loggers(path: str) -> bool:
    """Whether the ini file configures logging."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read([path], encoding="utf-8")
    return parser.has_section("loggers")


def apply(cfg: Config, settings: Mapping[str, Any], source: str = APPLICATION) -> None:
    """Take settings of an ini file where nothing above the environment has said otherwise."""
    for name, value in settings.items():
        if cfg.settings[name].is_low:
            cfg.set(name, value, source)


class PasterServerApplication(WSGIApplication):
    """Serves an application that another program has composed, for `serve`."""

    def __init__(self, application: Callable[..., Any], ini: str, local: dict[str, Any]) -> None:
        self.application = application
        self.ini = ini
        self.local = local
        super().__init__(prog="cyhorn", argv=[])

    def init(
        self, parser: argparse.ArgumentParser, opts: argparse.Namespace, args: list[str]
    ) -> Mapping[str, Any] | None:
        """The application is here: none is named."""
        self.app_uri = self.ini or "paste"
        return None

    def load_config(self) -> None:
        """The section's settings over config files: the section is what the program was told to serve by."""
        location = self.local.get("config")
        if location:
            self.cfg.set("config", location)
        super().load_config()
        if self.ini:
            self.cfg.set("default_proc_name", self.ini)
            if self.cfg.settings["logconfig"].is_low and has_loggers(self.ini):
                self.cfg.set("logconfig", self.ini)
        settings, unknown = translate({key: value for key, value in self.local.items() if key != "config"})
        if unknown:
            raise ConfigError(f"[server:main] {unknown[0]}")
        for name, value in settings.items():
            self.cfg.set(name, value, f"{self.ini or 'paste'}: [server:main]")

    def load(self) -> Callable[..., Any]:
        return self.application


def serve(app: Callable[..., Any], global_conf: Mapping[str, str] | None, **local_conf: Any) -> None:
    """The entry point ``main`` of the group ``paste.server_runner``: serve `app` until told to stop."""
    PasterServerApplication(app, (global_conf or {}).get("__file__", ""), dict(local_conf)).run()
