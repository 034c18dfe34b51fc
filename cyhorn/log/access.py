"""The access log's path past `logging`, and when it may be taken.

`AccessLog` collects the lines of one turn of the loop and writes them with one call. It stands in
for `Logger.access` as long as the user configured nothing that could tell the difference: handlers,
filters, formatters, a logger class.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from cyhorn.log.access_format import Line, clf_now, compile_format
from cyhorn.log.handlers import ConsoleHandler, LogFileHandler, OneWriteHandler
from cyhorn.log.logger import Logger, formats_itself

__all__ = ["AccessLog", "Line", "access_wanted", "compile_format", "fast_access_log"]


class AccessLog:
    """The lines of one turn of the loop, written with one call.

    `record` and `flush` never raise. Lines are kept until `flush`, which the worker calls once
    a turn, before it stops and before it re-opens its logs.
    """

    __slots__ = ("_clock", "_handler", "_line", "_log", "_pending")

    def __init__(self, logger: Logger, cfg: Any) -> None:
        """Take the one handler of `logger.access_log` and `cfg.access_log_format`. See `fast_access_log`."""
        self._line = compile_format(cfg.access_log_format)
        self._log = logger.access_log
        handler = self._log.handlers[0]
        assert isinstance(handler, OneWriteHandler)
        self._handler = handler
        self._clock = clf_now
        self._pending: list[str] = []

    def record(self, response: Any, environ: Mapping[str, Any], seconds: float) -> None:
        """Add the line of one request; `seconds` is how long it took."""
        self._pending.append(self._line(response, environ, seconds, self._clock))

    def flush(self) -> None:
        """Write what is pending."""
        pending = self._pending
        if not pending:
            return
        # Only what was counted is removed: another thread may append meanwhile.
        count = len(pending)
        lines = pending[:count]
        del pending[:count]
        log, handler = self._log, self._handler
        handlers = log.handlers
        if (
            len(handlers) == 1
            and handlers[0] is handler
            and not log.filters
            and not handler.filters
            and log.isEnabledFor(logging.INFO)
        ):
            handler.write_lines(lines)
        else:  # the application has changed the logger since
            for line in lines:
                log.info("%s", line)


def fast_access_log(logger: Logger, cfg: Any) -> AccessLog | None:
    """The `AccessLog` for `logger`, or None where `logger.access` must be called instead.

    It exists when no one could tell: the logger makes its own lines, and the access log has
    one handler of this package with nothing but the message in its format, no filter,
    no logging configuration and no syslog.
    """
    if not formats_itself(logger) or not logger.access_log_enabled:
        return None
    if cfg.logconfig or cfg.logconfig_dict or cfg.logconfig_json:
        return None
    log = logger.access_log
    if type(log) is not logging.Logger or log.filters or log.propagate or len(log.handlers) != 1:
        return None
    if not log.isEnabledFor(logging.INFO) or logging.getLogRecordFactory() is not logging.LogRecord:
        return None
    handler = log.handlers[0]
    if type(handler) not in (ConsoleHandler, LogFileHandler) or handler.filters:
        return None
    formatter = handler.formatter
    if type(formatter) is not logging.Formatter or formatter._fmt != "%(message)s":
        return None
    if handler.level > logging.INFO or handler.terminator != "\n":  # type: ignore[attr-defined]
        return None
    return AccessLog(logger, cfg)


def access_wanted(logger: Any) -> bool:
    """Whether a request has to be told to `logger` at all.

    A class with an `access` of its own is always asked, as Gunicorn asks it: StatsD counts
    requests also where no access log is written.
    """
    if getattr(type(logger), "access", None) is not Logger.access or "access" in vars(logger):
        return True
    return bool(logger.access_log_enabled)
