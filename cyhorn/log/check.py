"""What is wrong with the logs that a configuration asks for, found without opening one.

`problems` is for ``--check-config``: no file is made, no handler installed, no record sent.
"""

from __future__ import annotations

import configparser
import logging.config
from collections.abc import Callable, Iterator
from typing import Any

from cyhorn.errors import ConfigError
from cyhorn.log import access_format, configuration, syslog
from cyhorn.log.logger import OWN_FORMATTING, Logger

#: Raises ConfigError unless the file (first) can be written, naming the setting (second).
CheckWritable = Callable[[str, str], None]


def problems(cfg: Any, logger_class: Any, check_writable: CheckWritable) -> list[ConfigError]:
    """One error for each mistake. `logger_class` is None where it does not load."""
    found: list[ConfigError] = []
    for check in (_files, _access_format, _syslog, _logging_config):
        for step in check(cfg, logger_class, check_writable):
            try:
                step()
            except ConfigError as problem:
                found.append(problem)
    return found


def _files(cfg: Any, _: Any, check_writable: CheckWritable) -> Iterator[Callable[[], None]]:
    for setting in ("errorlog", "accesslog"):
        path = getattr(cfg, setting)
        if path is not None and path != "-":
            yield lambda path=path, setting=setting: check_writable(path, setting)  # type: ignore[misc]


def _access_format(cfg: Any, logger_class: Any, _: CheckWritable) -> Iterator[Callable[[], None]]:
    own = all(getattr(logger_class, name, None) is getattr(Logger, name) for name in OWN_FORMATTING)
    if own and cfg.access_log_format:
        yield lambda: _parse_format(cfg.access_log_format)


def _parse_format(text: str) -> None:
    try:
        access_format.parse_format(text)
    except ValueError as cause:
        raise ConfigError(f"access_log_format: {cause}") from cause


def _syslog(cfg: Any, _: Any, __: CheckWritable) -> Iterator[Callable[[], None]]:
    if cfg.syslog:
        yield lambda: _reach_syslog(cfg)


def _reach_syslog(cfg: Any) -> None:
    kind, address = syslog.parse_syslog_address(cfg.syslog_addr)
    facility = syslog.facility_code(cfg.syslog_facility)
    try:
        syslog.SyslogHandler(address, facility, kind).close()
    except OSError as cause:
        raise ConfigError(f"syslog_addr: cannot reach {cfg.syslog_addr!r}: {cause}") from cause


def _logging_config(cfg: Any, _: Any, check_writable: CheckWritable) -> Iterator[Callable[[], None]]:
    """Of the three the first that is set counts, as at a start."""
    if cfg.logconfig_dict:
        yield lambda: check_dict("logconfig_dict", cfg.logconfig_dict, check_writable)
    elif cfg.logconfig_json:
        yield lambda: check_dict(
            "logconfig_json", configuration.read_json(cfg.logconfig_json), check_writable
        )
    elif cfg.logconfig:
        yield lambda: check_ini(cfg.logconfig)


def check_dict(setting: str, config: dict[str, Any], check_writable: CheckWritable) -> None:
    """Raise ConfigError unless the dictConfig holds together: formatters, classes, names, files."""
    whole = configuration.merged(config)
    configurator = logging.config.DictConfigurator(whole)
    try:
        if configurator.config.get("version") != 1:
            raise ValueError("version must be 1")
        formatters = dict(configurator.config.get("formatters") or {})
        handlers = dict(configurator.config.get("handlers") or {})
        for formatter in formatters.values():
            configurator.configure_formatter(dict(formatter))
        for name, handler in handlers.items():
            factory = handler.get("()", handler.get("class"))
            if isinstance(factory, str):
                configurator.resolve(factory)
            if (wanted := handler.get("formatter")) and wanted not in formatters:
                raise ValueError(f"handler {name!r}: there is no formatter {wanted!r}")
            if isinstance(file := handler.get("filename"), str):
                check_writable(file, f"{setting}: handler {name!r}")
        loggers = dict(configurator.config.get("loggers") or {})
        for name, logger in {"root": configurator.config.get("root") or {}, **loggers}.items():
            missing = [wanted for wanted in logger.get("handlers") or () if wanted not in handlers]
            if missing:
                raise ValueError(f"logger {name!r}: there is no handler {missing[0]!r}")
    except ConfigError:
        raise
    except Exception as cause:
        raise ConfigError(f"{setting}: {configuration.one_line(cause)}") from cause


def check_ini(path: str) -> None:
    """Raise ConfigError unless the file could be one of fileConfig."""
    parser = configparser.ConfigParser()
    try:
        with open(path, encoding="utf-8") as file:
            parser.read_file(file)
        for kind in ("loggers", "handlers", "formatters"):
            for key in parser.get(kind, "keys", raw=True).split(","):
                if key.strip() and f"{kind[:-1]}_{key.strip()}" not in parser:
                    raise ValueError(f"there is no section {kind[:-1]}_{key.strip()}")
    except OSError as cause:
        raise ConfigError(f"logconfig: {path!r}: {cause.strerror}") from cause
    except Exception as cause:
        raise ConfigError(f"logconfig: {path!r}: {configuration.one_line(cause)}") from cause
