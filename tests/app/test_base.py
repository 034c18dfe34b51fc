"""The embedding API, precedence of sources, and reloads that fail."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cyhorn.app.base import Application, BaseApplication
from cyhorn.app.wsgiapp import WSGIApplication
from cyhorn.errors import ConfigError


def hello(environ: Any, start_response: Any) -> list[bytes]:
    return [b"hello"]


class Standalone(BaseApplication):
    """What Gunicorn's manual calls a custom application."""

    def __init__(self, app: Callable[..., Any], options: dict[str, Any] | None = None) -> None:
        self.options = options or {}
        self.application = app
        super().__init__()

    def load_config(self) -> None:
        for name, value in self.options.items():
            if name in self.cfg.settings and value is not None:
                self.cfg.set(name.lower(), value)

    def load(self) -> Callable[..., Any]:
        return self.application


def start(*argv: str) -> WSGIApplication:
    return WSGIApplication("%(prog)s [OPTIONS] [APP_MODULE]", prog="cyhorn", argv=[*argv, "shop:app"])


@pytest.fixture(autouse=True)
def shop(project: Path) -> Path:
    (project / "shop.py").write_text("def app(environ, start_response): return []\n")
    return project


# -- embedding ------------------------------------------------------------------------------------


def test_an_embedded_application_sets_what_it_wants() -> None:
    app = Standalone(hello, {"bind": "127.0.0.1:8080", "workers": 3, "not_a_setting": 1})
    assert (app.cfg.bind, app.cfg.workers) == (["127.0.0.1:8080"], 3)
    assert app.wsgi() is hello and app.callable is hello
    assert app.cfg.settings["workers"].source == "the application"


def test_an_embedded_application_sees_the_variables_but_no_files_nor_flags(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "cyhorn.conf.py").write_text("workers = 7\n")
    monkeypatch.setenv("CYHORN_CMD_ARGS", "--workers 8")
    monkeypatch.setenv("PORT", "5001")
    monkeypatch.setattr(sys, "argv", ["prog", "--workers", "9"])
    app = Standalone(hello)
    assert (app.cfg.workers, app.cfg.bind) == (1, ["0.0.0.0:5001"])


