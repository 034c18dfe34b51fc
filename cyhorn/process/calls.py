"""What a worker is doing: a record of each call of the application, in memory that the master reads.

A worker that is stuck, or was killed, cannot say any more which request it had. So it writes
down beside its heartbeat what it calls the application for before it does, and takes that
back after the answer. It costs two stores and a short copy, no system call, and outlasts
the worker: also what SIGKILL ended left its record.

A worker has `CALLS` records, one for each of its calls at a time; further threads go unrecorded.
Layout of a record, native byte order::

    int64  number   @  0   of the call, ever another; 0: no call is made
    int64  began_ns @  8   CLOCK_MONOTONIC at its beginning, nanoseconds
    int64  size     @ 16   of the whole request target, bytes
    bytes  peer     @ 24   address:port, up to a NUL; empty: no IP address (a unix socket)
    bytes  method   @ 72   up to a space or NUL; what follows has no meaning
    bytes  target   @ 88   the first 168 bytes of the request target, as on the request line

Invariant: `number` is written last when a call begins and first when it ends. Who reads it before
and after the rest, and finds the same, has a whole record. Only the worker writes.
"""

from __future__ import annotations

import mmap
import struct
from typing import NamedTuple

#: Records of a worker, and the size of one in bytes: a page for each worker.
CALLS, CALL_SIZE = 16, 256
PEER_SIZE, METHOD_SIZE, TARGET_SIZE = 48, 16, 168

_CONTENT = struct.Struct(f"=qq{PEER_SIZE}s{METHOD_SIZE}s{TARGET_SIZE}s")
_AFTER_NUMBER = 8
#: A record that changes while it is read is that of a worker that is not stuck.
_TRIES = 3


class Call(NamedTuple):
    """A call of the application that is being made. `began` is in seconds of the monotonic clock.

    `peer` is ``address:port``, "" for a unix socket's. `target` is what is kept of the request
    target, and `cut` says that it was longer. Texts are latin-1, as the client sent them.
    """

    began: float
    peer: str
    method: str
    target: str
    cut: bool


class CallRecord:
    """The record at byte `offset` of `buffer`; `numbers` is the same memory as int64."""

    __slots__ = ("_buffer", "_number_at", "_numbers", "_offset")

    def __init__(self, buffer: mmap.mmap, numbers: memoryview, offset: int) -> None:
        self._buffer = buffer
        self._numbers = numbers
        self._offset = offset
        self._number_at = offset // 8

    def begin(self, number: int, began_ns: int, peer: str, method: str, target: str) -> None:
        """Write down call `number`, which is not 0 and not that of the call before."""
        _CONTENT.pack_into(
            self._buffer,
            self._offset + _AFTER_NUMBER,
            began_ns,
            len(target),
            peer.encode("latin-1", "replace"),
            method.encode("latin-1", "replace"),
            target[:TARGET_SIZE].encode("latin-1", "replace"),
        )
        self._numbers[self._number_at] = number

    def end(self) -> None:
        """Take the call back."""
        self._numbers[self._number_at] = 0

    def read(self) -> Call | None:
        """The call that is being made; None where none is."""
        for _ in range(_TRIES):
            number = self._numbers[self._number_at]
            if not number:
                return None
            began, size, peer, method, target = _CONTENT.unpack_from(
                self._buffer, self._offset + _AFTER_NUMBER
            )
            if self._numbers[self._number_at] == number:
                return Call(
                    began / 1e9,
                    peer.partition(b"\0")[0].decode("latin-1"),
                    method.replace(b"\0", b" ").partition(b" ")[0].decode("latin-1"),
                    target[:size].decode("latin-1"),
                    size > TARGET_SIZE,
                )
        return None
