"""Compare the twins of the loop on whole connections, over socket pairs, whole and cut at random.

    python -m fuzz.fuzz_wire [--seconds N] [--seed N]

from the root of the repository, with the extension modules built. Every connection goes to
the Python loop whole, to the compiled one whole, and to both in the same pieces. What the
client receives has to be the same bytes each time (interim 100s may depend on the pieces,
and are left out where those differ), and so has what is logged. Ends with status 1 and
the connection, made as short as it can be, when two differ: it becomes a case of tests/data/wire.
"""

from __future__ import annotations

import argparse
import faulthandler
import itertools
import os
import re
import socket
import sys
import tempfile
import time
from random import Random, SystemRandom
from typing import Any, NamedTuple

from fuzz import connections, mutation
from tests.conftest import Implementation
from tests.loop.driver import Served
from tests.wire.applications import NAMED, application

PATIENCE = 10.0

_DATE = re.compile(rb"(?m)^Date: \w{3}, \d\d \w{3} \d{4} [\d:]{8} GMT\r$")
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
#: What is told of the process that runs, and not of the request.
_ADDRESS = re.compile(r"0x[0-9a-f]+")


#: Applications whose answer is the connection's own; `close_count` remembers others.
NAMES = sorted(set(NAMED) - {"close_count"})


class Seen(NamedTuple):
    """What came of a connection: bytes, how it ended, what the log says."""

    data: bytes
    end: str
    log: tuple[Any, ...]

    def settled(self) -> Seen:
        """Without what depends on the pieces."""
        return self._replace(data=self.data.replace(_CONTINUE, b""))


class Pair:
    """The two loops with the same options."""

    def __init__(self, options: dict[str, Any], folder: str) -> None:
        self.options = options
        # A unix listener: a port would differ from one loop to the other.
        self.sides = {
            name: Served(Implementation(name), application, unix=f"{folder}/{name}", **options)
            for name in ("python", "compiled")
        }

    def deliver(self, side: str, data: bytes, cuts: tuple[int, ...]) -> Seen:
        """What `side` makes of `data`, sent in the pieces between `cuts`, and FIN."""
        served = self.sides[side]
        served.log.lines.clear()
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        received = bytearray()
        ends = [0, *cuts, len(data)]
        pieces = [data[a:b] for a, b in itertools.pairwise(ends) if a < b]
        end = ""
        try:
            # With all of it and FIN there, an application that reads while it runs need not wait.
            if len(pieces) == 1 or not self.options.get("buffer_request_body", True):
                ours.sendall(data)
                ours.shutdown(socket.SHUT_WR)
                pieces = []
            served.loop.adopt(theirs)
            deadline = time.monotonic() + PATIENCE
            while not end:
                if pieces:
                    end = self._send(ours, pieces)
                    # The rest of a body goes to its place first on the compiled side, then what is behind it.
                    served.turn(0)
                served.turn(0)
                end = _receive(ours, received) or end
                if time.monotonic() > deadline:
                    end = "open"
            if end in ("reset", "broken"):
                _receive(ours, received)
        finally:
            ours.close()
            served.turn(0)
        lines = tuple((level, _ADDRESS.sub("0x", message), kind) for level, message, kind in served.log.lines)
        if end == "reset" and any(kind for _, _, kind in lines):
            end = "ended"  # an answer that is cut is cut, and the sides need not have read equally far
        return Seen(_DATE.sub(b"Date: now\r", bytes(received)), end, lines)

    @staticmethod
    def _send(ours: socket.socket, pieces: list[bytes]) -> str:
        """Send the next piece, and FIN behind the last; what is not taken any more is no difference."""
        try:
            ours.send(pieces.pop(0))
            if not pieces:
                ours.shutdown(socket.SHUT_WR)
        except OSError:
            pieces.clear()
        return ""

    def difference(self, data: bytes, cuts: tuple[int, ...]) -> str | None:
        """The words for it when two deliveries of `data` differ."""
        expected = self.deliver("python", data, ())
        compiled = self.deliver("compiled", data, ())
        if compiled != expected:
            return f"whole, compiled gives {compiled!r}\n        and python {expected!r}"
        if not cuts:
            return None
        expected_cut = self.deliver("python", data, cuts)
        compiled_cut = self.deliver("compiled", data, cuts)
        if compiled_cut != expected_cut:
            return f"cut at {cuts}, compiled gives {compiled_cut!r}\n        and python {expected_cut!r}"
        if expected_cut.settled().data != expected.settled().data:
            return f"cut at {cuts}, both give {expected_cut!r}\n        and whole {expected!r}"
        return None

    def close(self) -> None:
        """End both."""
        for served in self.sides.values():
            served.close()


def _receive(ours: socket.socket, received: bytearray) -> str:
    """Take what is there; how the connection ended, "" while it is open."""
    while True:
        try:
            data = ours.recv(1 << 16)
        except BlockingIOError:
            return ""
        except OSError:
            return "reset"
        if not data:
            return "ended"
        received += data


class Comparer:
    """Pairs of loops for all options, made when first used."""

    def __init__(self) -> None:
        self._pairs: dict[int, Pair] = {}
        self._folder = tempfile.TemporaryDirectory()

    def pair(self, number: int) -> Pair:
        """The loops with options `number` of connections.OPTIONS."""
        if number not in self._pairs:
            folder = os.path.join(self._folder.name, str(number))
            os.mkdir(folder)
            self._pairs[number] = Pair(connections.OPTIONS[number], folder)
        return self._pairs[number]

    def check(self, random: Random) -> str | None:
        """Try one connection; the words for it when it fails."""
        pair = self.pair(random.randrange(len(connections.OPTIONS)))
        data = connections.connection(random, NAMES)
        seed = random.getrandbits(32)

        def failure(data: bytes) -> str | None:
            if not data:
                return None
            # Cuts come from the seed: they are as good for the shortened connection.
            return pair.difference(data, mutation.cuts(Random(seed), len(data)))

        if failure(data) is None:
            return None
        short = connections.shrink(data, lambda shorter: failure(shorter) is not None)
        return f"{pair.options!r}\n  {short!r}\n  {failure(short)}"

    def close(self) -> None:
        """End all loops."""
        for pair in self._pairs.values():
            pair.close()
        self._folder.cleanup()


def main() -> int:
    arguments = argparse.ArgumentParser(description="Compare the twins of the loop.")
    arguments.add_argument("--seconds", type=float, default=60.0, help="how long to run")
    arguments.add_argument("--seed", type=int, default=SystemRandom().getrandbits(32))
    options = arguments.parse_args()
    faulthandler.enable()
    random = Random(options.seed)
    comparer = Comparer()
    deadline = time.monotonic() + options.seconds
    cases = 0
    try:
        while time.monotonic() < deadline:
            cases += 1
            failure = comparer.check(random)
            if failure is not None:
                print(f"seed {options.seed}, connection {cases}:\n{failure}", file=sys.stderr)
                return 1
    finally:
        comparer.close()
    print(f"{cases} connections, seed {options.seed}: the twins agree")
    return 0


if __name__ == "__main__":
    sys.exit(main())
