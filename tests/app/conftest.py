"""Applications of tests start in a directory of their own and leave the process as it was."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

VARIABLES = (
    "PORT",
    "WEB_CONCURRENCY",
    "FORWARDED_ALLOW_IPS",
    "SENDFILE",
    "CYHORN_CMD_ARGS",
    "GUNICORN_CMD_ARGS",
)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that is the current one, with the process's paths, modules and variables restored after."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PWD", str(tmp_path))
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(sys, "modules", sys.modules)
    before, environ = set(sys.modules), dict(os.environ)
    yield tmp_path  # type: ignore[misc]
    for name in set(sys.modules) - before:
        del sys.modules[name]
    for name in set(os.environ) - set(environ):
        del os.environ[name]
