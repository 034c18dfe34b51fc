"""The fixture that starts servers, and which kinds of workers they run.

A test that takes `serve` runs once for each of `KINDS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.harness import Server

#: Name → (worker class, CYHORN_IMPL).
KINDS = {
    "third-party": ("tests.integration.line_worker.LineWorker", "python"),
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def serve(kind: str, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Starts servers of one kind: ``serve(config, arguments=[...])``. They are gone after the test."""
    servers: list[Server] = []
    worker_class, impl = KINDS[kind]

    def start(config: str = "", **options: Any) -> Server:
        servers.append(Server(tmp_path, worker_class, impl, config, **options))
        return servers[-1]

    yield start
    for server in servers:
        server.destroy()
