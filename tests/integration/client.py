"""A load client that takes HTTP/1.1 literally, and tells its disappointments apart.

What may happen to a request, by what it means for the one who asked:

    whole      an answer to the letter (`tests.loop.driver.read_answer`), status below 500
    retry      the server closed a connection that had been idle, with not a byte of an answer: the client
               may ask again on another (RFC 9112, 9.3.1), and does
    error      an answer of 5xx
    cut        the connection ended inside an answer
    lost       the connection ended before the answer, and it was no idle one: nothing permits a retry
    malformed  bytes that are no HTTP/1.1 answer, or not the one asked for
    refused    no connection could be made

A connection that the server closes between two requests is no event: that is what idle connections are
for. It is one when the close is a reset.
"""

from __future__ import annotations

import select
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from tests.loop.driver import Answer, Incomplete, read_answer

PATIENCE = 20.0

#: What counts against the server.
FAILURES = ("error", "cut", "lost", "malformed", "refused", "reset")


class Failed(Exception):
    """A request that got no whole answer: `kind` is one of the above, or "retry"."""

    def __init__(self, kind: str, what: str) -> None:
        super().__init__(f"{kind}: {what}")
        self.kind = kind


def reset(connection: socket.socket) -> None:
    """Close `connection` with a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


class KeptConnection:
    """One client's connection: opened when it is needed, kept as long as the server says."""

    def __init__(self, connect: Callable[[], socket.socket], keep_alive: bool = True) -> None:
        self._connect = connect
        self._keep_alive = keep_alive
        self._sock: socket.socket | None = None
        self._received = b""
        self.used = 0  # answers on this connection
        self.opened = 0  # connections made
        self.idle_resets = 0

    def ask(self, target: str, method: str = "GET", body: bytes | None = None) -> Answer:
        """The answer to one request. Raises Failed; what failed is not asked again here."""
        self._forget_if_ended()
        if self._sock is None:
            try:
                self._sock = self._connect()
            except OSError as error:
                raise Failed("refused", repr(error)) from None
            self.opened += 1
            self.used = 0
            self._received = b""
        lines = [f"{method} {target} HTTP/1.1", "Host: a"]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        if not self._keep_alive:
            lines.append("Connection: close")
        try:
            answer = self._exchange("\r\n".join([*lines, "", ""]).encode() + (body or b""), method)
        except Failed:
            self.close()
            raise
        self.used += 1
        if answer.status >= 500:
            self.close()
            raise Failed("error", f"{answer.status} {answer.reason}")
        if answer.closes or not self._keep_alive:
            self._expect_end(answer)
        elif self._received:
            self.close()
            raise Failed("malformed", f"{self._received[:80]!r} behind an answer")
        return answer

    def _forget_if_ended(self) -> None:
        """Notice that the server has closed meanwhile."""
        if self._sock is None or not select.select([self._sock], [], [], 0)[0]:
            return
        try:
            unasked = self._sock.recv(1)
        except OSError:
            self.idle_resets += 1
            unasked = b""
        self.close()
        if unasked:
            raise Failed("malformed", "bytes that nobody asked for")

    def _exchange(self, request: bytes, method: str) -> Answer:
        assert self._sock is not None
        try:
            self._sock.sendall(request)
        except OSError:
            pass  # the answer, or its absence, says what happened
        ended, reason = False, "the end"
        while True:
            if self._received:
                try:
                    answer, self._received = read_answer(self._received, method=method, ended=ended)
                    return answer
                except Incomplete:
                    if ended:
                        raise Failed("cut", f"{reason} after {len(self._received)} bytes") from None
                except AssertionError as error:
                    raise Failed("malformed", str(error)) from None
            elif ended:
                raise Failed("retry" if self.used else "lost", f"{reason} and no byte of an answer")
            try:
                piece = self._sock.recv(1 << 20)
            except TimeoutError:
                raise Failed("cut" if self._received else "lost", "no answer in time") from None
            except OSError as error:
                piece, reason = b"", repr(error)
            ended = not piece
            self._received += piece

    def _expect_end(self, answer: Answer) -> None:
        """After "Connection: close" comes the end, and nothing else."""
        assert self._sock is not None
        try:
            more = self._received or self._sock.recv(1)
        except OSError:
            more = b""
        self.close()
        if more:
            raise Failed("malformed", f"{more[:80]!r} behind an answer that closes")

    def close(self) -> None:
        if self._sock is not None:
            self._sock.close()
            self._sock = None


