"""Config files: what runs, what counts as a setting, what is refused and how."""

from __future__ import annotations

import py_compile
import sys
from pathlib import Path

import pytest

from cyhorn.config import load as sources
from cyhorn.config.config import Config
from cyhorn.errors import ConfigError


@pytest.fixture(autouse=True)
def own_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test has its own sys.modules and sys.path."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.delitem(sys.modules, "__config__", raising=False)


def load(path: Path, text: str) -> Config:
    path.write_text(text)
    cfg = Config()
    sources.read_config(str(path)).apply(cfg)
    return cfg


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    return tmp_path / "conf.py"


def refusal(path: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path, text)
    line = str(caught.value)
    assert "\n" not in line
    return line


# -- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "meant"),
    [("workrs", "workers"), ("bnd", "bind"), ("TIMEOUT", "timeout"), ("worker_clas", "worker_class")],
)
def test_a_name_that_is_no_setting_is_refused_with_line_and_closest(
    conf: Path, name: str, meant: str
) -> None:
    line = refusal(conf, f"workers = 2\n{name} = 3\n")
    assert f"conf.py:2: there is no setting {name!r}; did you mean {meant}" in line


def test_all_wrong_names_are_told_at_once(conf: Path) -> None:
    line = refusal(conf, "if True:\n    workrs = 3\nfor x1 in ():\n    pass\nzzzzzz = None\n")
    assert "conf.py:2" in line and "'workrs'" in line and "conf.py:5" in line and "'zzzzzz'" in line


@pytest.mark.parametrize(
    "text",
    [
        "import os, sys as system\nimport os.path\n",
        "from os import environ, sep\nfrom pathlib import *\n",
        "def helper(): pass\nclass Helper: pass\n",
        "_private = 3\n__all__ = ['workers']\n",
        "cores = 4\nworkers = cores * 2\n",
        "level = 'info'\ndef post_fork(server, worker): print(level)\n",
        "import logging\nlog = logging.getLogger()\n",
        "for item in [1, 2]:\n    print(item)\n",
        "with open(__file__) as stream:\n    text = stream.read()\nproc_name = text[:2].strip() or 'x'\n",
        "from json import dumps as workrs\n",
    ],
    ids=[
        "modules",
        "imported",
        "functions",
        "private",
        "helper",
        "helper-of-hook",
        "object",
        "loop",
        "with",
        "alias",
    ],
)
def test_helpers_of_a_config_file_are_its_own_affair(conf: Path, text: str) -> None:
    assert load(conf, text).warnings() == []


def test_a_name_made_at_run_time_is_warned_about(conf: Path) -> None:
    cfg = load(conf, "globals()['workrs'] = 3\nglobals()['workers'] = 3\n")
    assert cfg.workers == 3
    assert [line for line in cfg.warnings() if "'workrs'" in line and "workers" in line and "ignored" in line]


def test_a_function_that_is_nearly_a_hook_is_warned_about(conf: Path) -> None:
    cfg = load(conf, "def post_frok(server, worker): pass\n")
    assert [line for line in cfg.warnings() if "conf.py:1" in line and "post_fork" in line]


def test_a_module_with_a_settings_name_is_not_its_value(conf: Path) -> None:
    assert load(conf, "import types as user\n").settings["user"].source == "default"


