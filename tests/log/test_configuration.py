"""The user's logging configuration: which one counts, what it is merged over, what goes wrong in one line."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cyhorn.errors import ConfigError
from cyhorn.log.access import access_wanted, fast_access_log
from cyhorn.log.logger import Logger


@pytest.fixture(autouse=True)
def other_handlers_stay_open() -> Iterator[None]:
    """dictConfig and fileConfig close and forget every handler of the process, pytest's among them."""
    known, order = dict(logging._handlers.items()), list(logging._handlerList)  # type: ignore[attr-defined]
    yield
    logging._handlers.update(known)  # type: ignore[attr-defined]
    logging._handlerList[:0] = order  # type: ignore[attr-defined]


def to_file(path: Path, *loggers: str, text: str = "%(levelname)s %(message)s") -> dict[str, Any]:
    """A dictConfig that sends `loggers` to `path`."""
    return {
        "version": 1,
        "formatters": {"generic": {"format": text}},
        "handlers": {
            "console": {"class": "logging.NullHandler"},
            "error_console": {"class": "logging.NullHandler"},
            "file": {"class": "logging.FileHandler", "filename": str(path), "formatter": "generic"},
        },
        "loggers": {name: {"level": "INFO", "handlers": ["file"], "propagate": False} for name in loggers},
    }


INI = """
[loggers]
keys = root, error

[handlers]
keys = file

[formatters]
keys = short

[logger_root]
level = INFO
handlers =

[logger_error]
level = INFO
handlers = file
propagate = 0
qualname = {name}

[handler_file]
class = FileHandler
args = ("%(here)s/{file}",)
formatter = short

[formatter_short]
format = %(levelname)s %(message)s
"""


def test_a_dict_takes_the_loggers(make_cfg: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "log"
    logger = Logger(make_cfg(logconfig_dict=to_file(path, "cyhorn.error")))
    logger.info("line")
    assert path.read_text() == "INFO line\n"


def test_access_lines_reach_a_configured_handler(
    make_cfg: Callable[..., Any], tmp_path: Path, make_response: Any, make_environ: Callable[..., Any]
) -> None:
    path = tmp_path / "log"
    cfg = make_cfg(logconfig_dict=to_file(path, "cyhorn.access"), access_log_format="%(U)s")
    logger = Logger(cfg)
    logger.access(make_response(), None, make_environ(), timedelta(0))
    assert path.read_text() == "INFO /shop\n"
    assert access_wanted(logger)
    assert fast_access_log(logger, cfg) is None


def test_the_defaults_print_errors_and_access_lines(
    make_cfg: Callable[..., Any],
    make_response: Any,
    make_environ: Callable[..., Any],
    capfd: pytest.CaptureFixture[str],
) -> None:
    logger = Logger(make_cfg(logconfig_dict={"version": 1}, access_log_format="%(U)s"))
    logger.info("line")
    logger.access(make_response(), None, make_environ(), timedelta(0))
    out, err = capfd.readouterr()
    assert err.endswith("[INFO] line\n")
    assert out.endswith("[INFO] /shop\n")


def test_a_dict_counts_before_json_and_json_before_ini(make_cfg: Callable[..., Any], tmp_path: Path) -> None:
    files = {name: tmp_path / name for name in ("dict", "json", "ini")}
    config_json, config_ini = tmp_path / "config.json", tmp_path / "config.ini"
    config_json.write_text(json.dumps(to_file(files["json"], "cyhorn.error")))
    config_ini.write_text(INI.format(name="cyhorn.error", file="ini"))
    settings: dict[str, Any] = {
        "logconfig_dict": to_file(files["dict"], "cyhorn.error"),
        "logconfig_json": str(config_json),
        "logconfig": str(config_ini),
    }
    for setting, name in (("logconfig_dict", "dict"), ("logconfig_json", "json"), ("logconfig", "ini")):
        logger = Logger(make_cfg(**settings))
        logger.info(name)
        assert files[name].read_text() == f"INFO {name}\n"
        settings[setting] = None


@pytest.mark.parametrize("kind", ["dict", "ini"])
def test_a_configuration_for_gunicorn_s_loggers_serves_ours(
    make_cfg: Callable[..., Any], tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "log"
    if kind == "dict":
        settings: dict[str, Any] = {"logconfig_dict": to_file(path, "gunicorn.error")}
    else:
        (tmp_path / "config.ini").write_text(INI.format(name="gunicorn.error", file="log"))
        settings = {"logconfig": str(tmp_path / "config.ini")}
    logger = Logger(make_cfg(**settings))
    logger.info("ours")
    logging.getLogger("gunicorn.error").info("of an application that asks for Gunicorn's")
    assert path.read_text() == "INFO ours\nINFO of an application that asks for Gunicorn's\n"


def test_ours_is_not_overridden_by_gunicorn_s(make_cfg: Callable[..., Any], tmp_path: Path) -> None:
    config = to_file(tmp_path / "log", "gunicorn.error", "cyhorn.error")
    config["loggers"]["cyhorn.error"]["level"] = "ERROR"
    logger = Logger(make_cfg(logconfig_dict=config))
    logger.info("quiet")
    logger.error("loud")
    assert (tmp_path / "log").read_text() == "ERROR loud\n"


def test_configured_files_are_reopened(make_cfg: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "log"
    logger = Logger(make_cfg(logconfig_dict=to_file(path, "cyhorn.error")))
    path.rename(tmp_path / "log.1")
    logger.reopen_files()
    logger.info("new")
    assert path.read_text() == "INFO new\n"


def test_a_configured_handler_on_a_full_disk_stops_nothing(
    make_cfg: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    logger = Logger(make_cfg(logconfig_dict=to_file(Path("/dev/full"), "cyhorn.error")))
    monkeypatch.setattr(logging, "raiseExceptions", False)
    logger.info("lost")
    for handler in logger.error_log.handlers:
        with pytest.raises(OSError):
            handler.close()


@pytest.mark.parametrize(
    ("setting", "content", "words"),
    [
        ("logconfig_dict", {"version": 2}, ["version"]),
        ("logconfig_dict", {"handlers": {"h": {"class": "no.such.Class"}}}, ["'h'", "no.such"]),
        ("logconfig_dict", {"formatters": {}}, ["generic"]),
        ("logconfig_dict", {"loggers": 5}, ["int"]),
        ("logconfig_json", None, ["config", "No such file"]),
        ("logconfig_json", "{,}", ["config", "is not JSON", "line 1"]),
        ("logconfig_json", "[]", ["config", "object"]),
        ("logconfig_json", '{"version": 3}', ["version"]),
        ("logconfig", None, ["config", "No such file"]),
        ("logconfig", "", ["config", "'loggers'"]),
        ("logconfig", "keys = 1", ["config", "no section headers"]),
        ("logconfig", INI.format(name="x", file="no/such/log"), ["config", "No such file"]),
        ("logconfig", INI.replace("class = FileHandler", "class = Nothing"), ["config", "Nothing"]),
    ],
)
def test_what_is_wrong_is_one_line_with_the_setting(
    make_cfg: Callable[..., Any], tmp_path: Path, setting: str, content: Any, words: list[str]
) -> None:
    value: Any = content
    if setting != "logconfig_dict":
        path = tmp_path / "config"
        if content is not None:
            path.write_text(content)
        value = str(path)
    with pytest.raises(ConfigError) as caught:
        Logger(make_cfg(**{setting: value}))
    text = str(caught.value)
    assert text.startswith(f"{setting}: ")
    assert "\n" not in text
    for word in words:
        assert word in text
