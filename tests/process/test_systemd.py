"""Sockets passed by systemd, and what it is told."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from types import SimpleNamespace

import pytest

from cyhorn.process.systemd import LISTEN_FDS_START, listen_fds, reloading_state, sd_notify, watchdog_interval

NAMES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC")


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.fixture
def log():
    lines = []
    return SimpleNamespace(debug=lambda text, *args: lines.append(text % args), lines=lines)


def pass_sockets(monkeypatch, count, pid=None):
    monkeypatch.setenv("LISTEN_PID", str(os.getpid() if pid is None else pid))
    monkeypatch.setenv("LISTEN_FDS", str(count))
    monkeypatch.setenv("LISTEN_FDNAMES", "web:admin")


def test_no_variables_mean_no_sockets():
    assert listen_fds() == 0


def test_sockets_are_counted_and_children_do_not_inherit_the_count(environment):
    pass_sockets(environment, 2)
    assert listen_fds() == 2
    assert not any(name in os.environ for name in NAMES)
    assert listen_fds() == 0
    assert LISTEN_FDS_START == 3


def test_the_variables_stay_where_asked(environment):
    pass_sockets(environment, 2)
    assert listen_fds(unset_environment=False) == 2
    assert listen_fds() == 2


def test_sockets_for_another_process_are_not_ours(environment):
    pass_sockets(environment, 2, pid=os.getppid())
    assert listen_fds() == 0
    assert os.environ["LISTEN_FDS"] == "2"


@pytest.mark.parametrize("count", ["", "x", "-1", "1.5", " 1", "\u0661"])
def test_nonsense_counts_as_none(environment, count):
    pass_sockets(environment, count)
    assert listen_fds() == 0
    environment.setenv("LISTEN_PID", count)
    assert listen_fds() == 0


@contextlib.contextmanager
def manager(address):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(address)
        sock.settimeout(5)
        yield sock


def test_without_a_manager_nothing_is_sent(log):
    assert sd_notify("READY=1", log) is False
    assert log.lines == []


def test_a_state_reaches_the_manager(environment, log, tmp_path):
    path = str(tmp_path / "notify")
    with manager(path) as sock:
        environment.setenv("NOTIFY_SOCKET", path)
        assert sd_notify("READY=1\nSTATUS=gestartet ✓", log)
        assert sock.recv(100).decode() == "READY=1\nSTATUS=gestartet ✓"
        assert sd_notify("STOPPING=1", log)
        assert sock.recv(100) == b"STOPPING=1"
    assert log.lines == []


@pytest.mark.skipif(sys.platform != "linux", reason="the abstract namespace is Linux's")
def test_the_manager_may_be_in_the_abstract_namespace(environment, log):
    name = f"cyhorn-notify-{os.getpid()}"
    with manager("\0" + name) as sock:
        environment.setenv("NOTIFY_SOCKET", "@" + name)
        assert sd_notify("READY=1", log)
        assert sock.recv(100) == b"READY=1"


@pytest.mark.parametrize(
    "address", ["/no/such/socket", "@no-such-name", "relative", "vsock:2:1234", "x" * 200, "@"]
)
def test_a_manager_that_does_not_listen_costs_a_debug_line(environment, log, address):
    environment.setenv("NOTIFY_SOCKET", address)
    assert sd_notify("READY=1", log) is False
    assert len(log.lines) == 1
    assert address in log.lines[0]


def test_a_manager_whose_queue_is_full_does_not_stop_the_server(environment, log, tmp_path, monkeypatch):
    path = str(tmp_path / "notify")
    monkeypatch.setattr("cyhorn.process.systemd.NOTIFY_TIMEOUT", 0.01)
    with manager(path), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as filler:
        filler.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                filler.sendto(b"x", path)
        environment.setenv("NOTIFY_SOCKET", path)
        assert sd_notify("READY=1", log) is False
    assert len(log.lines) == 1


def test_the_manager_is_forgotten_where_asked(environment, log, tmp_path):
    environment.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    sd_notify("READY=1", log, unset_environment=True)
    assert "NOTIFY_SOCKET" not in os.environ
    assert sd_notify("READY=1", log, unset_environment=True) is False


def test_a_reload_is_dated_on_the_monotonic_clock():
    first, second = (reloading_state().splitlines() for _ in range(2))
    assert first[0] == "RELOADING=1"
    times = [int(lines[1].removeprefix("MONOTONIC_USEC=")) for lines in (first, second)]
    assert 0 < times[0] <= times[1]


@pytest.mark.parametrize(
    ("usec", "pid", "interval"),
    [
        (None, None, None),
        ("30000000", None, 30.0),
        ("500000", "own", 0.5),
        ("500000", "1", None),
        ("0", None, None),
        ("x", None, None),
    ],
)
def test_the_watchdog_is_ours_only_when_it_says_so(environment, usec, pid, interval):
    if usec is not None:
        environment.setenv("WATCHDOG_USEC", usec)
    if pid is not None:
        environment.setenv("WATCHDOG_PID", str(os.getpid()) if pid == "own" else pid)
    assert watchdog_interval() == interval
