"""Each kind of value: what is taken, what it becomes, and how a wrong one is refused."""

from __future__ import annotations

import functools
import os
import pwd
from pathlib import Path
from typing import Any

import pytest

from cyhorn.config import load as sources
from cyhorn.config import validators as v
from cyhorn.config.arguments import build_parser
from cyhorn.config.config import Config
from cyhorn.config.row import Kind, Row
from cyhorn.config.settings import SETTINGS
from cyhorn.errors import ConfigError

#: kind → (what a file says, what a flag says, what it becomes)
BY_KIND: dict[Kind, tuple[Any, str, Any]] = {
    v.POS_INT: (7, "7", 7),
    v.COUNT: (7, "7", 7),
    v.MODE: (0o27, "0027", 0o27),
    v.SECONDS: (2.5, "2.5", 2.5),
    v.SIZE: ("64K", "64K", 65536),
    v.STRING: (" text ", "text", "text"),
    v.PATH: (Path("/tmp/a"), "/tmp/a", "/tmp/a"),
    v.LIST: (["a"], "a", ["a"]),
    v.COMMA_LIST: ("a, b", "a, b", ["a", "b"]),
    v.PAIRS: (["A=1=2"], "A=1=2", ["A=1=2"]),
    v.ADDRESSES: ("10.0.0.0/8, ::1", "10.0.0.0/8,::1", ["10.0.0.0/8", "::1"]),
    v.DICT: ({"a": 1}, "", {"a": 1}),
    v.STRING_MAP: ({"A": "b"}, "", {"A": "b"}),
    v.FIELD_VALUE: ("mine", "mine", "mine"),
    v.PROXY_PROTOCOL: ("v1", "v1", "v1"),
    v.HTTP2_CLEARTEXT: ("both", "both", "both"),
    v.DIRECTORY: ("/", "/", "/"),
    v.FILES: (["/etc/passwd"], "/etc/passwd", ["/etc/passwd"]),
    v.USER: (12, "12", 12),
    v.GROUP: (12, "12", 12),
    v.STATSD: ("host:99", "host:99", ("host", 99)),
    v.CLASS: ("a.B", "a.B", "a.B"),
    v.ANY: (5, "5", "5"),
}
BY_NAME: dict[str, tuple[Any, str, Any]] = {
    "http_protocols": ("h2", "h2", ["h2"]),
    "header_map": ("refuse", "refuse", "refuse"),
    "reload_engine": ("poll", "poll", "poll"),
    "http_parser": ("fast", "fast", "fast"),
    "protocol": ("uwsgi", "uwsgi", "uwsgi"),
    "asgi_loop": ("uvloop", "uvloop", "uvloop"),
    "asgi_lifespan": ("on", "on", "on"),
    "cert_reqs": (2, "2", 2),
    "http2_max_frame_size": (20000, "20000", 20000),
    "http2_initial_window_size": (20000, "20000", 20000),
}


def sample(row: Row) -> tuple[Any, str, Any]:
    return BY_NAME.get(row.name) or BY_KIND[row.kind]


def from_flags(*arguments: str) -> Config:
    cfg = Config()
    sources.apply_options(cfg, build_parser(None, "cyhorn").parse_args(list(arguments)))
    return cfg


def from_file(path: Path, text: str) -> Config:
    path.write_text(text)
    cfg = Config()
    sources.read_config(str(path)).apply(cfg)
    return cfg


WITH_FLAGS = [row for row in SETTINGS.values() if row.flags]


@pytest.mark.parametrize("row", WITH_FLAGS, ids=lambda row: row.name)
def test_every_setting_comes_from_each_of_its_flags(row: Row) -> None:
    for flag in row.flags:
        if row.action == "store_true":
            assert from_flags(flag).settings[row.name].value is True
        else:
            _, text, expected = sample(row)
            setting = from_flags(flag, text).settings[row.name]
            assert setting.value == expected
            assert setting.source == "the command line"


@pytest.mark.parametrize("row", [row for row in SETTINGS.values() if row.no_flags], ids=lambda row: row.name)
def test_every_switch_off_works(row: Row) -> None:
    for flag in row.no_flags:
        assert from_flags(flag).settings[row.name].value is False


