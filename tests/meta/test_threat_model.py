"""The pages on security name tests that exist, and settings with the defaults that they have."""

from __future__ import annotations

import re

import pytest

from cyhorn.config.settings import SETTINGS
from tests.conftest import ROOT

PAGES = ("SECURITY.md", "docs/threat-model.md")
DEFAULTS = {name: row.default for name, row in SETTINGS.items()}


@pytest.mark.parametrize("page", PAGES)
def test_every_place_that_a_page_names_is_there(page: str) -> None:
    text = (ROOT / page).read_text()
    named = set(re.findall(r"`((?:tests|fuzz|examples|docs)/[^`]*)`", text))
    named |= {
        str((ROOT / page).parent.joinpath(link).resolve().relative_to(ROOT))
        for link in re.findall(r"\]\(([^)#:]+)", text)
    }
    assert named
    assert {name for name in named if not (ROOT / name).exists()} == set()


def test_the_defaults_that_the_threat_model_tells_are_those_of_the_settings() -> None:
    told = re.findall(r"`(\w+)` \(([^)]*)\)", (ROOT / "docs/threat-model.md").read_text())
    assert len(told) > 20
    assert [(name, value) for name, value in told if str(DEFAULTS[name]) != value] == []


def test_every_claim_of_the_threat_model_points_somewhere() -> None:
    """Each row of a table, but its head, has a place or a setting in it."""
    rows = [line for line in (ROOT / "docs/threat-model.md").read_text().splitlines() if line.startswith("| ")]
    heads = ("| who ", "| attack ", "| resource ", "| promise ")
    vague = [row for row in rows if not row.startswith(heads) and not re.search(r"`(tests|fuzz)/|`\w+` \(", row)]
    assert vague == []
