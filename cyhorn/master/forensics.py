"""What a worker was doing when it fell silent or died, in words for the log.

Told are method, path, peer and age of each call, the oldest first. A query is not told, for it may
carry a secret, nor is anything of a head or body. Whatever a client chose is escaped.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from cyhorn.process.calls import Call
from cyhorn.process.heartbeat import BOOTING, Slot

#: How many calls the line about a worker's end names.
NAMED = 4


def path_of(call: Call) -> str:
    """The path of its request target in printable ASCII, with "..." where it was too long to keep."""
    path, query, _ = call.target.partition("?")
    return _escaped(path) + ("..." if call.cut and not query else "")


def describe(call: Call, now: float) -> str:
    """``GET /path from 127.0.0.1:4711 for 30.2 s``; `now` is in seconds of the monotonic clock."""
    peer = _escaped(call.peer) or "a unix socket"
    return f"{_escaped(call.method)} {path_of(call)} from {peer} for {max(0.0, now - call.began):.1f} s"


def tell_silence(log: Any, pid: int, slot: Slot) -> None:
    """Log what the worker `pid`, which has been silent for `timeout`, is in the middle of."""
    now = time.monotonic()
    calls = slot.calls()
    for call in calls:
        log.critical("Worker (pid:%s) is stuck in %s", pid, describe(call, now))
    if not calls and slot.state == BOOTING:
        log.critical("Worker (pid:%s) is stuck in its boot", pid)


def last_words(calls: Sequence[Call]) -> str:
    """A sentence on what a worker that has ended was in, to follow that about its end; "" for nothing."""
    if not calls:
        return ""
    now = time.monotonic()
    named = "; ".join(describe(call, now) for call in calls[:NAMED])
    more = f"; and {len(calls) - NAMED} more" if len(calls) > NAMED else ""
    return f" It was in {named}{more}."


def _escaped(text: str) -> str:
    return "".join(letter if " " < letter < "\x7f" else f"\\x{ord(letter):02x}" for letter in text)
