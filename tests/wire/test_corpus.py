"""The corpus itself: every file is a case, says why, and covers what HTTP on the wire has rules for."""

from __future__ import annotations

import re

import pytest

from cyhorn.errors import Code
from tests.wire.case import CORPUS, SUFFIX, Case, CaseError, corpus, paths, read_case, unescape

RULES = range(1, 41)


def folders() -> list[str]:
    return sorted(entry.name for entry in CORPUS.iterdir() if entry.is_dir())


def test_every_rule_has_its_folder_and_every_folder_its_rule() -> None:
    assert [int(name[:2]) for name in folders()] == list(RULES)
    assert all(re.fullmatch(r"\d\d(-[a-z0-9]+)+", name) for name in folders())


def test_nothing_else_lies_in_the_corpus() -> None:
    strange = [
        path
        for path in CORPUS.rglob("*")
        if path.is_file() and path.suffix != SUFFIX and path.name != "README.md"
    ]
    assert strange == []
    assert all(path.parent.parent == CORPUS for path in paths())


def test_a_case_says_why_with_the_section_it_is_about(case: Case) -> None:
    assert re.match(r"\[(\d{4}|PROXY|G)( [^\]]+)?\] \S", case.why[0]), case.why[0]
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", case.path.stem)


def test_a_case_can_be_read_as_it_is(case: Case) -> None:
    lines = case.path.read_text("ascii").splitlines()
    assert max(map(len, lines)) <= 110
    assert len(lines) <= 80


def test_a_refusal_ends_the_connection(case: Case) -> None:
    for answer in case.answers[:-1]:
        assert answer.code is None, "an answer behind a refusal"
    last = case.answers_last
    if last is not None and last.code is not None:
        assert case.ending == "close"


def test_no_two_cases_are_the_same() -> None:
    seen: dict[object, str] = {}
    for case in corpus():
        key = (tuple(turn.data for turn in case.turns), case.group, case.over, case.quiet)
        assert key not in seen, f"{case.name} is {seen[key]}"
        seen[key] = case.name


def test_every_code_of_a_refusal_is_met() -> None:
    met = {answer.code for case in corpus() for answer in case.answers}
    # A failure of cyhorn's own, and a full disk, cannot be sent by a client.
    assert set(Code) - met == {Code.INTERNAL, Code.SPOOL_FULL, Code.PLAIN_HTTP}


@pytest.mark.parametrize(
    ("text", "data"),
    [
        (r"a\r\n", b"a\r\n"),
        (r"\x00\xff\0\t\\", b"\0\xff\0\t\\"),
        (r"\{ab*3}c", b"abababc"),
        (r"\{\r\n*2}", b"\r\n\r\n"),
    ],
)
def test_escapes_stand_for_bytes(text: str, data: bytes) -> None:
    assert unescape(text) == data


@pytest.mark.parametrize("text", [r"\q", "\\", r"\x4", "\u20ac", r"\{a}"])
def test_a_wrong_escape_is_told(text: str) -> None:
    with pytest.raises(CaseError):
        unescape(text)


@pytest.mark.parametrize(
    "text",
    [
        "> GET\nkeep\n",
        "# why\n> GET\n",
        "# why\n> GET\nkeep\n> more\n",
        "# why\n> GET\n< 20\nkeep\n",
        "# why\n> GET\n< 400 NO_CODE\nclose\n",
        "# why\n> GET\n< 200\n  framing = none of these\nkeep\n",
        "# why\nset limit_request_line\n> GET\nkeep\n",
        "# why\n> GET\nforever\n",
    ],
)
def test_a_file_that_is_no_case_is_told(text: str, tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "wrong.case"
    path.write_text(text)
    with pytest.raises(CaseError):
        read_case(path)
