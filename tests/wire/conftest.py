"""Loops and servers for the corpus, each made once and kept for the session."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.wire.case import corpus
from tests.wire.deliver import Loops
from tests.wire.servers import Servers, by_group
from tests.wire.tls import TLSLoops, goes_over_tls


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" in metafunc.fixturenames:
        cases = by_group(corpus()) if "servers" in metafunc.fixturenames else list(corpus())
        metafunc.parametrize("case", cases, ids=[case.name for case in cases])
    if "tls_case" in metafunc.fixturenames:
        cases = list(filter(goes_over_tls, corpus()))
        metafunc.parametrize("tls_case", cases, ids=[case.name for case in cases])


@pytest.fixture(scope="session")
def thorough(pytestconfig: pytest.Config) -> bool:
    """Whether every delivery is asked for."""
    return bool(pytestconfig.getoption("--thorough"))


@pytest.fixture(scope="session")
def loops(impl: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loops]:
    """The loops of the side under test."""
    made = Loops(impl, tmp_path_factory.mktemp("loops"))
    yield made
    made.close()


@pytest.fixture(scope="session")
def tls_loops(impl: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TLSLoops]:
    """The loops of the side under test, behind TLS."""
    made = TLSLoops(impl, tmp_path_factory.mktemp("tls"))
    yield made
    made.close()


@pytest.fixture(scope="session")
def servers(impl: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """The running servers of the side under test."""
    made = Servers(impl.name, tmp_path_factory.mktemp("servers"), by_group(corpus()))
    yield made
    made.close()
