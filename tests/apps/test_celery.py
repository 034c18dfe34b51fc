"""Tasks published from workers through Celery: none is lost, none doubled, and no request waits for ever."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.apps import services
from tests.apps.conftest import Serve, Variant
from tests.integration.client import KeptConnection
from tests.integration.harness import ROOT, until

#: The first test waits for the service to boot as well.
pytestmark = pytest.mark.timeout(180)

CLIENTS, EACH = 10, 50


class Tasks(NamedTuple):
    """A broker, and the file in which a Celery worker notes what arrives there."""

    broker: str
    notes: Path

    def arrived(self, run: str) -> Counter[str]:
        """How often each task of `run` has arrived."""
        lines = (line.split() for line in self.notes.read_text().splitlines())
        return Counter(what for name, what in lines if name == run)

    def environ(self, run: str) -> dict[str, str]:
        return {"BROKER": self.broker, "NOTES": str(self.notes), "RUN": run}


@contextmanager
def consumed(broker: str, folder: Path) -> Iterator[Tasks]:
    """A Celery worker at `broker`."""
    tasks = Tasks(broker, folder / "notes")
    tasks.notes.touch()
    options = "--pool solo --without-gossip --without-mingle --without-heartbeat --loglevel INFO"
    with (folder / "celery.log").open("w+") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "tests.apps.celery_tasks:tasks", "worker", *options.split()],
            cwd=folder,
            env={**os.environ, **tasks.environ(""), "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:
            said = folder / "celery.log"
            until(lambda: " ready." in said.read_text() or process.poll() is not None, "Celery's worker")
            assert process.poll() is None, said.read_text()
            yield tasks
        finally:
            process.kill()
            process.wait()


@pytest.fixture(scope="session")
def by_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tasks]:
    folder = tmp_path_factory.mktemp("celery")
    with services.redis(folder) as service, consumed(f"redis://127.0.0.1:{service.port}/0", folder) as tasks:
        yield tasks


@pytest.fixture(scope="session")
def by_rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tasks]:
    folder = tmp_path_factory.mktemp("celery")
    address = "amqp://guest:guest@127.0.0.1:{}//".format
    with services.rabbitmq(folder) as service, consumed(address(service.port), folder) as tasks:
        yield tasks


@pytest.fixture(params=["redis", "rabbitmq"])
def tasks(request: pytest.FixtureRequest) -> Tasks:
    """Tasks that travel by each of the brokers."""
    chosen: Tasks = request.getfixturevalue(f"by_{request.param}")
    return chosen


def test_500_tasks_published_before_and_after_the_fork_arrive_once_each(
    serve: Serve, tasks: Tasks, variant: Variant, request: pytest.FixtureRequest
) -> None:
    run = request.node.name
    server = serve(
        module="tests.apps.celery_app",
        environ=tasks.environ(run),
        provokes=("Fork doctor",) if variant.preload else (),
    )

    def publish(client: int) -> set[bytes]:
        connection = KeptConnection(server.connect)
        workers = {connection.ask(f"/?{client}-{number}").body for number in range(EACH)}
        connection.close()
        return workers

    with ThreadPoolExecutor(CLIENTS) as pool:
        answered = set().union(*pool.map(publish, range(CLIENTS)))
    assert answered <= {str(pid).encode() for pid in server.workers()}

    loaded = [line.split()[-1] for line in server.seen("^LOADED")]
    assert len(loaded) == (1 if variant.preload else 2)
    published = {f"{client}-{number}" for client in range(CLIENTS) for number in range(EACH)}
    published |= {f"import-{pid}" for pid in loaded}
    until(lambda: len(tasks.arrived(run)) >= len(published), "all tasks")
    server.get("/?last")
    until(lambda: "last" in tasks.arrived(run), "the task behind them")
    assert tasks.arrived(run) == Counter([*published, "last"])
    if variant.preload:
        server.wait_for(r"Fork doctor: (amqp|redis|kombu|celery)\.")
