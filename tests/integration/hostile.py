"""A barrage of connections that were generated, and mostly bent, against a server that runs.

What comes back is read strictly, and so is what a well-behaved client gets meanwhile. `APPLICATION` is one
that makes no mistakes: whatever is wrong with an answer is the server's doing.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

from fuzz import connections, mutation
from tests.loop.driver import Answer, Incomplete, read_answer

#: Text of an app.py. Paths that end in "stream" are answered piece by piece, others with a length.
APPLICATION = """
import os

os.write(1, b"LOADED in %d\\n" % os.getpid())

def app(environ, start_response):
    body = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "application/octet-stream")])
    if environ["PATH_INFO"].endswith("stream"):
        return (piece for piece in (b"[", body, b"]"))
    return [b"[" + body + b"]"]
"""

#: Statuses by which a server tells a client of the client's mistakes, and 200.
EXPECTED = frozenset((200, *range(400, 418), *range(421, 432), 501, 505))

Connect = Callable[[], socket.socket]


def readings(data: bytes) -> Iterator[list[Answer]]:
    """Every way to read all of `data` as answers, where only the client knew which of them were to HEAD."""
    if not data:
        yield []
        return
    rests: set[bytes] = set()
    for method in ("GET", "HEAD"):
        try:
            answer, rest = read_answer(data, method=method, ended=True)
        except (AssertionError, Incomplete):
            continue
        if rest not in rests:  # an answer without a body is the same either way
            rests.add(rest)
            for others in readings(rest):
                yield [answer, *others]


class Barrage:
    """`count` connections by `connect`, in `clients` threads. `run` returns when all have ended.

    A third of them leaves with a reset, before or after reading; the others send FIN and read to the end.
    `ends` counts how they ended, `statuses` what they were answered, `wrong` holds what is no answer that
    a server may give, with the bytes that it was given to.
    """

    def __init__(self, connect: Connect, count: int, seed: int = 1, clients: int = 4) -> None:
        self.connect = connect
        self.ends: Counter[str] = Counter()
        self.statuses: Counter[int] = Counter()
        self.wrong: list[tuple[str, bytes, bytes]] = []
        self._seeds = iter(range(seed * 1_000_000, seed * 1_000_000 + count))
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(clients)]

    def run(self) -> Barrage:
        """Send all of it."""
        for thread in self._threads:
            thread.start()
        for thread in self._threads:
            thread.join()
        return self

    def _work(self) -> None:
        while True:
            with self._lock:
                seed = next(self._seeds, None)
            if seed is None:
                return
            random = Random(seed)
            sent = connections.connection(random, ("list", "stream"))
            end, received = self._converse(random, sent)
            with self._lock:
                self.ends[end] += 1
                if end != "left":
                    self._judge(end, sent, received)

    def _converse(self, random: Random, sent: bytes) -> tuple[str, bytes]:
        """How a connection ended ("ended", "reset", "left" by us, or what went wrong), and what had come."""
        received = b""
        leaves = random.random() < 0.33
        try:
            with self.connect() as sock:
                for start, stop in itertools.pairwise((0, *mutation.cuts(random, len(sent)), len(sent))):
                    try:
                        sock.sendall(sent[start:stop])
                    except OSError:
                        break  # an answer that ends the connection may come before all is sent
                if leaves:
                    if random.random() < 0.5:
                        sock.settimeout(0.01)  # an answer need not come: the request may be incomplete
                        with contextlib.suppress(TimeoutError):
                            sock.recv(100)
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    return "left", b""
                try:
                    sock.shutdown(socket.SHUT_WR)
                except OSError:
                    pass
                while data := sock.recv(65536):
                    received += data
        except ConnectionResetError:
            return ("left" if leaves else "reset"), received
        except OSError as error:
            return repr(error), received
        return "ended", received

    def _judge(self, end: str, sent: bytes, received: bytes) -> None:
        if end != "ended":
            self.wrong.append((f"the connection did not end by FIN: {end}", sent, received))
            return
        answers = next(readings(received), None)
        if answers is None:
            self.wrong.append(("no whole answers", sent, received))
            return
        for answer in answers:
            self.statuses[answer.status] += 1
            if answer.status not in EXPECTED and answer.status != 100:
                self.wrong.append((f"{answer.status} to a client's mistake", sent, received))


class Bystander:
    """A client that asks again and again while the block runs, each time on a connection of its own.

    `served` counts whole answers, `failures` holds the others.
    """

    REQUEST = b"POST /list HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nConnection: close\r\n\r\nbystander"

    def __init__(self, connect: Connect) -> None:
        self.served = 0
        self.failures: list[str] = []
        self._connect = connect
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)

    def _ask(self) -> None:
        while not self._over.is_set():
            received = b""
            try:
                with self._connect() as sock:
                    sock.sendall(self.REQUEST)
                    while data := sock.recv(65536):
                        received += data
                answer, rest = read_answer(received, ended=True)
                assert (answer.status, answer.body, rest) == (200, b"[bystander]", b"")
                self.served += 1
            except (OSError, AssertionError, Incomplete) as error:
                self.failures.append(f"{error!r} after {received[:500]!r}")

    def __enter__(self) -> Bystander:
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._over.set()
        self._thread.join()
