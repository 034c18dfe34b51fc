"""Logging takes what it needs from the real configuration object."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cyhorn.access import AccessLines
from cyhorn.config.config import Config
from cyhorn.log.access import fast_access_log
from cyhorn.log.errors_stream import WSGIErrors
from cyhorn.log.logger import Logger
from cyhorn.log.statsd import Statsd


def configure(**settings: Any) -> Config:
    cfg = Config()
    for name, value in settings.items():
        cfg.set(name, value)
    return cfg


def test_the_default_configuration_logs_errors_only(capfd: pytest.CaptureFixture[str]) -> None:
    cfg = configure()
    logger = cfg.logger_class(cfg)
    assert type(logger) is Logger
    logger.info("line")
    WSGIErrors(cfg).write("text\n")
    assert not logger.access_log_enabled
    out, err = capfd.readouterr()
    assert out == ""
    assert err.endswith("[INFO] line\ntext\n")


def test_files_of_both_logs(tmp_path: Path, make_response: Any, make_environ: Any) -> None:
    cfg = configure(errorlog=str(tmp_path / "error.log"), accesslog=str(tmp_path / "access.log"))
    logger = cfg.logger_class(cfg)
    logger.access(make_response(), None, make_environ(), timedelta(0))
    plain = fast_access_log(logger, cfg)
    assert plain is not None
    lines = AccessLines(plain.line, plain.steps, plain.clock, plain)
    lines.record(make_response(), make_environ(), 0.0)
    lines.flush()
    slow_line, fast_line = (tmp_path / "access.log").read_text().splitlines()
    assert (
        slow_line.split("] ")[1] == fast_line.split("] ")[1] == '"GET /shop?item=7 HTTP/1.1" 200 1234 "-" "-"'
    )


def test_a_statsd_host_makes_the_logger_count(tmp_path: Path) -> None:
    cfg = configure(statsd_host=f"unix://{tmp_path}/statsd", errorlog=str(tmp_path / "error.log"))
    logger = cfg.logger_class(cfg)
    assert type(logger) is Statsd
    logger.error("line")
    assert str(tmp_path / "statsd") in (tmp_path / "error.log").read_text()


def test_syslog_is_named_after_the_process() -> None:
    cfg = configure(syslog=True, syslog_addr="udp://127.0.0.1:9", proc_name="shop:app", errorlog="-")
    logger = cfg.logger_class(cfg)
    formats = [handler.formatter._fmt for handler in logger.error_log.handlers]
    assert formats[-1] == "cyhorn.shop.app.error: [%(process)d] %(message)s"
