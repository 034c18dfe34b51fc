"""The command ``cyhorn``: exit statuses, and one clear line for each mistake."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DROPPED = (
    "PORT",
    "WEB_CONCURRENCY",
    "FORWARDED_ALLOW_IPS",
    "SENDFILE",
    "CYHORN_CMD_ARGS",
    "GUNICORN_CMD_ARGS",
)

SHOP = """
from cyhorn.workers.base import Worker
def app(environ, start_response): return []
def create_app(name): return app
number = 3
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "shop.py").write_text(SHOP)
    (tmp_path / "sick.py").write_text("import shop\n1 / 0\n")
    (tmp_path / "needs.py").write_text("import no_such_dependency\n")
    return tmp_path


def cyhorn(project: Path, *argv: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if name not in DROPPED}
    environ |= {"PYTHONPATH": str(ROOT), "CYHORN_IMPL": "python", "COLUMNS": "100"} | variables
    return subprocess.run(
        [sys.executable, "-m", "cyhorn", *argv],
        cwd=project,
        env=environ,
        capture_output=True,
        text=True,
        timeout=30,
    )


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    (line,) = done.stderr.splitlines()
    return line


def test_version_says_the_implementation_and_why(project: Path) -> None:
    for flag in ("-v", "--version"):
        done = cyhorn(project, flag)
        assert done.returncode == 0 and done.stderr == ""
        assert "version 0." in done.stdout and "python: CYHORN_IMPL=python asks for it" in done.stdout


def test_help_goes_to_standard_output(project: Path) -> None:
    for argv in (("--help",), ("-h",), ("--help", "shop:app"), ("-w", "2", "--help")):
        done = cyhorn(project, *argv)
        assert done.returncode == 0 and done.stderr == ""
        assert done.stdout.startswith("usage: cyhorn [OPTIONS] [APP_MODULE]") and "--workers" in done.stdout
        assert "--dirty-workers" not in done.stdout


def test_help_shows_all_flags_or_one_setting(project: Path) -> None:
    done = cyhorn(project, "--help", "all")
    assert done.returncode == 0 and "--dirty-workers" in done.stdout and "--completion" in done.stdout
    for word in ("keepalive", "keep-alive"):
        done = cyhorn(project, "--help", word)
        assert done.returncode == 0 and done.stderr == ""
        assert "CYHORN_KEEPALIVE" in done.stdout and "the default is 75, not 2" in done.stdout
    done = cyhorn(project, "--help", "wrkers")
    assert done.returncode == 2
    assert "there is no setting 'wrkers'; did you mean workers" in one_line(done)


def test_completion_goes_to_standard_output(project: Path) -> None:
    for shell in ("bash", "zsh", "fish"):
        done = cyhorn(project, "--completion", shell)
        assert done.returncode == 0 and done.stderr == "" and "worker-class" in done.stdout
    done = cyhorn(project, "--completion", "tcsh")
    assert done.returncode == 2 and "'fish'" in one_line(done)


