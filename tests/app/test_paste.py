"""Paste Deploy: applications and settings from ini files, both ways round."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from cyhorn.app import pasterapp
from cyhorn.app.wsgiapp import WSGIApplication
from cyhorn.config.config import Config
from cyhorn.errors import AppImportError, ConfigError
from tests.app.command import ROOT, cyhorn, distribution, python, serving

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

APPLICATION = """
import logging

def factory(global_conf, **local_conf):
    def app(environ, start_response):
        logging.getLogger("shop").warning("served %s", local_conf["name"])
        start_response("200 OK", [])
        return [repr((local_conf["name"], sorted(global_conf.items()))).encode()]
    return app
"""
INI = """
[DEFAULT]
colour = red

[app:main]
paste.app_factory = shop:factory
name = the main one

[app:other]
paste.app_factory = shop:factory
name = another

[server:main]
use = egg:cyhorn#main
host = 127.0.0.1
port = 0
workers = 1
timeout = 13
reload_extra_files = shop.py
"""
LOGGERS = """
[loggers]
keys = root

[handlers]
keys = console

[formatters]
keys = plain

[logger_root]
level = INFO
handlers = console

[handler_console]
class = StreamHandler
args = (sys.stdout,)
formatter = plain

[formatter_plain]
format = PLAIN %(name)s %(message)s
"""


@pytest.fixture
def shop(project: Path) -> Path:
    (project / "shop.py").write_text(APPLICATION)
    (project / "site.ini").write_text(INI)
    return project


def start(*argv: str) -> WSGIApplication:
    return WSGIApplication(prog="cyhorn", argv=argv)


# -- --paste --------------------------------------------------------------------------------------


def test_the_file_names_the_application_and_the_servers_settings(shop: Path) -> None:
    app = start("--paste", "site.ini")
    assert b"'the main one'" in app.wsgi()({}, lambda status, fields: None)[0]
    assert (app.cfg.bind, app.cfg.timeout) == (["127.0.0.1:0"], 13)
    assert app.cfg.reload_extra_files == ["shop.py"]
    assert app.cfg.settings["timeout"].source == str(shop / "site.ini")
    assert app.cfg.proc_name == str(shop / "site.ini")
    assert app.cfg.warnings() == []


@pytest.mark.parametrize(
    ("text", "variables"),
    [("paste = 'site.ini#other'\n", {}), ("", {"CYHORN_PASTE": "config:site.ini#other"})],
)
def test_it_can_be_set_anywhere_and_name_another_application(
    shop: Path, monkeypatch: pytest.MonkeyPatch, text: str, variables: dict[str, str]
) -> None:
    (shop / "cyhorn.conf.py").write_text(text)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    app = start()
    assert b"'another'" in app.wsgi()({}, lambda status, fields: None)[0]
    assert app.cfg.timeout == 13


def test_global_values_reach_the_factories(shop: Path) -> None:
    app = start("--paste", "site.ini", "--paste-global", "colour=blue", "--paste-global", r"a\=b=c")
    (body,) = app.wsgi()({}, lambda status, fields: None)
    assert b"('colour', 'blue')" in body and b"('a=b', 'c')" in body


def test_settings_of_the_file_are_below_config_files_and_above_variables(
    shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PORT", "5000")
    monkeypatch.setenv("CYHORN_TIMEOUT", "14")
    cfg = start("--paste", "site.ini").cfg
    assert (cfg.bind, cfg.timeout) == (["127.0.0.1:0"], 13)
    (shop / "cyhorn.conf.py").write_text("timeout = 15\n")
    assert start("--paste", "site.ini").cfg.timeout == 15
    assert start("--paste", "site.ini", "-t", "16").cfg.timeout == 16


def test_its_loggers_become_the_logging_configuration(shop: Path) -> None:
    assert start("--paste", "site.ini").cfg.logconfig is None
    (shop / "site.ini").write_text(INI + LOGGERS)
    assert start("--paste", "site.ini").cfg.logconfig == str(shop / "site.ini")
    (shop / "log.ini").write_text(LOGGERS)
    assert start("--paste", "site.ini", "--log-config", "log.ini").cfg.logconfig == "log.ini"


def test_a_key_that_is_no_setting_is_warned_about_in_our_section_only(shop: Path) -> None:
    (shop / "site.ini").write_text(INI.replace("workers", "wrkers"))
    (line,) = start("--paste", "site.ini").cfg.warnings()
    assert "[server:main] wrkers: there is no such setting; did you mean workers" in line
    foreign = INI.replace("egg:cyhorn#main", "egg:waitress").replace("workers", "url_scheme")
    (shop / "site.ini").write_text(foreign)
    cfg = start("--paste", "site.ini").cfg
    assert cfg.warnings() == [] and cfg.timeout == 13


@pytest.mark.parametrize(
    ("use", "timeout"), [("egg:gunicorn#main", 13), ("egg:no-such-dist", 13), ("common", 13)]
)
def test_the_section_is_read_whatever_server_it_uses(shop: Path, use: str, timeout: int) -> None:
    (shop / "site.ini").write_text(
        INI.replace("egg:cyhorn#main", use) + "[server:common]\nuse = egg:cyhorn#main\nbacklog = 9\n"
    )
    assert start("--paste", "site.ini").cfg.timeout == timeout


def test_a_file_without_a_server_section_is_taken(shop: Path) -> None:
    (shop / "site.ini").write_text(INI.split("[server:main]")[0])
    assert start("--paste", "site.ini").cfg.timeout == 30


@pytest.mark.parametrize(
    ("argv", "text", "words"),
    [
        (("--paste", "none.ini"), INI, "paste (the command line): there is no file"),
        (("--paste", "site.ini"), INI.replace("13", "long"), "timeout = 'long' ("),
        (("--paste", "site.ini"), "name = 1\n" + INI, "no section header"),
    ],
)
def test_a_mistake_is_one_line(shop: Path, argv: tuple[str, ...], text: str, words: str) -> None:
    (shop / "site.ini").write_text(text)
    done = cyhorn(shop, *argv)
    assert done.returncode == 1 and words in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_an_application_that_is_not_there_is_named(shop: Path) -> None:
    with pytest.raises(AppImportError, match="nothing"):
        start("--paste", "site.ini#nothing").wsgi()


def test_without_pastedeploy_the_extra_is_named(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "paste.deploy", None)
    with pytest.raises(SystemExit):
        start("--paste", "site.ini")
    with pytest.raises(ConfigError, match=r"pip install cyhorn\[paste\]"):
        pasterapp.loadwsgi()


def test_a_reload_reads_the_file_again(shop: Path) -> None:
    app = start("--paste", "site.ini")
    (shop / "elsewhere").mkdir()
    (shop / "site.ini").write_text(INI.replace("13", "17") + "chdir = elsewhere\n")
    app.reload()
    assert app.cfg.timeout == 17 and app.cfg.chdir == str(shop / "elsewhere")
    app.reload()
    assert app.wsgi() is not None


@pytest.mark.parametrize(
    ("local", "bind"),
    [
        ({"host": "127.0.0.1", "port": "80"}, ["127.0.0.1:80"]),
        ({"host": "::1", "port": "80"}, ["[::1]:80"]),
        ({"host": "127.0.0.1:80, unix:/x"}, ["127.0.0.1:80", "unix:/x"]),
        ({"port": "80"}, ["127.0.0.1:80"]),
        ({"bind": "127.0.0.1:80 127.0.0.1:81"}, ["127.0.0.1:80", "127.0.0.1:81"]),
    ],
)
def test_host_and_port_become_bind(local: dict[str, str], bind: list[str]) -> None:
    settings, unknown = pasterapp.translate(local)
    assert settings == {"bind": bind} and unknown == []


def test_only_what_nothing_above_has_set_is_taken() -> None:
    cfg = Config()
    cfg.set("workers", 3, "here")
    pasterapp.apply(cfg, {"workers": 4, "threads": 5}, "x.ini")
    assert (cfg.workers, cfg.threads) == (3, 5)


# -- running --------------------------------------------------------------------------------------


def test_a_paste_project_is_served(shop: Path) -> None:
    (shop / "site.ini").write_text(INI + LOGGERS)
    with serving(shop, "-m", "cyhorn", "--paste", "site.ini") as server:
        assert "the main one" in server.get()[0]
        server.wait_for("PLAIN shop served the main one")
        assert server.stop() == 0


SERVE = """
import sys
from paste.deploy import loadapp, loadserver
uri = "config:" + sys.argv[1]
loadserver(uri)(loadapp(uri))
"""


def test_a_paste_program_serves_by_our_entry_point(shop: Path, tmp_path: Path) -> None:
    (shop / "serve.py").write_text(SERVE)
    (shop / "site.ini").write_text(INI + "server_header = by paste\n" + LOGGERS)
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    installed = distribution(tmp_path / "site-packages", "cyhorn", declared)
    with serving(shop, "serve.py", str(shop / "site.ini"), path=[installed]) as server:
        body, fields = server.get()
        assert "the main one" in body and fields["Server"] == "by paste"
        server.wait_for("PLAIN shop served")
        assert server.stop() == 0
    (shop / "site.ini").write_text(INI.replace("timeout", "tmeout"))
    done = python(
        shop, "-c", f"import sys; sys.path.insert(0, {str(installed)!r})\n" + SERVE, str(shop / "site.ini")
    )
    assert done.returncode == 1 and "tmeout: there is no such setting; did you mean timeout" in done.stderr
