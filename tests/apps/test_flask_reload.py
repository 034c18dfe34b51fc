"""`cyhorn --reload` does for a Flask project what `flask run --debug` does: the same story, told to both.

A change is served, a mistake shows its page, and what is repaired is served again, without a hand at the server.
"""

from __future__ import annotations

import http.client
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.app.command import Running, environment
from tests.apps.conftest import Serve, Variant
from tests.integration.harness import PATIENCE, until

pytestmark = [pytest.mark.timeout(120), pytest.mark.preload(False)]

INIT = """\
from flask import Flask

def create_app():
    from shop import views
    app = Flask("shop")
    app.register_blueprint(views.shop)
    return app
"""
VIEWS = """\
from flask import Blueprint

shop = Blueprint("shop", __name__)

@shop.get("/")
def index():
    return "{version}"
"""
APP = """\
import os
from shop import create_app
app = create_app()
os.write(1, b"LOADED in %d\\n" % os.getpid())
"""

Ask = Callable[[], tuple[int, str]]


def write(folder: Path, name: str, text: str) -> None:
    """Replace a file of the project at once, as editors do."""
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    draft = path.with_suffix(".draft")
    draft.write_text(text)
    draft.rename(path)


def begin(folder: Path) -> None:
    write(folder, "shop/__init__.py", INIT)
    write(folder, "shop/views.py", VIEWS.format(version="one"))
    write(folder, "app.py", APP)


def answer_of(url: str) -> tuple[int, str]:
    """Status and body of the answer to GET."""
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as answer:
        with answer:
            return answer.code, answer.read().decode()


def story(folder: Path, ask: Ask) -> None:
    """What somebody does who writes a site, and what the site shows meanwhile."""

    def serves(version: str) -> None:
        until(lambda: ask() == (200, version), f"{version!r}, not {ask()}", 30)

    def shows(*words: str) -> None:
        def shown() -> bool:
            status, page = ask()
            return status == 500 and all(word in page for word in words)

        until(shown, f"a page with {words}, not {ask()}", 30)

    serves("one")
    write(folder, "shop/views.py", VIEWS.format(version="two"))
    serves("two")
    write(folder, "shop/views.py", VIEWS.format(version="three") + "\ndef broken(:\n")
    shows("SyntaxError", "def broken(:", "views.py")
    write(folder, "shop/views.py", VIEWS.format(version="three"))
    serves("three")
    # A mistake that only shows when the module runs, in a file that is new.
    write(folder, "shop/prices.py", "TEA = undefined_price\n")
    write(folder, "shop/views.py", "from shop import prices\n" + VIEWS.format(version="four"))
    shows("NameError", "undefined_price", "prices.py")
    write(folder, "shop/prices.py", "TEA = 4\n")
    serves("four")
    # The new file is watched like the others, and so is the one that stands at the top.
    write(folder, "shop/prices.py", "1 +\n")
    shows("SyntaxError", "prices.py")
    write(folder, "shop/prices.py", "TEA = 5\n")
    serves("four")
    write(folder, "app.py", APP + "\n@app.get('/top')\ndef top():\n    return 'top'\n")
    write(folder, "shop/views.py", VIEWS.format(version="five"))
    serves("five")


@pytest.mark.provokes("Reloader is on", "The application does not load")
def test_a_project_is_written_while_cyhorn_serves_it(variant: Variant, serve: Serve, tmp_path: Path) -> None:
    begin(tmp_path)
    server = serve("reload = True", workers=1)
    url = "http://{}:{}/".format(*server.address)
    story(tmp_path, lambda: answer_of(url))
    assert answer_of(url + "top") == (200, "top")


@pytest.mark.provokes("Reloader is on", "The application does not load")
def test_every_worker_takes_part_in_a_reload(variant: Variant, serve: Serve, tmp_path: Path) -> None:
    begin(tmp_path)
    server = serve("reload = True", workers=2)
    url = "http://{}:{}/".format(*server.address)
    before = set(server.workers())
    write(tmp_path, "shop/views.py", VIEWS.format(version="two"))
    until(lambda: len(server.workers()) == 2 and not before & set(server.workers()), "two new workers")
    assert {answer_of(url) for _ in range(10)} == {(200, "two")}


@contextmanager
def flask_run(project: Path) -> Iterator[Running]:
    process = subprocess.Popen(
        [sys.executable, "-m", "flask", "--app", "app", "run", "--debug", "--port", "0"],
        cwd=project,
        env=environment({"PYTHONDONTWRITEBYTECODE": "1"}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    server = Running(process)
    try:
        yield server
    finally:
        process.send_signal(signal.SIGTERM)  # its reloader ends the process that serves
        process.wait(PATIENCE)
        server.close()


def test_the_same_story_is_true_of_flask_run(tmp_path: Path) -> None:
    begin(tmp_path)
    with flask_run(tmp_path) as server:
        found = re.search(r"http://[\d.]+:\d+", server.wait_for("Running on http"))
        assert found is not None

        def ask() -> tuple[int, str]:
            try:
                return answer_of(found[0] + "/")
            except (OSError, http.client.HTTPException) as error:  # its reloader takes the server away for a moment
                return 0, repr(error)

        story(tmp_path, ask)
