"""The application of the command line: ``cyhorn [OPTIONS] MODULE:APP``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cyhorn.app.base import Application, fail
from cyhorn.config.config import COMMAND_LINE
from cyhorn.errors import AppImportError
from cyhorn.wsgi.load import load_application

if TYPE_CHECKING:
    import argparse

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
            self._take_paste()
        if self.app_uri is None:
            self.app_uri = self.cfg.wsgi_app
        if not self.app_uri:
            prog = self.prog or "cyhorn"
            self.cfg.refuse(f"no application is named: write {prog} MODULE:APP, or set wsgi_app in a file")

    def _take_paste(self) -> None:
        """Let the Paste Deploy file name the application and say what it says about the server."""
        from cyhorn.app import pasterapp

        if self.app_uri is not None:
            self.cfg.warn(f"{self.app_uri!r} on the command line is ignored: paste names the application")
        self.app_uri = self.cfg.paste
        path, _ = pasterapp.place(self.cfg.paste, self.start_directory)
        with self.cfg.collecting():
            settings, said = pasterapp.server_settings(
                self.cfg.paste, self.start_directory, self.cfg.paste_global_conf
            )
            for line in said:
                self.cfg.warn(line)
            pasterapp.apply(self.cfg, {"default_proc_name": path, **settings}, path)
        self.chdir()

    def load_pasteapp(self) -> Callable[..., Any]:
        """The application that the setting paste names."""
        from cyhorn.app import pasterapp

        return pasterapp.load_application(self.cfg.paste, self.start_directory, self.cfg.paste_global_conf)

    def load_wsgiapp(self) -> Callable[..., Any]:
        """The callable that `app_uri` names."""
        if not self.app_uri:
            raise AppImportError("no application is named")
        return load_application(self.app_uri)

    def load(self) -> Callable[..., Any]:
        return self.load_pasteapp() if self.cfg.paste else self.load_wsgiapp()


def run(prog: str | None = None, argv: Sequence[str] | None = None) -> None:
    """The console script: read `argv` (None is this process's), then serve."""
    try:
        from cyhorn import _impl  # noqa: F401
    except (ImportError, ValueError) as problem:  # CYHORN_IMPL asks for what cannot be had
        fail(problem)
    WSGIApplication(USAGE, prog=prog or "cyhorn", argv=argv).run()


if __name__ == "__main__":
    run()