@pytest.mark.parametrize("row", SETTINGS.values(), ids=lambda row: row.name)
def test_every_setting_comes_from_a_config_file(row: Row, tmp_path: Path) -> None:
    if "Hooks" in row.section:
        parameters = row.kind.allowed.split("(")[1].split(")")[0]
        text, expected = f"def {row.name}({parameters}): return 'called'\n", None
    elif row.kind is v.BOOL:
        text, expected = f"{row.name} = {not row.default}\n", not row.default
    else:
        value, _, expected = sample(row)
        if row.kind is v.ANY:
            expected = value
        text = f"from pathlib import *\n{row.name} = {value!r}\n"
    cfg = from_file(tmp_path / "conf.py", text)
    if expected is None:
        assert callable(cfg.settings[row.name].value)
    else:
        assert cfg.settings[row.name].value == expected
    assert cfg.settings[row.name].source.endswith(
        f"conf.py:{text.count(chr(10))}" if expected is not None else ":1"
    )


@pytest.mark.parametrize(
    "row", [row for row in SETTINGS.values() if row.kind is not v.ANY], ids=lambda row: row.name
)
def test_a_wrong_value_is_one_line_with_name_value_source_and_what_is_allowed(
    row: Row, tmp_path: Path
) -> None:
    wrong: Any = "wrong\tvalue"
    if row.kind is v.STATSD:
        wrong = "unix://"
    elif row.kind in (v.STRING, v.PATH, v.CLASS, v.LIST, v.COMMA_LIST):
        wrong = 3.5
    with pytest.raises(ConfigError) as caught:
        from_file(tmp_path / "conf.py", f"\n{row.name} = {wrong!r}\n")
    line = str(caught.value)
    assert line.startswith(f"{row.name} = {wrong!r} (")
    assert "conf.py:2)" in line and line.endswith(f"use {row.kind.allowed}") and "\n" not in line


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (v.POS_INT, "0x10", 16),
        (v.POS_INT, "0o17", 15),
        (v.POS_INT, True, 1),
        (v.POS_INT, " 5 ", 5),
        (v.MODE, "0022", 0o22),
        (v.MODE, "0o22", 0o22),
        (v.MODE, "18", 18),
        (v.MODE, "0", 0),
        (v.BOOL, " TRUE ", True),
        (v.BOOL, "false", False),
        (v.BOOL, None, None),
        (v.SECONDS, 3, 3),
        (v.SECONDS, "0.25", 0.25),
        (v.SECONDS, "3", 3),
        (v.SIZE, "1M", 1 << 20),
        (v.SIZE, "2 GiB", 2 << 30),
        (v.SIZE, "10kb", 10240),
        (v.SIZE, "100B", 100),
        (v.SIZE, 5, 5),
        (v.STRING, None, None),
        (v.LIST, "one", ["one"]),
        (v.LIST, ("a ", "b"), ["a", "b"]),
        (v.LIST, None, []),
        (v.COMMA_LIST, ["a", "b"], ["a", "b"]),
        (v.ADDRESSES, "*", ["*"]),
        (v.ADDRESSES, "", []),
        (v.PROXY_PROTOCOL, True, "auto"),
        (v.PROXY_PROTOCOL, False, "off"),
        (v.PROXY_PROTOCOL, "1", "auto"),
        (v.PROXY_PROTOCOL, "None", "off"),
        (v.HTTP2_CLEARTEXT, True, "prior-knowledge"),
        (v.USER, None, os.geteuid()),
        (v.USER, pwd.getpwuid(0).pw_name, 0),
        (v.GROUP, None, os.getegid()),
        (v.GROUP, "0", 0),
        (v.STATSD, "host", ("host", 8125)),
        (v.STATSD, "unix:99", ("unix", 99)),
        (v.STATSD, "unix:///run/x", "/run/x"),
        (v.STATSD, None, None),
        (v.words("h1", "h2"), "H2, h1", ["h2", "h1"]),
        (v.words("h1", "h2"), "", ["h1"]),
        (v.choice("drop", "refuse"), " Refuse", "refuse"),
    ],
)
def test_a_kind_takes(kind: Kind, value: Any, expected: Any) -> None:
    result = kind(value)
    assert result == expected and type(result) is type(expected)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (v.POS_INT, -1),
        (v.POS_INT, 1.5),
        (v.POS_INT, "1.5"),
        (v.POS_INT, ""),
        (v.POS_INT, None),
        (v.COUNT, 0),
        (v.MODE, "0o9"),
        (v.MODE, "099"),
        (v.BOOL, "yes"),
        (v.BOOL, 1),
        (v.SECONDS, "nan"),
        (v.SECONDS, "inf"),
        (v.SECONDS, -0.1),
        (v.SECONDS, True),
        (v.SIZE, "1T"),
        (v.SIZE, "-1"),
        (v.SIZE, True),
        (v.STRING, b"bytes"),
        (v.LIST, ["a", 1]),
        (v.LIST, b"bytes"),
        (v.PAIRS, ["NOVALUE"]),
        (v.PAIRS, ["=x"]),
        (v.ADDRESSES, "10.0.0.1/8"),
        (v.ADDRESSES, "localhost"),
        (v.STRING_MAP, {"a": 1}),
        (v.FIELD_VALUE, "a\r\nb"),
        (v.FIELD_VALUE, "é"),
        (v.DIRECTORY, "/nowhere/at/all"),
        (v.DIRECTORY, "/etc/passwd"),
        (v.FILES, ["/nowhere/at/all"]),
        (v.USER, "no such user"),
        (v.USER, -2),
        (v.GROUP, "no such group"),
        (v.STATSD, "fd://3"),
        (v.words("h1", "h2"), "h1,h1"),
        (v.words("h1", "h2"), "h3"),
    ],
)
def test_a_kind_refuses(kind: Kind, value: Any) -> None:
    with pytest.raises((TypeError, ValueError, KeyError, AttributeError)):
        kind(value)


