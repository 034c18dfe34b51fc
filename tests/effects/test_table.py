"""Every setting has a test of its effect, every such test a setting, and the page says what they say."""

from __future__ import annotations

from cyhorn.config.settings import SETTINGS
from tests.effects import table


def test_every_setting_has_a_test_of_its_effect() -> None:
    assert [name for name in SETTINGS if name not in {each.effect.setting for each in table.shown()}] == []


def test_every_effect_is_one_of_a_setting() -> None:
    assert [each for each in table.shown() if each.effect.setting not in SETTINGS] == []


def test_every_test_here_shows_an_effect() -> None:
    assert [name for name, function in table.tests() if not getattr(function, "effects", ())] == []


def test_the_committed_page_is_what_the_tests_say() -> None:
    page = (table.ROOT / "docs" / "effects.md").read_text(encoding="utf-8")
    assert page == table.page({}), "run: python -m tests.effects.table --write docs/effects.md"
