"""What it takes to read a head, and to take the chunked coding off a body."""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from perf import heads
from perf.driver import side

CHUNKED = b"".join(b"400\r\n%b\r\n" % heads.POST_BODY for _ in range(16)) + b"0\r\n\r\n"


@pytest.mark.parametrize("head", [heads.SMALL, heads.BROWSER], ids=["small", "browser"])
def test_head(benchmark: BenchmarkFixture, impl: str, head: bytes) -> None:
    parser = side("parser", impl).RequestParser()
    found = benchmark(parser.parse, head)
    assert found is not None
    assert found.method == "GET"


def test_head_in_pieces(benchmark: BenchmarkFixture, impl: str) -> None:
    """Drip-fed: each call is given 64 bytes more."""
    parser = side("parser", impl).RequestParser()

    def drip() -> object:
        found = None
        for stop in range(64, len(heads.BROWSER) + 64, 64):
            found = parser.parse(heads.BROWSER[:stop])
        return found

    assert benchmark(drip) is not None


def test_chunked_body(benchmark: BenchmarkFixture, impl: str) -> None:
    decoder = side("chunked", impl).ChunkedDecoder()

    def decode() -> int:
        decoder.reset()
        pieces, _ = decoder.feed(CHUNKED)
        return sum(map(len, pieces))

    assert benchmark(decode) == 16 * 1024