def test_an_imported_value_with_a_settings_name_counts(conf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (conf.parent / "shared_values.py").write_text("workers = 6\n")
    monkeypatch.syspath_prepend(str(conf.parent))
    cfg = load(conf, "from shared_values import *\n")
    assert cfg.workers == 6


def test_the_source_of_a_value_is_its_last_line(conf: Path) -> None:
    assert load(conf, "workers = 1\nworkers += 1\n").settings["workers"].source == f"{conf}:2"


@pytest.mark.parametrize(
    ("text", "subject"),
    [
        ("asgi_loop = 'uvloop'", "ASGI"),
        ("http_protocols = 'h1,h2'", "HTTP/2"),
        ("dirty_workers = 2", "dirty"),
        ("protocol = 'uwsgi'", "uWSGI"),
        ("def dirty_post_fork(arbiter, worker): pass", "dirty"),
    ],
)
def test_what_is_not_served_is_taken_with_one_warning(conf: Path, text: str, subject: str) -> None:
    (line,) = load(conf, text + "\n").warnings()
    assert subject in line and "conf.py:1" in line and "not served" in line


def test_settings_of_one_subject_share_a_warning(conf: Path) -> None:
    (line,) = load(conf, "dirty_workers = 2\ndirty_timeout = 5\n").warnings()
    assert "dirty_workers" in line and "dirty_timeout" in line


def test_a_setting_of_what_is_not_served_is_silent_at_its_default(conf: Path) -> None:
    assert load(conf, "protocol = 'http'\nhttp_protocols = 'h1'\ndirty_workers = 0\n").warnings() == []


# -- running --------------------------------------------------------------------------------------


def test_the_file_runs_as_the_module_config(conf: Path) -> None:
    cfg = load(conf, "import sys\nproc_name = __name__\nwsgi_app = sys.modules[__name__].__file__\n")
    assert (cfg.proc_name, cfg.wsgi_app) == ("__config__", str(conf))


def test_the_files_own_future_imports_are_the_only_ones(conf: Path) -> None:
    cfg = load(conf, "def f(x: int): pass\nproc_name = str(f.__annotations__['x'] is int)\n")
    assert cfg.proc_name == "True"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\nworkers = = 3\n", "conf.py:2: SyntaxError"),
        ("\nworkers = missing\n", "conf.py:2: NameError: name 'missing' is not defined"),
        ("import os\n\nworkers = os.environ['NOT_THERE_AT_ALL']\n", "conf.py:3: KeyError"),
        ("import no_such_module_at_all\n", "conf.py:1: ModuleNotFoundError"),
        ("def f():\n    return 1 / 0\n\nworkers = f()\n", "conf.py:2: ZeroDivisionError"),
        ("import sys\nsys.exit('set DB_URL')\n", "conf.py:2: it calls sys.exit('set DB_URL')"),
        ("x = '\\xff'.encode('ascii')\n", "conf.py:1: UnicodeEncodeError"),
        ("raise ValueError('two\\nlines')\n", "conf.py:1: ValueError: two lines"),
    ],
)
def test_a_file_that_does_not_run_is_one_line_that_names_its_own(
    conf: Path, text: str, expected: str
) -> None:
    assert expected in refusal(conf, text)


def test_a_missing_file_and_a_directory_are_refused(tmp_path: Path) -> None:
    for location in (str(tmp_path / "none.py"), f"file:{tmp_path}", "python:no_such_module_at_all"):
        with pytest.raises(ConfigError):
            sources.read_config(location)


def test_a_change_within_the_same_second_and_of_the_same_size_is_seen(conf: Path) -> None:
    assert load(conf, "workers = 3\n").workers == 3
    assert load(conf, "workers = 4\n").workers == 4


def test_a_file_prefix_any_extension_and_bytecode_are_taken(tmp_path: Path) -> None:
    (tmp_path / "conf.ini").write_text("workers = 3\n")
    file = sources.read_config(f"file:{tmp_path / 'conf.ini'}")
    assert file.values["workers"] == 3
    (tmp_path / "conf.py").write_text("workers = 5\nworkrs = 6\n")
    py_compile.compile(str(tmp_path / "conf.py"), str(tmp_path / "conf.pyc"))
    cfg = Config()
    sources.read_config(str(tmp_path / "conf.pyc")).apply(cfg)
    assert cfg.workers == 5 and cfg.warnings()


def test_a_file_in_another_encoding_is_read(conf: Path) -> None:
    conf.write_bytes("# coding: latin-1\nproc_name = 'caf\xe9'\n".encode("latin-1"))
    cfg = Config()
    sources.read_config(str(conf)).apply(cfg)
    assert cfg.proc_name == "caf\xe9"


