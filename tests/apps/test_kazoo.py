"""Sessions with ZooKeeper, held by Kazoo's threads: one a worker, kept while it is idle, ended when it leaves."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import pytest
from kazoo.client import KazooClient

from tests.apps import services
from tests.apps.conftest import Serve, Variant
from tests.integration.client import KeptConnection
from tests.integration.harness import Server, until

#: The first test waits for the service to boot as well.
pytestmark = pytest.mark.timeout(180)

HOOKS = """
def post_fork(server, worker):
    from tests.apps import kazoo_app
    kazoo_app.join()

def worker_exit(server, worker):
    from tests.apps import kazoo_app
    kazoo_app.leave()
"""

#: Longer than a session lasts without a sign of life, seconds.
IDLE = 3.5


@pytest.fixture(scope="session")
def keeper(tmp_path_factory: pytest.TempPathFactory) -> Iterator[services.Service]:
    """A ZooKeeper for all tests of this process."""
    with services.zookeeper(tmp_path_factory.mktemp("zookeeper")) as service:
        yield service


@pytest.fixture(scope="session")
def observer(keeper: services.Service) -> Iterator[KazooClient]:
    """A client of ZooKeeper that looks on."""
    client = KazooClient(hosts=f"127.0.0.1:{keeper.port}")
    client.start()
    yield client
    client.stop()
    client.close()


def environ(keeper: services.Service, group: str) -> dict[str, str]:
    return {"ZOOKEEPER": f"127.0.0.1:{keeper.port}", "GROUP": group}


def sessions(observer: KazooClient, group: str) -> dict[int, int]:
    """Process id → session, for each member of `group`."""
    found = {}
    for name in observer.get_children(group):
        _, status = observer.get(f"{group}/{name}")
        found[int(name)] = status.ephemeralOwner
    return found


def test_each_worker_keeps_its_session_while_it_is_idle_and_ends_it_at_term(
    serve: Serve, keeper: services.Service, observer: KazooClient, variant: Variant
) -> None:
    group = f"/{variant.name}"
    server = serve(HOOKS, module="tests.apps.kazoo_app", environ=environ(keeper, group))
    until(lambda: len(observer.get_children(group)) == 2, "both workers")
    held = sessions(observer, group)
    assert set(held) == set(server.workers())
    assert len(set(held.values())) == 2
    time.sleep(IDLE)  # what must not happen within it, is what is waited for
    assert sessions(observer, group) == held
    assert server.get("/members").split() == sorted(map(str, held))
    clients = [KeptConnection(server.connect) for _ in range(12)]  # more than one worker's share
    told = {client.ask("/session").body.decode() for client in clients}
    for client in clients:
        client.close()
    assert told == {f"{pid} {number:x} CONNECTED" for pid, number in held.items()}

    server.signal(signal.SIGTERM)
    until(lambda: not observer.get_children(group), "the end of the sessions", 2)
    assert server.wait_exit() == 0


@pytest.mark.preload(True)
def test_a_client_started_in_the_master_is_named_and_who_waits_for_it_gets_504(
    serve: Serve, keeper: services.Service, variant: Variant
) -> None:
    server: Server = serve(
        "timeout = 1\n",
        module="tests.apps.kazoo_app",
        environ={**environ(keeper, f"/master-{variant.name}"), "JOIN_AT_IMPORT": "1"},
        workers=1,
        threads=1,
        provokes=("WORKER TIMEOUT", "is stuck in", "Error handling request GET /members", "exited with code 1"),
    )
    server.wait_for(
        r"Fork doctor: kazoo\.client\.KazooClient in tests\.apps\.kazoo_app\.client \(tests/apps/kazoo_app\.py:\d+\)"
        rf" is connected to 127\.0\.0\.1:{keeper.port} and has \d+ threads: .*kazoo/"
    )
    [worker] = server.workers()
    assert server.ask("/members").status == 504
    until(lambda: server.workers() not in ([], [worker]), "another worker")
    assert server.get("/") == "ok"
