"""What the log says of a request that a worker was stuck in, or died of."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.conftest import WORKLOAD
from tests.integration.harness import SOON, Server, is_alive, to_the_end, until

Serve = Callable[..., Server]

pytestmark = [
    pytest.mark.rule(45),
    pytest.mark.kinds("sync-compiled", "sync-python", "gthread-compiled", "gthread-python"),
    pytest.mark.provokes("WORKER TIMEOUT", "is stuck in", "Error handling request GET /", "exited with code 1", "was sent SIG"),
]

#: How an application is stuck → (target, what it prints then, what the stack says).
STUCK = {
    "in Python": ("/sleep?60", "SLEEPING", r'File ".*workload\.py", line \d+ in _plain'),
    "in C": ("/block?60", "BLOCKING", r'File ".*workload\.py", line \d+ in wait_in_c'),
    "in C with the interpreter": ("/hold?60", "HOLDING", r'File ".*workload\.py", line \d+ in _plain'),
}


@pytest.fixture(autouse=True)
def application(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(WORKLOAD)


@pytest.mark.parametrize("how", STUCK)
def test_a_stuck_worker_is_told_by_its_request_and_its_stacks(serve: Serve, kind: str, how: str) -> None:
    threads = "threads = 1\n" if kind.startswith("gthread") else ""
    server = serve(f"workers = 1\ntimeout = 1\n{threads}").ready()
    [victim] = server.workers()
    target, said, stack = STUCK[how]
    with server.send(f"{target}&password=secret") as connection:
        port = connection.getsockname()[1]
        server.wait_for(said)
        mark = server.mark()
        path = re.escape(target.partition("?")[0])
        server.wait_for(rf"\[CRITICAL\] WORKER TIMEOUT \(pid:{victim}\)", mark)
        caller = rf"GET {path} from 127\.0\.0\.1:{port} for [12]\.\d s$"
        server.wait_for(rf"\[CRITICAL\] Worker \(pid:{victim}\) is stuck in {caller}", mark)
        server.wait_for(stack, mark)
        until(lambda: not is_alive(victim), "its end", 2 + SOON)
        answer = to_the_end(connection)
    # Where the interpreter comes back to us the client is told; elsewhere the connection may just end.
    assert answer.startswith(b"HTTP/1.1 504 ") or (how != "in Python" and answer == b"")
    assert not any("secret" in line for line in server.lines[mark:] if "CRITICAL" in line)
    server.ready(1)


@pytest.mark.kinds("gthread-compiled", "gthread-python")
def test_every_thread_that_is_stuck_is_told_by_its_request(serve: Serve) -> None:
    server = serve("workers = 1\ntimeout = 1\nthreads = 3").ready()
    [victim] = server.workers()
    connections = [server.send(f"/block{suffix}?60") for suffix in ("", "/second", "/third")]
    server.wait_for("BLOCKING", count=3)
    told = server.wait_for(rf"\[CRITICAL\] Worker \(pid:{victim}\) is stuck in GET /block", count=3)
    assert sorted(re.search(r"GET (\S+)", line)[1] for line in told) == ["/block", "/block/second", "/block/third"]
    until(lambda: not is_alive(victim), "its end", 2 + SOON)
    for connection in connections:
        connection.close()


@pytest.mark.rule(22)
def test_a_killed_worker_is_told_by_what_it_was_in(serve: Serve) -> None:
    server = serve("workers = 1").ready()
    [victim] = server.workers()
    with server.send("/sleep?60"):
        server.wait_for("SLEEPING")
        mark = server.mark()
        os.kill(victim, signal.SIGKILL)
        server.wait_for(rf"Worker \(pid:{victim}\) was sent SIGKILL! It was in GET /sleep from 127.* for \d\.\d s\.$", mark)
    server.ready(1)
    [idle] = server.workers()
    os.kill(idle, signal.SIGKILL)
    server.wait_for(rf"Worker \(pid:{idle}\) was sent SIGKILL!$", mark)
    server.ready(1)


@pytest.mark.rule(22)
@pytest.mark.parametrize(("target", "how"), [("/segfault", "was sent SIGSEGV!"), ("/exit?0", "exited with code 0."), ("/exit?7", "exited with code 7.")])
def test_a_worker_that_a_request_ended_is_told_by_that_request(serve: Serve, target: str, how: str) -> None:
    server = serve("workers = 1").ready()
    [victim] = server.workers()
    with server.send(target) as connection:
        assert to_the_end(connection) == b""
    path = target.partition("?")[0]
    server.wait_for(rf"Worker \(pid:{victim}\) {re.escape(how)} It was in GET {path} from 127")
    server.ready(1)
