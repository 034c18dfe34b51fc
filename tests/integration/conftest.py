"""The fixtures that start servers, and which kinds of workers they run.

A test that takes `serve` runs once for each kind of the sides under test (``--impl``). One whose subject is
the master alone takes `serve_any` and runs once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import sides
from tests.integration.harness import Server

#: Name → (worker class, CYHORN_IMPL).
KINDS = {
    "sync-compiled": ("sync", "compiled"),
    "sync-python": ("sync", "python"),
    "gthread-compiled": ("gthread", "compiled"),
    "gthread-python": ("gthread", "python"),
    "third-party": ("tests.integration.line_worker.LineWorker", "python"),
}

Start = Callable[..., Server]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "kind" in metafunc.fixturenames:
        wanted = [*sides(metafunc.config), "party"]
        only = metafunc.definition.get_closest_marker("kinds")
        names = [
            name
            for name in KINDS
            if name.split("-")[1] in wanted
            and (name in only.args if only else not name.startswith("gthread"))
        ]
        metafunc.parametrize("kind", names)


def starter(kind: str, folder: Path) -> Iterator[Start]:
    servers: list[Server] = []
    worker_class, impl = KINDS[kind]

    def start(config: str | None = "", **options: Any) -> Server:
        servers.append(Server(folder, worker_class, impl, config, **options))
        return servers[-1]

    yield start
    for server in servers:
        server.destroy()


@pytest.fixture
def serve(kind: str, tmp_path: Path) -> Iterator[Start]:
    """Starts servers of one kind: ``serve(config, arguments=[...])``. They are gone after the test."""
    yield from starter(kind, tmp_path)


@pytest.fixture
def serve_sync(tmp_path: Path) -> Iterator[Start]:
    """The same, with the sync worker, for tests of what both its sides share."""
    yield from starter("sync-python", tmp_path)


@pytest.fixture
def serve_any(tmp_path: Path) -> Iterator[Start]:
    """The same, with whatever kind of worker, for tests of the master."""
    yield from starter("third-party", tmp_path)
