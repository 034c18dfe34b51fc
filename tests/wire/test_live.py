"""A running cyhorn answers every case as it says, on TCP and on a unix socket."""

from __future__ import annotations

from tests.wire.case import Case
from tests.wire.deliver import on_server
from tests.wire.servers import Servers


def test_a_server_answers_what_the_case_says(case: Case, servers: Servers, thorough: bool) -> None:
    on_server(case, servers.addresses(case), thorough=thorough)
    assert servers.mistakes(case) == []
