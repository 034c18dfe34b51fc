"""Server hooks: that each is called, where, when, and with what users reach for in practice.

One server lives a whole life: start, a request, a reload, one worker more, a worker that is stuck, an upgrade,
an interrupt. Each hook writes down what it found. What order they come in, and what happens when they raise, is shown
in tests/integration/test_hooks.py.
"""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.effects.conftest import Launch
from tests.effects.shows import shows
from tests.integration.harness import Server, is_alive, until

HOOKS = """
import json
import os

timeout = 2
graceful_timeout = 5
bind = "unix:here.sock"

def note(hook, **facts):
    facts.update(hook=hook, process=os.getpid())
    with open("hooks.log", "a") as file:
        file.write(json.dumps(facts) + "\\n")

def on_starting(server):
    note("on_starting", listeners=len(server.LISTENERS), wanted=server.num_workers)

def when_ready(server):
    note("when_ready", listeners=len(server.LISTENERS), workers=len(server.WORKERS), bind=server.cfg.bind)

def on_reload(server):
    note("on_reload", workers=sorted(server.WORKERS))

def pre_fork(server, worker):
    note("pre_fork", age=worker.age, pid=worker.pid)

def post_fork(server, worker):
    note("post_fork", age=worker.age, pid=worker.pid, master=server.pid)

def post_worker_init(worker):
    note("post_worker_init", age=worker.age, loaded=callable(worker.wsgi))

def pre_request(worker, req):
    note("pre_request", age=worker.age, nr=worker.nr, method=req.method, path=req.path, query=req.query,
         uri=req.uri, version=list(req.version), headers=[list(field) for field in req.headers])

def post_request(worker, req, environ, resp):
    note("post_request", path=environ["PATH_INFO"], status=resp.status, code=resp.status_code, sent=resp.sent,
         headers=[name for name, value in resp.headers], method=req.method, age=worker.age)

def worker_int(worker):
    note("worker_int", age=worker.age)

def worker_abort(worker):
    note("worker_abort", age=worker.age)

def worker_exit(server, worker):
    note("worker_exit", age=worker.age, pid=worker.pid)

def child_exit(server, worker):
    note("child_exit", age=worker.age, pid=worker.pid)

def nworkers_changed(server, new_value, old_value):
    note("nworkers_changed", new=new_value, old=old_value)

def pre_exec(server):
    note("pre_exec", master=server.pid)

def on_exit(server):
    note("on_exit", workers=len(server.WORKERS))
"""


