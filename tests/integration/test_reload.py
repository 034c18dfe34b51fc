"""HUP: the new is up before the old goes, and what does not come up changes nothing."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.harness import SOON, Load, Server, descriptors, is_alive, until

Serve = Callable[..., Server]


def reload(server: Server) -> int:
    """HUP. Returns where the log was."""
    mark = server.mark()
    server.signal(signal.SIGHUP)
    return mark


@pytest.mark.rule(12)
def test_twenty_reloads_under_load_fail_no_request(serve: Serve) -> None:
    server = serve("workers = 2").ready(2)
    with Load(server) as load:
        for round in range(20):
            server.write_application(f"round {round}")
            server.wait_for("Reload done: 2 new workers", reload(server))
            load.wait(2)
    assert load.failures == []
    server.serves("round 19")
    until(lambda: len(server.workers()) == 2, "the old workers' end")
    until(lambda: server.zombies() == [], "no zombie", SOON)


def open_gate(gate: Path) -> None:
    """Let those who wait at the FIFO go on."""
    with contextlib.suppress(OSError):  # nobody waits there now
        os.close(os.open(gate, os.O_WRONLY | os.O_NONBLOCK))


@pytest.mark.rule(11)
def test_no_old_worker_leaves_before_a_new_one_is_ready(serve: Serve, tmp_path: Path) -> None:
    server = serve("workers = 2").ready(2)
    old = server.workers()
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    # The new application boots only when somebody opens the gate.
    server.write_application("new", before=f"open({str(gate)!r}).read()\n")
    mark = reload(server)
    server.wait_for("Booting worker", mark, count=2)
    for _ in range(10):
        assert server.get() == "one"
    assert all(is_alive(pid) for pid in old)
    assert not server.seen("Worker exiting", mark)
    while not server.seen("Reload done", mark):
        open_gate(gate)
    until(lambda: not any(is_alive(pid) for pid in old), "the old workers' end")
    server.serves("new")


@pytest.mark.parametrize("concurrency", [1, 3])
def test_no_more_than_reload_concurrency_workers_boot_at_a_time(
    serve_any: Serve, tmp_path: Path, concurrency: int
) -> None:
    server = serve_any(f"workers = 3\nreload_concurrency = {concurrency}").ready(3)
    # Each boot notes how many are booting with it.
    count = (
        "import os, time\n"
        "os.makedirs('booting', exist_ok=True)\n"
        "open(f'booting/{os.getpid()}', 'w').close()\n"
        "time.sleep(0.2)\n"
        "with open('seen', 'a') as seen: seen.write(f'{len(os.listdir(\"booting\"))}\\n')\n"
        "os.unlink(f'booting/{os.getpid()}')\n"
    )
    server.write_application("two", before=count)
    server.wait_for("Reload done: 3 new workers", reload(server))
    seen = [int(line) for line in (tmp_path / "seen").read_text().split()]
    assert len(seen) == 3
    assert max(seen) <= concurrency


BROKEN = {
    "syntax": "def app(:\n",
    "import": "import no_such_module\n",
    "missing": "application = None\n",
    "exit": "import sys; sys.exit(0)\n",
    "killed": "import os; os.kill(os.getpid(), 9)\n",
    "vanish": "import os; os._exit(0)\n",
}


@pytest.mark.parametrize("preload", [False, True])
@pytest.mark.parametrize("how", BROKEN)
@pytest.mark.rule(10)
@pytest.mark.provokes("Exception in worker process", "called sys.exit", "cannot be preloaded", "exited with code", "was sent SIGKILL", "no attribute")
def test_code_that_does_not_boot_leaves_the_old_code_serving(serve: Serve, how: str, preload: bool) -> None:
    server = serve(f"workers = 2\npreload_app = {preload}").ready(2)
    old = sorted(server.workers())
    server._replace(server.application_file, BROKEN[how])
    with Load(server) as load:
        mark = reload(server)
        failed = server.wait_for("Reload failed", mark)
        load.wait(4)
    assert load.failures == []
    assert "keep serving" in failed[0]
    assert set(load.bodies) == {"one"}
    until(lambda: sorted(server.workers()) == old, "only the old workers")
    assert len(server.seen("Reload failed", mark)) == 1
    server.write_application("two")
    server.wait_for("Reload done", reload(server))
    server.serves("two")
    assert server.stop() == 0


@pytest.mark.parametrize(
    "config",
    [
        "workers = 'many'",
        "def broken(:",
        "wrokers = 3",
        "raise SystemExit(3)",
        "errorlog = 'nowhere/at/all'",
        "pythonpath = 3",
        "raw_env = ['NO_VALUE']",
    ],
)
@pytest.mark.rule(10)
def test_a_configuration_that_is_wrong_leaves_everything_as_it_was(serve_any: Serve, config: str) -> None:
    server = serve_any("workers = 2\nraw_env = ['COLOUR=green']").ready(2)
    old = sorted(server.workers())
    server.write_config(config)
    mark = reload(server)
    server.wait_for("Reload failed: .*keep serving", mark)
    assert sorted(server.workers()) == old
    assert not server.seen("^Traceback", mark)
    assert server.get("/env?COLOUR") == "green"
    server.write_config("workers = 1\nraw_env = ['COLOUR=red']")
    server.wait_for("Reload done", reload(server))
    until(lambda: len(server.workers()) == 1, "one worker")
    assert server.get("/env?COLOUR") == "red"
    assert server.stop() == 0


@pytest.mark.rule(10)
@pytest.mark.provokes("Can't connect to", "connection to .* failed")
def test_an_address_that_cannot_be_bound_leaves_everything_as_it_was(
    serve_any: Serve, tmp_path: Path
) -> None:
    server = serve_any("bind = 'unix:here'", bind="").ready()
    old = server.workers()
    for wrong in ("unix:nowhere/at/all", "unix:app.py"):
        server.write_config(f"bind = ['unix:here', {wrong!r}]")
        server.wait_for("Reload failed: .*keep serving", reload(server), patience=SOON)
        assert server.workers() == old
        assert server.get() == "one"
    assert (tmp_path / "here").is_socket()


def test_environment_of_a_former_configuration_is_taken_back(serve_any: Serve) -> None:
    server = serve_any("raw_env = ['COLOUR=green', 'HOME=/elsewhere']").ready()
    assert server.get("/env?HOME") == "/elsewhere"
    server.write_config("raw_env = []")
    server.wait_for("Reload done", reload(server))
    until(lambda: server.get("/env?COLOUR") == "", "the environment of the new")
    until(lambda: len(server.workers()) == 1, "the new worker alone")
    assert server.get("/env?HOME") == os.environ.get("HOME", "")


def test_preloaded_code_is_reloaded_with_the_modules_it_imports(serve_any: Serve, tmp_path: Path) -> None:
    (tmp_path / "part.py").write_text("NAME = 'old part'\n")
    server = serve_any(arguments=["--preload"])
    server.ready()
    server.write_application("x", before="import part\n", after="\nVERSION = part.NAME\n")
    server.wait_for("Reload done", reload(server))
    server.serves("old part")
    (tmp_path / "part.py").write_text("NAME = 'another part'\n")
    server.wait_for("Reload done", reload(server))
    server.serves("another part")
    assert len(server.seen("Booting worker")) == 3


@pytest.mark.rule(14)
def test_hups_during_a_reload_end_with_the_newest_code(serve: Serve) -> None:
    server = serve("workers = 2").ready(2)
    with Load(server, clients=1) as load:
        for version in range(12):
            server.write_application(f"version {version}", before="import time; time.sleep(0.1)\n")
            server.signal(signal.SIGHUP)
            load.wait(1)
        until(lambda: load.bodies[-20:] == ["version 11"] * 20 or load.failures, "the newest code alone")
    assert load.failures == []
    until(lambda: len(server.workers()) == 2, "two workers")


def test_a_signal_during_a_reload_is_obeyed(serve: Serve, tmp_path: Path) -> None:
    server = serve("workers = 2\npidfile = 'pid'").ready(2)
    server.write_application("stuck", before="import time; time.sleep(60)\n")
    mark = reload(server)
    server.wait_for("Booting worker", mark)
    assert server.stop() == 0
    assert not (tmp_path / "pid").exists()


def test_a_stop_interrupts_the_loading_of_a_preloaded_application(serve_any: Serve) -> None:
    server = serve_any(arguments=["--preload"]).ready()
    server.write_application("slow", before="import os, time; os.write(1, b'LOADING\\n'); time.sleep(60)\n")
    reload(server)
    server.wait_for("LOADING")
    assert server.stop() == 0


@pytest.mark.rule(10)
@pytest.mark.provokes("Exception in worker process", "exited with code")
def test_changed_binds_are_opened_before_the_old_are_closed(serve: Serve, tmp_path: Path) -> None:
    server = serve("workers = 2\nbind = ['unix:kept', 'unix:former']", bind="").ready(2)
    kept, former, new = (tmp_path / name for name in ("kept", "former", "new"))
    identity = kept.stat().st_ino
    server.write_config("workers = 2\nbind = ['unix:kept', 'unix:new']")
    with Load(server) as load:  # it asks at the first address: kept
        server.wait_for("Reload done", reload(server))
        load.wait(2)
    assert load.failures == []
    assert kept.stat().st_ino == identity
    assert new.is_socket() and not former.exists()
    for path in (kept, new):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(path))
    # A reload that fails takes its new sockets away again.
    server.write_config("workers = 2\nbind = ['unix:kept', 'unix:newer']")
    server._replace(server.application_file, BROKEN["import"])
    server.wait_for("Reload failed", reload(server))
    until(lambda: not (tmp_path / "newer").exists(), "the end of the new socket")
    assert new.is_socket()
    assert server.stop() == 0
    assert not any(path.exists() for path in (kept, former, new))


@pytest.mark.rule(15)
def test_reloads_cost_no_descriptor(serve: Serve) -> None:
    server = serve("accesslog = 'access'\nerrorlog = '-'").ready()
    counts = []
    for _ in range(4):
        server.wait_for("Reload done", reload(server))
        until(lambda: len(server.workers()) == 1, "one worker")
        server.get()
        counts.append((descriptors(server.pid), descriptors(server.workers()[0])))
    assert len(set(counts)) == 1


@pytest.mark.rule(15)
@pytest.mark.provokes("did not leave in time", "was sent SIGKILL")
def test_old_workers_that_do_not_leave_are_killed_after_their_grace(serve: Serve) -> None:
    server = serve("workers = 1\ngraceful_timeout = 1").ready()
    [old] = server.workers()
    with server.occupy(30):
        server.write_application("two")
        mark = reload(server)
        server.wait_for("Reload done", mark)
        until(lambda: not is_alive(old), "the end of the stuck worker", SOON)
    server.wait_for(rf"Worker \(pid:{old}\) did not leave in time", mark)
    server.serves("two")


def test_the_number_of_workers_follows_the_configuration(serve_any: Serve) -> None:
    server = serve_any("workers = 3").ready(3)
    for count in (1, 4, 2):
        server.write_config(f"workers = {count}")
        server.wait_for(f"Reload done: {count} new workers", reload(server))
        until(lambda count=count: len(server.workers()) == count, f"{count} workers")


@pytest.mark.rule(10)
@pytest.mark.provokes("Exception in worker process", "was sent SIGKILL", "do not stay up")
def test_a_reload_after_a_failed_boot_later_on_brings_the_service_back(serve_any: Serve) -> None:
    """The crash loop of a worker that lost its code backs off, and HUP ends it."""
    server = serve_any("workers = 1").ready()
    server._replace(server.application_file, BROKEN["import"])
    mark = server.mark()
    os.kill(server.workers()[0], signal.SIGKILL)
    server.wait_for("exited with code 3", mark, count=3)
    assert server.process.poll() is None
    server.write_application("back")
    server.signal(signal.SIGHUP)
    server.wait_for("Reload done", mark)
    server.serves("back")


def test_a_reload_to_no_address_at_all_is_refused(serve_any: Serve) -> None:
    server = serve_any("bind = '127.0.0.1:0'", bind="").ready()
    server.write_config("\nbind = []\n")
    mark = reload(server)
    server.wait_for(r"Reload failed: bind \(\./cyhorn\.conf\.py:2\): there is no address to listen at", mark)
    assert server.get() == "one"


HOOKS = """
def post_worker_init(worker):
    worker.log.info("HOOK {version}")
