"""``--check-config``: all problems at once, and nothing disturbed or left behind."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.app.command import cyhorn, python, serving

DATA = Path(__file__).resolve().parents[1] / "data" / "tls"
GOOD = "The configuration is good.\n"
APP = "def app(environ, start_response):\n    start_response('200 OK', [])\n    return [b'here']\n"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that this process listens at."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock.getsockname()[1]


def check(site: Path, *argv: str, **variables: str) -> subprocess.CompletedProcess[str]:
    binds = () if "-b" in argv or "CYHORN_BIND" in variables else ("-b", "127.0.0.1:0")
    return cyhorn(site, "--check-config", *binds, *argv, **variables)


def errors(done: subprocess.CompletedProcess[str]) -> list[str]:
    assert done.returncode == 1 and done.stdout == "", done
    assert "Traceback" not in done.stderr
    return [line.removeprefix("Error: ") for line in done.stderr.splitlines() if line.startswith("Error: ")]


def test_all_is_well_in_one_line(site: Path) -> None:
    before = sorted(site.iterdir())
    done = check(site, "--error-logfile", "error.log", "-p", "pid", "-b", "unix:here.sock", "app:app")
    assert (done.returncode, done.stdout, done.stderr) == (0, GOOD, "")
    assert [path for path in sorted(site.iterdir()) if path.name != "__pycache__"] == before, "made nothing"


def test_all_problems_are_told_at_once(site: Path, taken: int) -> None:
    (site / "cyhorn.conf.py").write_text(
        "workers = 'many'\nworkrs = 3\nchdir = '/nowhere'\nuser = 'no-such-user'\n"
        "group = 'no-such-group'\ncertfile = '/nowhere.pem'\nworker_class = 'gthred'\n"
        "logger_class = 'no_such.Logger'\nerrorlog = '/nowhere/error.log'\naccesslog = '.'\n"
        "pidfile = '/nowhere/pid'\ntmp_upload_dir = '/nowhere'\nsyslog = True\nsyslog_facility = 'usr'\n"
        f"bind = ['127.0.0.1:{taken}', 'unix:/nowhere/sock', '203.0.113.1:80', 'fd://77']\n"
    )
    found = errors(check(site, "-b", "a:b:c", "app:ap", CYHORN_TIMEOUT="long", CYHORN_BACKLOG="-1"))
    found += errors(cyhorn(site, "--check-config", "app:ap", CYHORN_TIMEOUT="long", CYHORN_BACKLOG="-1"))
    for words in (
        "timeout = 'long' (the environment variable CYHORN_TIMEOUT)",
        "backlog = -1 (the environment",
        "workers = 'many' (./cyhorn.conf.py:1)",
        "./cyhorn.conf.py:2: there is no setting 'workrs'; did you mean workers",
        "chdir = '/nowhere' (./cyhorn.conf.py:3): there is no such directory",
        "user = 'no-such-user'",
        "group = 'no-such-group'",
        "certfile = '/nowhere.pem'",
        "worker_class = 'gthred' is unknown",
        "logger_class = 'no_such.Logger'",
        "errorlog (./cyhorn.conf.py:9): '/nowhere/error.log' is not writable",
        "accesslog (./cyhorn.conf.py:10): '.' is not writable: it is a directory",
        "pidfile (./cyhorn.conf.py:11): '/nowhere/pid' is not writable",
        "tmp_upload_dir = '/nowhere'",
        "syslog_facility (./cyhorn.conf.py:14): 'usr'",
        "already in use by another process",
        "the directory '/nowhere' does not exist",
        "this machine does not have that address",
        "fd://77: the descriptor is not open",
        "'a:b:c'",
        "no attribute 'ap'; did you mean app",
    ):
        assert [line for line in found if words in line], words


@pytest.mark.parametrize("value", ["[]", "''"])
def test_a_server_that_would_listen_nowhere_is_refused(site: Path, value: str) -> None:
    (site / "cyhorn.conf.py").write_text(f"\nbind = {value}\n")
    for argv in (("--check-config",), ()):
        (line,) = [line for line in cyhorn(site, *argv, "app:app").stderr.splitlines() if "bind" in line]
        assert "bind (./cyhorn.conf.py:2): there is no address to listen at" in line


def test_the_traceback_of_an_application_begins_in_it(site: Path) -> None:
    (site / "sick.py").write_text("def broken():\n    return 1 / 0\nbroken()\n")
    done = check(site, "sick:app")
    frames = [line for line in done.stderr.splitlines() if line.startswith("  File ")]
    assert done.returncode == 1 and len(frames) == 2 and all("sick.py" in line for line in frames)


def test_a_problem_is_told_once(site: Path) -> None:
    found = errors(check(site, "-k", "gthred", "--log-level", "inof", "app:app"))
    assert len(found) == 2, found


def test_a_check_that_a_file_calls_off_lets_no_mistake_through(site: Path) -> None:
    (site / "cyhorn.conf.py").write_text("check_config = False\n")
    done = cyhorn(site, "-w", "many", "-t", "long", "app:app", CYHORN_CHECK_CONFIG="1")
    assert done.returncode == 1 and done.stdout == ""
    assert sorted(line.split(" ")[1] for line in done.stderr.splitlines()) == ["timeout", "workers"]


def test_without_an_application_the_rest_is_checked_too(site: Path) -> None:
    found = errors(check(site, "-w", "many"))
    assert [line for line in found if "no application is named" in line]
    assert [line for line in found if "workers = 'many'" in line]


def test_flags_of_a_variable_that_cannot_be_read_do_not_hide_the_rest(site: Path) -> None:
    found = errors(check(site, "-w", "many", "app:app", CYHORN_CMD_ARGS="-w 'x"))
    assert [line.split(" ")[0] for line in found] == ["CYHORN_CMD_ARGS", "workers"]


def test_a_file_that_does_not_run_does_not_hide_the_rest(site: Path) -> None:
    (site / "cyhorn.toml").write_text("workers = = 3\n")
    found = errors(check(site, "--log-level", "inof", "app:app"))
    assert [line for line in found if "cyhorn.toml:1" in line] and [line for line in found if "inof" in line]


# -- addresses ------------------------------------------------------------------------------------


def test_who_has_an_address_is_named(site: Path, taken: int) -> None:
    (line,) = errors(check(site, "-b", f"127.0.0.1:{taken}", "app:app"))
    assert line.startswith("bind (the command line)") and f"pid {os.getpid()}" in line


def test_a_running_cyhorn_is_neither_disturbed_nor_a_mistake(site: Path) -> None:
    argv = ("-m", "cyhorn", "-b", "127.0.0.1:0", "-b", "unix:here.sock", "-p", "here.pid", "app:app")
    with serving(site, *argv) as server:
        assert server.get()[0] == "here"
        port = server.url.rpartition(":")[2]
        binds = ("-b", f"127.0.0.1:{port}", "-b", "unix:here.sock", "-p", "here.pid")
        done = check(site, *binds, "app:app")
        assert done.returncode == 0, done.stderr
        assert done.stdout == "The configuration is good, with 3 warnings.\n"
        assert done.stderr.count("already in use by another process: a running cyhorn, pid") == 2
        assert f"a server is running, pid {server.process.pid}" in done.stderr
        assert server.get()[0] == "here"
        assert server.stop() == 0


def test_a_stale_unix_socket_is_no_problem_and_stays(site: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(site / "stale.sock"))
        sock.listen()
        (line,) = errors(check(site, "-b", "unix:stale.sock", "app:app"))
        assert "in use" in line
    assert check(site, "-b", "unix:stale.sock", "app:app").stdout == GOOD
    assert (site / "stale.sock").exists()
    (site / "file.sock").touch()
    (line,) = errors(check(site, "-b", "unix:file.sock", "app:app"))
    assert "is not a socket" in line


# -- TLS, logs, users -----------------------------------------------------------------------------


def test_a_certificate_that_is_none_and_a_hook_that_fails_are_found(site: Path) -> None:
    (site / "cert.pem").write_text("nothing of the kind\n")
    (line,) = errors(check(site, "--certfile", "cert.pem", "app:app"))
    assert "cert.pem" in line
    (site / "cyhorn.conf.py").write_text("def ssl_context(config, factory):\n    return 1 / 0\n")
    (line,) = errors(check(site, "--certfile", "cert.pem", "app:app"))
    assert line.startswith("ssl_context (./cyhorn.conf.py:1): the hook raised ZeroDivisionError")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("access_log_format = '%(zz)'", "access_log_format (./cyhorn.conf.py:1)"),
        ("logconfig = 'none.ini'", "logconfig (./cyhorn.conf.py:1): 'none.ini'"),
        ("logconfig_json = 'none.json'", "logconfig_json (./cyhorn.conf.py:1): cannot read 'none.json'"),
        ("logconfig_dict = {'version': 2}", "logconfig_dict (./cyhorn.conf.py:1): version must be 1"),
        (
            "logconfig_dict = {'version': 1, 'root': {'handlers': ['x']}}",
            "logconfig_dict (./cyhorn.conf.py:1): logger 'root': there is no handler 'x'",
        ),
        (
            "logconfig_dict = {'version': 1, 'handlers': {'f': {'class': 'logging.FileHandler',"
            " 'filename': '/nowhere/x.log'}}}",
            "logconfig_dict (./cyhorn.conf.py:1): handler 'f': '/nowhere/x.log' is not writable",
        ),
        (
            "logconfig_dict = {'version': 1, 'handlers': {'f': {'class': 'logging.Handlr'}}}",
            "logconfig_dict (./cyhorn.conf.py:1): Cannot resolve 'logging.Handlr'",
        ),
        ("syslog, syslog_addr = True, 'host:514'", "syslog_addr (./cyhorn.conf.py:1): 'host:514'"),
        ("syslog, syslog_addr = True, 'tcp://127.0.0.1:1'", "syslog_addr (./cyhorn.conf.py:1): cannot reach"),
    ],
)
def test_what_is_wrong_with_logs_is_found(site: Path, text: str, words: str) -> None:
    (site / "cyhorn.conf.py").write_text(text + "\n")
    found = errors(check(site, "app:app"))
    assert len(found) == 1 and found[0].startswith(words), found


def test_a_good_logging_configuration_opens_no_file(site: Path) -> None:
    (site / "cyhorn.conf.py").write_text(
        "logconfig_dict = {'version': 1, 'handlers': {'f': {'class': 'logging.FileHandler',"
        " 'filename': 'x.log'}}, 'root': {'handlers': ['f']}, 'loggers': {}}\n"
    )
    assert check(site, "app:app").stdout == GOOD
    assert not (site / "x.log").exists()


def test_a_worker_class_says_what_it_cannot_do(site: Path) -> None:
    (site / "workers.py").write_text(
        "from cyhorn.workers.base import Worker\n"
        "class Picky(Worker):\n"
        "    @classmethod\n"
        "    def check_config(cls, cfg, log):\n"
        "        log.info('looking')\n"
        "        raise RuntimeError('not with preload')\n"
    )
    (line,) = errors(check(site, "-k", "workers.Picky", "app:app"))
    assert line == "worker_class = 'workers.Picky' (the command line): not with preload"


def test_an_application_that_exits_is_told(site: Path) -> None:
    (site / "app.py").write_text("import sys\nsys.exit('set DB_URL')\n")
    (line,) = errors(check(site, "app:app"))
    assert "sys.exit('set DB_URL')" in line


# -- by another user than the one who starts the server ------------------------------------------------

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")

#: Becomes a user without rights, after all is loaded that such a user may not be able to read.
AS_NOBODY = """
import argparse, difflib, encodings.ascii, encodings.idna, importlib, os, pkgutil, pwd, shlex, signal, sys, traceback
sys.path.insert(0, os.getcwd())
import cyhorn, cyhorn.app.check, cyhorn.app.wsgiapp
for module in pkgutil.walk_packages(cyhorn.__path__, "cyhorn."):
    if not module.name.startswith(("cyhorn._", "cyhorn.workers.g")):
        importlib.import_module(module.name)
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
from cyhorn.cli import main
main(sys.argv[1:])
"""


@pytest.fixture
def shared() -> Iterator[Path]:
    """A project that every user may read."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        folder = Path(name)
        (folder / "app.py").write_text(APP)
        yield folder


