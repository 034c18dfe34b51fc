"""USR2: a new master beside the old one, forward and back."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.harness import Load, Server, descriptors, is_alive, title, until

Serve = Callable[..., Server]


def upgrade(server: Server, old: int | None = None) -> int:
    """USR2 to the master. Returns the pid of the new one, whose workers serve."""
    mark = server.mark()
    os.kill(old or server.pid, signal.SIGUSR2)
    line = server.wait_for(r"Started a new master \(pid: \d+\)", mark)[0]
    new = int(line.rsplit(" ", 1)[1].rstrip(")"))
    server.wait_for(rf"\[{new}\] .*Listening at", mark)
    until(lambda: server.workers(new), "its workers")
    return new


def gone(pid: int) -> None:
    until(lambda: not is_alive(pid), f"the end of {pid}")


@pytest.mark.parametrize("where", ["tcp", "unix"])
@pytest.mark.rule(17, 18)
def test_the_new_master_takes_over_when_the_old_one_ends(serve: Serve, tmp_path: Path, where: str) -> None:
    file, successor = tmp_path / "pid", tmp_path / "pid.2"
    bind = "unix:socket" if where == "unix" else "127.0.0.1:0"
    server = serve("workers = 2\npidfile = 'pid'", bind=bind).ready(2)
    server.write_application("two")
    with Load(server) as load:
        new = upgrade(server)
        assert file.read_text() == f"{server.pid}\n"
        until(lambda: successor.exists() and successor.read_text() == f"{new}\n", "the second pid file")
        until(lambda: title(new) == "cyhorn: master [app:app.2]", "its title")
        assert title(server.pid) == "cyhorn: master [app:app]"
        assert server.stop() == 0
        until(lambda: file.read_text() == f"{new}\n" if file.exists() else False, "the pid file")
        load.wait(3)
    assert load.failures == []
    assert not successor.exists()
    server.wait_for(rf"\[{new}\] .*Master has been promoted\.")
    until(lambda: title(new) == "cyhorn: master [app:app]", "its title")
    assert server.get() == "two"
    os.kill(new, signal.SIGTERM)
    gone(new)
    assert not file.exists()
    if where == "unix":
        assert not (tmp_path / "socket").exists()


@pytest.mark.rule(16, 17, 18)
def test_a_rollback_leaves_the_old_master_as_it_was(serve: Serve, tmp_path: Path) -> None:
    server = serve("pidfile = 'pid'", bind="unix:socket").ready()
    with Load(server) as load:
        for _ in range(2):  # it works again after a rollback
            new = upgrade(server)
            os.kill(new, signal.SIGTERM)
            gone(new)
            server.wait_for(rf"The new master \(pid: {new}\) has ended")
            load.wait(2)
    assert load.failures == []
    assert (tmp_path / "pid").read_text() == f"{server.pid}\n"
    assert (tmp_path / "socket").is_socket() and not (tmp_path / "pid.2").exists()
    assert server.stop() == 0
    assert not (tmp_path / "socket").exists() and not (tmp_path / "pid").exists()


@pytest.mark.rule(16)
def test_a_second_upgrade_is_refused_while_there_are_two_masters(serve_any: Serve) -> None:
    server = serve_any().ready()
    new = upgrade(server)
    server.signal(signal.SIGUSR2)
    server.wait_for(r"USR2 signal ignored\. Child exists\.")
    os.kill(new, signal.SIGUSR2)
    server.wait_for(r"USR2 signal ignored\. Parent exists\.")


@pytest.mark.rule(20)
def test_upgrades_in_a_row_cost_no_descriptor(serve_any: Serve) -> None:
    server = serve_any("workers = 1").ready()
    master, counts = server.pid, []
    for _ in range(3):
        new = upgrade(server, master)
        os.kill(master, signal.SIGTERM)
        server.process.poll()
        gone(master) if master != server.pid else server.wait_exit()
        master = new
        server.wait_for(rf"\[{new}\] .*Master has been promoted\.")
        counts.append(descriptors(new))
        assert server.get() == "one"
    assert len(set(counts)) == 1
    assert server.get("/env?CYHORN_FD") == "" and server.get("/env?CYHORN_PID") == ""


@pytest.mark.rule(16, 17)
@pytest.mark.provokes("Exception in worker process", "exited with code", "Reason: ", "Shutting down: ")
def test_an_upgrade_that_does_not_boot_leaves_the_old_master_serving(
    serve_any: Serve, tmp_path: Path
) -> None:
    server = serve_any("pidfile = 'pid'").ready()
    server._replace(server.application_file, "raise RuntimeError('broken')\n")
    server.signal(signal.SIGUSR2)
    server.wait_for(r"The new master \(pid: \d+\) has ended")
    assert server.get() == "one"
    assert (tmp_path / "pid").read_text() == f"{server.pid}\n" and not (tmp_path / "pid.2").exists()


@pytest.mark.rule(41)
@pytest.mark.provokes("the hook pre_exec")
def test_a_pre_exec_hook_that_raises_prevents_the_upgrade(serve_any: Serve) -> None:
    server = serve_any("def pre_exec(server):\n    raise RuntimeError('not now')\n").ready()
    server.signal(signal.SIGUSR2)
    server.wait_for(r"The new master cannot be started: The hook pre_exec failed")
    server.wait_for(r"The new master \(pid: \d+\) has ended")
    assert server.get() == "one"


def test_reuse_port_can_be_upgraded(serve: Serve) -> None:
    server = serve("reuse_port = True\nworkers = 2").ready(2)
    new = upgrade(server)
    assert server.stop() == 0
    server.wait_for(rf"\[{new}\] .*Master has been promoted\.")
    server.serves("one")


def test_sockets_that_a_supervisor_passed_are_passed_on(serve_any: Serve, tmp_path: Path) -> None:
    """LISTEN_FDS wants them from descriptor 3 on, and LISTEN_PID the new master's pid."""
    path = tmp_path / "passed"
    with socket.socket(socket.AF_UNIX) as passed:
        passed.bind(str(path))
        passed.listen()
        passed.set_inheritable(True)
        # A shell in between, as systemd would be: the pid is known only in the child.
        wrapper = (
            "import os, sys\n"
            f"os.dup2({passed.fileno()}, 3) if {passed.fileno()} != 3 else None\n"
            "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1')\n"
            "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])\n"
        )
        server = serve_any("bind = '127.0.0.1:1'", bind="", wrapper=wrapper, pass_fds=[passed.fileno()])
        server.ready()
        assert server.address == str(path)
        new = upgrade(server)
        assert server.stop() == 0
        server.wait_for(rf"\[{new}\] .*Master has been promoted\.")
        assert path.exists()
        server.serves("one")
        os.kill(new, signal.SIGTERM)
        gone(new)
        assert path.exists()


@pytest.mark.rule(19)
def test_winch_retires_the_workers_of_a_daemon_and_hup_brings_them_back(
    serve_any: Serve, tmp_path: Path
) -> None:
    server = serve_any(
        "daemon = True\nworkers = 2\npidfile = 'pid'\nerrorlog = 'log'\nbind = 'unix:socket'", bind=""
    )
    assert server.wait_exit() == 0
    file, log = tmp_path / "pid", tmp_path / "log"
    until(lambda: file.exists(), "the pid file")
    master = int(file.read_text())
    until(lambda: len(server.workers(master)) == 2, "two workers")
    os.kill(master, signal.SIGWINCH)
    until(lambda: not server.workers(master), "no workers")
    assert "graceful stop of workers" in log.read_text()
    os.kill(master, signal.SIGHUP)
    until(lambda: len(server.workers(master)) == 2, "two workers again")
    os.kill(master, signal.SIGTERM)
    gone(master)
    assert not file.exists()
