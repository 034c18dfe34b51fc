"""The access log's path past `logging`, and when it may be taken.

The loop makes the lines itself (`cyhorn.access`) and writes those of one turn with one call, to the
`AccessLog` of this module. That stands in for `Logger.access` as long as the user configured nothing
that could tell the difference: handlers, filters, formatters, a logger class.
"""

from __future__ import annotations

import logging
from typing import Any

from cyhorn.log.access_format import Line, clf_now, compile_format
from cyhorn.log.access_steps import format_steps
from cyhorn.log.handlers import ConsoleHandler, LogFileHandler, OneWriteHandler
from cyhorn.log.logger import Logger, formats_itself

__all__ = ["AccessLog", "Line", "access_wanted", "compile_format", "fast_access_log"]


class AccessLog:
    """Where the lines go that the loop makes, as `cyhorn.access.AccessLines` wants it.

    `line` and `steps` are the compiled format. `write` and `target` never raise.
    """

    __slots__ = ("_handler", "_log", "clock", "line", "steps")

    def __init__(self, logger: Logger, cfg: Any) -> None:
        """Take the one handler of `logger.access_log` and `cfg.access_log_format`. See `fast_access_log`."""
        self.line = compile_format(cfg.access_log_format)
        self.steps = format_steps(cfg.access_log_format)
        self.clock = clf_now
        self._log = logger.access_log
        handler = self._log.handlers[0]
        assert isinstance(handler, OneWriteHandler)
        self._handler = handler

    def target(self) -> tuple[int, int] | None:
        """A descriptor that takes whole lines as they are, and how many bytes one write keeps together.

        None where lines have to go by `write`, now or always.
        """
        return self._handler.direct() if self._untouched() else None

    def write(self, lines: bytes, begun: bool) -> None:
        """Write whole lines in UTF-8; `begun` says that the first one's beginning was written before."""
        if begun or self._untouched():
            self._handler.write_lines(lines, begun)
            return
        for line in lines.decode().split("\n")[:-1]:
            self._log.info("%s", line)

    def _untouched(self) -> bool:
        """Whether the application has left the logger as it was, so that nobody can tell."""
        log, handler = self._log, self._handler
        handlers = log.handlers
        return (
            len(handlers) == 1
            and handlers[0] is handler
            and not log.filters
            and not handler.filters
            and log.isEnabledFor(logging.INFO)
        )


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
