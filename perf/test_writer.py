"""What it takes to check an application's answer and to put it into the buffer."""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from perf import apps, driver

ANSWERS = {
    "hello": (apps.HELLO_FIELDS, apps.HELLO),
    "page": (driver.PAGE_FIELDS, driver.PAGE),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_whole_answer(benchmark: BenchmarkFixture, impl: str, name: str) -> None:
    fields, body = ANSWERS[name]
    module = driver.side("writer", impl)
    out = module.OutputBuffer()
    writer = module.ResponseWriter(out)
    writer.tick(1_700_000_000)

    def answer() -> None:
        out.clear()
        writer.begin(False, True, True)
        writer.start_response("200 OK", list(fields))
        writer.whole([body])
        writer.finish()

    benchmark(answer)
    assert out.take().endswith(b"\r\n\r\n" + body)


def test_chunked_answer(benchmark: BenchmarkFixture, impl: str) -> None:
    """Twenty chunks without a length."""
    module = driver.side("writer", impl)
    out = module.OutputBuffer()
    writer = module.ResponseWriter(out)
    writer.tick(1_700_000_000)

    def answer() -> None:
        out.clear()
        writer.begin(False, True, True)
        writer.start_response("200 OK", [("Content-Type", "text/plain")])
        for _ in range(apps.CHUNKS):
            writer.chunk(apps.CHUNK)
        writer.finish()

    benchmark(answer)
    assert out.take().endswith(b"\r\n0\r\n\r\n")