@pytest.mark.parametrize("options", [{"workers": "many"}, {"bind": "a:b:c"}, {"worker_class": "nothing"}])
def test_a_wrong_setting_ends_the_process_with_one_line(
    options: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        Standalone(hello, options)
    assert left.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("Error: ") and str(next(iter(options.values()))) in line


def test_a_base_application_must_say_what_to_load() -> None:
    class Half(BaseApplication):
        def load_config(self) -> None:
            pass

    with pytest.raises(NotImplementedError):
        Half().wsgi()


def test_an_applications_own_settings_come_below_the_config_file(project: Path) -> None:
    (project / "cyhorn.conf.py").write_text("threads = 1\nbacklog = 12\n")

    class Framework(Application):
        def init(self, parser: Any, opts: Any, args: list[str]) -> dict[str, Any]:
            assert opts.config is None and args == ["site"]
            return {"BACKLOG": 11, "timeout": 13}

        def load(self) -> Callable[..., Any]:
            return hello

    cfg = Framework(argv=["site"]).cfg
    assert (cfg.backlog, cfg.timeout) == (12, 13)


# -- precedence -----------------------------------------------------------------------------------


def test_each_source_beats_those_below_it(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def workers(*argv: str) -> tuple[int, str]:
        cfg = start(*argv).cfg
        return cfg.workers, cfg.settings["workers"].source

    assert workers() == (1, "default")
    monkeypatch.setenv("WEB_CONCURRENCY", "2")
    assert workers() == (2, "the environment variable WEB_CONCURRENCY")
    (project / "gunicorn.conf.py").write_text("workers = 3\n")
    assert workers() == (3, "./gunicorn.conf.py:1")
    (project / "cyhorn.conf.py").write_text("\nworkers = 4\n")
    assert workers() == (4, "./cyhorn.conf.py:2")
    monkeypatch.setenv("GUNICORN_CMD_ARGS", "--workers 5")
    assert workers() == (5, "GUNICORN_CMD_ARGS")
    monkeypatch.setenv("CYHORN_CMD_ARGS", "-w 6 ignored:app")
    assert workers() == (6, "CYHORN_CMD_ARGS")
    assert workers("-w", "7") == (7, "the command line")


def test_the_config_file_named_on_the_command_line_goes_first(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, name in enumerate(("one", "two", "cyhorn.conf"), 1):
        (project / f"{name}.py").write_text(f"workers = {number}\n")
    assert start().cfg.workers == 3
    monkeypatch.setenv("CYHORN_CMD_ARGS", "-c two.py")
    assert start().cfg.workers == 2
    assert start("-c", "file:one.py").cfg.workers == 1
    assert start("-c", "python:one").cfg.workers == 1


def test_reading_gunicorns_file_is_said_at_start(project: Path) -> None:
    (project / "gunicorn.conf.py").write_text("workers = 3\n")
    (notice,) = start().cfg.notices()
    assert "gunicorn.conf.py" in notice and "cyhorn.conf.py" in notice
    (project / "cyhorn.conf.py").touch()
    assert start().cfg.notices() == []


def test_a_list_from_a_higher_source_replaces_the_lower_one(project: Path) -> None:
    (project / "cyhorn.conf.py").write_text("bind = ['127.0.0.1:1', '127.0.0.1:2']\n")
    assert start("-b", "127.0.0.1:3", "-b", "127.0.0.1:4").cfg.bind == ["127.0.0.1:3", "127.0.0.1:4"]


def test_another_extension_is_read_with_a_warning(project: Path) -> None:
    (project / "conf.ini").write_text("workers = 3\n")
    cfg = start("-c", "conf.ini").cfg
    assert cfg.workers == 3 and any("conf.ini" in line for line in cfg.warnings())


def test_chdir_counts_for_the_application_not_for_the_config_file(project: Path) -> None:
    (project / "site").mkdir()
    (project / "conf.py").write_text("chdir = 'site'\n")
    cfg = start("-c", "conf.py").cfg
    assert cfg.chdir == os.getcwd() == str(project / "site")
    assert sys.path[0] == str(project / "site")


# -- the application's name -----------------------------------------------------------------------


def test_the_application_is_named_by_flag_or_file(project: Path) -> None:
    app = start()
    assert (app.app_uri, app.cfg.proc_name) == ("shop:app", "shop:app")
    (project / "cyhorn.conf.py").write_text("wsgi_app = 'other:app'\n")
    assert start().app_uri == "shop:app"
    assert WSGIApplication(prog="cyhorn", argv=[]).app_uri == "other:app"


def test_more_than_one_application_is_warned_about() -> None:
    cfg = start("first:app").cfg
    assert any("'shop:app'" in line and "first:app" in line for line in cfg.warnings())


# -- reload ---------------------------------------------------------------------------------------


def test_a_reload_reads_everything_again(project: Path) -> None:
    (project / "cyhorn.conf.py").write_text("workers = 3\nbacklog = 5\n")
    app = start()
    app.wsgi()
    before = app.cfg
    (project / "cyhorn.conf.py").write_text("workers = 4\n")
    app.reload()
    assert app.cfg is not before
    assert (before.workers, before.backlog, app.cfg.workers, app.cfg.backlog) == (3, 5, 4, 2048)
    assert app.callable is None, "the application is loaded anew"


def test_a_reload_of_a_module_reads_it_again(project: Path) -> None:
    (project / "settings_c.py").write_text("workers = 3\n")
    app = start("-c", "python:settings_c")
    (project / "settings_c.py").write_text("workers = 44\n")
    app.reload()
    assert app.cfg.workers == 44


@pytest.mark.parametrize(
    "broken",
    [
        "workers = = 3\n",
        "workers = 'many'\n",
        "workrs = 3\n",
        "bind = 'a:b:c'\n",
        "import sys; sys.exit(3)\n",
        "raise RuntimeError('no')\n",
        "certfile = '/nowhere.pem'\n",
        None,
    ],
)
def test_a_reload_that_fails_changes_nothing(project: Path, broken: str | None) -> None:
    (project / "conf.py").write_text("workers = 3\nchdir = 'site'\n")
    (project / "site").mkdir()
    app = start("-c", "conf.py")
    app.wsgi()
    before, config_module = dict(vars(app)), sys.modules["__config__"]
    if broken is None:
        (project / "conf.py").unlink()
    else:
        (project / "conf.py").write_text(broken + "chdir = 'elsewhere'\n")
    with pytest.raises(ConfigError):
        app.reload()
    assert vars(app) == before and app.cfg is before["cfg"] and app.cfg.workers == 3
    assert os.getcwd() == str(project / "site")
    assert sys.modules["__config__"] is config_module
    (project / "conf.py").write_text("workers = 5\n")
    app.reload()
    assert app.cfg.workers == 5


def test_a_relative_chdir_means_the_same_after_a_reload(project: Path) -> None:
    (project / "site").mkdir()
    app = start("--chdir", "site")
    app.reload()
    assert app.cfg.chdir == str(project / "site")


def test_raw_env_of_the_old_configuration_is_not_an_environment_for_the_new(project: Path) -> None:
    (project / "conf.py").write_text("raw_env = ['WEB_CONCURRENCY=9', 'HOME=/x']\n")
    home = os.environ.get("HOME")
    app = start("-c", "conf.py")
    os.environ.update(app.cfg.env)
    try:
        (project / "conf.py").write_text("")
        app.reload()
    finally:
        os.environ.pop("WEB_CONCURRENCY")
        if home is not None:
            os.environ["HOME"] = home
    assert app.cfg.workers == 1
    assert app.cfg.env_orig.get("HOME") == home


def test_a_reload_says_its_warnings_in_the_log(project: Path) -> None:
    class Log:
        lines: list[str] = []

        def info(self, line: str) -> None:
            self.lines.append("info: " + line)

        def warning(self, line: str) -> None:
            self.lines.append("warning: " + line)

    app = start()
    app.logger = Log()
    (project / "gunicorn.conf.py").write_text("dirty_workers = 2\n")
    app.reload()
    first, second = Log.lines
    assert first.startswith("info: ") and "gunicorn.conf.py" in first
    assert second.startswith("warning: ") and "dirty_workers" in second


def test_flags_of_the_start_count_again_at_a_reload(project: Path) -> None:
    (project / "cyhorn.conf.py").write_text("workers = 3\n")
    app = start("-w", "5")
    app.reload()
    assert app.cfg.workers == 5 and app.app_uri == "shop:app"


# -- paths ----------------------------------------------------------------------------------------


def test_pythonpath_is_put_in_front_in_its_order(project: Path) -> None:
    app = start("--pythonpath", "one, two")
    app.set_python_path()
    assert sys.path[:2] == [str(project / "one"), str(project / "two")]
