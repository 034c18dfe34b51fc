"""What a master passes to its successor."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cyhorn.errors import ConfigError
from cyhorn.process.upgrade import start_context, take_inheritance


def test_the_inheritance_is_taken_out_of_the_environment() -> None:
    environ = {"CYHORN_PID": "12", "CYHORN_FD": "5,7", "HOME": "/"}
    assert take_inheritance(environ) == (12, [5, 7])
    assert environ == {"HOME": "/"}
    assert take_inheritance(environ) == (0, [])


@pytest.mark.parametrize("environ", [{"CYHORN_PID": "x"}, {"CYHORN_PID": "1", "CYHORN_FD": "a"}])
def test_an_inheritance_that_is_no_number_is_one_line(environ: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="CYHORN_PID="):
        take_inheritance(environ)


def test_gunicorns_variables_mean_nothing() -> None:
    environ = {"GUNICORN_PID": "12", "GUNICORN_FD": "5"}
    assert take_inheritance(environ) == (0, [])
    assert len(environ) == 2


def test_the_command_is_run_again_with_the_interpreters_options(tmp_path: Path) -> None:
    script = "from cyhorn.process.upgrade import start_context; print(start_context()['args'])"
    done = subprocess.run(
        [sys.executable, "-X", "utf8", "-c", script, "--flag"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == repr([sys.executable, "-X", "utf8", "-c", script, "--flag"])


def test_a_symbolic_link_to_the_working_directory_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release, current = tmp_path / "release-1", tmp_path / "current"
    release.mkdir()
    current.symlink_to(release)
    monkeypatch.chdir(release)
    monkeypatch.setenv("PWD", str(current))
    assert start_context()["cwd"] == str(current)
    monkeypatch.setenv("PWD", str(tmp_path))  # of another directory: not ours
    assert start_context()["cwd"] == str(release)


ROOT = Path(__file__).resolve().parents[2]

REPORT = (
    "import os, sys\n"
    "fds = [int(fd) for fd in os.environ.get('CYHORN_FD', '').split(',') if fd]\n"
    "if 'LISTEN_FDS' in os.environ: fds = list(range(3, 3 + int(os.environ['LISTEN_FDS'])))\n"
    "print(os.environ.get('CYHORN_PID'), os.environ.get('LISTEN_PID') == str(os.getpid()), os.getcwd())\n"
    "print([os.fstat(fd).st_ino for fd in fds])\n"
    "print(sorted(map(int, os.listdir('/proc/self/fd')))[:-1])\n"
)


PREDECESSOR = """
import os, sys
from cyhorn.process.upgrade import exec_successor

first = os.open("a", os.O_CREAT)
fds = [os.open(name, os.O_CREAT) for name in "bcd"]
# Out of order, and one where a target is.
order = [fds[2], first, fds[0]]
print([os.fstat(fd).st_ino for fd in order], os.getpid(), flush=True)
if os.fork():
    os.wait()
else:
    environ = {**os.environ, "CYHORN_PID": "1", "CYHORN_FD": "1"}
    context = {0: sys.executable, "args": [sys.executable, "-c", os.environ["REPORT"]], "cwd": os.getcwd()}
    exec_successor(context, environ, order, systemd=SYSTEMD)
"""


@pytest.mark.parametrize("systemd", [False, True])
def test_the_successor_has_the_listeners_in_order_and_nothing_else(tmp_path: Path, systemd: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PREDECESSOR.replace("SYSTEMD", str(systemd))],
        env={**os.environ, "REPORT": REPORT, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    before, who, seen, open_fds = done.stdout.splitlines()
    inodes, pid = before.rsplit(" ", 1)
    assert who == f"{pid} {systemd} {tmp_path}"
    assert seen == inodes
    assert len(open_fds.split(",")) == 3 + 3  # standard streams and the listeners
