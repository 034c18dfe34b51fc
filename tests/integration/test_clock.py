"""A step of the wall clock changes nothing but the dates that are shown."""

from __future__ import annotations

import os
import re
import shutil
import signal
import struct
import subprocess
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from tests.integration.client import KeptConnection
from tests.integration.harness import SOON, Server, until

Serve = Callable[..., Server]
DAY = 86400


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """wall_clock.c, compiled."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler to make the clock with")
    made = tmp_path_factory.mktemp("clock") / "wall_clock.so"
    source = Path(__file__).with_name("wall_clock.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", made, source, "-ldl"], check=True)
    return made


@pytest.mark.rule(43)
def test_a_step_of_the_wall_clock_ends_no_timer_and_holds_up_none(
    serve_workload: Serve, tmp_path: Path, shim: Path
) -> None:
    clock = tmp_path / "clock"

    def step(seconds: int) -> None:
        descriptor = os.open(clock, os.O_WRONLY | os.O_CREAT)
        os.pwrite(descriptor, struct.pack("q", seconds), 0)
        os.close(descriptor)

    step(0)
    server = serve_workload(
        "workers = 2\ntimeout = 3\nkeepalive = 60\nclient_header_timeout = 1",
        environ={"LD_PRELOAD": str(shim), "WALL_CLOCK_FILE": str(clock)},
    ).ready(2)
    workers = server.workers()
    kept = KeptConnection(server.connect)

    def shown() -> float:
        date = kept.ask("/").get("Date")
        assert date is not None
        return parsedate_to_datetime(date).timestamp()

    begun = shown()
    for days in (1, -1):
        step(days * DAY)
        half = server.connect()
        half.sendall(b"GET / HTTP/1.1\r\n")
        until(lambda days=days: abs(shown() - begun - days * DAY) < 3600, "the new time in Date")
        # What is timed goes on as before: half a head is 408 in its second, a reload ends, nobody is killed.
        assert half.recv(4096).startswith(b"HTTP/1.1 408 ")
        half.close()
        assert kept.opened == 1, "the idle connection was not closed"
        assert server.workers() == workers
    mark = server.mark()
    server.signal(signal.SIGHUP)
    line = server.wait_for("Reload done", mark, patience=SOON)[0]
    found = re.search(r"in ([\d.]+) s", line)
    assert found is not None and float(found[1]) < SOON
    kept.close()
    assert server.stop() == 0
