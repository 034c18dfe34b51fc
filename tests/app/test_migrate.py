"""``cyhorn migrate``: what a setup of Gunicorn means here, line by line, and whether it would run."""

from __future__ import annotations

from pathlib import Path

import pytest

from cyhorn.app.migrate import split_command, words_of
from tests.app.command import ROOT, cyhorn
from tests.app.test_gunicorn_compat import HIDE

CONFIG = """\
import os
from gunicorn.glogging import Logger
from gunicorn import util

cores = 2
workers = cores * 2
keepalive = 5
dirty_workers = 2
worker_tmp_dir = "/dev/shm"
sendfile = None
_private = 1

def post_fork(server, worker):
    pass
"""


def migrate(folder: Path, *words: str, hidden: bool = True) -> tuple[int, list[str]]:
    """Exit status and lines; with `hidden` as where Gunicorn is not installed."""
    (folder / "hidden").mkdir(exist_ok=True)
    (folder / "hidden" / "sitecustomize.py").write_text(HIDE)
    path = f"{folder / 'hidden'}:{ROOT}" if hidden else str(ROOT)
    done = cyhorn(folder, "migrate", *words, PYTHONPATH=path)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout.splitlines()


@pytest.mark.parametrize("hidden", [True, False])
def test_a_file_is_reported_line_by_line(tmp_path: Path, hidden: bool) -> None:
    (tmp_path / "gunicorn.conf.py").write_text(CONFIG)
    status, lines = migrate(tmp_path, "gunicorn.conf.py", hidden=hidden)
    told = [line.split(": ")[:3] for line in lines[:-1]]
    assert told == [
        ["gunicorn.conf.py:2", "import of gunicorn.glogging Logger", "differs"],
        ["gunicorn.conf.py:3", "import of gunicorn.util", "differs"],
        ["gunicorn.conf.py:6", "workers", "same"],
        ["gunicorn.conf.py:7", "keepalive", "differs"],
        ["gunicorn.conf.py:8", "dirty_workers", "not served"],
        ["gunicorn.conf.py:9", "worker_tmp_dir", "differs"],
        ["gunicorn.conf.py:10", "sendfile", "differs"],
        ["gunicorn.conf.py:13", "post_fork", "same"],
        ["not set", "limit_request_line", "differs"],
    ]
    assert "75" in lines[3]
    assert lines[-1] == (
        "2 same, 5 differs, 1 not served. It would run; where Gunicorn is not installed, with --gunicorn-compat."
    )
    assert status == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("wrkers = 3\n", "conf.py:1: wrkers: wrong: there is no such setting, which Gunicorn does not notice; did"),
        ("\nworkers = 'many'\n", "conf.py:2: workers: wrong: workers = 'many': use a whole number"),
        ("worker_class = 'tornado'\n", "conf.py:1: worker_class: wrong: worker_class = 'tornado' is not served"),
        ("from gunicorn.http import wsgi\n", "conf.py:1: import of gunicorn.http wsgi: wrong: it has no"),
        ("import gunicorn.http.body\n", "conf.py:1: import of gunicorn.http.body: wrong: it has no counterpart"),
        ("workers = = 3\n", "conf.py: the file: wrong: config file does not run: conf.py:1: SyntaxError"),
        ("def pre_fork(server): pass\n", "conf.py:1: pre_fork: wrong"),
        ("certfile = '/nowhere.pem'\n", "conf.py:1: certfile: wrong: certfile = '/nowhere.pem': there is no"),
    ],
)
def test_what_would_not_run_is_told_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "conf.py").write_text(text)
    status, lines = migrate(tmp_path, "conf.py")
    assert [line for line in lines if words in line], lines
    assert lines[-1].endswith("It would not run.") and status == 1


def test_a_command_line_is_reported_flag_by_flag(tmp_path: Path) -> None:
    command = "PORT=8080 exec gunicorn -w 4 --keep-alive=3 --reload -b 0.0.0.0:80 -b unix:/x shop.wsgi:app"
    for words in ([command], command.split()):
        status, lines = migrate(tmp_path, *words)
        assert sorted(line.split(": ")[:3] for line in lines[:-1]) == [
            ["--keep-alive 3", "keepalive", "differs"],
            ["--reload", "reload", "differs"],
            ["-b 0.0.0.0:80 unix:/x", "bind", "same"],
            ["-w 4", "workers", "same"],
            ["PORT", "bind", "same"],
            ["not set", "limit_request_line", "differs"],
            ["shop.wsgi:app", "the application", "same"],
        ]
        assert status == 0 and lines[-1].endswith("It would run.")


@pytest.mark.parametrize("command", ["gunicorn -c conf.py app:app", "GUNICORN_CMD_ARGS='-c conf.py' gunicorn app:app"])
def test_the_config_file_of_a_command_is_read_too(tmp_path: Path, command: str) -> None:
    (tmp_path / "conf.py").write_text("keepalive = 5\n")
    status, lines = migrate(tmp_path, command)
    assert [line for line in lines if line.startswith("conf.py:1: keepalive: differs")], lines
    assert status == 0