class Life:
    """What the hooks of one server wrote, and its processes."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.master = server.pid

    def notes(self, hook: str) -> list[dict[str, Any]]:
        return [note for note in notes(self.server.folder) if note["hook"] == hook]

    def first(self, hook: str) -> dict[str, Any]:
        return self.notes(hook)[0]

    def own(self, hook: str) -> list[dict[str, Any]]:
        """The notes in workers of the first master, not of the one that took over for a moment."""
        pids = {note["pid"] for note in self.notes("post_fork") if note["master"] == self.master}
        return [note for note in self.notes(hook) if note["process"] in pids]


def notes(folder: Path) -> list[dict[str, Any]]:
    file = folder / "hooks.log"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


@pytest.fixture(scope="module")
def life(launch: Launch, side: str) -> Life:
    server = launch(HOOKS, side, bind="", arguments=["--pid", "here.pid"])
    life = Life(server)
    (old,) = until(server.workers, "a worker")
    server.ready()
    server.ask("/some?colour=red", "X-Taste: sweet")

    server.signal(signal.SIGHUP)
    until(lambda: any(note["pid"] == old for note in life.notes("child_exit")), "the old worker's end")
    server.signal(signal.SIGTTIN)
    until(lambda: len(life.notes("post_worker_init")) == 3, "one worker more")
    server.signal(signal.SIGTTOU)
    until(lambda: len(server.workers()) == 1, "one worker less")
    with server.occupy(60):
        until(lambda: life.notes("worker_abort"), "the end of a stuck worker")
    until(lambda: len(life.notes("post_worker_init")) == 4, "its replacement")

    server.signal(signal.SIGUSR2)
    until((server.folder / "here.pid.2").exists, "a new master")
    new = int((server.folder / "here.pid.2").read_text())
    os.kill(new, signal.SIGTERM)
    until(lambda: not is_alive(new), "the new master's end")

    server.signal(signal.SIGINT)
    assert server.wait_exit() == 0
    return life


@shows("on_starting", "called in the master, before there are sockets")
def test_on_starting(life: Life) -> None:
    note = life.first("on_starting")
    assert (note["process"], note["listeners"], note["wanted"]) == (life.master, 0, 1)


@shows("when_ready", "called in the master when it listens, before there are workers")
def test_when_ready(life: Life) -> None:
    note = life.first("when_ready")
    assert (note["process"], note["listeners"], note["workers"]) == (life.master, 1, 0)
    assert note["bind"] == ["unix:here.sock"]


@shows("on_reload", "called in the master on HUP, while the old workers are there")
def test_on_reload(life: Life) -> None:
    (note,) = life.notes("on_reload")
    assert note["process"] == life.master and note["workers"] == [life.first("post_fork")["pid"]]


@shows("pre_fork", "called in the master for every worker, which has an age and no process yet")
def test_pre_fork(life: Life) -> None:
    found = [note for note in life.notes("pre_fork") if note["process"] == life.master]
    assert [note["age"] for note in found] == [1, 2, 3, 4]
    assert {note["pid"] for note in found} == {"[booting]"}


@shows("post_fork", "called in every worker, which knows its process and its master's")
def test_post_fork(life: Life) -> None:
    found = [note for note in life.notes("post_fork") if note["master"] == life.master]
    assert [note["age"] for note in found] == [1, 2, 3, 4]
    assert all(note["process"] == note["pid"] != life.master for note in found)


@shows("post_worker_init", "called in every worker when it has loaded the application")
def test_post_worker_init(life: Life) -> None:
    assert all(note["loaded"] for note in life.notes("post_worker_init"))
    assert life.first("post_worker_init")["process"] == life.first("post_fork")["pid"]


@shows("pre_request", "called in the worker before each request, and shown the request")
def test_pre_request(life: Life) -> None:
    (note,) = [note for note in life.notes("pre_request") if note["path"] == "/some"]
    assert (note["method"], note["query"], note["uri"]) == ("GET", "colour=red", "/some?colour=red")
    assert note["version"] == [1, 1] and ["X-TASTE", "sweet"] in note["headers"]
    assert note["nr"] >= 1 and note["age"] == 1


@shows("post_request", "called in the worker after each response, and shown the response")
def test_post_request(life: Life) -> None:
    (note,) = [note for note in life.notes("post_request") if note["path"] == "/some"]
    assert (note["status"], note["code"], note["method"]) == ("200 OK", 200, "GET")
    assert note["sent"] > 0 and "Content-Type" in note["headers"]


@shows("worker_int", "called in a worker that SIGINT reaches")
def test_worker_int(life: Life) -> None:
    (note,) = [note for note in life.notes("worker_int") if note["age"] == 4]
    assert note["process"] != life.master


@shows("worker_abort", "called in a worker that is aborted after timeout")
def test_worker_abort(life: Life) -> None:
    (note,) = life.notes("worker_abort")
    assert note["process"] != life.master


@shows("worker_exit", "called in every worker as it ends")
def test_worker_exit(life: Life) -> None:
    ages = sorted(note["age"] for note in life.own("worker_exit"))
    assert ages == [1, 2, 3, 4]
    assert all(note["process"] == note["pid"] for note in life.notes("worker_exit"))


@shows("child_exit", "called in the master when a worker has ended")
def test_child_exit(life: Life) -> None:
    found = [note for note in life.notes("child_exit") if note["process"] == life.master]
    assert sorted(note["age"] for note in found) == [1, 2, 3, 4]


@shows("nworkers_changed", "called in the master at the start and on TTIN and TTOU, with the new number and the old")
def test_nworkers_changed(life: Life) -> None:
    found = [note for note in life.notes("nworkers_changed") if note["process"] == life.master]
    assert [(note["new"], note["old"]) for note in found if note["new"] != note["old"]] == [(1, None), (2, 1), (1, 2)]


@shows("pre_exec", "called in a child of the master on USR2, before it becomes the new one")
def test_pre_exec(life: Life) -> None:
    (note,) = life.notes("pre_exec")
    assert note["process"] != life.master


@shows("on_exit", "called in the master at its end, when no worker is left")
def test_on_exit(life: Life) -> None:
    (note,) = [note for note in life.notes("on_exit") if note["process"] == life.master]
    assert note["workers"] == 0 and notes(life.server.folder)[-1] == note

