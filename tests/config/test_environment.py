"""CYHORN_<SETTING>: every setting from a variable, and what is said of variables that are none."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from cyhorn.config.config import Config
from cyhorn.config.environment import HOOKS, RESERVED, apply_environment, unknown_variables
from cyhorn.config.row import Row
from cyhorn.config.settings import SETTINGS
from cyhorn.errors import ConfigError


def config(**variables: str) -> Config:
    cfg = Config()
    apply_environment(cfg, variables)
    return cfg


#: name → text of the variable and the value it gives, where no general candidate below will do.
TEXTS: dict[str, tuple[str, Any]] = {
    "bind": ("127.0.0.1:81 [::1]:82", ["127.0.0.1:81", "[::1]:82"]),
    "raw_env": ("A=1 'B=two words'", ["A=1", "B=two words"]),
    "raw_paste_global_conf": ("a=1", ["a=1"]),
    "dirty_apps": ("a:A b:B", ["a:A", "b:B"]),
    "reload_extra_files": ("*.html", ["*.html"]),
    "logconfig_dict": ('{"version": 1}', {"version": 1}),
    "secure_scheme_headers": ('{"X-SSL": "on"}', {"X-SSL": "on"}),
    "forwarder_headers": ("REMOTE_USER", ["REMOTE_USER"]),
    "chdir": ("/", "/"),
    "umask": ("0022", 0o22),
    "control_socket_mode": ("0660", 0o660),
    "user": ("12345", 12345),
    "group": ("12345", 12345),
    "cert_reqs": ("2", 2),
    "statsd_host": ("localhost:8126", ("localhost", 8126)),
    "http2_max_frame_size": ("20000", 20000),
    "http2_cleartext": ("both", "both"),
    "http_protocols": ("h1,h2", ["h1", "h2"]),
    "proxy_protocol": ("v2", "v2"),
}


def candidate(row: Row) -> tuple[str, Any]:
    """A text for the variable of `row` that is not the default, and its value."""
    if row.name in TEXTS:
        return TEXTS[row.name]
    if row.name in HOOKS:
        return f"tests_hooks:{row.name}", None
    if row.kind.choices:
        return row.kind.choices[-1], row.kind.choices[-1]
    default = row.kind(row.default)
    for text, value in (
        ("7", 7),
        ("0" if default is True else "yes", default is not True),
        ("10.0.0.0/8,::1", ["10.0.0.0/8", "::1"]),
        ("some.text", "some.text"),
    ):
        try:
            if row.kind(row.kind.of_text(text)) == value and value != default:
                return text, value
        except Exception:
            continue
    raise AssertionError(row.name)


@pytest.fixture
def hooks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PWD", str(tmp_path))
    monkeypatch.delitem(sys.modules, "tests_hooks", raising=False)
    takes = {name: SETTINGS[name].kind.allowed.split("(", 1)[1].split(")")[0] for name in HOOKS}
    (tmp_path / "tests_hooks.py").write_text(
        "".join(f"def {name}({parameters}): pass\n" for name, parameters in takes.items())
    )
    return tmp_path


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_has_its_variable(name: str, hooks: Path) -> None:
    row = SETTINGS[name]
    text, value = candidate(row)
    cfg = config(**{f"CYHORN_{name.upper()}": text})
    setting = cfg.settings[name]
    if name in HOOKS:
        assert setting.value.__name__ == name or setting.value.__name__ == "<lambda>"
    else:
        assert setting.value == value
    assert setting.source == f"the environment variable CYHORN_{name.upper()}"
    assert cfg.settings.keys() == SETTINGS.keys()


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("CYHORN_WORKERS", "many", "workers = 'many' (the environment variable CYHORN_WORKERS): use a whole"),
        ("CYHORN_RELOAD", "maybe", "use True or False"),
        ("CYHORN_BIND", "'open", "CYHORN_BIND): No closing quotation"),
        ("CYHORN_LOGCONFIG_DICT", "{", "CYHORN_LOGCONFIG_DICT): it is not JSON"),
        ("CYHORN_POST_FORK", "nowhere", "a text must be MODULE:FUNCTION"),
        ("CYHORN_POST_FORK", "no_such_module:f", "does not import"),
        ("CYHORN_POST_FORK", "os:getcwd", "it takes other parameters"),
    ],
)
def test_a_wrong_value_names_the_variable(name: str, text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config(**{name: text})
    assert name in str(caught.value) and words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["1", "true", "YES", "on", "True"])
def test_switches_take_the_usual_words(text: str) -> None:
    assert config(CYHORN_RELOAD=text).reload is True


@pytest.mark.parametrize("text", ["0", "false", "no", "OFF"])
def test_switches_are_turned_off_by_the_usual_words(text: str) -> None:
    assert config(CYHORN_GC_FREEZE=text).gc_freeze is False


def test_the_settings_own_variable_goes_before_the_platforms() -> None:
    cfg = config(PORT="5000", CYHORN_BIND="127.0.0.1:81", WEB_CONCURRENCY="2", CYHORN_WORKERS="3")
    assert (cfg.bind, cfg.workers) == (["127.0.0.1:81"], 3)


def test_an_empty_variable_counts_only_where_empty_means_something() -> None:
    cfg = config(
        CYHORN_WORKERS="", CYHORN_ACCESSLOG=" ", CYHORN_SERVER_HEADER="", CYHORN_FORWARDED_ALLOW_IPS=""
    )
    assert (cfg.workers, cfg.accesslog, cfg.server_header, cfg.forwarded_allow_ips) == (1, None, "", [])
    assert cfg.warnings() == []


def test_a_hook_is_found_where_pythonpath_says(hooks: Path) -> None:
    (hooks / "lib").mkdir()
    (hooks / "lib" / "far_hooks.py").write_text("def ready(server): pass\n")
    before = list(sys.path)
    cfg = config(CYHORN_PYTHONPATH=str(hooks / "lib"), CYHORN_WHEN_READY="far_hooks:ready")
    assert cfg.when_ready.__name__ == "ready"
    assert sys.path == before
    del sys.modules["far_hooks"]


def test_an_unknown_variable_is_one_warning_that_names_the_closest() -> None:
    (line,) = config(CYHORN_WROKERS="3").warnings()
    assert line.endswith("CYHORN_WROKERS is no setting of cyhorn; did you mean CYHORN_WORKERS?")


def test_reserved_variables_are_no_settings() -> None:
    assert config(**dict.fromkeys(RESERVED, "1")).warnings() == []
    assert not {row.variable for row in SETTINGS.values()} & RESERVED


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("CYHORN_SERVICE_HOST", "10.0.0.1", False),
        ("CYHORN_SERVICE_PORT_HTTP", "80", False),
        ("CYHORN_PORT", "tcp://10.0.0.1:80", False),
        ("CYHORN_PORT_80_TCP_ADDR", "10.0.0.1", False),
        ("CYHORN_WEB_PORT", "tcp://10.0.0.1:80", False),
        ("CYHORN_PORT", "5000", True),
    ],
)
def test_what_kubernetes_says_of_a_service_is_no_mistake(name: str, value: str, told: bool) -> None:
    assert unknown_variables({name: value}) == [name] * told


def test_nothing_is_read_from_the_process_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "CYHORN_WORKERS", "9")
    assert config().workers == 1
