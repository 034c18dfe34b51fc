"""The compiled side writes lines by itself where the log names a descriptor: what it cannot, it hands on, once."""

from __future__ import annotations

import errno
import os
import resource
import select
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from cyhorn import _access
from tests.loop.driver import Written
from tests.test_access import Response, lines_of


class Direct(Written):
    """A log that names a descriptor."""

    def __init__(self, fd: int, whole: int = sys.maxsize) -> None:
        super().__init__()
        self.fd = fd
        self.whole = whole
        self.rest: list[tuple[bytes, bool]] = []

    def target(self) -> Any:
        return self.fd, self.whole

    def write(self, lines: bytes, begun: bool) -> None:
        self.rest.append((lines, begun))


@contextmanager
def a_pipe() -> Iterator[tuple[int, int]]:
    read, write = os.pipe()
    try:
        yield read, write
    finally:
        os.close(read)
        os.close(write)


def direct_lines(log: Direct, *names: str) -> Any:
    lines = lines_of(_access, "%(U)s", log)
    for name in names:
        lines.record(Response(), {"PATH_INFO": name}, 0.0)
    return lines


def test_lines_go_to_the_descriptor_that_the_log_names() -> None:
    with a_pipe() as (read, write):
        log = Direct(write, select.PIPE_BUF)
        direct_lines(log, "/1", "/2").flush()
        assert os.read(read, 100) == b"/1\n/2\n" and log.rest == []


def test_more_than_a_pipe_keeps_together_is_cut_by_the_log() -> None:
    with a_pipe() as (_, write):
        log = Direct(write, 8)
        direct_lines(log, "/11111", "/2").flush()
        assert log.rest == [(b"/11111\n/2\n", False)]


@pytest.mark.parametrize("whole", [sys.maxsize, select.PIPE_BUF])
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EBADF])
def test_what_the_descriptor_refuses_is_given_to_the_log(whole: int, error: int) -> None:
    fd = os.open("/dev/full", os.O_WRONLY)
    if error == errno.EBADF:
        os.close(fd)
    log = Direct(fd, whole)
    lines = direct_lines(log, "/1")
    lines.flush()
    assert log.rest == [(b"/1\n", False)] and not lines.pending
    lines.flush()
    assert len(log.rest) == 1
    if error != errno.EBADF:
        os.close(fd)


@pytest.mark.parametrize(("room", "written", "rest"), [(5, b"/1\n/2", (b"22\n", True)), (3, b"/1\n", (b"/222\n", False))])
def test_what_is_left_of_a_cut_line_is_given_to_the_log_as_its_rest(
    tmp_path: Any, room: int, written: bytes, rest: tuple[bytes, bool]
) -> None:
    path = tmp_path / "log"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    log = Direct(fd)
    lines = direct_lines(log, "/1", "/222")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        lines.flush()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
        os.close(fd)
    assert path.read_bytes() == written and log.rest == [rest]


def test_a_signal_that_ends_the_process_while_a_pipe_is_full_costs_no_line() -> None:
    class Leave(BaseException):
        pass

    def leave(*_: Any) -> None:
        raise Leave

    with a_pipe() as (read, write):
        os.set_blocking(write, False)
        filled = 0
        while True:
            try:
                filled += os.write(write, b"x" * 4096)
            except BlockingIOError:
                break
        os.set_blocking(write, True)
        log = Direct(write, select.PIPE_BUF)
        lines = direct_lines(log, "/1", "/2")
        done = threading.Event()

        def interrupt() -> None:
            while not done.wait(0.01):  # until it strikes within the write
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR2)

        before = signal.signal(signal.SIGUSR2, leave)
        thread = threading.Thread(target=interrupt)
        try:
            with pytest.raises(Leave):
                thread.start()
                lines.flush()
        finally:
            signal.signal(signal.SIGUSR2, signal.SIG_IGN)
            done.set()
            thread.join()
            signal.signal(signal.SIGUSR2, before)
        assert lines.pending and log.rest == []
        while filled:
            filled -= len(os.read(read, min(filled, 65536)))
        lines.flush()
        assert os.read(read, 100) == b"/1\n/2\n"
