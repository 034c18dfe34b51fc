"""Settings of the process and its surroundings: sockets, directories, users, the environment, files."""

from __future__ import annotations

import errno
import os
import pwd
import signal
import socket
import stat
from pathlib import Path

import pytest

from tests.effects.conftest import Launch
from tests.effects.shows import shows
from tests.integration.control import ask
from tests.integration.harness import is_alive, title, until

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")

# -- sockets ----------------------------------------------------------------------------------------


@shows("bind", "requests are answered at each of the addresses")
def test_every_address_answers(launch: Launch) -> None:
    server = launch("bind = ['127.0.0.1:0', '[::1]:0', 'unix:here.sock']", bind="")
    line = server.wait_for("Listening at")[0]
    port = int(line.partition("http://[::1]:")[2].partition(",")[0])
    assert server.ask("/").json["REMOTE_ADDR"] == "127.0.0.1"
    for family, address in (
        (socket.AF_INET6, ("::1", port)),
        (socket.AF_UNIX, str(server.folder / "here.sock")),
    ):
        with socket.socket(family) as connection:
            connection.settimeout(20)
            connection.connect(address)
            connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")


@shows("backlog", "so many connections, and one, wait in the kernel while nobody accepts; the next one is refused")
def test_so_many_connections_wait(launch: Launch) -> None:
    server = launch("backlog = 3\nbind = 'unix:here.sock'", bind="").ready()
    stopped = [server.pid, *server.workers()]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    waiting: list[socket.socket] = []
    refused = 0
    try:
        while not refused and len(waiting) < 100:
            waiting.append(socket.socket(socket.AF_UNIX))
            waiting[-1].setblocking(False)
            refused = waiting[-1].connect_ex(str(server.folder / "here.sock"))
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
        for connection in waiting:
            connection.close()
    assert (refused, len(waiting)) == (errno.EAGAIN, 3 + 2)


def listening(port: int) -> int:
    """How many sockets of this machine listen at `port` of 127.0.0.1."""
    place = f"0100007F:{port:04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
    return sum(row[1] == place and row[3] == "0A" for row in rows)


@shows("reuse_port", "each worker listens with a socket of its own")
def test_each_worker_has_its_own_socket(launch: Launch) -> None:
    server = launch("workers = 2").ready(2)
    assert listening(server.address[1]) == 1
    server = launch("reuse_port, workers = True, 2").ready(2)
    assert listening(server.address[1]) >= 2
    assert server.ask("/").status == 200


@shows("umask", "the mode of a unix socket is 0777 without these bits")
def test_the_mask_counts_for_unix_sockets(launch: Launch) -> None:
    for mask in (0, 0o027):
        server = launch(f"umask = {mask}\nbind = 'unix:here.sock'", bind="").ready()
        assert (server.folder / "here.sock").stat().st_mode & 0o777 == 0o777 & ~mask


# -- directories and the environment ------------------------------------------------------------------


@shows("chdir", "the application runs in this directory and is imported from it")
def test_the_directory_is_changed(launch: Launch, tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "moved.py").write_text("from tests.effects.application import app\n")
    server = launch("chdir = 'site'", folder=tmp_path, application="moved:app")
    assert server.ask("/process").json["directory"] == str(tmp_path / "site")


@shows("pythonpath", "the application is imported from these directories, the first one first")
def test_modules_are_imported_from_the_directories(launch: Launch, tmp_path: Path) -> None:
    for name, answer in (("one", "app"), ("two", "nothing")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "found.py").write_text(f"from tests.effects.application import {answer}\n")
    server = launch("pythonpath = 'one,two'", folder=tmp_path, application="found:app")
    assert server.ask("/process").json["path"][:2] == [str(tmp_path / "one"), str(tmp_path / "two")]


@shows("raw_env", "the application finds the variables in its environment, the server's own are replaced")
def test_variables_are_set(launch: Launch) -> None:
    server = launch("raw_env = ['COLOUR=red', 'TASTE=a=b']", environ={"COLOUR": "blue"})
    found = server.ask("/process").json["environ"]
    assert (found["COLOUR"], found["TASTE"]) == ("red", "a=b")


# -- users ------------------------------------------------------------------------------------------


def unlike_root() -> pwd.struct_passwd:
    """Some user of this machine who is not root and who has a group of another number than 1."""
    return next(user for user in pwd.getpwall() if user.pw_uid > 1 and user.pw_gid > 1)


