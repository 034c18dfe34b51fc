"""What a scenario is given, and what it gives back."""

from __future__ import annotations

import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from reliability.contestants import Contestant, write
from tests.integration.client import Traffic
from tests.integration.harness import Server, until


class NotHere(Exception):
    """The scenario needs what this machine does not give; the text says what."""


@dataclass(frozen=True)
class Result:
    """One cell of the table: the figure, and whether it is what is promised."""

    figure: str
    passed: bool


@dataclass(frozen=True)
class Scenario:
    """One row. `promise` is what has to hold; `peers` whether Gunicorn is asked to do it, too."""

    name: str
    promise: str
    rules: tuple[int, ...]
    run: Callable[[Bench], Result]
    peers: bool
    short: bool


SCENARIOS: list[Scenario] = []


def scenario(
    name: str, promise: str, *rules: int, peers: bool = False, short: bool = False
) -> Callable[[Callable[[Bench], Result]], Callable[[Bench], Result]]:
    """Make the function a row of the table. `short` ones run in the short form, too."""

    def add(run: Callable[[Bench], Result]) -> Callable[[Bench], Result]:
        SCENARIOS.append(Scenario(name, promise, rules, run, peers, short))
        return run

    return add


@dataclass
class Bench:
    """One contestant in an empty directory. `short` asks for a smaller size."""

    who: Contestant
    folder: Path
    short: bool
    servers: list[Server] = field(default_factory=list)

    def size(self, full: int, short: int) -> int:
        return short if self.short else full

    def start(self, config: str = "", ready: int = 0, **options: Any) -> Server:
        """A server; with `ready`, when so many workers serve."""
        server = self.who.start(self.folder, config, **options)
        self.servers.append(server)
        if ready:
            server.ready(ready)
        return server

    def write(self, version: str, before: str = "") -> None:
        write(self.folder, version, before)

    def reload(self, server: Server, patience: float = 20.0) -> bool:
        """HUP, and wait until the reload is over. Whether it is known to have failed."""
        mark, old = server.mark(), set(server.workers())
        server.signal(signal.SIGHUP)
        if self.who.ours:
            server.wait_for("Reload (done|failed)", mark, patience=patience)
            return bool(server.seen("Reload failed", mark))
        until(
            lambda: server.process.poll() is not None or not old & set(server.workers()), "new workers", patience
        )
        return server.process.poll() is not None


@contextmanager
def bench(who: Contestant, short: bool) -> Iterator[Bench]:
    """A bench whose servers are gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="cyhorn-reliability-", ignore_cleanup_errors=True) as name:
        made = Bench(who, Path(name), short)
        try:
            yield made
        finally:
            for server in made.servers:
                server.destroy()


# -- for scenarios ---------------------------------------------------------------------------------


def impatient(server: Server, seconds: float) -> Callable[[], socket.socket]:
    """Opens connections to `server` that wait no longer than so."""

    def connect() -> socket.socket:
        connection = server.connect()
        connection.settimeout(seconds)
        return connection

    return connect


def told(*traffics: Traffic) -> str:
    """What came of traffic, in words."""
    whole = sum(traffic.counts["whole"] for traffic in traffics)
    failed = sum(traffic.hard_failures for traffic in traffics)
    retries = sum(traffic.counts["retry"] for traffic in traffics)
    return f"{failed} of {whole + failed} failed" + (f", {retries} retried" if retries else "")


def failed(*traffics: Traffic) -> int:
    return sum(traffic.hard_failures for traffic in traffics)


def seconds_until(condition: Callable[[], Any], patience: float = 10.0) -> float:
    """Seconds until `condition`; `patience`, which is more than any promise, when it did not come true."""
    begun = time.monotonic()
    while not condition():
        if time.monotonic() - begun > patience:
            return patience
        time.sleep(0.005)
    return time.monotonic() - begun


def at_most(figure: float, limit: float, unit: str = "s", digits: int = 2) -> Result:
    return Result(f"{figure:.{digits}f} {unit}", figure < limit)
