"""docs/http.md says what the corpus shows: rule by rule, folder by folder, settings and statuses."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cyhorn.config.config import Config
from tests.wire.case import CORPUS, Case, corpus
from tests.wire.table import MARKS

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "http.md"


def sections() -> dict[str, str]:
    """Folder → the text of its rule. The rules' numbers count from 1."""
    parts = re.split(r"(?m)^### (\d+)\. [^(\n]+\(`([^`]+)`[^)\n]*\)\n", DOCUMENT.read_text())
    numbers, folders, texts = parts[1::3], parts[2::3], parts[3::3]
    assert [int(number) for number in numbers] == list(range(1, len(numbers) + 1))
    return {folder: text.split("\n## ")[0] for folder, text in zip(folders, texts, strict=True)}


def test_each_rule_names_its_folder_and_each_folder_is_named() -> None:
    assert list(sections()) == sorted(path.name for path in CORPUS.iterdir() if path.is_dir())
    assert all(folder.startswith(f"{number:02}-") for number, folder in enumerate(sections(), 1))


def cases_of(folder: str) -> list[Case]:
    return [case for case in corpus() if case.path.parent.name == folder]


@pytest.mark.parametrize("folder", sections())
def test_a_rule_names_the_settings_and_statuses_that_its_cases_show(folder: str) -> None:
    text = sections()[folder]
    settings = {name for case in cases_of(folder) for name in (*case.settings, *case.variables)}
    assert {name for name in settings if f"`{name}" not in text} == set()
    if "400 and others" not in text:
        refusals = {answer.status for case in cases_of(folder) for answer in case.answers if answer.code}
        assert {status for status in refusals if str(status) not in text} == set()


def test_what_it_calls_settings_are_settings() -> None:
    named = set(re.findall(r"^\* `(?:buffer|[a-z]+)[a-z_]*", DOCUMENT.read_text(), re.M))
    known = Config().settings
    assert named
    assert {name for name in named if name.removeprefix("* `") not in known} == set()


def test_the_table_has_a_row_for_every_folder_and_counts_its_cases() -> None:
    text = DOCUMENT.read_text().partition(MARKS[0])[2].partition(MARKS[1])[0]
    rows = {row[0]: row[1:] for row in (line.strip("| ").split(" | ") for line in text.splitlines()[2:])}
    counted = {folder: str(len(cases_of(folder))) for folder in sections()}
    assert {folder: row[0] for folder, row in rows.items()} == counted | {"all": str(len(corpus()))}
    assert all(int(number) > 0 for row in rows.values() for number in row[2:] if row is rows["all"])
