"""A configuration, a request and a response to log, and loggers as they were after each test."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

DEFAULT_FORMAT = '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s"'

#: The settings that logging reads, with their defaults.
SETTINGS: dict[str, Any] = {
    "errorlog": "-",
    "accesslog": None,
    "access_log_format": DEFAULT_FORMAT,
    "loglevel": "info",
    "logconfig": None,
    "logconfig_dict": {},
    "logconfig_json": None,
    "syslog": False,
    "syslog_addr": "udp://localhost:514",
    "syslog_prefix": None,
    "syslog_facility": "user",
    "disable_redirect_access_to_syslog": False,
    "capture_output": False,
    "enable_stdio_inheritance": False,
    "uid": os.geteuid(),
    "gid": os.getegid(),
    "user": os.geteuid(),
    "group": os.getegid(),
    "proc_name": "shop:app",
    "statsd_host": None,
    "statsd_prefix": "",
    "dogstatsd_tags": "",
    "statsd_metric_namespace": "cyhorn",
    "enable_backlog_metric": False,
    "is_ssl": False,
}


class Response:
    """What the loop hands to the access log."""

    def __init__(self, status: str = "200 OK", sent: int = 1234, headers: Any = ()) -> None:
        self.status = status
        self.status_code = int(status[:3])
        self.sent = sent
        self.headers = list(headers)


@pytest.fixture
def make_cfg() -> Callable[..., Any]:
    def make(**settings: Any) -> Any:
        assert settings.keys() <= SETTINGS.keys()
        return SimpleNamespace(**{**SETTINGS, **settings})

    return make


@pytest.fixture
def cfg(make_cfg: Callable[..., Any], tmp_path: Path) -> Any:
    """Both logs in files of the test's own directory."""
    return make_cfg(errorlog=str(tmp_path / "error.log"), accesslog=str(tmp_path / "access.log"))


@pytest.fixture(scope="session")
def make_response() -> type[Response]:
    return Response


@pytest.fixture(scope="session")
def make_environ() -> Callable[..., dict[str, Any]]:
    def make(**variables: Any) -> dict[str, Any]:
        return {
            "REQUEST_METHOD": "GET",
            "RAW_URI": "/shop?item=7",
            "PATH_INFO": "/shop",
            "QUERY_STRING": "item=7",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "192.0.2.7",
            "wsgi.url_scheme": "http",
            "wsgi.multiprocess": True,
            **variables,
        }

    return make


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    """Handlers, levels and switches of every logger, put back; new handlers are closed.

    A logger that does not propagate when a test's own phase begins gets pytest's capturing handler,
    so tests make theirs in the test, not in a fixture.
    """
    names = ("", "cyhorn.error", "cyhorn.access", "gunicorn.error", "gunicorn.access")
    logs = [logging.getLogger(name) for name in names]
    before = [
        (log, list(log.handlers), list(log.filters), log.level, log.propagate, log.disabled) for log in logs
    ]
    for log in logs[1:]:  # whatever a test elsewhere has left: here every one begins with fresh loggers
        log.handlers.clear()
        log.propagate = True
    yield
    for log, handlers, filters, level, propagate, disabled in before:
        for handler in log.handlers[:]:
            if handler not in handlers:
                handler.close()
        log.handlers[:] = handlers
        log.filters[:] = filters
        log.setLevel(level)
        log.propagate, log.disabled = propagate, disabled
