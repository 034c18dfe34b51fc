"""A running cyhorn answers every case as it says, on TCP and on a unix socket."""

from __future__ import annotations

import pytest

from tests.conftest import BUILD_COMMAND, build_script, stale_modules
from tests.wire.case import Case
from tests.wire.deliver import on_server
from tests.wire.servers import Servers


@pytest.fixture(autouse=True, scope="module")
def fresh_build() -> None:
    """A server that is to run compiled code does not run another build."""
    if stale := stale_modules(build_script()):
        pytest.exit(f"stale build ({', '.join(stale)}): run {BUILD_COMMAND}", returncode=4)


def test_a_server_answers_what_the_case_says(case: Case, servers: Servers, thorough: bool) -> None:
    on_server(case, servers.addresses(case), thorough=thorough)
    assert servers.mistakes(case) == []
