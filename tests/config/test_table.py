"""The table of settings: it has all that Gunicorn has, and the manual's page is made of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cyhorn.config import document
from cyhorn.config import validators as v
from cyhorn.config.arguments import build_parser
from cyhorn.config.config import Config
from cyhorn.config.row import Row
from cyhorn.config.settings import SECTIONS, SETTINGS

ROOT = Path(__file__).resolve().parents[2]
#: name → flags, and the default where it does not depend on the machine, as Gunicorn 27.0.1 has them.
GUNICORN: dict[str, dict[str, Any]] = json.loads(
    Path(__file__).with_name("gunicorn_settings.json").read_text()
)

#: Defaults that differ on purpose; docs and GUNICORN's users are told.
OTHER_DEFAULTS = {
    "config": "./cyhorn.conf.py",
    "keepalive": 75,
    "limit_request_line": 8190,
    "logger_class": "cyhorn.log.logger.Logger",
    "default_proc_name": "cyhorn",
}
NEW = {
    "client_header_timeout": 10,
    "client_body_timeout": 30,
    "send_timeout": 30,
    "buffer_request_body": True,
    "body_buffer_size": 1 << 20,
    "limit_request_body": 0,
    "response_buffer_size": 1 << 20,
    "response_spool_size": 1 << 30,
    "context_isolation": True,
    "gc_freeze": True,
    "server_header": "cyhorn",
    "statsd_metric_namespace": "cyhorn",
    "gunicorn_compat": False,
}

ROWS = [pytest.param(row, id=row.name) for row in SETTINGS.values()]


def test_every_setting_of_gunicorn_is_known() -> None:
    assert len(GUNICORN) == 120
    assert not set(GUNICORN) - set(SETTINGS)


def test_what_gunicorn_does_not_have_is_marked_new() -> None:
    assert {row.name for row in SETTINGS.values() if row.scope == "N"} == set(SETTINGS) - set(GUNICORN)


@pytest.mark.parametrize("name", GUNICORN)
def test_flags_are_spelled_as_gunicorn_spells_them(name: str) -> None:
    row = SETTINGS[name]
    assert set(GUNICORN[name]["flags"]) <= set(row.flags + row.no_flags)


@pytest.mark.parametrize("name", [name for name, facts in GUNICORN.items() if "default" in facts])
def test_a_default_is_gunicorns_unless_it_differs_on_purpose(name: str) -> None:
    assert SETTINGS[name].default == OTHER_DEFAULTS.get(name, GUNICORN[name]["default"])


@pytest.mark.parametrize("name", NEW)
def test_new_settings_have_the_promised_default(name: str) -> None:
    assert SETTINGS[name].default == NEW[name]


@pytest.mark.parametrize("name", [name for name, facts in GUNICORN.items() if "hook" in facts])
def test_hooks_take_as_many_parameters_as_gunicorns(name: str) -> None:
    count = GUNICORN[name]["hook"]
    function = eval(f"lambda {', '.join('abcdefg'[:count])}: {count}")
    assert SETTINGS[name].kind(function) is function
    with pytest.raises(v.Refused):
        SETTINGS[name].kind(eval("lambda a, b, c, d, e, f, g: None"))


@pytest.mark.parametrize("row", ROWS)
def test_a_row_is_complete(row: Row) -> None:
    assert row.section in SECTIONS
    assert row.scope in "WPXN"
    assert row.meaning.endswith(".") and row.kind.allowed
    assert all(flag.startswith("-") for flag in row.flags + row.no_flags)
    assert not row.no_flags or row.kind is v.BOOL
    if row.scope == "X":
        assert row.pending, "what is not served must say so"


@pytest.mark.parametrize("row", ROWS)
def test_a_default_is_allowed_by_its_own_kind_and_is_not_shared(row: Row) -> None:
    one, other = Config().settings[row.name], Config().settings[row.name]
    assert one.value == other.value and one.source == "default"
    if isinstance(one.value, list | dict):
        assert one.value is not other.value and one.value is not row.default


def test_no_flag_has_two_meanings() -> None:
    flags = [flag for row in SETTINGS.values() for flag in row.flags + row.no_flags]
    assert len(flags) == len(set(flags))


@pytest.mark.parametrize("row", [row for row in SETTINGS.values() if row.flags and row.scope == "N"])
def test_a_new_switch_can_be_turned_off_from_the_command_line(row: Row) -> None:
    if row.kind is v.BOOL:
        assert row.no_flags == tuple("--no-" + flag[2:] for flag in row.flags)


def test_help_shows_every_flag() -> None:
    text = build_parser(None, "cyhorn").format_help()
    for row in SETTINGS.values():
        for flag in row.flags + row.no_flags:
            assert flag in text


def test_the_manual_page_is_made_from_the_table() -> None:
    written = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert written == document.page(), "run: python -m cyhorn.config.document docs/settings.md"


@pytest.mark.parametrize("row", ROWS)
def test_every_setting_has_its_entry_in_the_manual(row: Row) -> None:
    entry = document.entry(row)
    assert f"`{row.name}`" in entry and row.meaning in entry
    assert all(f"`{flag}" in entry for flag in row.flags + row.no_flags)
    assert entry in document.page()
