"""Example files say what the server and their own tools understand."""

from __future__ import annotations

import configparser
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import EXAMPLES, ROOT

CONFIGS = sorted((EXAMPLES / "config").glob("*.py"))


@pytest.mark.parametrize("file", CONFIGS, ids=lambda file: file.name)
def test_every_example_configuration_passes_the_servers_own_check(file: Path, certificate: Path) -> None:
    # Not its own address: the directory of its socket is the operator's, and another may listen there.
    place = ["-b", "127.0.0.1:0", "--pythonpath", str(EXAMPLES / "flask")]
    command = ["--check-config", "-c", str(file), *place, "app:app"]
    done = subprocess.run(
        [sys.executable, "-m", "cyhorn", *command],
        cwd=certificate.parent,  # what tls.conf.py names lies there
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_unit_starts_the_console_script_and_reloads_by_hup() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(EXAMPLES / "systemd/app.service")
    service = unit["Service"]
    assert service["ExecStart"].split()[0].endswith("/bin/cyhorn")
    assert "HUP" in service["ExecReload"]
    # systemd's patience is longer than graceful_timeout (30 s), so that a stop is not cut short.
    assert int(service["TimeoutStopSec"]) > 30
