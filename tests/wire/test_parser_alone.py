"""Parser and chunked decoder read every case alike, however its bytes are cut."""

from __future__ import annotations

from typing import Any

from tests.wire.case import Case
from tests.wire.parse import on_parser


def test_parser_and_decoder_read_what_the_case_says_at_every_cut(
    case: Case, impl: Any, thorough: bool
) -> None:
    on_parser(case, impl, thorough=thorough)