@pytest.mark.parametrize("command", ["migrate", "ctl"])
def test_an_application_called_as_a_command_is_served_after_a_flag(project: Path, command: str) -> None:
    (project / f"{command}.py").write_text("def application(environ, start_response): return []\n")
    assert "usage: cyhorn " in cyhorn(project, command, "--help").stdout.lower()
    done = cyhorn(project, "--check-config", "-b", "127.0.0.1:0", command)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ((), "no application is named"),
        (("-w", "many", "shop:app"), "workers = 'many' (the command line): use a whole number"),
        (("-w", "-1", "shop:app"), "workers = -1"),
        (("-u", "no-such-user", "shop:app"), "there is no such user"),
        (("-c", "none.py", "shop:app"), "none.py"),
        (("-c", "python:no_such_module", "shop:app"), "no_such_module"),
        (("-b", "localhost:http", "shop:app"), "'localhost:http'"),
        (("-k", "gthred", "shop:app"), "worker_class = 'gthred' is unknown"),
        (("-k", "eventlet", "shop:app"), "use gevent or gthread"),
        (("--certfile", "/nowhere.pem", "shop:app"), "/nowhere.pem"),
        (("--chdir", "/nowhere", "shop:app"), "chdir = '/nowhere'"),
        (("--header-map", "drp", "shop:app"), "one of drop, refuse, dangerous"),
        (("--paste", "site.ini"), "paste (the command line): there is no file"),
        (("--log-file", "/nowhere/x", "shop:app"), "errorlog (the command line): cannot write '/nowhere/x'"),
        (("--log-config", "none.ini", "shop:app"), "logconfig (the command line): 'none.ini'"),
        (("-k", "shop.Nope", "shop:app"), "worker_class = 'shop.Nope': module 'shop' has no 'Nope' (the comm"),
        (("-k", "shop.app", "shop:app"), "worker_class = 'shop.app': it is a function, not a class (the comm"),
        (("-k", "json.JSONDecoder", "shop:app"), "the class has no init_process(); make it a subclass of cyhorn.workers."),
        (("--logger-class", "json.JSONDecoder", "shop:app"), "the class has no info(); make it a subclass of cyhorn.log."),
        (("-g", "99999999999", "shop:app"), "group = '99999999999' (the command line): use a group's name or"),
        (("-m", "999", "shop:app"), "umask = '999' (the command line): it is 0o1747, more than 0o777"),
        (("--log-level", "inof", "shop:app"), "loglevel = 'inof'"),
    ],
)
@pytest.mark.rule(7, 9)
def test_a_mistake_in_a_value_is_one_line_and_exit_1(
    project: Path, argv: tuple[str, ...], words: str
) -> None:
    done = cyhorn(project, *argv)
    assert done.returncode == 1
    line = one_line(done)
    assert line.startswith("Error: ") and words in line


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("workrs = 3\n", "cyhorn.conf.py:1: there is no setting 'workrs'; did you mean workers"),
        ("import os\nworkers = 'many'\n", "workers = 'many' (./cyhorn.conf.py:2)"),
        ("workers = = 3\n", "cyhorn.conf.py:1: SyntaxError"),
        ("def post_fork(server): pass\n", "use a function of (server, worker)"),
    ],
)
@pytest.mark.rule(7, 9)
def test_a_mistake_in_a_config_file_is_one_line_and_exit_1(project: Path, text: str, words: str) -> None:
    (project / "cyhorn.conf.py").write_text(text)
    done = cyhorn(project, "shop:app")
    assert done.returncode == 1
    assert words in one_line(done)


@pytest.mark.parametrize(
    ("argv", "variables", "words"),
    [
        (("--wrokers", "3", "shop:app"), {}, "unknown flag --wrokers; did you mean --workers?"),
        (("--wrokers=3", "shop:app"), {}, "unknown flag --wrokers; did you mean --workers?"),
        (("-w",), {}, "expected one argument"),
        (("shop:app",), {"CYHORN_CMD_ARGS": "--relaod"}, "did you mean --reload? in CYHORN_CMD_ARGS"),
        (("shop:app",), {"GUNICORN_CMD_ARGS": "--xyz"}, "unknown flag --xyz"),
    ],
)
@pytest.mark.rule(7, 9)
def test_a_mistake_in_a_flag_is_one_line_and_exit_2(
    project: Path, argv: tuple[str, ...], variables: dict[str, str], words: str
) -> None:
    done = cyhorn(project, *argv, **variables)
    assert done.returncode == 2
    assert words in one_line(done)


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"WEB_CONCURRENCY": "many"}, "environment variable WEB_CONCURRENCY"),
        ({"PORT": "http"}, "environment variable PORT"),
        ({"CYHORN_CMD_ARGS": "-w 'x"}, "CYHORN_CMD_ARGS"),
        ({"CYHORN_CMD_ARGS": "-w x"}, "workers = 'x' (CYHORN_CMD_ARGS)"),
        ({"CYHORN_IMPL": "fast"}, "CYHORN_IMPL='fast': use one of auto, compiled, python"),
    ],
)
def test_a_mistake_in_a_variable_is_one_line_and_exit_1(
    project: Path, variables: dict[str, str], words: str
) -> None:
    done = cyhorn(project, "shop:app", **variables)
    assert done.returncode == 1
    assert words in one_line(done)


