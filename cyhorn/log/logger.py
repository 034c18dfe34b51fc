"""The logger of a server process, with the contract that Gunicorn's logger classes rely on.

`Logger` owns the two loggers `cyhorn.error` and `cyhorn.access` and the handlers it put on
them (marked `_cyhorn`); handlers of others stay. `setup` may be called again with another
configuration: it checks everything that can be checked first, and when it fails all the
same, the handlers are those of before.

Uses `cyhorn.errors` and this package; reads `cfg` in `setup`, at re-opening and, on the slow
path of the access log only, per request.
"""

from __future__ import annotations

import io
import logging
import os
import sys
import threading
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar

from cyhorn.errors import ConfigError
from cyhorn.log import ACCESS, ERROR, access_format
from cyhorn.log.access_format import SafeAtoms
from cyhorn.log.handlers import ConsoleHandler, LogFileHandler, open_log

if TYPE_CHECKING:
    from datetime import timedelta


def all_loggers() -> Iterator[logging.Logger]:
    """Every logger of the process, the root first."""
    yield logging.root
    for logger in list(logging.root.manager.loggerDict.values()):
        if isinstance(logger, logging.Logger):
            yield logger


class Logger:
    """The error log and the access log of one process.

    Subclasses may override anything here; the compiled access format is used only while
    `access`, `atoms`, `atoms_wrapper_class` and `now` are those of this class.
    """

    LOG_LEVELS: ClassVar[dict[str, int]] = {
        "critical": logging.CRITICAL,
        "error": logging.ERROR,
        "warning": logging.WARNING,
        "warn": logging.WARNING,
        "info": logging.INFO,
        "debug": logging.DEBUG,
    }
    loglevel: int = logging.INFO

    error_fmt = "%(asctime)s [%(process)d] [%(levelname)s] %(message)s"
    datefmt = "[%Y-%m-%d %H:%M:%S %z]"
    access_fmt = "%(message)s"
    syslog_fmt = "[%(process)d] %(message)s"

    atoms_wrapper_class: type[Any] = SafeAtoms

    def __init__(self, cfg: Any) -> None:
        """Set up the logs that `cfg` asks for. Raises ConfigError."""
        self.error_log = logging.getLogger(ERROR)
        self.error_log.propagate = False
        self.access_log = logging.getLogger(ACCESS)
        self.access_log.propagate = False
        self.error_handlers: list[logging.Handler] = []
        self.access_handlers: list[logging.Handler] = []
        self.lock = threading.Lock()
        self.cfg = cfg
        self.setup(cfg)

    # --- setting up ---

    def setup(self, cfg: Any) -> None:
        """Take on the configuration `cfg`. Raises ConfigError, and then leaves the handlers as they were."""
        loglevel = self._check(cfg)
        logs = (self.error_log, self.access_log)
        before = [list(log.handlers) for log in logs]
        previous = self.cfg, self.loglevel
        # The configuration object is another one after a reload.
        self.cfg, self.loglevel = cfg, loglevel
        try:
            for log in logs:
                for handler in log.handlers[:]:
                    if getattr(handler, "_cyhorn", False):
                        log.removeHandler(handler)
            self._set_handlers(cfg)
        except BaseException:
            self.cfg, self.loglevel = previous
            for log, handlers in zip(logs, before, strict=True):
                made = [handler for handler in log.handlers if handler not in handlers]
                log.handlers[:] = handlers
                for handler in made:
                    handler.close()
            raise
        for log, handlers in zip(logs, before, strict=True):
            for handler in handlers:
                if getattr(handler, "_cyhorn", False) and handler not in log.handlers:
                    handler.close()  # a record that still gets there opens it again

    def _check(self, cfg: Any) -> int:
        """Refuse what is wrong before anything is changed; returns the level of the error log."""
        level = self.LOG_LEVELS.get(cfg.loglevel.lower())
        if level is None:
            raise ConfigError(f"loglevel: {cfg.loglevel!r} is not one of {', '.join(self.LOG_LEVELS)}")
        for setting, path in (("errorlog", cfg.errorlog), ("accesslog", cfg.accesslog)):
            if path is not None and path != "-":
                try:
                    open_log(path, self._owner(cfg)).close()
                except OSError as cause:
                    raise ConfigError(f"{setting}: cannot write {path!r}: {cause.strerror}") from cause
        if self._is_enabled(cfg) and formats_itself(self):
            try:
                access_format.parse_format(cfg.access_log_format)
            except ValueError as cause:
                raise ConfigError(f"access_log_format: {cause}") from cause
        if cfg.syslog:
            from cyhorn.log import syslog

            syslog.facility_code(cfg.syslog_facility)
            syslog.parse_syslog_address(cfg.syslog_addr)
        return level

    def _set_handlers(self, cfg: Any) -> None:
        self.error_log.setLevel(self.loglevel)
        self.access_log.setLevel(logging.INFO)
        if cfg.capture_output and cfg.errorlog != "-":
            self._capture_output()
        self._set_handler(self.error_log, cfg.errorlog, logging.Formatter(self.error_fmt, self.datefmt))
        if cfg.accesslog is not None:
            self._set_handler(
                self.access_log, cfg.accesslog, fmt=logging.Formatter(self.access_fmt), stream=sys.stdout
            )
        if cfg.syslog:
            self._set_syslog_handler(self.error_log, cfg, self.syslog_fmt, "error")
            if not cfg.disable_redirect_access_to_syslog:
                self._set_syslog_handler(self.access_log, cfg, self.syslog_fmt, "access")
        if cfg.logconfig_dict or cfg.logconfig_json or cfg.logconfig:
            from cyhorn.log.configuration import configure_logging

            configure_logging(cfg)

    def _set_handler(
        self, log: logging.Logger, output: str | None, fmt: logging.Formatter, stream: Any = None
    ) -> None:
        """Give `log` one handler of ours for `output`: "-" for `stream` (standard error), a path, or None."""
        for handler in log.handlers[:]:
            if getattr(handler, "_cyhorn", False):
                log.removeHandler(handler)
                handler.close()
                break
        if output is None:
            return
        if output == "-":
            self._add(log, ConsoleHandler(stream), fmt)
            return
        try:
            self._add(log, LogFileHandler(output, self._owner(self.cfg)), fmt)
        except OSError as cause:
            setting = "accesslog" if log is self.access_log else "errorlog"
            raise ConfigError(f"{setting}: cannot write {output!r}: {cause.strerror}") from cause

    def _set_syslog_handler(self, log: logging.Logger, cfg: Any, fmt: str, name: str) -> None:
        """Send `log` to syslog too, as the program cyhorn.<prefix>.<name>."""
        from cyhorn.log import syslog

        prefix = cfg.syslog_prefix or cfg.proc_name.replace(":", ".")
        kind, address = syslog.parse_syslog_address(cfg.syslog_addr)
        facility = syslog.facility_code(cfg.syslog_facility)
        try:
            handler = syslog.SyslogHandler(address, facility, kind)
        except OSError as cause:
            raise ConfigError(f"syslog_addr: cannot reach {cfg.syslog_addr!r}: {cause}") from cause
        self._add(log, handler, logging.Formatter(f"cyhorn.{prefix}.{name}: {fmt}"))

    def _add(self, log: logging.Logger, handler: logging.Handler, fmt: logging.Formatter) -> None:
        handler.setFormatter(fmt)
        handler._cyhorn = True  # type: ignore[attr-defined]
        log.addHandler(handler)

    @staticmethod
    def _owner(cfg: Any) -> tuple[int, int]:
        """Who has to be able to open the files again: the workers."""
        return cfg.uid, cfg.gid

    def _capture_output(self) -> None:
        """Put the error log's file under standard output and error. Raises ConfigError."""
        path = self.cfg.errorlog
        try:
            new = open_log(path, self._owner(self.cfg))
        except OSError as cause:
            raise ConfigError(f"errorlog: cannot write {path!r}: {cause.strerror}") from cause
        with self.lock, new:
            for stream, usual in ((sys.stdout, 1), (sys.stderr, 2)):
                with suppress(Exception):  # there is none, or it is full
                    stream.flush()
                try:
                    fd = stream.fileno()
                except Exception:
                    fd = usual
                os.dup2(new.fileno(), fd)
                if type(stream) is io.TextIOWrapper:
                    # A file is buffered in blocks: prints would come late, and cut anywhere.
                    stream.reconfigure(line_buffering=True)

    # --- the error log ---

    def critical(self, msg: object, *args: Any, **kwargs: Any) -> None:
        self.error_log.critical(msg, *args, **kwargs)

    def error(self, msg: object, *args: Any, **kwargs: Any) -> None:
        self.error_log.error(msg, *args, **kwargs)

    def warning(self, msg: object, *args: Any, **kwargs: Any) -> None:
        self.error_log.warning(msg, *args, **kwargs)

    def info(self, msg: object, *args: Any, **kwargs: Any) -> None:
        self.error_log.info(msg, *args, **kwargs)

    def debug(self, msg: object, *args: Any, **kwargs: Any) -> None:
        self.error_log.debug(msg, *args, **kwargs)

    def exception(self, msg: object, *args: Any, **kwargs: Any) -> None:
        self.error_log.exception(msg, *args, **kwargs)

    def log(self, lvl: int | str, msg: object, *args: Any, **kwargs: Any) -> None:
        """Log at `lvl`, a number or a name; an unknown name is info."""
        if isinstance(lvl, str):
            lvl = self.LOG_LEVELS.get(lvl.lower(), logging.INFO)
        self.error_log.log(lvl, msg, *args, **kwargs)

    # --- the access log ---

    @staticmethod
    def _is_enabled(cfg: Any) -> bool:
        return bool(
            cfg.accesslog
            or cfg.logconfig
            or cfg.logconfig_dict
            or cfg.logconfig_json
            or (cfg.syslog and not cfg.disable_redirect_access_to_syslog)
        )

    @property
    def access_log_enabled(self) -> bool:
        """Whether an access line goes anywhere."""
        return self._is_enabled(self.cfg)

    def atoms(
        self, resp: Any, req: Any, environ: Mapping[Any, Any], request_time: timedelta
    ) -> dict[str, Any]:
        """Every atom of one request by name, unescaped; see `cyhorn.log.access`.

        Request fields are those of `req` (its `headers`, or pairs itself), repeated ones joined
        with a comma, and those in `environ`, which win.
        """
        status = resp.status
        if isinstance(status, str):
            status = (status.split(None, 1) or [access_format.MISSING])[0]
        sent = getattr(resp, "sent", None)
        whole = request_time // request_time.resolution  # microseconds
        missing = access_format.MISSING

        atoms: dict[str, Any] = {
            "h": environ.get("REMOTE_ADDR", missing),
            "l": missing,
            "u": self._get_user(environ) or missing,
            "t": self.now(),
            "r": " ".join(str(environ.get(key, missing)) for key in access_format.REQUEST_LINE),
            "s": status,
            "m": environ.get("REQUEST_METHOD", missing),
            "U": environ.get("PATH_INFO", missing),
            "q": environ.get("QUERY_STRING", missing),
            "H": environ.get("SERVER_PROTOCOL", missing),
            "b": missing if sent is None else str(sent),
            "B": sent,
            "f": environ.get("HTTP_REFERER", missing),
            "a": environ.get("HTTP_USER_AGENT", missing),
            "T": whole // 1_000_000,
            "D": whole,
            "M": whole // 1000,
            "L": f"{whole // 1_000_000}.{whole % 1_000_000:06}",
            "p": access_format.process_id(),
        }
        for name, value in pairs(getattr(req, "headers", req)):
            key = f"{{{name.lower()}}}i"
            atoms[key] = f"{atoms[key]},{value}" if key in atoms else value
        for name, value in environ.items():
            if not isinstance(name, str):
                continue  # the application put it there
            lower = name.lower()
            atoms[f"{{{lower}}}e"] = value
            if lower.startswith("http_"):
                lower = lower[5:]
            elif lower not in ("content_type", "content_length"):
                continue
            atoms["{" + lower.replace("_", "-") + "}i"] = value
        for name, value in pairs(resp.headers):
            atoms[f"{{{name.lower()}}}o"] = value
        return atoms

    def access(self, resp: Any, req: Any, environ: Mapping[str, Any], request_time: timedelta) -> None:
        """Write the access line of one request. Never raises."""
        if not self.access_log_enabled:
            return
        try:
            atoms = self.atoms_wrapper_class(self.atoms(resp, req, environ, request_time))
            self.access_log.info(self.cfg.access_log_format, atoms)
        except Exception:
            self.error(traceback.format_exc())

    def now(self) -> str:
        """The local time in Common Log Format."""
        return access_format.clf_now()

    def _get_user(self, environ: Mapping[str, Any]) -> str | None:
        user = access_format.basic_user(environ.get("HTTP_AUTHORIZATION"))
        return None if user == access_format.MISSING else user

    # --- files ---

    def reopen_files(self) -> None:
        """Turn every log file of the process to the file that now has its name (USR1).

        The new file is opened first; one that cannot be opened is named once in the error
        log, and the old descriptor stays in use.
        """
        failed: dict[str, str] = {}
        if self.cfg.capture_output and self.cfg.errorlog != "-":
            try:
                self._capture_output()
            except ConfigError as cause:
                failed[os.path.abspath(self.cfg.errorlog)] = str(cause.__cause__)
        for handler in self._file_handlers():
            try:
                if isinstance(handler, LogFileHandler):
                    handler.reopen()
                else:
                    reopen_foreign(handler)
            except Exception as cause:
                failed[handler.baseFilename] = str(cause)
        for path, reason in failed.items():
            self.error("Cannot re-open the log %s (%s); still writing to the old file", path, reason)

    def close_on_exec(self) -> None:
        """Keep the log files from programs that this process executes."""
        for handler in self._file_handlers():
            try:
                if handler.stream:
                    os.set_inheritable(handler.stream.fileno(), False)
            except (OSError, ValueError):
                pass  # closed: nothing to keep

    @staticmethod
    def _file_handlers() -> list[logging.FileHandler]:
        """Each file handler of any logger, once."""
        found = {
            id(handler): handler
            for log in all_loggers()
            for handler in log.handlers
            if isinstance(handler, logging.FileHandler)
        }
        return list(found.values())


def pairs(fields: Any) -> Iterable[tuple[str, Any]]:
    """Fields as (name, value), given as a mapping or as pairs, or None for none at all."""
    if fields is None:
        return ()
    items = getattr(fields, "items", None)
    return items() if items is not None else fields  # type: ignore[no-any-return]


def reopen_foreign(handler: logging.FileHandler) -> None:
    """Re-open a file handler that the user configured, the new file first. Raises what its opening raises."""
    handler.acquire()
    try:
        old = handler.stream
        if old:
            handler.stream = handler._open()
            old.close()
    finally:
        handler.release()


#: What an access line is made of. A class that overrides none of it makes the lines of the compiled format.
OWN_FORMATTING = ("access", "atoms", "atoms_wrapper_class", "now", "access_log_enabled", "_get_user")


def formats_itself(logger: Logger) -> bool:
    """Whether `logger` makes its access lines as `Logger` does, nothing overridden."""
    kind = type(logger)
    return all(
        getattr(kind, name) is getattr(Logger, name) and name not in vars(logger) for name in OWN_FORMATTING
    )
