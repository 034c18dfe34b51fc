"""What coverage-guided fuzzing feeds with bytes, and how it changes them with a sense of their grammar.

An input is a preamble of three bytes and a message. The first byte chooses the options, so that a change of
the message alone keeps them; the two others choose where the message is cut. A target looks at all of
it with both twins and returns the words for what differs. No library is needed: the corpus in
fuzz/corpus is tried by the tests of the twins, too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from random import Random
from typing import Any, NamedTuple

from fuzz import connections, mutation

PREAMBLE = 3

#: Says what is wrong with an input, or None.
Check = Callable[[bytes], "str | None"]


class Target(NamedTuple):
    """`make` is the check while it is entered; `seeds` are messages; `fresh` makes one by grammar."""

    make: Callable[[], contextlib.AbstractContextManager[Check]]
    seeds: tuple[bytes, ...]
    fresh: Callable[[Random], bytes]
    max_size: int


def _cuts(data: bytes, size: int) -> tuple[int, ...]:
    seed = int.from_bytes(data[1:PREAMBLE], "big")
    return mutation.cuts(Random(seed), size) if seed else ()


def _reader(
    name: str, make_options: Callable[[Random], dict[str, Any]]
) -> Callable[[], contextlib.AbstractContextManager[Check]]:
    """A target that reads messages by `name` of tests.twins.harness."""

    @contextlib.contextmanager
    def make() -> Iterator[Check]:
        from fuzz import fuzz_parser

        def check(data: bytes) -> str | None:
            message, options = data[PREAMBLE:], make_options(Random(data[0])) if data[0] else {}
            return fuzz_parser.compare(name, message, _cuts(data, len(message)), options)

        yield check

    return make


@contextlib.contextmanager
def _loop() -> Iterator[Check]:
    from fuzz import fuzz_wire

    comparer = fuzz_wire.Comparer()

    def check(data: bytes) -> str | None:
        message = data[PREAMBLE:]
        if not message:
            return None
        pair = comparer.pair(data[0] % len(connections.OPTIONS))
        return pair.difference(message, _cuts(data, len(message)))

    try:
        yield check
    finally:
        comparer.close()


def _connection(random: Random) -> bytes:
    from fuzz import fuzz_wire

    return connections.connection(random, fuzz_wire.NAMES)


TARGETS: dict[str, Target] = {
    "head": Target(
        _reader("read_head", mutation.head_options),
        mutation.HEADS,
        lambda random: mutation.mutate(random, mutation.HEADS),
        1024,
    ),
    "body": Target(
        _reader("decode_body", mutation.body_options),
        mutation.BODIES,
        lambda random: mutation.mutate(random, mutation.BODIES),
        1024,
    ),
    "loop": Target(_loop, (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",), _connection, 4096),
}


def padded(data: bytes) -> bytes:
    """`data` with at least a preamble."""
    return data + bytes(max(0, PREAMBLE - len(data)))


def mutate(target: Target, data: bytes, random: Random, by_bytes: Callable[[bytes], bytes]) -> bytes:
    """A variation of `data`: bent where parsers bend, or anew, or `by_bytes`, which knows no grammar."""
    data = padded(data)
    preamble, message = data[:PREAMBLE], data[PREAMBLE:]
    kind = random.random()
    if kind < 0.1:
        return bytes((random.randrange(256), *preamble[1:])) + message
    if kind < 0.2:
        return preamble[:1] + random.randbytes(PREAMBLE - 1) + message
    if kind < 0.3:
        return preamble + target.fresh(random)
    if kind < 0.4:
        # The message and another behind each other, or one inside the other.
        other, at = target.fresh(random), random.randint(0, len(message))
        return preamble + message[:at] + other + random.choice((b"", message[at:]))
    if kind < 0.6:
        return preamble + by_bytes(message)
    return preamble + mutation.mutate(random, (message,))