def test_a_glob_pattern_needs_no_match_but_is_warned_about() -> None:
    cfg = Config()
    cfg.set("reload_extra_files", ["/nowhere/*.html"])
    assert cfg.reload_extra_files == ["/nowhere/*.html"]
    assert any("/nowhere/*.html" in line for line in cfg.warnings())


def test_a_leading_zero_in_a_flag_is_decimal_for_counts_and_octal_for_modes() -> None:
    assert from_flags("-w", "010").workers == 10
    assert from_flags("-m", "010").umask == 8


def test_the_bare_proxy_protocol_flag_is_auto() -> None:
    assert from_flags("--proxy-protocol").proxy_protocol == "auto"


def test_a_link_named_by_the_shell_stays_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "release-1").mkdir()
    (tmp_path / "current").symlink_to("release-1")
    monkeypatch.chdir(tmp_path / "current")
    monkeypatch.setenv("PWD", str(tmp_path / "current"))
    assert Config().chdir == str(tmp_path / "current")
    monkeypatch.setenv("PWD", "/")
    assert Config().chdir == str(tmp_path / "release-1")


# -- hooks ----------------------------------------------------------------------------------------


def test_a_hook_may_have_defaults_and_stars() -> None:
    hook = v.hook("server", "worker")
    for function in (lambda s, w: 0, lambda s, w=None: 0, lambda *a: 0, lambda s, w, x=1: 0, print):
        assert hook(function) is function
    bound = functools.partial(lambda extra, s, w: 0, 1)
    assert hook(bound) is bound


@pytest.mark.parametrize("function", [lambda s: 0, lambda s, w, x: 0, lambda s, *, w: 0])
def test_a_hook_of_other_parameters_is_refused(function: Any) -> None:
    with pytest.raises(v.Refused):
        v.hook("server", "worker")(function)


def test_a_hook_can_be_named_by_a_dotted_text() -> None:
    assert v.hook("path")("os.path.basename") is os.path.basename
    for wrong in ("basename", "os.path.nothing", "no.such.module"):
        with pytest.raises(v.Refused):
            v.hook("path")(wrong)


def test_a_hook_that_is_not_set_is_none() -> None:
    assert Config().post_fork is None
    assert v.hook("server")(None) is None


def test_post_request_gets_as_many_arguments_as_it_takes() -> None:
    calls: list[tuple[Any, ...]] = []
    two, three = (lambda w, r: calls.append((w, r))), (lambda w, r, e: calls.append((w, r, e)))
    four = lambda w, r, e, s: calls.append((w, r, e, s))  # noqa: E731
    for function in (two, three, four):
        v.POST_REQUEST(function)(1, 2, 3, 4)
    assert calls == [(1, 2), (1, 2, 3), (1, 2, 3, 4)]
    for wrong in (lambda w: 0, lambda a, b, c, d, e: 0, 5):
        with pytest.raises((v.Refused, TypeError)):
            v.POST_REQUEST(wrong)
