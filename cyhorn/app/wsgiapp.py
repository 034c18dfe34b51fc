"""The application of the command line: ``cyhorn [OPTIONS] MODULE:APP``."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cyhorn.app.base import Application, fail
from cyhorn.config.config import COMMAND_LINE
from cyhorn.errors import ConfigError
from cyhorn.wsgi.load import load_application

USAGE = "%(prog)s [OPTIONS] [APP_MODULE]"


class WSGIApplication(Application):
    """Serves the application that the command line or wsgi_app names; `app_uri` is its name."""

    app_uri: str | None = None

    def init(
        self, parser: argparse.ArgumentParser, opts: argparse.Namespace, args: list[str]
    ) -> Mapping[str, Any] | None:
        """Take the application's name from the command line."""
        self.app_uri = None
        if args:
            self.app_uri = args[0]
            self.cfg.set("default_proc_name", args[0], COMMAND_LINE)
        for extra in args[1:]:
            self.cfg.warn(f"{extra!r} on the command line is ignored: {args[0]} is the application")
        return None

    def load_config(self) -> None:
        """Fill ``self.cfg`` and make sure that an application is named."""
        super().load_config()
        if self.cfg.paste:
            setting = self.cfg.settings["paste"]
            raise ConfigError(f"paste = {setting.value!r} ({setting.source}): {setting.row.pending}")
        if self.app_uri is None:
            self.app_uri = self.cfg.wsgi_app
        if not self.app_uri:
            prog = self.prog or "cyhorn"
            raise ConfigError(f"no application is named: write {prog} MODULE:APP, or set wsgi_app in a file")

    def load_wsgiapp(self) -> Callable[..., Any]:
        """The callable that `app_uri` names."""
        assert self.app_uri is not None
        return load_application(self.app_uri)

    def load(self) -> Callable[..., Any]:
        return self.load_wsgiapp()


def run(prog: str | None = None, argv: Sequence[str] | None = None) -> None:
    """The console script: read `argv` (None is this process's), then serve."""
    try:
        from cyhorn import _impl  # noqa: F401
    except (ImportError, ValueError) as problem:  # CYHORN_IMPL asks for what cannot be had
        fail(problem)
    WSGIApplication(USAGE, prog=prog or "cyhorn", argv=argv).run()


if __name__ == "__main__":
    run()
