"""Deployments as users of Gunicorn have them, and one that watches its hooks, run under both servers.

What differs is documented.
"""

from __future__ import annotations

import difflib
import re
from pprint import pformat
from typing import Any

import pytest

from tests.compat import differences
from tests.compat.conftest import Accounts
from tests.compat.deployment import Account, Answer
from tests.compat.scripts import SCRIPTS
from tests.conftest import ROOT, Implementation

MANUAL = ROOT / "docs" / "from-gunicorn.md"


@pytest.fixture(params=SCRIPTS)
def name(request: pytest.FixtureRequest) -> str:
    """A deployment."""
    return str(request.param)


@pytest.fixture
def pair(name: str, accounts: Accounts, impl: Implementation) -> tuple[Account, Account]:
    """Gunicorn's account of a deployment, and that of the side under test."""
    both = accounts(name)
    return both["gunicorn"], both[f"cyhorn-{impl.name}"]


def assert_same(expected: Any, found: Any, what: str) -> None:
    """Both values are equal; where they are not, only what differs is shown."""
    if found != expected:
        texts = [pformat(value, width=140).splitlines() for value in (expected, found)]
        raise AssertionError("\n".join([what, *difflib.unified_diff(*texts, "Gunicorn", "cyhorn", n=2, lineterm="")]))


def test_requests_and_signals_have_the_same_results(pair: tuple[Account, Account]) -> None:
    """Status, fields and bodies; the number of workers, which of them stay, exit statuses, pid files."""
    gunicorns = differences.steps("gunicorn", pair[0].steps)
    ours = differences.steps("cyhorn", pair[1].steps)
    assert [what for what, _ in ours] == [what for what, _ in gunicorns]
    for (what, expected), (_, value) in zip(gunicorns, ours, strict=True):
        if isinstance(expected, Answer):
            expected, value = differences.answers(expected, value)
        assert_same(expected, value, what)


def test_the_logs_have_the_same_lines(name: str, pair: tuple[Account, Account]) -> None:
    assert pair[1].logs.keys() == pair[0].logs.keys()
    for log in pair[0].logs:
        for who in ("masters", "workers", "others"):
            expected = differences.lines(name, "gunicorn", pair[0].logs[log][who])
            told = differences.lines(name, "cyhorn", pair[1].logs[log][who])
            if who != "masters":
                # A client may have its answer, and another worker's too, before the first one has written its line.
                expected, told = sorted(expected), sorted(told)
            assert_same(expected, told, f"{log}, {who}")


def test_the_same_files_are_left(pair: tuple[Account, Account]) -> None:
    assert pair[1].files == pair[0].files


def test_each_difference_that_is_let_through_is_in_the_manual() -> None:
    documented = set(re.findall(r"^\| (.+?) \|", MANUAL.read_text(), re.M))
    assert differences.rows() - documented == set()


def test_nothing_is_let_through_that_does_not_occur(accounts: Accounts) -> None:
    for name in SCRIPTS:
        both = accounts(name)
        for kind, account in both.items():
            server = kind.partition("-")[0]
            kept = differences.steps(server, account.steps)
            for (_, gunicorns), (_, ours) in zip(differences.steps("gunicorn", both["gunicorn"].steps), kept, strict=True):
                if isinstance(gunicorns, Answer) and server == "cyhorn":
                    differences.answers(gunicorns, ours)
            for log in account.logs.values():
                for told in log.values():
                    differences.lines(name, server, told)
    assert differences.in_vain() == set()
