"""Example files say what the server and their own tools understand."""

from __future__ import annotations

import configparser
import json
import os
import re
import shutil
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


def test_the_container_starts_the_server_itself_with_flags_that_it_knows() -> None:
    lines = (EXAMPLES / "container/Containerfile").read_text().splitlines()
    command = json.loads(next(line for line in lines if line.startswith("CMD")).removeprefix("CMD"))
    assert command[0] == "cyhorn"
    done = subprocess.run(
        [sys.executable, "-m", *command, "--print-config"],
        cwd=EXAMPLES / "flask",
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "bind = ['0.0.0.0:8000']" in done.stdout


def test_the_units_are_taken_by_systemds_own_check(tmp_path: Path) -> None:
    checker = shutil.which("systemd-analyze")
    if checker is None:
        pytest.skip("systemd is not installed")
    unit = (EXAMPLES / "systemd/app.service").read_text()
    unit = re.sub(r"/srv/app\S*/bin/cyhorn", sys.executable, unit)  # a program that is there
    (tmp_path / "app.service").write_text(unit)
    shutil.copy(EXAMPLES / "systemd/app.socket", tmp_path)
    files = [tmp_path / "app.service", tmp_path / "app.socket"]
    done = subprocess.run(
        [checker, "verify", "--man=no", "--recursive-errors=no", *files], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