"""


@pytest.mark.parametrize("how", ["toml", "import", "variable"])
def test_modules_of_hooks_are_read_again(serve_any: Serve, tmp_path: Path, how: str) -> None:
    """Also where the config file names or imports them, and where only a variable does."""
    module, site = tmp_path / "own_hooks.py", tmp_path / "site.toml"
    module.write_text(HOOKS.format(version="one"))
    site.write_text('post_worker_init = "own_hooks:post_worker_init"\n')
    server = serve_any(
        "from own_hooks import post_worker_init\n" if how == "import" else "",
        arguments=["-c", "site.toml"] if how == "toml" else [],
        environ={"CYHORN_POST_WORKER_INIT": "own_hooks:post_worker_init"} if how == "variable" else {},
    )
    server.wait_for("HOOK one")
    server.ready()
    module.write_text(HOOKS.format(version="the second"))
    mark = reload(server)
    server.wait_for("HOOK the second", mark)
    server.wait_for("Reload done", mark)

    module.write_text("broken = = 1\n")
    mark = reload(server)
    server.wait_for("Reload failed: .*own_hooks", mark)
    server.signal(signal.SIGTTIN)
    server.wait_for("HOOK the second", mark)


LAZY = "\nimport importlib, own_part\nVERSION = own_part.VERSION\nbefore = app\n"
ASKS = """
def app(environ, start_response):
    start_response("200 OK", [("Content-Length", "3")])
    return [importlib.import_module("own_part").VERSION.encode()]
"""


@pytest.mark.provokes("was sent SIGKILL")  # by this test
def test_a_reload_whose_config_fails_in_the_master_alone_keeps_the_code_that_serves(
    serve_any: Serve, tmp_path: Path
) -> None:
    part = tmp_path / "own_part.py"
    part.write_text("VERSION = 'one'\n")
    config = "import os\npreload_app = True\n"
    server = serve_any(config).ready()
    server.write_application("one", after=LAZY + ASKS)
    server.wait_for("Reload done", reload(server))
    part.write_text("VERSION = 'new'\n")
    server.wait_for("Reload done", reload(server))
    server.serves("new")
    # Its trial in a child gets through.
    server.write_config(f"{config}assert os.getpid() != {server.pid}, 'not here'\n")
    mark = reload(server)
    server.wait_for("Reload failed: .*not here", mark)
    (worker,) = until(lambda: len(server.workers()) == 1 and server.workers(), "one worker")
    os.kill(worker, signal.SIGKILL)
    until(lambda: server.workers() not in ([worker], []), "another worker")
    assert server.get() == "new"
