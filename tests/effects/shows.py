"""`shows`: a test says which setting's effect it observes, and what that is in a few words.

docs/effects.md is made of these words (`tests.effects.table`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

Test = TypeVar("Test", bound=Callable[..., Any])


class Effect(NamedTuple):
    """What one test observes of one setting."""

    setting: str
    words: str


def shows(setting: str, words: str) -> Callable[[Test], Test]:
    """Mark a test as the one that observes the effect of `setting`. `words` say what is seen from outside."""

    def mark(test: Test) -> Test:
        vars(test).setdefault("effects", []).insert(0, Effect(setting, words))
        return test

    return mark


def shows_each(words_of: Mapping[str, str]) -> Callable[[Test], Test]:
    """`shows` for a test with a parameter for each of these settings: setting → words."""

    def mark(test: Test) -> Test:
        for setting, words in words_of.items():
            shows(setting, words)(test)
        return test

    return mark