def test_a_module_is_read_again_only_when_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    module = tmp_path / "settings_module_a.py"
    module.write_text("workers = 3\nthreads = 2\n")
    assert sources.read_config("python:settings_module_a").values["workers"] == 3
    module.write_text("workers = 44\n")
    assert sources.read_config("python:settings_module_a").values["workers"] == 3
    again = sources.read_config("python:settings_module_a", fresh=True).values
    assert again["workers"] == 44 and "threads" not in again
    old = sys.modules["settings_module_a"]
    module.write_text("workers = oops this\n")
    with pytest.raises(ConfigError, match=r"settings_module_a\.py:1"):
        sources.read_config("python:settings_module_a", fresh=True)
    assert sys.modules["settings_module_a"] is old


def test_a_modules_values_name_file_and_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "settings_module_b.py").write_text("\nworkers = 'x'\n")
    with pytest.raises(ConfigError, match=r"settings_module_b\.py:2\)"):
        sources.read_config("python:settings_module_b").apply(Config())


# -- the environment ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variable", "text", "name", "expected"),
    [
        ("PORT", "5000", "bind", ["0.0.0.0:5000"]),
        ("WEB_CONCURRENCY", "4", "workers", 4),
        ("FORWARDED_ALLOW_IPS", "*", "forwarded_allow_ips", ["*"]),
        ("FORWARDED_ALLOW_IPS", "", "forwarded_allow_ips", []),
        ("SENDFILE", "0", "sendfile", False),
        ("SENDFILE", "Yes", "sendfile", True),
        ("PORT", "", "bind", ["127.0.0.1:8000"]),
        ("WEB_CONCURRENCY", " ", "workers", 1),
    ],
)
def test_a_variable_replaces_a_default(variable: str, text: str, name: str, expected: object) -> None:
    cfg = Config()
    sources.apply_environment(cfg, {variable: text})
    assert getattr(cfg, name) == expected
    assert (variable in cfg.settings[name].source) == bool(text.strip() or expected == [])


@pytest.mark.parametrize(
    ("variable", "text"), [("WEB_CONCURRENCY", "many"), ("FORWARDED_ALLOW_IPS", "10.0.0.1/8")]
)
def test_a_wrong_variable_is_named(variable: str, text: str) -> None:
    with pytest.raises(ConfigError, match=f"environment variable {variable}"):
        sources.apply_environment(Config(), {variable: text})


def test_a_port_that_is_none_is_refused_with_its_source() -> None:
    cfg = Config()
    sources.apply_environment(cfg, {"PORT": "http"})
    with pytest.raises(ConfigError, match="environment variable PORT"):
        cfg.validate()


def test_cyhorns_own_file_goes_first(tmp_path: Path) -> None:
    assert sources.discover(str(tmp_path)) is None
    (tmp_path / "gunicorn.conf.py").touch()
    assert sources.discover(str(tmp_path)) == str(tmp_path / "gunicorn.conf.py")
    (tmp_path / "cyhorn.conf.py").touch()
    assert sources.discover(str(tmp_path)) == str(tmp_path / "cyhorn.conf.py")


#: The shape of a file that many container images carry: helpers, the environment, a loop over it.
CONTAINER = """
import json
import os

cores_text = os.getenv("CORES", "2")
max_workers = None
if os.getenv("MAX_WORKERS"):
    max_workers = int(os.environ["MAX_WORKERS"])
host = os.getenv("HOST", "127.0.0.1")
port = os.getenv("APP_PORT", "8001")
web_concurrency = max(int(cores_text), 2)
if max_workers:
    web_concurrency = min(web_concurrency, max_workers)

workers = web_concurrency
bind = f"{host}:{port}"
worker_tmp_dir = "/dev/shm"
for key, value in {"GUNICORN_BACKLOG": "77", "GUNICORN_CMD_ARGS": ""}.items():
    locals()[key.split("_", 1)[1].lower()] = value

def when_ready(server): pass
def child_exit(server, worker): pass

log_data = {"workers": workers, "host": host}
print(json.dumps(log_data))
"""


def test_a_container_images_file_is_taken(conf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cfg = load(conf, CONTAINER)
    assert (cfg.workers, cfg.bind, cfg.backlog) == (2, ["127.0.0.1:8001"], 77)
    assert cfg.when_ready is not None and cfg.child_exit is not None
    (line,) = cfg.warnings()
    assert "'cmd_args'" in line
    assert capsys.readouterr().out
