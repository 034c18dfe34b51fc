"""The user's own logging configuration: logconfig_dict, then logconfig_json, then logconfig.

The first that is set is applied over `CONFIG_DEFAULTS` (key by key at the top level, as
Gunicorn merges it). A configuration written for Gunicorn names the loggers `gunicorn.error`
and `gunicorn.access`: where it does not name cyhorn's, these get the same settings.
"""

from __future__ import annotations

import configparser
import copy
import json
import logging.config
import os
from typing import Any

from cyhorn.errors import ConfigError
from cyhorn.log import ACCESS, ERROR

#: Gunicorn's logger → cyhorn's.
ALIASES = {"gunicorn.error": ERROR, "gunicorn.access": ACCESS}

CONFIG_DEFAULTS: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "root": {"level": "INFO", "handlers": ["console"]},
    "loggers": {
        ERROR: {"level": "INFO", "handlers": ["error_console"], "propagate": True, "qualname": ERROR},
        ACCESS: {"level": "INFO", "handlers": ["console"], "propagate": True, "qualname": ACCESS},
    },
    "handlers": {
        "console": {
            "class": "cyhorn.log.handlers.ConsoleHandler",
            "formatter": "generic",
            "stream": "ext://sys.stdout",
        },
        "error_console": {
            "class": "cyhorn.log.handlers.ConsoleHandler",
            "formatter": "generic",
            "stream": "ext://sys.stderr",
        },
    },
    "formatters": {
        "generic": {
            "format": "%(asctime)s [%(process)d] [%(levelname)s] %(message)s",
            "datefmt": "[%Y-%m-%d %H:%M:%S %z]",
            "class": "logging.Formatter",
        }
    },
}


def configure_logging(cfg: Any) -> None:
    """Apply the one of `cfg`'s logging configurations that counts, if any. Raises ConfigError."""
    if cfg.logconfig_dict:
        apply_dict("logconfig_dict", cfg.logconfig_dict)
    elif cfg.logconfig_json:
        apply_json(cfg.logconfig_json)
    elif cfg.logconfig:
        apply_ini(cfg.logconfig)


def one_line(cause: BaseException) -> str:
    """An exception of logging.config and what lies behind it, in one line."""
    texts = []
    link: BaseException | None = cause
    while link is not None:
        texts.append(str(link) or type(link).__name__)
        link = link.__cause__
    return ": ".join(" ".join(text.split()) for text in texts)


def merged(config: dict[str, Any]) -> dict[str, Any]:
    """The dictConfig over the defaults, with cyhorn's loggers where only Gunicorn's are named."""
    whole = copy.copy(CONFIG_DEFAULTS)
    whole.update(config)
    loggers = whole.get("loggers")
    if isinstance(loggers, dict):
        whole["loggers"] = {
            **{own: loggers[name] for name, own in ALIASES.items() if name in loggers},
            **loggers,
        }
    return whole


def apply_dict(setting: str, config: dict[str, Any]) -> None:
    """Apply a dictConfig, which came from `setting`."""
    try:
        logging.config.dictConfig(merged(config))
    except Exception as cause:
        raise ConfigError(f"{setting}: {one_line(cause)}") from cause


def apply_json(path: str) -> None:
    """Apply a dictConfig in a JSON file."""
    apply_dict("logconfig_json", read_json(path))


def read_json(path: str) -> dict[str, Any]:
    """The dictConfig in a JSON file. Raises ConfigError."""
    try:
        with open(path, encoding="utf-8") as file:
            config = json.load(file)
    except OSError as cause:
        raise ConfigError(f"logconfig_json: cannot read {path!r}: {cause.strerror}") from cause
    except ValueError as cause:
        raise ConfigError(f"logconfig_json: {path!r} is not JSON: {cause}") from cause
    if not isinstance(config, dict):
        raise ConfigError(f"logconfig_json: {path!r} does not hold an object")
    return config


def apply_ini(path: str) -> None:
    """Apply a fileConfig; `%(here)s` and `%(__file__)s` stand for the file's directory and path."""
    parser = configparser.ConfigParser({"__file__": path, "here": os.path.dirname(path)})
    try:
        with open(path, encoding="utf-8") as file:
            parser.read_file(file)
        add_aliases(parser)
        logging.config.fileConfig(parser, disable_existing_loggers=False)
    except OSError as cause:
        raise ConfigError(f"logconfig: {path!r}: {cause.strerror or one_line(cause)}") from cause
    except Exception as cause:
        what = f"there is no section or option {cause}" if isinstance(cause, KeyError) else one_line(cause)
        raise ConfigError(f"logconfig: {path!r}: {what}") from cause


def add_aliases(parser: configparser.ConfigParser) -> None:
    """Give cyhorn's loggers the sections of Gunicorn's where the file has none for them."""
    keys = [key.strip() for key in parser["loggers"]["keys"].split(",")]
    sections = {parser[f"logger_{key}"].get("qualname"): f"logger_{key}" for key in keys if key != "root"}
    for name, own in ALIASES.items():
        if name in sections and own not in sections:
            key = own.replace(".", "_") + "_as_gunicorn"
            parser[f"logger_{key}"] = {
                option: value
                for option, value in parser.items(sections[name], raw=True)
                if option not in parser.defaults()
            }
            parser[f"logger_{key}"]["qualname"] = own
            keys.append(key)
    parser["loggers"]["keys"] = ",".join(keys)
