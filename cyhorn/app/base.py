"""What an application has to do with the server: its settings, and loading it.

`BaseApplication` is for embedding: a subclass implements `load_config` (calls of
``self.cfg.set``) and `load` (returns the WSGI callable), and `run` serves it.
`Application` adds the command line, the environment and config files.

``self.cfg`` is always a whole configuration. `reload` builds a new one and takes
it only when all of it is good; otherwise the object is as it was before.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from cyhorn.app.early import named_in, patch_for
from cyhorn.config import load as sources
from cyhorn.config.config import APPLICATION, DEFAULT, Config
from cyhorn.config.settings import SETTINGS
from cyhorn.config.validators import working_directory
from cyhorn.errors import EXIT_CONFIG, EXIT_OK, ConfigError, CyhornError
from cyhorn.process.preload import OwnCode

if TYPE_CHECKING:
    import argparse

    from cyhorn.arbiter import Arbiter


def fail(problem: object, exit_status: int = EXIT_CONFIG) -> NoReturn:
    """End the process with one line on standard error."""
    sys.stdout.flush()
    print(f"Error: {problem}", file=sys.stderr, flush=True)
    raise SystemExit(exit_status)


class BaseApplication:
    """The embedding API.

    ``cfg`` is the configuration, ``callable`` the loaded application or None,
    ``logger`` the error log once the server runs.
    """

    cfg: Config

    def __init__(self, usage: str | None = None, prog: str | None = None) -> None:
        self.usage = usage
        self.prog = prog
        self.callable: Callable[..., Any] | None = None
        self.logger: Any = None
        #: Where relative names of files and directories count from, also after a chdir.
        self.start_directory = working_directory()
        self._reloading = False
        #: The modules that the configuration has brought in: hooks, and what a config file imports.
        self._modules = OwnCode()
        self.do_load_config()

    # -- configuration

    def do_load_config(self) -> None:
        """Load the configuration, or end the process with one line (exit status 1)."""
        try:
            self._modules.load(lambda: self._build_config(dict(os.environ)))
        except (CyhornError, AttributeError, TypeError, ValueError, RuntimeError, OSError) as problem:
            for found in self.cfg.found or ():
                print(f"Error: {found}", file=sys.stderr)
            fail(self.cfg.located(str(problem)))

    def _build_config(self, environ: Mapping[str, str]) -> None:
        self.cfg = Config(self.usage, self.prog)
        self.cfg.env_orig = dict(environ)
        self.load_default_config()
        self.load_config()
        if self.cfg.gunicorn_compat:
            self._stand_in_for_gunicorn()
            self._take_gunicorns_server_name()
        patch_for(self.cfg.settings["worker_class"].value)
        self.cfg.validate()
        if self.cfg.found and not (self.cfg.check_config or self.cfg.print_config):
            # Another source has called the check off: this is a start, and it ends here.
            problem, *self.cfg.found = self.cfg.found
            raise ConfigError(problem)

    def _stand_in_for_gunicorn(self) -> None:
        """Let imports of gunicorn find cyhorn, or note why not."""
        from cyhorn.app import gunicorn_compat

        if reason := gunicorn_compat.install():
            self.cfg.note(reason)

    def _take_gunicorns_server_name(self) -> None:
        """Config files say ``gunicorn.SERVER = "…"`` to have another Server field."""
        from cyhorn.app import gunicorn_compat

        name = gunicorn_compat.server_name()
        if name is not None and self.cfg.settings["server_header"].is_low:
            self.cfg.set("server_header", name, "gunicorn.SERVER")

    def load_default_config(self) -> None:
        """Fill in what the environment says: CYHORN_<SETTING>, PORT, WEB_CONCURRENCY and others."""
        sources.apply_environment(self.cfg, self.cfg.env_orig)

    def load_config(self) -> None:
        """Set what the application wants by ``self.cfg.set(name, value)``."""
        raise NotImplementedError

    def init(
        self, parser: argparse.ArgumentParser, opts: argparse.Namespace, args: list[str]
    ) -> Mapping[str, Any] | None:
        """What an `Application` makes of the command line; settings of its own may be returned."""
        raise NotImplementedError

    def reload(self) -> None:
        """Load the configuration anew.

        Raises ConfigError when it is wrong, and then nothing has changed. Modules of the
        project that the configuration has imported are imported anew. The
        application itself is loaded anew when it is next asked for.
        """
        before, directory = dict(vars(self)), os.getcwd()
        config_module = sys.modules.get(sources.CONFIG_MODULE)
        try:
            with contextlib.suppress(OSError):
                os.chdir(self.start_directory)
            self._reloading = True
            environ = self._environment_without_raw_env()
            self._modules.load(lambda: self._build_config(environ))
        except BaseException as problem:
            vars(self).clear()
            vars(self).update(before)
            if config_module is not None:
                sys.modules[sources.CONFIG_MODULE] = config_module
            with contextlib.suppress(OSError):
                os.chdir(directory)
            if isinstance(problem, ConfigError | KeyboardInterrupt):
                raise
            if isinstance(problem, SystemExit):
                raise ConfigError(f"the configuration ends the process with {problem.code!r}") from problem
            words = f"{type(problem).__name__}: {problem}"
            raise ConfigError(f"the configuration does not load: {words}") from problem
        self._reloading = False
        self.callable = None
        if self.logger is not None:
            self.announce(self.logger)
        if self.cfg.spew:
            from cyhorn.app import spew

            spew.install()

    def restore_modules(self) -> None:
        """After a `reload` that came to nothing: let imports find what they found before."""
        self._modules.undo()

    def _environment_without_raw_env(self) -> dict[str, str]:
        """The environment as it was before raw_env of the present configuration."""
        environ = dict(os.environ)
        for name in self.cfg.env:
            environ.pop(name, None)
            if name in self.cfg.env_orig:
                environ[name] = self.cfg.env_orig[name]
        return environ

    def announce(self, log: Any) -> None:
        """Say what the configuration has to say in the error log."""
        for line in self.cfg.notices():
            log.info(line)
        for line in self.cfg.warnings():
            log.warning(line)

    # -- the application

    def load(self) -> Callable[..., Any]:
        """Return the WSGI callable."""
        raise NotImplementedError

    def wsgi(self) -> Callable[..., Any]:
        """The WSGI callable, loaded once."""
        if self.callable is None:
            self.callable = self.load()
        return self.callable

    def chdir(self) -> None:
        """Go to the directory of the setting chdir and put it in sys.path."""
        os.chdir(self.cfg.chdir)
        if self.cfg.chdir not in sys.path:
            sys.path.insert(0, self.cfg.chdir)

    def run(self) -> None:
        """Serve until told to stop. Ends the process with one line where the start is impossible."""
        from cyhorn.arbiter import Arbiter

        try:
            arbiter: Arbiter = Arbiter(self)
            self.logger = arbiter.log
            self.announce(self.logger)
            arbiter.run()
        except (CyhornError, RuntimeError) as problem:
            # An application that --preload cannot load ends in 1 too, as in Gunicorn.
            fail(self.cfg.located(str(problem)))


class Application(BaseApplication):
    """A `BaseApplication` that reads the command line, the environment and config files.

    `argv` are the arguments without the program's name; None is this process's.
    """

    def __init__(
        self, usage: str | None = None, prog: str | None = None, argv: Sequence[str] | None = None
    ) -> None:
        self.argv = None if argv is None else list(argv)
        self._flagged_class: str | None = None  # the worker class that flags name: they come before files
        super().__init__(usage, prog)

    # -- configuration

    def load_default_config(self) -> None:
        # Known before anything can be wrong: a check goes on where a start ends.
        self.cfg.found = [] if self._is_check() else None
        super().load_default_config()

    def _is_check(self) -> bool:
        """Whether flags or variables ask for a check, as far as one can tell without parsing them."""
        environ = self.cfg.env_orig
        arguments = list(sys.argv[1:] if self.argv is None else self.argv)
        arguments += environ.get(self.cfg.arguments_variable() or "", "").split()
        flags = ("--check-config", "--print-config")
        if any(len(text) > 5 and flag.startswith(text) for text in arguments for flag in flags):
            return True
        return any(
            SETTINGS[name].kind.of_text(environ.get(SETTINGS[name].variable, "")) in (True, "true")
            for name in ("check_config", "print_config")
        )

    def load_config(self) -> None:
        """Fill ``self.cfg`` from all sources, in the order of precedence."""
        parser = self.cfg.parser()
        options = parser.parse_args(self.argv)
        own = self.init(parser, options, options.args)

        # Names of config files count from the directory of the start.
        self.chdir()

        for name, value in (own or {}).items():
            self.cfg.set(name.lower(), value)

        variable = self.cfg.arguments_variable()
        parser.source = variable or ""  # type: ignore[attr-defined]
        arguments: list[str] = []
        with self.cfg.collecting():
            arguments = self.cfg.get_cmd_args_from_env()
        environment_options = parser.parse_args(arguments)

        self._flagged_class = options.worker_class or environment_options.worker_class
        switches = (options.gunicorn_compat, environment_options.gunicorn_compat, self.cfg.gunicorn_compat)
        if next(value for value in switches if value is not None):
            self._stand_in_for_gunicorn()

        location = options.config or environment_options.config
        if not location and self.cfg.settings["config"].source != DEFAULT:
            location = self.cfg.config
        with self.cfg.collecting():
            if location:
                self.load_config_from_file(location)
            else:
                self._load_default_file()
        if variable:
            sources.apply_options(self.cfg, environment_options, variable)
        sources.apply_options(self.cfg, options)

        self.chdir()

    def _load_default_file(self) -> None:
        paths = sources.discoverable(".")
        if not paths:
            return
        path, *others = paths
        self.cfg.set("config", path, "found in the directory of the start")
        for other in others:
            if os.path.basename(other) != sources.GUNICORNS_FILE:
                self.cfg.warn(f"config file {other} is not read, as there is {path}")
        if os.path.basename(path) == sources.GUNICORNS_FILE:
            self.cfg.note(f"Using {path}, as there is no ./{sources.DEFAULT_FILES[0]}")
        self.load_config_from_file(path)

    def load_config_from_module_name_or_filename(self, location: str) -> dict[str, Any]:
        """Read the config file PATH, file:PATH or python:MODULE and take its settings.

        Returns its names and values. Raises ConfigError.
        """
        of_variable = self.cfg.settings["worker_class"].value
        patch_for(self._flagged_class or named_in(location) or of_variable)
        file = sources.read_config(location, fresh=self._reloading)
        patch_for(self._flagged_class or file.values.get("worker_class"))
        if not location.startswith("python:") and os.path.splitext(location)[1] not in (
            ".py",
            ".pyc",
            ".toml",
        ):
            self.cfg.warn(f"config file {location}: read as Python, though its name does not end in .py")
        file.apply(self.cfg)
        return file.values

    def load_config_from_file(self, filename: str) -> dict[str, Any]:
        """The same as `load_config_from_module_name_or_filename`."""
        return self.load_config_from_module_name_or_filename(location=filename)

    def get_config_from_filename(self, filename: str) -> dict[str, Any]:
        """The names and values of a config file, without taking its settings."""
        return sources.read_file(filename).values

    def get_config_from_module_name(self, module_name: str) -> dict[str, Any]:
        """The names and values of a config module, without taking its settings."""
        return sources.read_module(module_name).values

    # -- running

    def set_python_path(self) -> None:
        """Put the directories of the setting pythonpath in front of sys.path."""
        for path in reversed((self.cfg.pythonpath or "").split(",")):
            if path.strip() and (absolute := os.path.abspath(path.strip())) not in sys.path:
                sys.path.insert(0, absolute)

    def reload(self) -> None:
        super().reload()
        self.set_python_path()

    def run(self) -> None:
        """Do what the settings ask for: print and check, or serve."""
        self.set_python_path()
        if self.cfg.print_config:
            print(self.cfg, flush=True)
        if self.cfg.print_config or self.cfg.check_config:
            raise SystemExit(self.check())
        if self.cfg.spew:
            from cyhorn.app import spew

            spew.install()
        if self.cfg.daemon:
            from cyhorn.process.daemon import daemonize

            if os.environ.get("NOTIFY_SOCKET"):
                print("Warning: systemd's Type=notify cannot follow a daemon", file=sys.stderr, flush=True)
            if self.cfg.errorlog == "-" and not self.cfg.enable_stdio_inheritance:
                # The log that they would stand in has no reader.
                for line in self.cfg.warnings():
                    print(f"Warning: {line}", file=sys.stderr, flush=True)
            daemonize(self.cfg.enable_stdio_inheritance)
        super().run()

    def check(self) -> int:
        """Check all that a start needs, see `cyhorn.app.check`.

        Prints a line for each problem and for each warning, or one that says that all is well.
        Returns the exit status.
        """
        from cyhorn.app.check import Report

        report = Report(self).run()
        warnings = [*self.cfg.warnings(), *report.remarks]
        for line in warnings:
            print(f"Warning: {line}", file=sys.stderr)
        for line in report.problems:
            print(f"Error: {line}", file=sys.stderr)
        sys.stderr.flush()
        if not report.problems and not self.cfg.print_config:
            count = f", with {len(warnings)} warning{'s' * (len(warnings) > 1)}" if warnings else ""
            print(f"The configuration is good{count}.", flush=True)
        return EXIT_CONFIG if report.problems else EXIT_OK


__all__ = ["APPLICATION", "Application", "BaseApplication", "fail"]
