"""What a config file says about the worker class is known before the file runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from cyhorn.app.early import named_in


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("worker_class = 'gevent'", "gevent"),
        ('import requests, ssl\nworkers = 3\nworker_class = "gunicorn.workers.ggevent.GeventWorker"', "gunicorn.workers.ggevent.GeventWorker"),
        ("worker_class: str = 'gevent_pywsgi'", "gevent_pywsgi"),
        ("workers, worker_class = 3, 'gevent'", "gevent"),
        ("bind = worker_class = 'gevent'", "gevent"),
        ("worker_class = 'gevent'\nworker_class = 'sync'", "sync"),
        ("worker_class = 'sync'  # not gevent", "sync"),
        ("worker_class = kind('gevent')", None),
        ("name = 'gevent'", None),
        ("workers = 3", None),
        ("worker_class = 'gevent", None),
        ("", None),
    ],
)  # fmt: skip
def test_a_class_is_named_where_a_file_assigns_a_text(tmp_path: Path, text: str, named: str | None) -> None:
    file = tmp_path / "conf.py"
    file.write_text(text)
    assert named_in(str(file)) == named_in(f"file:{file}") == named


def test_a_module_is_read_without_being_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "its_settings.py").write_text("worker_class = 'gevent'\nraise AssertionError('it was imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert named_in("python:its_settings") == "gevent"


@pytest.mark.parametrize("location", ["nowhere.py", "python:there_is_no_such_module", "python:there.is.none", "."])
def test_what_cannot_be_read_names_nothing(location: str) -> None:
    assert named_in(location) is None
