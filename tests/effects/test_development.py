"""Settings for development: reloading what changes, and tracing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.effects.conftest import Launch
from tests.effects.shows import shows
from tests.integration.harness import Server, until


def watches_by_inotify(server: Server) -> bool:
    """Whether a worker of `server` has an inotify descriptor."""
    for pid in server.workers():
        folder = f"/proc/{pid}/fd"
        for fd in os.listdir(folder):
            try:
                if os.readlink(f"{folder}/{fd}") == "anon_inode:inotify":
                    return True
            except FileNotFoundError:
                pass  # closed meanwhile
    return False


@pytest.fixture(scope="module")
def notified(launch: Launch, tmp_path_factory: pytest.TempPathFactory) -> Server:
    """A server that reloads by inotify, with a template it watches."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "page.html").write_text("one")
    config = "reload, reload_engine, reload_extra_files = True, 'inotify', ['*.html']"
    return launch(config, folder=folder, application="app:app").ready()


@shows("reload", "when the application's file changes, new code answers, without a signal")
def test_changed_code_answers(notified: Server) -> None:
    assert notified.get() == "one"
    notified.write_application("two")
    notified.serves("two")
    notified.wait_for(r"Worker reloading: .*app\.py modified")


@shows("reload_extra_files", "when one of these files changes, workers are replaced")
def test_changed_files_replace_workers(notified: Server) -> None:
    notified.ready()
    mark = notified.mark()
    (notified.folder / "page.html").write_text("another")
    notified.wait_for(r"Worker reloading: .*page\.html modified", mark)
    notified.wait_for("^LOADED in", mark)


@shows("reload_engine", "inotify watches by the kernel's notices, poll by looking, and both see a change")
def test_the_engine_is_the_named_one(notified: Server, launch: Launch, tmp_path: Path) -> None:
    until(lambda: watches_by_inotify(notified), "an inotify descriptor")
    polling = launch("reload, reload_engine = True, 'poll'", folder=tmp_path, application="app:app").ready()
    assert not watches_by_inotify(polling)
    polling.write_application("two")
    polling.serves("two")


@shows("spew", "every line of Python that runs is printed, the application's too")
def test_lines_that_run_are_printed(launch: Launch) -> None:
    server = launch("spew = True")
    server.ask("/here")
    server.wait_for(r"^tests\.effects\.application:\d+: +path = environ\[\"PATH_INFO\"\]$")
