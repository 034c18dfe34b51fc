"""A listening socket that is about to be closed lets nobody in any more, and nobody fall."""

from __future__ import annotations

import errno
import socket
import sys

import pytest

from cyhorn.net.newcomers import hold_off


@pytest.mark.rule(30)
@pytest.mark.skipif(sys.platform != "linux", reason="socket filters are Linux's")
@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_who_was_there_before_is_served_and_who_comes_later_is_refused(family: int) -> None:
    with socket.socket(family) as listener, socket.socket(family) as before, socket.socket(family) as late:
        try:
            listener.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
        except OSError:
            pytest.skip("no IPv6 here")
        listener.listen()
        address = listener.getsockname()
        before.connect(address)
        assert hold_off(listener)
        late.setblocking(False)
        assert late.connect_ex(address) == errno.EINPROGRESS
        accepted, _ = listener.accept()
        before.sendall(b"ping")
        assert accepted.recv(4) == b"ping"
        accepted.close()
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()
        listener.close()
        late.setblocking(True)
        late.settimeout(20)
        with pytest.raises(ConnectionRefusedError):  # by the SYN that is sent again
            late.sendall(b"x")


def test_other_sockets_are_left_alone() -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        assert not hold_off(listener)