@shows("user", "workers run as this user, the master does not")
@shows("group", "workers run as this group, and have no group of root's left")
@needs_root
def test_workers_run_as_user_and_group(launch: Launch) -> None:
    user = unlike_root()
    server = launch(f"preload_app, user, group = True, {user.pw_name!r}, {user.pw_gid}")
    assert server.ask("/process").json["ids"] == [user.pw_uid, user.pw_gid, []]
    assert Path(f"/proc/{server.pid}").stat().st_uid == 0


@shows("initgroups", "workers have all the groups of their user")
@needs_root
def test_workers_have_the_groups_of_their_user(launch: Launch) -> None:
    user = unlike_root()
    server = launch(f"preload_app, user, group, initgroups = True, {user.pw_name!r}, 4242, True")
    uid, gid, groups = server.ask("/process").json["ids"]
    assert (uid, gid) == (user.pw_uid, 4242)
    assert groups == sorted(os.getgrouplist(user.pw_name, 4242))


# -- files and the background -----------------------------------------------------------------------


@shows("pidfile", "the file holds the master's process id, and is gone after the end")
def test_the_pid_is_written(launch: Launch) -> None:
    server = launch("pidfile = 'here.pid'").ready()
    assert (server.folder / "here.pid").read_text() == f"{server.pid}\n"
    assert server.stop() == 0
    assert not (server.folder / "here.pid").exists()


DAEMON = """
daemon = True
enable_stdio_inheritance = {inherited}
pidfile = 'here.pid'
errorlog = 'here.log'
bind = 'unix:here.sock'
"""


@shows("daemon", "the command ends with 0 at once, and the server runs in a session of its own, without a terminal")
@shows("enable_stdio_inheritance", "the daemon's standard output is that of the command, else /dev/null")
@pytest.mark.parametrize("inherited", [False, True])
def test_the_server_goes_into_the_background(launch: Launch, tmp_path: Path, inherited: bool) -> None:
    at = str(tmp_path / "here.sock")
    server = launch(DAEMON.format(inherited=inherited), folder=tmp_path, bind="", at=at)
    assert server.process.wait(20) == 0
    file = tmp_path / "here.pid"
    pid = int(until(lambda: file.exists() and file.read_text(), "the pid file"))
    try:
        assert pid != server.pid and os.getsid(pid) not in (os.getsid(0), server.pid)
        assert Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[4] == "0"  # no terminal
        output = os.readlink(f"/proc/{pid}/fd/1")
        assert output.startswith("pipe:") if inherited else output == os.devnull
        assert server.ask("/write").json == "written"
        assert bool(server.seen("on standard output")) is False if not inherited else server.wait_for("on standard output")
    finally:
        os.kill(pid, signal.SIGTERM)
        until(lambda: not is_alive(pid), "the daemon's end")
    assert not file.exists()


# -- names ------------------------------------------------------------------------------------------


@shows("proc_name", "the titles of master and workers carry it")
def test_processes_are_named(launch: Launch) -> None:
    server = launch("proc_name = 'shop'").ready()
    until(lambda: title(server.pid) == "cyhorn: master [shop]", "the master's title")
    assert title(server.workers()[0]) == "cyhorn: worker [shop]"


@shows("default_proc_name", "the titles carry it where proc_name is not set; the application's name is the default")
def test_processes_have_a_name_by_default(launch: Launch) -> None:
    for setting, shown in (("default_proc_name = 'unnamed'", "unnamed"), ("", "tests.effects.application:app")):
        server = launch(setting).ready()
        until(lambda: title(server.pid) == f"cyhorn: master [{shown}]", f"{shown} as the master's title")  # noqa: B023


# -- the control socket -----------------------------------------------------------------------------


@shows("control_socket", "the server answers there, and the file is gone with the server")
@shows("control_socket_mode", "the file has this mode")
def test_a_server_is_asked_at_its_control_socket(launch: Launch) -> None:
    server = launch("control_socket = 'here.ctl'\ncontrol_socket_mode = 0o640")
    server.ask("/")
    path = server.folder / "here.ctl"
    assert ask(path, "show stats")["pid"] == server.pid
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    server.stop()
    assert not path.exists()


@shows("control_socket_disable", "there is no such file, also where one is named")
def test_a_server_can_do_without_a_control_socket(launch: Launch, tmp_path: Path) -> None:
    server = launch(
        "control_socket_disable = True\ncontrol_socket = 'here.ctl'", environ={"XDG_RUNTIME_DIR": str(tmp_path)}
    )
    server.ask("/")
    assert not (server.folder / "here.ctl").exists() and list(tmp_path.iterdir()) == []
    assert not server.seen("[Cc]ontrol")
