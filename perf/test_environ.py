"""What it takes to make the environ of a head that the parser has found."""

from __future__ import annotations

import socket
import sys
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from cyhorn.wsgi.template import ListenerInfo, environ_template
from perf import heads
from perf.driver import side


@pytest.fixture
def template() -> dict[str, Any]:
    """A listener's template, as the loop makes it."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return environ_template(ListenerInfo(sock), errors=sys.stderr, multithread=False, multiprocess=False)


@pytest.mark.parametrize("head", [heads.SMALL, heads.BROWSER], ids=["small", "browser"])
def test_environ(benchmark: BenchmarkFixture, impl: str, template: dict[str, Any], head: bytes) -> None:
    parser = side("parser", impl).RequestParser()
    builder = side("environ", impl).EnvironBuilder(template)
    assert parser.parse(head) is not None
    environ = benchmark(builder.build, parser, head, 0, "127.0.0.1", "50000", False)
    assert environ["REQUEST_METHOD"] == "GET"
    assert environ["REMOTE_PORT"] == "50000"
