"""Clients that send anything at all: they get an answer, and nobody else notices (rule 38)."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.harness import Server, descriptors, until
from tests.integration.hostile import APPLICATION, Barrage, Bystander, readings

Serve = Callable[..., Server]

#: Connections of a run, and of a thorough one.
COUNT, THOROUGH_COUNT = 2_000, 20_000
#: What a worker may grow by: the caches of lines are filled, and the allocator's pools are cut up.
GROWTH = 3 << 20


def resident(pid: int) -> int:
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.timeout(1800)
@pytest.mark.kinds("sync-compiled", "sync-python")
def test_a_barrage_of_bent_connections_harms_nobody(
    serve: Serve, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    count = THOROUGH_COUNT if request.config.getoption("--thorough") else COUNT
    (tmp_path / "app.py").write_text(APPLICATION)
    # Nobody may set SCRIPT_NAME: one that does not fit the path is the operator's mistake.
    server = serve("workers = 2\nforwarded_allow_ips = '192.0.2.1'").ready(2)
    workers = sorted(server.workers())

    def open_descriptors() -> list[int]:
        return [descriptors(pid) for pid in workers]

    before = open_descriptors()
    assert Barrage(server.connect, count // 4, seed=1).run().wrong == []
    until(lambda: open_descriptors() == before, f"the descriptors of before, {before}")
    memory = [resident(pid) for pid in workers]
    with Bystander(server.connect) as bystander:
        barrage = Barrage(server.connect, count, seed=2).run()
    assert barrage.wrong == []
    assert bystander.failures == [] and bystander.served > 0
    assert barrage.statuses[200] > count // 10 and barrage.statuses[400] > count // 10
    assert sorted(server.workers()) == workers
    until(lambda: open_descriptors() == before, f"the descriptors of before, {before}")
    assert max(resident(pid) - was for pid, was in zip(workers, memory, strict=True)) < GROWTH
    server.expect(r"\[WARNING\] Invalid request from ip=127.0.0.1: ")  # and nothing else, which the end shows


@pytest.mark.parametrize(
    ("data", "statuses"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab", [200]),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", [200]),  # to HEAD
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"
            b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx",
            [200, 400],
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na", None),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nabc", None),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n", None),
        (b"", []),
    ],
)
def test_a_barrage_reads_answers_strictly(data: bytes, statuses: list[int] | None) -> None:
    answers = next(readings(data), None)
    assert (answers and [answer.status for answer in answers]) == (statuses or answers)
    assert (answers is None) == (statuses is None)
