"""Servers for the effects of settings.

A test whose subject is the loop takes `side` and runs once for each of the sides under test; all else runs on
one of them. Servers that show several settings are fixtures of their module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import sides
from tests.integration.harness import Server

Launch = Callable[..., Server]

#: What the command line names where nothing else is said.
APPLICATION = "tests.effects.application:app"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "side" in metafunc.fixturenames:
        metafunc.parametrize("side", sides(metafunc.config), scope="module")


@pytest.fixture(scope="session")
def any_side(pytestconfig: pytest.Config) -> str:
    """The side for tests of what both sides share."""
    return sides(pytestconfig)[0]


@pytest.fixture(scope="module")
def launch(any_side: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launch]:
    """Starts servers: ``launch(config, side=..., folder=...)`` and what `Server` takes. They end with the module."""
    servers: list[Server] = []

    def start(config: str = "", side: str = any_side, folder: Path | None = None, **options: Any) -> Server:
        folder = folder or tmp_path_factory.mktemp("server")
        options.setdefault("application", APPLICATION)
        servers.append(Server(folder, options.pop("worker_class", ""), side, config, **options))
        return servers[-1]

    yield start
    for server in servers:
        server.destroy()
