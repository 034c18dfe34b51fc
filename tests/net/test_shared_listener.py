"""A listener that is waited on beside other processes."""

from __future__ import annotations

import errno
import os
import selectors
import socket

import pytest

from cyhorn.net import shared_listener


@pytest.mark.rule(37)
def test_without_a_descriptor_to_spare_it_is_waited_on_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_descriptor(_: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    with socket.create_server(("127.0.0.1", 0)) as listener, selectors.DefaultSelector() as selector:
        with monkeypatch.context() as scarce:
            scarce.setattr(os, "dup", no_descriptor)
            shared_listener.register(selector, listener, "it")
        with socket.create_connection(listener.getsockname()):
            [(key, _)] = selector.select(5)
            assert key.data == "it"
        selector.unregister(listener)
