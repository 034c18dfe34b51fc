"""Clients that are slow, many, silent, hostile, or simply in the wrong queue."""

from __future__ import annotations

import random
import socket
import threading
import time

from fuzz.mutation import BODIES, HEADS, mutate
from reliability.bench import Bench, Result, impatient, scenario, told
from tests.integration.accounts import open_files, resident
from tests.integration.client import Failed, KeptConnection, Traffic, reset

BEGINNINGS = (
    b"G",
    b"GET / HTTP/1.1\r\nHost: a\r\n",
    b"POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n12",
    b"GET /large?8000000 HTTP/1.1\r\nHost: a\r\n\r\n",
)


@scenario("900 clients that send and read a byte a second", "99 % of a normal client's answers within 0.5 s", 36, 44, peers=True, short=True)
def slow_clients(bench: Bench) -> Result:
    server = bench.start("workers = 2\ntimeout = 60", ready=2)
    count = bench.size(900, 300)
    slow = []
    for number in range(count):
        connection = server.connect()
        connection.sendall(BEGINNINGS[number % len(BEGINNINGS)])
        connection.setblocking(False)
        slow.append(connection)
    over = threading.Event()

    def move() -> None:
        """A byte on each, each second, while the server still listens to it."""
        while not over.wait(1.0):
            for number, connection in enumerate(slow):
                try:
                    if number % len(BEGINNINGS) == 3:
                        connection.recv(1)
                    else:
                        connection.send(b"X")
                except OSError:
                    pass

    mover = threading.Thread(target=move)
    mover.start()
    client = KeptConnection(impatient(server, 3.0), keep_alive=False)
    waits, failures, end = [], 0, time.monotonic() + bench.size(6, 3)
    while time.monotonic() < end:
        begun = time.monotonic()
        try:
            client.ask("/")
        except Failed:
            failures += 1
        waits.append(time.monotonic() - begun)
    over.set()
    mover.join()
    for connection in slow:
        connection.close()
    worst = sorted(waits)[int(len(waits) * 0.99)]
    answered = len(waits) - failures
    return Result(f"{worst * 1000:.0f} ms, {failures} of {answered + failures} failed", worst < 0.5 and not failures)


@scenario("10,000 idle keep-alive connections", "a normal client waits less than 0.5 s; all are answered", 36, short=False)
def ten_thousand(bench: Bench) -> Result:
    server = bench.start("workers = 2\nkeepalive = 300\nclient_header_timeout = 300\nbacklog = 4096", ready=2)
    before = sum(map(resident, server.workers()))
    connections = []
    for _ in range(10_000):
        connection = server.connect()
        connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        connections.append(connection)
    answered = sum(connection.recv(4096).endswith(b"ok") for connection in connections)
    each = (sum(map(resident, server.workers())) - before) / len(connections)
    with Traffic(server.connect, 1, keep_alive=False) as traffic:
        traffic.wait(200)
    again = 0
    for connection in connections:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        again += connection.recv(4096).endswith(b"ok")
        connection.close()
    wait = traffic.percentile(0.99)
    return Result(
        f"{answered} and {again} answered, {each / 1024:.1f} KB each; others {wait * 1000:.0f} ms",
        answered == again == 10_000 and wait < 0.5 and not traffic.failures,
    )


@scenario("300 clients to a backlog of 16, the worker busy for 1 s", "none is refused or reset", 1, 31, peers=True)
def overflow(bench: Bench) -> Result:
    """The kernel drops what the queue cannot hold; it is the clients' kernel that tries again, ever later."""
    server = bench.start("workers = 1\nbacklog = 16", ready=1)
    busy = server.send("/sleep?1")
    server.wait_for("SLEEPING")
    outcomes: list[str] = []

    def ask() -> None:
        try:
            KeptConnection(impatient(server, 10), keep_alive=False).ask("/")
            outcomes.append("answered")
        except Failed as error:
            late = "no answer in time" in str(error) or "Timeout" in str(error)
            outcomes.append("waiting" if late else "failed")

    threads = [threading.Thread(target=ask) for _ in range(300)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    busy.close()
    answered, waiting = outcomes.count("answered"), outcomes.count("waiting")
    after = f", {waiting} still wait after 10 s" if waiting else ""
    return Result(f"{answered} of 300 answered{after}", answered + waiting == 300)


@scenario(
    "20 keep-alive clients beside one whose requests take 1 s, 2 workers",
    "99 % of their answers within 0.2 s",
    36,
    peers=True,
    short=True,
)
def fair_share(bench: Bench) -> Result:
    server = bench.start("workers = 2", ready=2)
    with Traffic(server.connect, 20, pause=0.05) as others:
        others.wait(40)
        long_calls = KeptConnection(server.connect)
        begun = time.monotonic()
        while time.monotonic() - begun < bench.size(10, 5):
            long_calls.ask("/sleep?1")
        long_calls.close()
    slow = sum(wait > 0.5 for wait in others.waits)
    wait = others.percentile(0.99)
    return Result(f"{wait * 1000:.0f} ms; {slow} of {len(others.waits)} waited longer than 0.5 s", wait < 0.2)


SEEDS = (
    *HEADS,
    *(HEADS[4] + body + HEADS[0] for body in BODIES),
    b"POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n0123456789GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /large?100000 HTTP/1.1\r\nHost: a\r\n\r\n" * 3,
    b"HEAD /stream?3 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
)


@scenario("20,000 mutated connections, a third reset", "no 5xx, no traceback, no descriptor, no worker lost", 38, short=True)
def hostile(bench: Bench) -> Result:
    server = bench.start("workers = 2\nclient_header_timeout = 2\nclient_body_timeout = 2", ready=2)
    workers = sorted(server.workers())
    KeptConnection(server.connect, keep_alive=False).ask("/")
    before = [len(open_files(pid)) for pid in workers]
    chance = random.Random(7)
    errors, waiting = 0, []

    def leave(connection: socket.socket) -> int:
        connection.setblocking(False)
        try:
            status = connection.recv(65536)[9:12]
        except OSError:
            status = b""
        (reset if chance.random() < 0.33 else socket.socket.close)(connection)
        return status.startswith(b"5") and status not in (b"501", b"505")

    for _ in range(bench.size(20_000, 2_000)):
        connection = server.connect()
        connection.sendall(mutate(chance, SEEDS))
        waiting.append(connection)
        if len(waiting) > 50:
            errors += leave(waiting.pop(0))
    for connection in waiting:
        errors += leave(connection)
    with Traffic(server.connect, 2, keep_alive=False) as traffic:
        traffic.wait(50)
    end = time.monotonic() + 5
    while [len(open_files(pid)) for pid in workers] != before and time.monotonic() < end:
        time.sleep(0.05)
    left = sum(len(open_files(pid)) for pid in workers) - sum(before)
    tracebacks = len(server.seen("^Traceback|CRITICAL|\\[ERROR\\]"))
    same = sorted(server.workers()) == workers
    return Result(
        f"{errors} 5xx, {tracebacks} errors logged, {left} descriptors; then {told(traffic)}",
        not errors and not tracebacks and not left and same and not traffic.failures,
    )