class Traffic:
    """Clients that ask `target` again and again until the block ends, each in a thread of its own.

    `connect` opens a connection to the server. With `keep_alive` a client keeps its connection as long as the
    server does. `pause` is how long it thinks between two requests, in seconds. What came of it: `counts`
    (see above), `failures` in words, `bodies` of the whole answers, `waits` in seconds for each.
    """

    def __init__(
        self,
        connect: Callable[[], socket.socket],
        clients: int = 3,
        target: str = "/",
        *,
        keep_alive: bool = True,
        pause: float = 0.0,
        method: str = "GET",
        body: bytes | None = None,
        check: Callable[[Answer], bool] | None = None,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.failures: list[str] = []
        self.bodies: list[bytes] = []
        self.waits: list[float] = []
        self.connections = 0
        self._connect = connect
        self._request = (target, method, body)
        self._keep_alive = keep_alive
        self._pause = pause
        self._check = check
        self._over = threading.Event()
        self._news = threading.Condition()
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(clients)]

    def _ask(self) -> None:
        connection = KeptConnection(self._connect, self._keep_alive)
        begun, asking = 0.0, False
        while not (self._over.is_set() and not asking):
            begun = begun if asking else time.monotonic()
            try:
                answer = connection.ask(*self._request)
                if self._check is not None and not self._check(answer):
                    raise Failed("malformed", f"not what was asked for: {answer.body[:80]!r}")
            except Failed as failed:
                asking = failed.kind == "retry"
                self._note(failed.kind, "" if asking else str(failed))
                if not asking:
                    self._over.wait(0.01)  # a server that is down is not asked a thousand times a second
                continue
            asking = False
            self.waits.append(time.monotonic() - begun)
            self.bodies.append(answer.body)
            self._note("whole")
            if self._pause:
                self._over.wait(self._pause)
        connection.close()
        with self._news:
            self.connections += connection.opened
            if connection.idle_resets:
                self.counts["reset"] += connection.idle_resets
                self.failures.append(f"{connection.idle_resets} idle connections were reset")

    def _note(self, kind: str, failure: str = "") -> None:
        with self._news:
            self.counts[kind] += 1
            if failure:
                self.failures.append(failure)
            self._news.notify_all()

    @property
    def hard_failures(self) -> int:
        return sum(self.counts[kind] for kind in FAILURES)

    def wait(self, more: int) -> None:
        """Wait until `more` whole answers have come from now on, or something failed."""
        deadline = time.monotonic() + PATIENCE
        with self._news:
            wanted = self.counts["whole"] + more
            while self.counts["whole"] < wanted and not self.failures:
                left = deadline - time.monotonic()
                assert left > 0, f"in vain for {more} more answers: {dict(self.counts)}"
                self._news.wait(left)

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        self.wait(1)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Let every client end its request and leave."""
        self._over.set()
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive(), "a client did not get its answer"

    def percentile(self, share: float) -> float:
        """The wait, in seconds, within which `share` (0 to 1) of the whole answers came."""
        ordered = sorted(self.waits)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def drip(connection: socket.socket, data: bytes, pause: float, over: Callable[[], Any] = lambda: False) -> None:
    """Send `data` a byte at a time with `pause` seconds between, until `over()`."""
    for byte in data:
        if over():
            return
        connection.sendall(bytes([byte]))
        time.sleep(pause)
