"""``--check-config``: all problems at once, and nothing disturbed or left behind."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.app.command import cyhorn, serving

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
        "errorlog: '/nowhere/error.log' is not writable",
        "accesslog: '.' is not writable: it is a directory",
        "pidfile: '/nowhere/pid' is not writable",
        "tmp_upload_dir = '/nowhere'",
        "syslog_facility: 'usr'",
        "already in use by another process",
        "the directory '/nowhere' does not exist",
        "this machine does not have that address",
        "fd://77: the descriptor is not open",
        "'a:b:c'",
        "no attribute 'ap'; did you mean app",
    ):
        assert [line for line in found if words in line], words


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
    assert line.startswith("ssl_context: the hook raised ZeroDivisionError")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("access_log_format = '%(zz)'", "access_log_format"),
        ("logconfig = 'none.ini'", "logconfig: 'none.ini'"),
        ("logconfig_json = 'none.json'", "logconfig_json: cannot read 'none.json'"),
        ("logconfig_dict = {'version': 2}", "logconfig_dict: version must be 1"),
        (
            "logconfig_dict = {'version': 1, 'root': {'handlers': ['x']}}",
            "logconfig_dict: logger 'root': there is no handler 'x'",
        ),
        (
            "logconfig_dict = {'version': 1, 'handlers': {'f': {'class': 'logging.FileHandler',"
            " 'filename': '/nowhere/x.log'}}}",
            "logconfig_dict: handler 'f': '/nowhere/x.log' is not writable",
        ),
        (
            "logconfig_dict = {'version': 1, 'handlers': {'f': {'class': 'logging.Handlr'}}}",
            "logconfig_dict: Cannot resolve 'logging.Handlr'",
        ),
        ("syslog, syslog_addr = True, 'host:514'", "syslog_addr: 'host:514'"),
        ("syslog, syslog_addr = True, 'tcp://127.0.0.1:1'", "syslog_addr: cannot reach"),
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


@pytest.mark.skipif(os.geteuid() == 0, reason="root may switch")
def test_only_root_may_switch_users(site: Path) -> None:
    found = errors(check(site, "-u", "0", "-g", "0", "app:app"))
    assert [line.split(" ")[0] for line in found] == ["user", "group"]


@pytest.mark.parametrize("variables", [{"CYHORN_CHECK_CONFIG": "1"}, {"CYHORN_CMD_ARGS": "--check-config"}])
def test_a_check_can_be_asked_for_by_variables(site: Path, variables: dict[str, str]) -> None:
    done = cyhorn(site, "-b", "127.0.0.1:0", "-w", "many", "--backlog", "x", "app:app", **variables)
    assert len(errors(done)) == 2
