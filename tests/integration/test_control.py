"""The control socket: what it answers and does, whom it serves, and where its file is."""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import socket
import stat
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cyhorn.app import ctl
from cyhorn.master.control import MAX_CLIENTS, MAX_FRAME
from tests.integration.control import Refused, ask, connect, frame, read, request
from tests.integration.harness import APPLICATION, ROOT, Server, answer, is_alive, listens, until
from tests.integration.test_upgrade import gone, upgrade

Serve = Callable[..., Server]

GIVEN = "control_socket = 'ctl'"

#: Behind the application of the harness: ``/hold`` is answered when somebody has opened the gate.
HOLDING = """
inner = app

def app(environ, start_response):
    if environ["PATH_INFO"] == "/hold":
        os.write(1, b"HOLDING\\n")
        open("gate").read()
    return inner(environ, start_response)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Two sync workers; its control socket is ``ctl`` in its folder."""
    config = f"workers = 2\nkeepalive = 5\n{GIVEN}\ndef nworkers_changed(server, new, old): pass\n"
    folder = tmp_path_factory.mktemp("control")
    os.mkfifo(folder / "gate")
    (folder / "app.py").write_text(APPLICATION.format(version="one") + HOLDING)
    started = Server(folder, "sync", config=config).ready(2)
    yield started
    started.destroy()


@contextlib.contextmanager
def held(server: Server) -> Iterator[socket.socket]:
    """A worker of `server` is in the application while the block lasts; the connection it then answers."""
    mark = server.mark()
    with server.send("/hold") as client:
        server.wait_for("HOLDING", mark)
        try:
            yield client
        finally:
            with open(server.folder / "gate", "w"):
                pass  # the other end has been opened, and finds its end now
            assert answer(client) == "one"


@pytest.fixture(scope="module")
def path(server: Server) -> Path:
    return server.folder / "ctl"


def run_ctl(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    """Exit status, output and errors of ``cyhorn ctl``."""
    status = ctl.main(argv)
    said = capsys.readouterr()
    return status, said.out, said.err


def own_path(server: Server, runtime: Path, pid: int = 0) -> Path:
    return runtime / "cyhorn" / f"{pid or server.pid}.ctl"


# -- questions ------------------------------------------------------------------------------------


def test_workers_are_shown_as_they_are(server: Server, path: Path) -> None:
    before = ask(path, "show stats")["requests"]
    server.get("/")
    until(lambda: ask(path, "show stats")["requests"] == before + 1, "the request is counted")
    shown = ask(path, "show workers")
    assert shown["count"] == 2
    assert sorted(worker["pid"] for worker in shown["workers"]) == sorted(server.workers())
    assert sum(worker["requests"] for worker in shown["workers"]) == before + 1
    for worker in shown["workers"]:
        assert worker["booted"] is True and worker["aborted"] is False and worker["state"] == "ready"
        assert worker["connections"] == 0 and 0 <= worker["last_heartbeat"] < 20
    assert len({worker["age"] for worker in shown["workers"]}) == 2


def test_a_worker_in_the_application_is_busy(server: Server, path: Path) -> None:
    with held(server):
        states = {worker["state"]: worker for worker in ask(path, "show workers")["workers"]}
        assert set(states) == {"busy", "ready"} and states["busy"]["connections"] == 1
        [call] = states["busy"]["calls"]
        assert (call["method"], call["path"]) == ("GET", "/hold") and call["peer"].startswith("127.0.0.1:")
        assert call["seconds"] >= 0 and states["ready"]["calls"] == []
        stats = ask(path, "show stats")
        assert (stats["workers_busy"], stats["workers_ready"], stats["connections"]) == (1, 2, 1)
    until(lambda: ask(path, "show stats")["workers_busy"] == 0, "it is idle again")


def test_everything_else_can_be_asked_for(server: Server, path: Path) -> None:
    shown = ask(path, "show all")
    assert shown["arbiter"]["pid"] == server.pid and shown["web_worker_count"] == len(shown["web_workers"]) == 2
    stats = ask(path, "show stats")
    assert stats["pid"] == server.pid and stats["workers_current"] == stats["workers_target"] == 2
    assert stats["uptime"] > 0
    (listener,) = ask(path, "show listeners")["listeners"]
    assert listener["address"] == "http://{}:{}".format(*server.address) and listener["type"] == "tcp"
    config = ask(path, "show config")
    assert config["keepalive"] == 5 and config["control_socket"] == "ctl" and config["worker_class"] == "sync"
    assert config["nworkers_changed"] == "nworkers_changed"
    assert {"show workers", "worker kill PID", "reload"} <= set(ask(path, "help")["commands"])


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("", "empty"),
        ("sow workers", "there is no command 'sow workers'"),
        ("show", "show all, show workers"),
        ("show workers now", "use: show workers"),
        ("worker add x", "from 1 to 100, not 'x'"),
        ("worker add 0", "from 1 to 100"),
        ("worker add 101", "from 1 to 100"),
        ("worker remove -1", "from 1 to 100"),
        ("worker kill", "use: worker kill PID"),
        ("worker kill 1", "there is no worker 1"),
        ("shutdown now", "graceful or quick, not 'now'"),
        ("dirty add", "dirty workers are not served"),
        ("show dirty", "dirty workers are not served"),
    ],
)
def test_what_is_no_command_is_told_what_is(path: Path, command: str, words: str) -> None:
    with pytest.raises(Refused, match=re.escape(words)):
        ask(path, command)


