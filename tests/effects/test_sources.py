"""Settings that say where application and settings come from, and those that only look at them."""

from __future__ import annotations

import re
from pathlib import Path

from tests.app.test_gunicorn_compat import HIDE
from tests.effects.conftest import APPLICATION, Launch
from tests.effects.shows import shows
from tests.integration.harness import ROOT, title, until


@shows("config", "the named file's settings count, and those of cyhorn.conf.py do not")
def test_the_named_file_is_read(launch: Launch, tmp_path: Path) -> None:
    (tmp_path / "other.py").write_text("proc_name = 'other'\n")
    server = launch("proc_name = 'usual'", folder=tmp_path, arguments=["-c", "other.py"]).ready()
    until(lambda: title(server.pid) == "cyhorn: master [other]", "the title of the other file")


@shows("wsgi_app", "this application is served where the command line names none")
def test_the_application_of_the_file_is_served(launch: Launch) -> None:
    server = launch(f"wsgi_app = {APPLICATION!r}", application="")
    assert server.ask("/here").json["PATH_INFO"] == "/here"


@shows("gunicorn_compat", "an application that imports gunicorn is served though there is no Gunicorn; without it: exit 3")
def test_imports_of_gunicorn_find_cyhorn(launch: Launch, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(HIDE)
    (tmp_path / "old.py").write_text(
        "from gunicorn.workers.sync import SyncWorker\nfrom tests.effects.application import app\n"
    )
    there = {"folder": tmp_path, "application": "old:app", "environ": {"PYTHONPATH": f"{tmp_path}:{ROOT}"}}
    assert launch("gunicorn_compat = True", **there).ask("/").status == 200
    server = launch("", **there)
    assert server.wait_exit() == 3
    server.wait_for("No module named 'gunicorn'")


PASTE = """
[app:main]
paste.app_factory = shop:factory
name = main

[app:other]
paste.app_factory = shop:factory
name = other
"""
FACTORY = """
from tests.effects import application

def factory(global_conf, **local_conf):
    def app(environ, start_response):
        environ["HTTP_NAME"], environ["HTTP_COLOUR"] = local_conf["name"], global_conf.get("colour", "")
        return application.app(environ, start_response)
    return app
"""


@shows("paste", "the application that the file names is served")
@shows("raw_paste_global_conf", "the application finds the values in its global configuration")
def test_the_application_of_a_paste_file_is_served(launch: Launch, tmp_path: Path) -> None:
    (tmp_path / "site.ini").write_text(PASTE)
    (tmp_path / "shop.py").write_text(FACTORY)
    config = "paste = 'site.ini#other'\nraw_paste_global_conf = ['colour=red']\n"
    found = launch(config, folder=tmp_path, application="").ask("/").json
    assert (found["HTTP_NAME"], found["HTTP_COLOUR"]) == ("other", "red")


@shows("check_config", "the command says whether all is well and ends, with 0 or 1, and serves nothing")
def test_a_configuration_is_checked(launch: Launch, tmp_path: Path) -> None:
    good = launch("workers = 2", arguments=["--check-config"])
    assert (good.wait_exit(), good.lines[-1]) == (0, "The configuration is good.")
    bad = launch("timeout = 'long'\ncertfile = 'none.pem'", arguments=["--check-config"], application="none:app")
    assert bad.wait_exit() == 1
    problems = [line for line in bad.lines if line.startswith("Error: ")]
    assert len(problems) == 3 and not bad.seen("Listening")
    for words in (r"timeout = 'long' \(\./cyhorn\.conf\.py:1\)", "none.pem", "'none'"):
        assert [line for line in problems if re.search(words, line)], words


@shows("print_config", "the command prints each value with where it came from, and ends")
def test_a_configuration_is_printed(launch: Launch) -> None:
    server = launch("\nworkers = 2", arguments=["--print-config", "-t", "7"], environ={"CYHORN_BACKLOG": "9"})
    assert server.wait_exit() == 0
    for setting, source in (
        ("workers = 2", "./cyhorn.conf.py:2"),
        ("timeout = 7", "the command line"),
        ("backlog = 9", "the environment variable CYHORN_BACKLOG"),
        ("keepalive = 75", "default"),
    ):
        server.wait_for(rf"^{re.escape(setting)} +# {re.escape(source)}$")
    assert not server.seen("Listening")
