"""Both loops make the same of whole connections: a little of what `python -m fuzz.fuzz_wire` does."""

from __future__ import annotations

from random import Random

import pytest

from fuzz import connections
from fuzz.fuzz_wire import Comparer


@pytest.mark.filterwarnings("ignore::wsgiref.validate.WSGIWarning")
@pytest.mark.parametrize("seed", range(8))
def test_generated_connections_give_the_same_answers_and_log_on_both_sides(seed: int) -> None:
    comparer = Comparer()
    random = Random(seed)
    try:
        for _ in range(600):
            assert comparer.check(random) is None
    finally:
        comparer.close()


def test_the_generator_reaches_every_application_and_every_kind_of_framing() -> None:
    """A generator that made only some connections would compare little."""
    random = Random(0)
    made = b"".join(connections.connection(random, ["one", "two"]) for _ in range(400))
    for words in (b"/app/one", b"/app/two", b"/app/program?", b"Transfer-Encoding: chunked", b"Content-Length: 5",
                  b"Expect: 100-continue", b"HTTP/1.0", b"HEAD ", b"PROXY TCP4", b"Connection: close"):  # fmt: skip
        assert words in made, words


def test_a_failing_connection_is_made_as_short_as_it_can_be() -> None:
    data = b"GET / HTTP/1.1\r\nHost: a\r\nX: needle\r\n\r\nGET /next HTTP/1.1\r\n\r\n"
    assert connections.shrink(data, lambda shorter: b"needle" in shorter) == b"needle"
