"""environ["gunicorn.socket"]: the connection, for those who look below HTTP."""

from __future__ import annotations

import os
import socket
from typing import Any


class ClientSocket:
    """The client's socket while its connection is open.

    `fileno()` is the descriptor itself. Every other attribute is that of a
    `socket.socket` made from a duplicate of it when first asked for, so that nothing the
    application does to it takes the descriptor from the loop.
    """

    __slots__ = ("_fd", "_socket")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._socket: socket.socket | None = None

    def fileno(self) -> int:
        """The descriptor, -1 when the connection is over."""
        return self._fd

    def detach_from_loop(self) -> None:
        """The connection is over: the number may soon name another."""
        self._fd = -1
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def __getattr__(self, name: str) -> Any:
        if self._socket is None:
            if self._fd < 0:
                raise OSError("the connection is closed")
            self._socket = socket.socket(fileno=os.dup(self._fd))
        return getattr(self._socket, name)
