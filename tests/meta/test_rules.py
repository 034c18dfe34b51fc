"""Every rule of docs/reliability.md is shown by a test, and the document says by which."""

from __future__ import annotations

from reliability.document import PAGE, rules_section, with_section
from reliability.rules import RULES, shown_by


def test_the_rules_are_numbered_without_a_gap() -> None:
    assert sorted(RULES) == list(range(1, 48))


def test_every_rule_has_a_test_and_every_mark_a_rule() -> None:
    shown = set(shown_by())
    assert set(RULES) - shown == set(), "rules that no test shows"
    assert shown - set(RULES) == set(), "marks of rules that there are not"


def test_the_document_names_the_rules_and_their_tests() -> None:
    text = PAGE.read_text()
    assert with_section(text, "rules", rules_section()) == text, "run python -m reliability.document"
