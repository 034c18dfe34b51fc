"""Server hooks: where they are called, with what, and what happens when they raise."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.conftest import KINDS
from tests.integration.harness import SOON, Server, until

Serve = Callable[..., Server]

#: Every hook writes its name, the process it runs in and its arguments' types to a file, one write each.
RECORDER = """
import os

def note(name, *args):
    who = "master" if os.getpid() == MASTER else "child"
    with open("hooks", "a") as file:
        file.write(f"{who} {name} {' '.join(map(describe, args))}\\n")

def describe(value):
    return str(value) if value is None or isinstance(value, int) else type(value).__name__

MASTER = os.getpid()

def on_starting(server): note("on_starting", server)
def on_reload(server): note("on_reload", server)
def when_ready(server): note("when_ready", server)
def pre_fork(server, worker): note("pre_fork", server, worker)
def post_fork(server, worker): note("post_fork", server, worker)
def post_worker_init(worker): note("post_worker_init", worker)
def worker_int(worker): note("worker_int", worker)
def worker_abort(worker): note("worker_abort", worker)
def pre_exec(server): note("pre_exec", server)
def child_exit(server, worker): note("child_exit", server, worker)
def worker_exit(server, worker): note("worker_exit", server, worker)
def nworkers_changed(server, new_value, old_value): note("nworkers_changed", server, new_value, old_value)
def on_exit(server): note("on_exit", server)
"""


def noted(folder: Path) -> list[str]:
    file = folder / "hooks"
    return file.read_text().splitlines() if file.exists() else []


def test_each_hook_is_called_where_and_with_what_gunicorn_calls_it(serve: Serve, tmp_path: Path) -> None:
    server = serve(RECORDER).ready()
    worker = type_of_worker(tmp_path)
    assert noted(tmp_path) == [
        "master nworkers_changed Arbiter 1 None",
        "master on_starting Arbiter",
        "master when_ready Arbiter",
        f"master pre_fork Arbiter {worker}",
        f"child post_fork Arbiter {worker}",
        f"child post_worker_init {worker}",
    ]
    (tmp_path / "hooks").unlink()
    server.signal(signal.SIGHUP)
    server.wait_for("Reload done")
    until(lambda: f"master child_exit Arbiter {worker}" in noted(tmp_path), "the old worker's end")
    assert noted(tmp_path) == [
        "master nworkers_changed Arbiter 1 1",
        "master on_reload Arbiter",
        f"master pre_fork Arbiter {worker}",
        f"child post_fork Arbiter {worker}",
        f"child post_worker_init {worker}",
        f"child worker_exit Arbiter {worker}",
        f"master child_exit Arbiter {worker}",
    ]
    (tmp_path / "hooks").unlink()
    server.signal(signal.SIGTTIN)
    until(lambda: len(server.workers()) == 2, "two workers")
    assert noted(tmp_path)[0] == "master nworkers_changed Arbiter 2 1"
    until(lambda: f"child post_worker_init {worker}" in noted(tmp_path), "the second worker")
    (tmp_path / "hooks").unlink()
    server.signal(signal.SIGQUIT)
    assert server.wait_exit() == 0
    lines = noted(tmp_path)
    assert sorted(lines[:-1]) == sorted(
        2 * [f"child worker_int {worker}", f"child worker_exit Arbiter {worker}"]
        + 2 * [f"master child_exit Arbiter {worker}"]
    )
    assert lines[-1] == "master on_exit Arbiter"


def type_of_worker(folder: Path) -> str:
    return next(line for line in noted(folder) if "pre_fork" in line).split()[-1]


@pytest.mark.provokes("WORKER TIMEOUT", "is stuck in", "Error handling request GET /sleep", "exited with code 1")
def test_worker_abort_is_called_when_the_master_gives_a_worker_up(serve: Serve, tmp_path: Path) -> None:
    server = serve(RECORDER + "\ntimeout = 1\n").ready()
    with server.occupy(60):
        until(lambda: any("child worker_abort" in line for line in noted(tmp_path)), "the hook")


@pytest.mark.parametrize("hook", ["on_starting", "when_ready"])
@pytest.mark.rule(41)
@pytest.mark.provokes("hook (on_starting|when_ready)")
def test_a_hook_of_the_start_that_raises_ends_it_with_1(serve_any: Serve, tmp_path: Path, hook: str) -> None:
    server = serve_any(
        f"def {hook}(server):\n    raise RuntimeError('boom')\npidfile = 'pid'\nbind = 'unix:socket'", bind=""
    )
    assert server.wait_exit() == 1
    server.wait_for(f"The hook {hook} failed: RuntimeError")
    assert len(server.seen("^Traceback")) == 1
    assert not (tmp_path / "pid").exists() and not (tmp_path / "socket").exists()
    assert not server.seen("Booting worker")


@pytest.mark.parametrize("hook", ["pre_fork", "post_fork", "post_worker_init"])
@pytest.mark.rule(41)
@pytest.mark.provokes("hook (pre_fork|post_fork|post_worker_init)", "exited with code", "Reason: ", "Shutting down: ")
def test_a_hook_of_the_boot_that_raises_fails_the_boot(serve_any: Serve, hook: str) -> None:
    parameters = "worker" if hook == "post_worker_init" else "server, worker"
    server = serve_any(f"def {hook}({parameters}):\n    raise RuntimeError('boom')\n")
    assert server.wait_exit() == 3
    server.wait_for(rf"\[ERROR\] .*The hook {hook} failed: RuntimeError")
    assert len(server.seen("^Traceback")) == 1


@pytest.mark.parametrize("hook", ["pre_fork", "post_fork", "post_worker_init"])
@pytest.mark.rule(10, 41)
@pytest.mark.provokes("hook (pre_fork|post_fork|post_worker_init)", "exited with code")
def test_a_hook_of_the_boot_that_raises_during_a_reload_keeps_the_old(serve_any: Serve, hook: str) -> None:
    parameters = "worker" if hook == "post_worker_init" else "server, worker"
    server = serve_any().ready()
    old = server.workers()
    server.write_config(f"def {hook}({parameters}):\n    raise RuntimeError('boom')\n")
    server.signal(signal.SIGHUP)
    server.wait_for("Reload failed: .*keep serving")
    until(lambda: server.workers() == old, "the old worker alone")
    server.write_config("")
    mark = server.mark()
    server.signal(signal.SIGHUP)
    server.wait_for("Reload done", mark)
    assert server.get() == "one"


RAISING = """
def child_exit(server, worker): raise RuntimeError("boom child_exit")
def worker_exit(server, worker): raise RuntimeError("boom worker_exit")
def worker_int(worker): raise RuntimeError("boom worker_int")
def on_reload(server): raise SystemExit("boom on_reload")
def on_exit(server): raise RuntimeError("boom on_exit")
def nworkers_changed(server, new_value, old_value): raise RuntimeError("boom nworkers_changed")
"""


@pytest.mark.rule(41)
@pytest.mark.provokes("The hook [a-z_]+ failed")
def test_hooks_that_raise_later_are_logged_and_end_nothing(serve_any: Serve) -> None:
    server = serve_any(RAISING).ready()
    server.signal(signal.SIGHUP)
    server.wait_for("Reload done")
    server.signal(signal.SIGTTIN)
    until(lambda: len(server.workers()) == 2, "two workers")
    server.signal(signal.SIGTTOU)
    until(lambda: len(server.workers()) == 1, "one worker")
    assert server.get() == "one"
    server.signal(signal.SIGINT)
    assert server.wait_exit() == 0
    for hook in ("child_exit", "worker_exit", "worker_int", "on_reload", "on_exit", "nworkers_changed"):
        server.wait_for(rf"\[ERROR\] The hook {hook} failed")
    until(lambda: server.zombies() == [], "no zombie", SOON)


#: What ends a worker after its request: it says so to itself, before or after the call.
LEAVING = """
def end_at(target):
    def hook(worker, req, *others):
        if req.path == target:
            worker.alive = False
    return hook

pre_request = end_at("/before")
post_request = end_at("/after")
"""


@pytest.mark.kinds(*(kind for kind in KINDS if kind != "third-party"))
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_worker_that_a_hook_lets_end_answers_and_is_replaced(serve: Serve, when: str) -> None:
    server = serve(LEAVING).ready()
    (first,) = server.workers()
    assert server.get() == "one"
    assert server.workers() == [first]
    assert server.get(f"/{when}")
    until(lambda: server.workers() not in ([], [first]) and len(server.workers()) == 1, "another worker")
    assert server.get() == "one"
