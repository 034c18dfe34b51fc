"""What the shared data gives as text."""

from __future__ import annotations

import locale
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyhorn.grammar import imf_fixdate

#: 253402300799 is the last second of the year 9999.
SECONDS = st.integers(0, 253402300799)


def test_the_example_of_rfc_9110_is_written_as_it_stands_there() -> None:
    assert imf_fixdate(784111777) == "Sun, 06 Nov 1994 08:49:37 GMT"


@given(SECONDS)
def test_a_date_is_what_the_standard_library_writes(seconds: int) -> None:
    assert imf_fixdate(seconds) == formatdate(seconds, usegmt=True)


@pytest.mark.parametrize("seconds", [0, 951782400, 1709164799, 1709164800, 2147483647, 4107542400])
def test_leap_days_and_ends_of_counters_are_dates_like_others(seconds: int) -> None:
    assert imf_fixdate(seconds) == formatdate(seconds, usegmt=True)


def test_a_date_begins_with_its_second_and_lasts_it() -> None:
    assert imf_fixdate(784111777.999) == imf_fixdate(784111777)


def test_no_locale_changes_the_names() -> None:
    before = locale.setlocale(locale.LC_TIME)
    try:
        for name in ("de_DE.UTF-8", "fr_FR.UTF-8", "C.UTF-8", ""):
            try:
                locale.setlocale(locale.LC_TIME, name)
            except locale.Error:
                continue
            assert imf_fixdate(784111777) == "Sun, 06 Nov 1994 08:49:37 GMT"
    finally:
        locale.setlocale(locale.LC_TIME, before)
