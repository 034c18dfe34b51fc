"""How connections spread over the workers that share a listener."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path

from tests.conftest import Implementation
from tests.integration.conftest import starter
from tests.integration.harness import Server, until


def kept_alive(server: Server) -> HTTPConnection:
    host, port = server.address
    return HTTPConnection(host, port, timeout=20)


def test_kept_alive_connections_spread_evenly(impl: Implementation, tmp_path: Path) -> None:
    with contextmanager(starter)(f"sync-{impl.name}", tmp_path) as serve:
        server = serve("workers = 4").ready(4)
        connections = [kept_alive(server) for _ in range(64)]
        for connection in connections:
            connection.request("GET", "/pid")
        held = Counter(connection.getresponse().read() for connection in connections)
        for connection in connections:
            connection.close()
    assert sum(held.values()) == 64 and max(held.values()) <= 24, held


def asleep(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"


def wakes(pids: list[int]) -> int:
    """How often these processes, their threads included, have been woken so far (proc(5), status)."""
    tasks = [task for pid in pids for task in Path(f"/proc/{pid}/task").iterdir()]
    status = [(task / "status").read_text() for task in tasks]
    return sum(int(text.partition("\nvoluntary_ctxt_switches:")[2].split()[0]) for text in status)


def test_a_connection_wakes_one_of_the_workers_that_wait(impl: Implementation, tmp_path: Path) -> None:
    with contextmanager(starter)(f"sync-{impl.name}", tmp_path) as serve:
        server = serve("workers = 4").ready(4)
        workers = server.workers()
        assert len(workers) == 4
        before = wakes(workers)
        for _ in range(60):
            until(lambda: all(map(asleep, workers)), "all four wait")
            connection = kept_alive(server)
            connection.request("GET", "/pid")
            connection.getresponse().read()
            connection.close()
        woken = wakes(workers) - before
    # One wakes for the connection and for its end; of a herd all four wake for each connection.
    assert woken < 60 * 3, woken


def test_new_connections_go_to_the_others_while_a_worker_is_in_the_application(
    impl: Implementation, tmp_path: Path
) -> None:
    with contextmanager(starter)(f"sync-{impl.name}", tmp_path) as serve:
        server = serve("workers = 2").ready(2)
        with server.occupy(30):
            # However many the free worker holds: the stuck one is not waited for.
            connections = [kept_alive(server) for _ in range(24)]
            for connection in connections:
                connection.request("GET", "/pid")
            assert len({connection.getresponse().read() for connection in connections}) == 1
            for connection in connections:
                connection.close()