def as_nobody(project: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    return python(project, "-c", AS_NOBODY, "--check-config", *argv, PYTHONDONTWRITEBYTECODE="1")


@needs_root
def test_what_only_root_may_do_is_no_mistake_where_root_starts_the_server(shared: Path) -> None:
    (shared / "secret").mkdir(mode=0o700)
    (shared / "secret" / "server.key").write_text("")
    files = ("--log-file", "secret/log", "-p", "secret/pid", "-b", "127.0.0.1:81", "app:app")
    done = as_nobody(shared, "-u", "root", *files)
    assert done.returncode == 0, done
    told = done.stderr.splitlines()
    assert len(told) == 4 and all(line.startswith("Warning: ") for line in told), told
    assert "user = 0 (the command line): only root may switch to another user" in told[0]
    for line, setting in zip(told[1:], ("bind", "errorlog", "pidfile"), strict=True):
        assert line.startswith(f"Warning: {setting} (the command line): ")
        assert line.endswith("; this is checked as nobody, and root starts the server, as user asks for a switch")
    found = errors(as_nobody(shared, *files))
    assert [line.split(" ")[0] for line in found] == ["bind", "errorlog", "pidfile"]


@needs_root
def test_what_is_wrong_for_every_user_is_a_mistake_for_another_one_too(shared: Path) -> None:
    argv = ("-u", "root", "--log-file", "none/log", "--certfile", "none.pem", "-b", "127.0.0.1:0", "app:app")
    found = errors(as_nobody(shared, *argv))
    assert [line.split(" ")[0] for line in found] == ["certfile", "errorlog"]


@needs_root
def test_a_key_that_only_root_may_read_is_not_missing(shared: Path) -> None:
    (shared / "secret").mkdir(mode=0o700)
    for name in ("server.pem", "server.key"):
        (shared / "secret" / name).write_bytes((DATA / name).read_bytes())
    files = ("--certfile", "secret/server.pem", "--keyfile", "secret/server.key", "-b", "127.0.0.1:0", "app:app")
    (line,) = errors(as_nobody(shared, *files))
    assert line.startswith("certfile (the command line): ") and "Permission denied" in line
    assert as_nobody(shared, "-u", "root", *files).returncode == 0


@needs_root
def test_a_running_cyhorn_of_another_user_is_not_a_mistake(shared: Path) -> None:
    os.chmod(shared, 0o777)
    name = f"of-{os.getpid()}"
    argv = ("-m", "cyhorn", "-n", name, "-b", "127.0.0.1:0", "-b", "unix:here.sock", "-p", "here.pid", "app:app")
    with serving(shared, *argv) as server:
        port = server.url.rpartition(":")[2]
        server.get()
        binds = ("-b", f"127.0.0.1:{port}", "-b", "unix:here.sock", "-p", "here.pid", "app:app")
        for known in (("-n", name), ("-n", "other")):  # by its title, by the pid file
            done = as_nobody(shared, *known, *binds)
            assert done.returncode == 0, done
            assert done.stderr.count(f"a running cyhorn, pid {server.process.pid}") == 2
            assert "is another user's" in done.stderr
        stranger = errors(as_nobody(shared, "-n", "other", "-b", f"127.0.0.1:{port}", "app:app"))
        assert len(stranger) == 1 and stranger[0].endswith("already in use by another process; uid 0")
        assert server.stop() == 0


@pytest.mark.parametrize("variables", [{"CYHORN_CHECK_CONFIG": "1"}, {"CYHORN_CMD_ARGS": "--check-config"}])
def test_a_check_can_be_asked_for_by_variables(site: Path, variables: dict[str, str]) -> None:
    done = cyhorn(site, "-b", "127.0.0.1:0", "-w", "many", "--backlog", "x", "app:app", **variables)
    assert len(errors(done)) == 2


def test_werkzeugs_debugger_is_remarked_on_with_more_than_one_worker(site: Path) -> None:
    (site / "debugged.py").write_text(
        "from werkzeug.debug import DebuggedApplication\napp = DebuggedApplication(lambda environ, start_response: [])\n"
    )
    done = cyhorn(site, "--check-config", "-b", "127.0.0.1:0", "-w", "2", "debugged:app")
    assert done.returncode == 0
    assert "Warning: Werkzeug's debugger is on with 2 workers" in done.stderr
    done = cyhorn(site, "--check-config", "-b", "127.0.0.1:0", "-w", "1", "debugged:app")
    assert (done.returncode, done.stdout) == (0, "The configuration is good.\n")