def check(project: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    return cyhorn(project, "--check-config", "-k", "shop.Worker", "-b", "127.0.0.1:0", *argv)


def test_a_good_configuration_is_one_line(project: Path) -> None:
    for spec in ("shop:app", "shop:create_app('x')"):
        done = check(project, spec)
        assert (done.returncode, done.stdout, done.stderr) == (0, "The configuration is good.\n", "")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("shop:ap",), "no attribute 'ap'; did you mean app?"),
        (("shop:number",), "not callable"),
        (("shoop:app",), "did you mean shop?"),
        (("-k", "shop.Wroker", "shop:app"), "did you mean Worker?"),
        (("--logger-class", "shop.Logger", "shop:app"), "logger_class = 'shop.Logger'"),
    ],
)
def test_a_check_finds_what_is_wrong_in_one_line_and_exit_1(
    project: Path, argv: tuple[str, ...], words: str
) -> None:
    done = check(project, *argv)
    assert done.returncode == 1
    assert words in one_line(done)


def test_a_check_shows_the_traceback_of_what_fails_inside_the_application(project: Path) -> None:
    for spec, error in (("sick:app", "ZeroDivisionError"), ("needs:app", "no_such_dependency")):
        done = check(project, spec)
        assert done.returncode == 1 and "Traceback" in done.stderr and error in done.stderr
        assert done.stderr.splitlines()[-1].startswith("Error: ")


def test_a_check_tells_warnings_too(project: Path) -> None:
    done = check(project, "--dirty-workers", "2", "--asgi-loop", "uvloop", "shop:app")
    assert done.returncode == 0
    assert [line.split(" ")[:2] for line in done.stderr.splitlines()] == [
        ["Warning:", "asgi_loop"],
        ["Warning:", "dirty_workers"],
    ]


def test_a_check_sees_raw_env_pythonpath_and_chdir(project: Path) -> None:
    (project / "site").mkdir()
    (project / "lib").mkdir()
    (project / "lib" / "helper.py").touch()
    (project / "site" / "inner.py").write_text(
        "import os, helper\nassert os.environ['MODE'] == 'test'\ndef app(e, s): pass\n"
    )
    (project / "site" / "shop.py").write_text(SHOP)
    done = check(project, "--chdir", "site", "--pythonpath", "../lib", "-e", "MODE=test", "inner:app")
    assert (done.returncode, done.stderr) == (0, "")


def test_print_config_shows_each_value_and_where_it_came_from(project: Path) -> None:
    (project / "gunicorn.conf.py").write_text("\nbacklog = 99\ndef post_fork(server, worker): pass\n")
    argv = ("--print-config", "-k", "shop.Worker", "--reload", "shop:app")
    done = cyhorn(project, *argv, PORT="0", GUNICORN_CMD_ARGS="--threads 1")
    assert (done.returncode, done.stderr) == (0, "")
    shown = {}
    for line in done.stdout.splitlines():
        name, rest = line.split(" = ", 1)
        value, source = rest.rsplit("  # ", 1)
        shown[name] = (value.strip(), source)
    assert shown["bind"] == ("['0.0.0.0:0']", "the environment variable PORT")
    assert shown["backlog"] == ("99", "./gunicorn.conf.py:2")
    assert shown["post_fork"] == ("<__config__.post_fork>", "./gunicorn.conf.py:3")
    assert shown["threads"] == ("1", "GUNICORN_CMD_ARGS")
    assert shown["reload"] == ("True", "the command line")
    assert shown["timeout"] == ("30", "default")


def test_print_config_checks_too(project: Path) -> None:
    done = cyhorn(project, "--print-config", "-b", "127.0.0.1:0", "-k", "shop.Worker", "shop:ap")
    assert done.returncode == 1 and "did you mean app?" in done.stderr
