"""Going into the background, watched from the foreground."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
import sys

import pytest

REPORT = """
import json, os, sys
from cyhorn.process.daemon import daemonize
report = os.fdopen(int(sys.argv[1]), "w")
before = {"pid": os.getpid(), "pgid": os.getpgrp(), "sid": os.getsid(0)}
print("once", flush=False)
daemonize(sys.argv[2] == "inherit")
def where(fd):
    try:
        status = os.fstat(fd)
    except OSError:
        return None
    return [status.st_dev, status.st_ino, os.get_inheritable(fd)]
umask = os.umask(0)
try:
    os.close(os.open("/dev/tty", os.O_RDWR))
    terminal = True
except OSError:
    terminal = False
after = {"pid": os.getpid(), "pgid": os.getpgrp(), "sid": os.getsid(0), "umask": umask, "terminal": terminal}
streams = {"null": os.stat(os.devnull).st_ino, "fds": [where(fd) for fd in (0, 1, 2)]}
json.dump({"before": before, **after, **streams}, report)
report.close()
print("later", flush=True)
"""


def daemon(mode="", env=None, **streams):
    """Start a process that daemonizes; what the daemon found out, and the foreground's exit status."""
    with foreground([sys.executable, "-c", REPORT], mode, env=env, **streams) as (process, report):
        return json.load(report), process.wait(20)


@contextlib.contextmanager
def foreground(command, mode, env=None, **streams):
    """The process that daemonizes, and what the daemon reports: it ends when the daemon closes it."""
    reader, writer = os.pipe()
    environment = {**os.environ, **(env or {})}
    arguments = [*command, str(writer), mode]
    with (
        open(reader) as report,
        subprocess.Popen(arguments, pass_fds=[writer], env=environment, **streams) as process,
    ):
        os.close(writer)
        yield process, report


@pytest.fixture
def out(tmp_path):
    with open(tmp_path / "out", "w+") as file:
        yield file


def identity(file):
    status = os.fstat(file.fileno())
    return [status.st_dev, status.st_ino]


def test_a_daemon_leads_neither_session_nor_terminal(out):
    found, status = daemon(stdin=out, stdout=out, stderr=out)
    assert status == 0
    assert found["pid"] != found["before"]["pid"]
    assert found["sid"] != found["before"]["sid"]
    assert found["sid"] == found["pgid"] != found["pid"]
    assert found["umask"] == 0o022
    assert not found["terminal"]


def test_its_streams_lead_nowhere_and_can_be_inherited(out):
    found, _ = daemon(stdin=out, stdout=out, stderr=out)
    for stream in found["fds"]:
        assert stream[1:] == [found["null"], True]
    out.seek(0)
    assert out.read() == "once\n"  # what was buffered before is written, and by one process only


def test_redirected_output_stays_where_asked(out):
    found, _ = daemon("inherit", stdin=out, stdout=out, stderr=out)
    assert found["fds"][0][1] == found["null"]
    assert found["fds"][1][:2] == found["fds"][2][:2] == identity(out)


def test_a_terminal_is_let_go_of_even_then():
    leader, follower = pty.openpty()
    try:
        found, _ = daemon("inherit", stdin=follower, stdout=follower, stderr=follower)
    finally:
        os.close(follower)
        os.close(leader)
    assert all(stream[1:] == [found["null"], True] for stream in found["fds"])


@pytest.mark.parametrize("mode", ["", "inherit"])
def test_missing_streams_are_opened(mode):
    code = (
        "import os, sys\n"
        "os.close(0); os.close(1); os.close(2)\n"
        "os.execv(sys.executable, [sys.executable, '-c', *sys.argv[1:]])\n"
    )
    with foreground([sys.executable, "-c", code, REPORT], mode) as (_, report):
        found = json.load(report)
    assert all(stream is not None and stream[1] == found["null"] for stream in found["fds"])


@pytest.mark.parametrize("variable", ["CYHORN_PID", "CYHORN_FD"])
def test_a_master_that_takes_over_is_a_daemon_already(variable, out):
    found, status = daemon(env={variable: "3"}, stdin=out, stdout=out, stderr=out)
    assert status == 0
    assert {name: found[name] for name in found["before"]} == found["before"]
    assert found["fds"][1][:2] == identity(out)
