"""redis-py in workers: whose connections are used, and what it survives."""

from __future__ import annotations

import os
import select
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest
import redis

from tests.apps import services
from tests.apps.conftest import Serve, Variant
from tests.integration.client import KeptConnection, Traffic
from tests.integration.harness import Server, answer, is_alive, until

APPLICATION = "tests.apps.redis_app"
#: What is said of a client that was connected in the master.
DOCTORED = r"Fork doctor: redis\.client\.Redis in tests\.apps\.redis_app\.client \(tests/apps/redis_app\.py:\d+\) is connected"

NAMES = count()


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[services.Service]:
    """A Redis for all tests of this process."""
    with services.redis(tmp_path_factory.mktemp("redis")) as service:
        yield service


@pytest.fixture(scope="module")
def server(serve_shared: Serve, store: services.Service, variant: Variant) -> Server:
    """A server with two workers that use it."""
    return served(serve_shared, store, variant)


def served(serve: Serve, store: services.Service, variant: Variant, **options: object) -> Server:
    return serve(
        module=APPLICATION,
        environ={"REDIS_PORT": str(store.port)},
        provokes=("Fork doctor",) if variant.preload else (),
        **options,
    )


def ask_pairs(server: Server, clients: int, each: int) -> set[str]:
    """Have `clients` set and get `each` values of their own at a time. Returns which workers answered."""

    def ask(_: int) -> set[str]:
        connection = KeptConnection(server.connect)
        workers = set()
        for _ in range(each):
            name = f"n{next(NAMES)}"
            worker, _, value = connection.ask(f"/pair?{name}").body.decode().partition(" ")
            assert value == f"the value of {name}"
            workers.add(worker)
        connection.close()
        return workers

    with ThreadPoolExecutor(clients) as pool:
        return set().union(*pool.map(ask, range(clients)))


def test_of_500_values_of_20_clients_none_is_mixed_with_another(server: Server) -> None:
    seen = ask_pairs(server, clients=20, each=25)

    def are_both_seen() -> bool:
        seen.update(ask_pairs(server, clients=4, each=1))
        return len(seen) == 2

    until(are_both_seen, "an answer of each worker")


def test_no_worker_uses_a_connection_of_the_master(
    server: Server, store: services.Service, variant: Variant
) -> None:
    ask_pairs(server, clients=4, each=10)
    numbers = [line.split()[1] for line in server.seen("^CONNECTED")]
    with redis.Redis(port=store.port, decode_responses=True) as control:
        known = {client["id"]: client for client in control.client_list()}
    if variant.preload:
        (number,) = numbers
        assert known[number]["cmd"] == "echo"
        assert server.get("/id") != number
        server.wait_for(DOCTORED)
    else:
        assert len(numbers) == 2
        assert not server.seen("Fork doctor")


def test_it_survives_a_reload_a_killed_worker_and_a_restart_of_redis(
    serve: Serve, store: services.Service, variant: Variant
) -> None:
    server = served(serve, store, variant)
    with Traffic(server.connect, clients=3, target="/pair?x") as traffic:
        mark = server.mark()
        server.signal(signal.SIGHUP)
        server.wait_for("Reload done", mark)
        traffic.wait(20)
    assert traffic.hard_failures == 0, traffic.failures

    server.expect("was sent SIGKILL")
    victim = server.workers()[0]
    os.kill(victim, signal.SIGKILL)
    until(lambda: not is_alive(victim) and len(server.workers()) == 2, "the replacement")
    ask_pairs(server, clients=4, each=10)

    workers = set(server.workers())
    store.restart()
    ask_pairs(server, clients=8, each=5)
    assert set(server.workers()) == workers


@pytest.mark.workers("gevent")
def test_200_requests_that_wait_a_second_each_take_one_gevent_worker_little_longer(
    serve: Serve, store: services.Service, variant: Variant
) -> None:
    server = served(serve, store, variant, workers=1)
    waiting: list[socket.socket] = []

    def all_are_answered() -> bool:
        for connection in select.select(waiting, [], [], 0)[0]:
            with connection:
                answered.append(answer(connection))
            waiting.remove(connection)
        return not waiting

    answered: list[str] = []
    for number in range(200):
        waiting.append(server.send(f"/blpop?list{number}"))
    # One after the other they take 200 s. A machine that does other things meanwhile is allowed for (`Deadline`).
    until(all_are_answered, "all answers", 2.5)
    assert answered == ["None"] * 200
    if variant.preload:
        server.wait_for(DOCTORED)