# -- orders ---------------------------------------------------------------------------------------


def test_workers_are_added_and_removed(server: Server, path: Path) -> None:
    mark = server.mark()
    assert ask(path, "worker add", args=[2]) == {"added": 2, "previous": 2, "total": 4}
    until(lambda: ask(path, "show stats")["workers_ready"] == 4, "four workers")
    assert ask(path, "worker remove 1") == {"removed": 1, "previous": 4, "total": 3}
    assert ask(path, "WORKER remove 99") == {"removed": 2, "previous": 3, "total": 1}
    until(lambda: len(server.workers()) == 1, "one worker")
    ask(path, "worker add")
    until(lambda: ask(path, "show stats")["workers_ready"] == 2, "two workers")
    server.wait_for(rf"\[{server.pid}\] \[INFO\] Control socket: worker add 2 \(from pid {os.getpid()}\)", mark)


def test_a_killed_worker_finishes_and_is_replaced(server: Server, path: Path) -> None:
    with held(server):
        (busy,) = (w["pid"] for w in ask(path, "show workers")["workers"] if w["state"] == "busy")
        assert ask(path, f"worker kill {busy}") == {"success": True, "killed": busy}
        (leaving,) = (w for w in ask(path, "show workers")["workers"] if w["pid"] == busy)
        assert leaving["state"] == "stopping"
        assert is_alive(busy)
    until(lambda: not is_alive(busy), "its end")
    until(lambda: ask(path, "show stats")["workers_ready"] == 2, "its replacement")
    with pytest.raises(Refused, match=f"there is no worker {busy}"):
        ask(path, f"worker kill {busy}")


def test_a_reload_and_a_reopening_are_what_the_signals_do(server: Server, path: Path) -> None:
    mark, before, old = server.mark(), ask(path, "show stats"), server.workers()
    assert ask(path, "reload") == {"status": "reloading"}
    server.wait_for("Reload done: 2 new workers", mark)
    until(lambda: not set(old) & set(server.workers()), "the end of the old workers")
    after = ask(path, "show stats")
    assert after["reloads"] == before["reloads"] + 1 and after["requests"] >= before["requests"]
    assert ask(path, "reopen") == {"status": "reopening"}
    server.wait_for("Handling signal: usr1", mark)


# -- frames and clients ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        (frame(b"not json"), "not JSON"),
        (frame(b""), "not JSON"),
        (frame(b"\xff\xfe\xfd"), "not JSON"),
        (frame(b"[" * 60000), "not JSON"),
        (frame(b"[1]"), "not a JSON object"),
        (frame(b"{}"), "command is to be a text"),
        (request(5), "command is to be a text"),
        (request("help", args="x"), "args a list"),
    ],
    ids=["text", "empty", "no-utf8", "deep", "array", "nothing", "number", "args"],
)
def test_a_frame_that_means_nothing_is_answered_and_the_next_one_counts(
    path: Path, sent: bytes, words: str
) -> None:
    with connect(path) as connection:
        connection.sendall(sent)
        answer = read(connection)
        assert answer["status"] == "error" and words in answer["error"]
        connection.sendall(request("help"))
        assert read(connection)["status"] == "ok"


