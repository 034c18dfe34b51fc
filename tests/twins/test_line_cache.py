"""A line that was seen before is not scanned again: with the same outcome as the first time.

The compiled loop remembers field lines; the Python loop does not, so it is the judge.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import Implementation
from tests.loop.driver import Served

NAMES = [b"Accept", b"X-Long-Stranger-Name", b"Cookie", b"Connection", b"X_Underscore_Name", b"User-Agent"]
VALUES = [b"", b"a", b"close", b"keep-alive", b"text/html,application/xml;q=0.9", b"\xe9t\xe9" * 9]
# Around the longest line that is held, and two that share head, middle and tail.
LONG = [b"x" * size for size in (190, 200, 210, 211, 212, 213, 220, 300)]
ALIKE = [b"abcdefgh" + middle + b"abcdefgh" * 3 for middle in (b"1" * 7, b"2" * 7)]

fields = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES + LONG + ALIKE)), max_size=8)
folds = st.booleans()


def message(lines: list[tuple[bytes, bytes]], fold: bool) -> bytes:
    end = b"\r\n more\r\n" if fold else b"\r\n"
    block = b"".join(b"%b: %b%b" % (name, value, end) for name, value in lines)
    return b"GET /path HTTP/1.1\r\nHost: first.example\r\nConnection: close\r\n" + block + b"\r\n"


def show(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    keys = sorted(key for key in environ if key.startswith("HTTP_"))
    return [repr([(key, environ[key]) for key in keys]).encode("latin-1")]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(fields, folds), min_size=2, max_size=6))
def test_a_line_means_the_same_each_time_it_comes(messages):
    answers = []
    for name in ("compiled", "python"):
        side = Implementation(name)
        with Served(side, show, permit_obsolete_folding=True, header_map="dangerous") as served:
            # Twice, so that whatever can be remembered is met again.
            answers.append([served.exchange(message(*each))[0][:4] for each in messages * 2])
    for compiled, pure in zip(*answers, strict=True):
        assert compiled[0] == pure[0] and compiled[3] == pure[3]
