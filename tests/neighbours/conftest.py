"""Fixtures: a server of each side over each transport, kept for a module's tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from tests.conftest import Implementation
from tests.neighbours.harness import Backend, backend

Serve = Callable[..., AbstractContextManager[Backend]]


@pytest.fixture(scope="session")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Serve:
    """``serve(side, transport, *arguments, application=module)``: a server for a ``with`` block."""

    def started(
        side: str,
        transport: str = "tcp",
        *arguments: str,
        application: str = "tests.neighbours.application",
    ) -> AbstractContextManager[Backend]:
        folder = tmp_path_factory.mktemp("c")
        return backend(folder, side, transport, *arguments, application=application)

    return started



@pytest.fixture(scope="module")
def tcp(impl: Implementation, serve: Serve) -> Iterator[Backend]:
    """A server on TCP that the tests of a module share."""
    with serve(impl.name) as server:
        yield server


@pytest.fixture(autouse=True)
def nothing_odd_is_logged(request: pytest.FixtureRequest) -> Iterator[None]:
    """After each test the log of the shared server holds nothing unexpected."""
    yield
    for name in ("tcp", "server", "listener", "limited", "streaming"):
        if name in request.fixturenames:
            server = request.getfixturevalue(name)
            if isinstance(server, Backend):
                server.check_log()
