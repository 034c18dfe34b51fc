"""Waiting on a listener that other processes wait on, too."""

from __future__ import annotations

import os
import select
import selectors
import socket
from typing import Any

from cyhorn.native import native


def register(selector: selectors.BaseSelector, listener: socket.socket, data: Any) -> None:
    """Have `selector` look for connections on `listener`, with `data` in its key.

    Where the system can, one connection wakes one of the processes that wait, not all of
    them (EPOLLEXCLUSIVE, epoll_ctl(2)). `selectors` knows no such flag: the listener is put
    into the selector's own epoll once more, with it. Unregister it as any other.
    """
    selector.register(listener, selectors.EVENT_READ, data)
    if hasattr(select, "EPOLLEXCLUSIVE") and isinstance(selector, native("selectors", "EpollSelector")):
        try:
            duplicate = os.dup(selector.fileno())  # the object closes its descriptor in the end
        except OSError:
            return  # out of descriptors: then all are woken
        with native("select", "epoll").fromfd(duplicate) as epoll:
            epoll.unregister(listener)
            epoll.register(listener, select.EPOLLIN | select.EPOLLEXCLUSIVE)