def test_without_c_gunicorns_own_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "gunicorn.conf.py").write_text("wrkers = 5\n")
    status, lines = migrate(tmp_path, "gunicorn app:app")
    assert status == 1 and [line for line in lines if "gunicorn.conf.py:1: wrkers" in line]


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("gunicorn --wrokers 3 app:app", "--wrokers: flag: wrong: there is no such flag; did you mean"),
        ("gunicorn -w many app:app", "-w many: workers: wrong: workers = 'many'"),
        ("gunicorn -k gthred app:app", "-k gthred: worker_class: wrong"),
        ("gunicorn -k sync --protocol uwsgi a:b", "--protocol uwsgi: protocol: not served"),
        ("gunicorn -k uvicorn.workers.UvicornWorker a:b", "UvicornWorker' is not served: cyhorn serves WSGI"),
        ("gunicorn app:app -w", "the command line: wrong: it cannot be parsed"),
    ],
)
def test_flags_that_mean_something_else_here_are_told(tmp_path: Path, command: str, words: str) -> None:
    status, lines = migrate(tmp_path, command)
    assert [line for line in lines if words in line], lines
    assert status == (0 if words.endswith("not served") else 1)


@pytest.mark.parametrize(("words", "status"), [((), 2), (("--help",), 0), (("no-such-file",), 2), (("gunicorn 'x",), 2)])
def test_what_is_no_question_is_a_usage_error(tmp_path: Path, words: tuple[str, ...], status: int) -> None:
    assert migrate(tmp_path, *words)[0] == status


@pytest.mark.parametrize(
    ("command", "assignments", "arguments"),
    [
        ("gunicorn a:b", [], ["a:b"]),
        ("/usr/bin/gunicorn -w 2 a:b", [], ["-w", "2", "a:b"]),
        ("web: A=1 B=2 gunicorn a:b", ["A=1", "B=2"], ["a:b"]),
        ("python -m gunicorn.app.wsgiapp a:b", [], ["a:b"]),
        ("A=1 uv run gunicorn a:b -e X=1", ["A=1"], ["a:b", "-e", "X=1"]),
        ("-w 2 a:b", [], ["-w", "2", "a:b"]),
    ],
)
def test_the_arguments_of_gunicorn_are_found_in_a_command(
    command: str, assignments: list[str], arguments: list[str]
) -> None:
    assert split_command(command.split()) == (assignments, arguments)


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ('CMD ["gunicorn", "-b", "0.0.0.0:80", "a:b"]', ["-b", "0.0.0.0:80", "a:b"]),
        ('ENTRYPOINT ["/usr/bin/tini", "--", "gunicorn", "a:make(1, \'x\')"]', ["a:make(1, 'x')"]),
        ('CMD ["sh", "-c", "exec gunicorn a:b -w 4"]', ["a:b", "-w", "4"]),
        ('command: ["gunicorn", "a:b"]', ["a:b"]),
        ("CMD exec gunicorn -w 2 \\\n    a:b", ["-w", "2", "a:b"]),
        ("ExecStart=/srv/env/bin/gunicorn \\\n  -w 2 a:b", ["-w", "2", "a:b"]),
        ("ExecStart=-/srv/env/bin/gunicorn a:b", ["a:b"]),
        ('bash -c "cd /srv && ./manage.py migrate && exec gunicorn -w 2 a:b"', ["-w", "2", "a:b"]),
        ("gunicorn a:b -w ${NO_SUCH_VARIABLE:-4}", ["a:b", "-w", "4"]),
        ("gunicorn a:b --reload &", ["a:b", "--reload"]),
        ("gunicorn a:b >>/var/log/out 2>&1", ["a:b"]),
        ("gunicorn a:b 2>&1 | tee log", ["a:b"]),
        ("gunicorn 'a:make(key=\"x y\")'", ['a:make(key="x y")']),
        ("web: gunicorn shop.wsgi --log-file -", ["shop.wsgi", "--log-file", "-"]),
    ],
)
def test_a_command_is_read_as_it_stands_in_a_file_of_deployment(text: str, arguments: list[str]) -> None:
    assert split_command(words_of(text)) == ([], arguments)


def test_a_value_that_is_known_only_where_it_runs_is_not_called_wrong(tmp_path: Path) -> None:
    status, lines = migrate(tmp_path, "CMD exec gunicorn --bind :$NO_PORT --workers ${NO_WORKERS} --threads 8 main:app")
    assert "--bind :$NO_PORT: bind: same: if $NO_PORT, which is not set here, has a good value" in lines
    assert [line for line in lines if line.startswith("--workers ${NO_WORKERS}: workers: same: if")]
    assert status == 0