def test_a_frame_that_is_too_long_ends_the_connection_before_it_comes(path: Path) -> None:
    with connect(path) as connection:
        # The first one is in order: what is wrong is found behind it.
        connection.sendall(request("help") + struct.pack(">I", MAX_FRAME + 1))
        assert read(connection)["status"] == "ok"
        assert f"at most {MAX_FRAME} bytes" in read(connection)["error"]
        assert connection.recv(1) == b""


def test_frames_may_come_in_any_pieces_and_are_answered_in_order(path: Path) -> None:
    with connect(path) as connection:
        sent = b"".join(request("show listeners", ident) for ident in range(50))
        for at in range(0, 203, 7):
            connection.sendall(sent[at : at + 7])
        connection.sendall(sent[203:])
        connection.shutdown(socket.SHUT_WR)
        assert [read(connection)["id"] for _ in range(50)] == list(range(50))
        assert connection.recv(1) == b""


def cpu(pid: int) -> int:
    """Ticks of CPU time, 100 a second."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_clients_that_dawdle_cost_nothing_and_are_dropped(server: Server, path: Path) -> None:
    before = cpu(server.pid)
    clients = [connect(path) for _ in range(MAX_CLIENTS)]
    try:
        clients[0].sendall(b"\0\0")
        clients[1].sendall(request("help")[:-1])
        clients[2].setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:  # and reads nothing
                clients[2].send(request("help", "x" * 50000))
        with connect(path) as late:  # there is no room until they are gone
            late.sendall(request("help"))
            assert read(late)["status"] == "ok"
        for client in (*clients[:2], *clients[3:]):
            assert client.recv(1) == b""
        assert server.get("/") == "one"
    finally:
        for client in clients:
            client.close()
    assert cpu(server.pid) - before < 100


def test_clients_that_were_answered_make_room_for_others(path: Path) -> None:
    clients = [connect(path) for _ in range(MAX_CLIENTS)]
    try:
        for client in clients:
            client.sendall(request("help"))
            assert read(client)["status"] == "ok"
        assert ask(path, "help")
        assert clients[0].recv(1) == b""
        clients[-1].sendall(request("help"))
        assert read(clients[-1])["status"] == "ok"
    finally:
        for client in clients:
            client.close()


def sockets_at(pid: int, path: Path) -> int:
    """How many descriptors of `pid` are the listening socket at `path`, or connections to it."""
    lines = Path("/proc/net/unix").read_text().splitlines()
    inodes = {line.split()[6] for line in lines if line.endswith(f" {path}") or line.endswith(f" {path.name}")}
    found = 0
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            with_inode = re.fullmatch(r"socket:\[(\d+)\]", os.readlink(f"/proc/{pid}/fd/{fd}"))
        except FileNotFoundError:
            continue  # closed since
        found += with_inode is not None and with_inode[1] in inodes
    return found


def test_workers_keep_no_part_of_it(server: Server, path: Path) -> None:
    with connect(path) as connection:
        connection.sendall(request("help"))
        read(connection)
        before = set(server.workers())
        ask(path, "worker add")
        until(lambda: ask(path, "show stats")["workers_ready"] == 3, "a third worker")
        assert sockets_at(server.pid, path) >= 2
        assert [sockets_at(pid, path) for pid in {*server.workers()} | before] == [0, 0, 0]
        ask(path, "worker remove")
    until(lambda: len(server.workers()) == 2, "two workers")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_other_users_are_refused_whatever_the_mode(serve_any: Serve, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    server = serve_any(f"{GIVEN}\ncontrol_socket_mode = 0o777").ready()
    code = (
        "import os, socket\n"
        "there = socket.socket(socket.AF_UNIX)\n"
        "os.chdir({folder!r}); os.setgid(65534); os.setuid(65534)\n"
        "there.connect('ctl')\n"
        "assert there.recv(1) == b''\n"
    )
    subprocess.run([sys.executable, "-c", code.format(folder=str(server.folder))], check=True, timeout=20)
    server.wait_for(r"Control socket: refused process \d+ of user 65534")
    assert ask(server.folder / "ctl", "show stats")["pid"] == server.pid


# -- the file -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("order", "said"), [("shutdown", "term"), ("shutdown graceful", "term"), ("shutdown quick", "int")]
)
def test_a_shutdown_is_answered_and_takes_the_file_along(serve_any: Serve, order: str, said: str) -> None:
    server = serve_any(GIVEN).ready()
    mode = order.partition(" ")[2] or "graceful"
    assert ask(server.folder / "ctl", order) == {"status": "shutting_down", "mode": mode}
    assert server.wait_exit() == 0
    server.wait_for(f"Handling signal: {said}")
    assert not (server.folder / "ctl").exists()


@pytest.mark.provokes("post_fork", "exited with code", "Reason: ", "Shutting down: ")
def test_a_server_that_does_not_boot_leaves_no_file(serve_any: Serve, tmp_path: Path) -> None:
    server = serve_any(f"{GIVEN}\ndef post_fork(server, worker): raise RuntimeError('no')\n")
    assert server.wait_exit() == 3
    server.wait_for("Control socket: ")
    assert not (tmp_path / "ctl").exists()


@pytest.mark.provokes("nowhere/ctl")
def test_a_reload_moves_it_changes_its_mode_and_closes_it(serve_any: Serve, tmp_path: Path) -> None:
    server = serve_any(GIVEN).ready()
    first, second = tmp_path / "ctl", tmp_path / "other"
    assert stat.S_IMODE(first.stat().st_mode) == 0o600
    for config, there in (
        (f"{GIVEN}\ncontrol_socket_mode = 0o640", [first]),
        ("control_socket = 'other'", [second]),
        ("control_socket = 'nowhere/ctl'", [second]),
        ("control_socket_disable = True", []),
        (GIVEN, [first]),
    ):
        mark = server.mark()
        server.write_config(config)
        server.signal(signal.SIGHUP)
        server.wait_for("Reload done", mark)
        assert [path for path in (first, second) if path.exists()] == there
        for path in there:
            assert ask(path, "show stats")["pid"] == server.pid
        if "640" in config:
            assert stat.S_IMODE(first.stat().st_mode) == 0o640
    (line,) = server.seen("nowhere")
    assert "[ERROR] control_socket (./cyhorn.conf.py:1): 'nowhere/ctl' cannot be had" in line


def test_what_a_killed_server_left_is_replaced_and_a_live_one_is_not(
    serve_any: Serve, tmp_path: Path
) -> None:
    path = tmp_path / "ctl"
    first = serve_any(GIVEN).ready()
    first.signal(signal.SIGKILL)
    first.wait_exit()
    assert path.is_socket()
    second = serve_any(GIVEN).ready()
    assert ask(path, "show stats")["pid"] == second.pid
    third = serve_any(GIVEN).ready()
    third.wait_for(r"\[ERROR\] control_socket .*'ctl' cannot be had: Address already in use")
    assert third.stop() == 0
    assert ask(path, "show stats")["pid"] == second.pid


def test_a_file_that_is_no_socket_is_left_alone(serve_any: Serve, tmp_path: Path) -> None:
    (tmp_path / "ctl").write_text("mine")
    server = serve_any(GIVEN).ready()
    server.wait_for(r"\[ERROR\] control_socket .*the path exists and is not a socket")
    assert server.stop() == 0 and (tmp_path / "ctl").read_text() == "mine"


def test_without_a_path_it_is_silent_where_it_cannot_be(serve_any: Serve, tmp_path: Path) -> None:
    for runtime in (tmp_path / "missing", tmp_path / ("long" * 50)):
        server = serve_any(arguments=["--log-level", "debug"], environ={"XDG_RUNTIME_DIR": str(runtime)}).ready()
        (line,) = server.seen("control_socket: ", since=0)[-1:]
        assert "[DEBUG] control_socket: its default path cannot be had" in line
        assert server.stop() == 0


def test_each_instance_has_its_own_and_the_client_finds_it(
    serve_any: Serve,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runtime = tmp_path_factory.mktemp("r")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("CYHORN_CONTROL_SOCKET", raising=False)
    status, _, said = run_ctl(capsys, "show", "stats")
    assert status == 1 and "no server of this user is running" in said
    first = serve_any().ready()
    assert stat.S_IMODE((runtime / "cyhorn").stat().st_mode) == 0o700
    status, said, _ = run_ctl(capsys, "-j", "show", "stats")
    assert status == 0 and f'"pid": {first.pid}' in said
    second = serve_any().ready()
    status, _, said = run_ctl(capsys, "show", "stats")
    assert status == 1 and "2 servers are running" in said
    for server in (first, second):
        assert f"-s {own_path(server, runtime)}  http://127.0.0.1:{server.address[1]}" in said
    first.signal(signal.SIGKILL)
    first.wait_exit()
    status, said, _ = run_ctl(capsys, "-c", "show stats")
    assert status == 0 and re.search(rf"^pid +{second.pid}$", said, re.M)
    assert own_path(first, runtime).exists()
    third = serve_any().ready()  # and what the first one left is swept out
    assert sorted((runtime / "cyhorn").iterdir()) == sorted(own_path(s, runtime) for s in (second, third))
    assert second.stop() == third.stop() == 0
    assert list((runtime / "cyhorn").iterdir()) == []


def test_it_is_right_over_an_upgrade_and_a_rollback(serve_any: Serve, tmp_path: Path) -> None:
    server = serve_any(GIVEN).ready()
    path, successor = tmp_path / "ctl", tmp_path / "ctl.2"

    def answers(where: Path, pid: int) -> None:
        until(lambda: where.exists(), f"{where}")
        assert ask(where, "show stats")["pid"] == pid

    new = upgrade(server)
    answers(successor, new)
    os.kill(new, signal.SIGTERM)
    gone(new)
    answers(path, server.pid)
    assert not successor.exists()

    server.wait_for("has ended")
    new = upgrade(server)
    answers(successor, new)
    answers(path, server.pid)
    assert ask(path, "shutdown")["mode"] == "graceful"
    assert server.process.wait(20) == 0
    until(lambda: listens(path), "the promotion")
    assert not successor.exists()
    answers(path, new)
    ask(path, "shutdown quick")
    gone(new)
    assert list(tmp_path.glob("ctl*")) == []


def test_a_daemon_that_changes_its_directory_has_it_there(serve_any: Serve, tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "app.py").write_text("def app(environ, start_response): ...\n")
    server = serve_any(f"{GIVEN}\nchdir = 'site'\ndaemon = True\npidfile = 'pid'\nerrorlog = 'log'")
    assert server.wait_exit() == 0
    path = tmp_path / "site" / "ctl"
    until(lambda: listens(path), "the control socket")
    pid = ask(path, "show stats")["pid"]
    assert (tmp_path / "site" / "pid").read_text() == f"{pid}\n"
    ask(path, "shutdown")
    gone(pid)
    assert not path.exists()


# -- the client -----------------------------------------------------------------------------------


def test_the_client_shows_tables(server: Server, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, said, _ = run_ctl(capsys, "-s", str(path), "show", "workers")
    head, *lines = said.splitlines()
    assert status == 0
    assert head.split() == ["PID", "AGE", "BOOTED", "STATE", "REQUESTS", "CONNECTIONS", "HEARTBEAT", "CALLS"]
    assert sorted(int(line.split()[0]) for line in lines) == sorted(server.workers())
    assert all(line.split()[2:4] == ["yes", "ready"] for line in lines)
    assert f"master {server.pid}\n\nPID" in run_ctl(capsys, "-s", str(path), "show", "all")[1]
    assert "ADDRESS" in run_ctl(capsys, "-s", str(path), "show", "listeners")[1]
    assert "worker add [N]  " in run_ctl(capsys, "-s", str(path), "help")[1]
    assert re.search(r"^keepalive +5\.?0?$", run_ctl(capsys, "-s", str(path), "show", "config")[1], re.M)


def test_the_client_says_what_is_wrong(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CYHORN_CONTROL_SOCKET", str(path))
    status, said, wrong = run_ctl(capsys, "show", "nothing")
    assert (status, said) == (1, "") and wrong.startswith("Error: there is no command 'show nothing'")
    status, _, wrong = run_ctl(capsys, "-s", str(tmp_path / "none"), "help")
    assert status == 1 and "no server can be reached at" in wrong


def test_the_client_takes_one_command_a_line(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("show listeners\n\nno such\nreopen\nquit\nshutdown\n"))
    status, said, wrong = run_ctl(capsys, "-s", str(path))
    assert status == 0 and "ADDRESS" in said and said.rstrip().endswith("reopening")
    assert wrong.count("Error: ") == 1
    assert ask(path, "show stats")


def test_the_command_line_has_it(path: Path) -> None:
    environ: dict[str, Any] = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "cyhorn", "ctl", "-s", str(path), "-j", "-c", "show listeners"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "") and '"type": "tcp"' in done.stdout
