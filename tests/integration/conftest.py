"""The fixtures that start servers, and which kinds of workers they run.

A test that takes `serve` runs once for each kind of the sides under test (``--impl``). One whose subject is
the master alone takes `serve_any` and runs once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Implementation, sides
from tests.integration.harness import Server

#: Name → (worker class, CYHORN_IMPL).
KINDS = {
    "sync-compiled": ("sync", "compiled"),
    "sync-python": ("sync", "python"),
    "gthread-compiled": ("gthread", "compiled"),
    "gthread-python": ("gthread", "python"),
    "gevent-compiled": ("gevent", "compiled"),
    "gevent-python": ("gevent", "python"),
    "third-party": ("tests.integration.line_worker.LineWorker", "python"),
}

Start = Callable[..., Server]

#: app.py of `serve_workload`.
WORKLOAD = "import os\nfrom tests.integration.workload import app\nos.write(1, b'LOADED in %d\\n' % os.getpid())\n"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "kind" in metafunc.fixturenames:
        wanted = [*sides(metafunc.config), "party"]
        only = metafunc.definition.get_closest_marker("kinds")
        names = [
            name
            for name in KINDS
            if name.split("-")[1] in wanted
            and (name in only.args if only else not name.startswith(("gthread", "gevent")))
        ]
        metafunc.parametrize("kind", names, scope="module")


def starter(kind: str, folder: Path, request: pytest.FixtureRequest | None = None) -> Iterator[Start]:
    """What starts servers of `kind` in `folder`. In the end they are gone, and their logs are judged.

    A warning, an error or a traceback that the test has neither waited for nor announced by
    ``@pytest.mark.provokes("pattern", ...)`` is its failure.
    """
    servers: list[Server] = []
    marks = request.node.iter_markers("provokes") if request is not None else ()
    provoked = [pattern for mark in marks for pattern in mark.args]
    worker_class, impl = KINDS[kind]

    def start(config: str | None = "", **options: Any) -> Server:
        servers.append(Server(folder, worker_class, impl, config, **options))
        servers[-1].expect(*provoked)
        return servers[-1]

    incidents: list[str] = []
    try:
        yield start
        incidents = [line for server in servers for line in server.incidents()]
    finally:
        for server in servers:
            server.destroy()
    assert incidents == [], "the log tells of what nobody expected:\n" + "\n".join(incidents)


@pytest.fixture
def serve(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Start]:
    """Starts servers of one kind: ``serve(config, arguments=[...])``. They are gone after the test."""
    yield from starter(kind, tmp_path, request)


@pytest.fixture
def serve_sync(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Start]:
    """The same, with the sync worker, for tests of what both its sides share."""
    yield from starter("sync-python", tmp_path, request)


@pytest.fixture
def serve_any(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Start]:
    """The same, with whatever kind of worker, for tests of the master."""
    yield from starter("third-party", tmp_path, request)


@pytest.fixture
def serve_workload(impl: Implementation, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Start]:
    """Starts servers with the sync worker of one side, around the application of `workload`."""
    (tmp_path / "app.py").write_text(WORKLOAD)
    yield from starter(f"sync-{impl.name}", tmp_path, request)
