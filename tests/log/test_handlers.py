"""Each record is one write, and a log that cannot be written stops nothing."""

from __future__ import annotations

import errno
import io
import logging
import os
import re
import select
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cyhorn.log.access import fast_access_log
from cyhorn.log.handlers import PIPE_BUF, ConsoleHandler, LogFileHandler, OneWriteHandler, blocks
from cyhorn.log.logger import Logger


def emit(handler: logging.Handler, text: str) -> None:
    handler.handle(logging.LogRecord("test", logging.INFO, "", 0, text, None, None))


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What os.write was given, except for standard error."""
    calls: list[bytes] = []
    real = os.write

    def write(fd: int, data: bytes) -> int:
        if fd != sys.stderr.fileno():
            calls.append(data)
        return real(fd, data)

    monkeypatch.setattr(os, "write", write)
    return calls


@pytest.fixture
def pipe() -> Any:
    """(descriptor to read, text stream to write), as a container's standard output is."""
    read, write = os.pipe()
    stream = os.fdopen(write, "w")
    yield read, stream
    for close in (stream.close, lambda: os.close(read)):
        try:
            close()
        except OSError:
            pass


# --- one write ---


@pytest.mark.parametrize("size", [0, 100, 10_000, 200_000])
@pytest.mark.rule(41)
def test_a_record_is_one_write(tmp_path: Path, written: list[bytes], size: int) -> None:
    handler = LogFileHandler(str(tmp_path / "log"))
    emit(handler, "x" * size)
    assert written == [b"x" * size + b"\n"]
    handler.close()


def test_what_the_application_printed_before_comes_first(pipe: Any) -> None:
    read, stream = pipe
    stream.write("printed\n")
    emit(ConsoleHandler(stream), "logged")
    assert os.read(read, 100) == b"printed\nlogged\n"


def test_a_stream_without_descriptor_is_written_through_its_methods() -> None:
    stream = io.StringIO()
    emit(ConsoleHandler(stream), "né")
    assert stream.getvalue() == "né\n"
    wrapped = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    emit(ConsoleHandler(wrapped), "né")
    assert wrapped.buffer.getvalue() == "né\n".encode()


def test_what_the_encoding_lacks_is_escaped(pipe: Any, tmp_path: Path) -> None:
    read, stream = pipe
    stream.reconfigure(encoding="ascii")
    emit(ConsoleHandler(stream), "né \udce9")
    assert os.read(read, 100) == b"n\\xe9 \\udce9\n"
    handler = LogFileHandler(str(tmp_path / "log"))
    emit(handler, "né \udce9")
    assert (tmp_path / "log").read_bytes() == "né \\udce9\n".encode()
    handler.close()


def test_many_lines_go_to_a_pipe_in_blocks_that_stay_whole(pipe: Any, written: list[bytes]) -> None:
    _, stream = pipe
    lines = [f"{number:04} {'x' * (number % 300)}" for number in range(200)]
    ConsoleHandler(stream).write_lines("".join(f"{line}\n" for line in lines).encode())
    assert b"".join(written).decode().splitlines() == lines
    assert all(len(block) <= PIPE_BUF and block.endswith(b"\n") for block in written)
    assert len(written) < 20


def test_a_line_longer_than_a_block_is_a_block() -> None:
    long = b"y" * (PIPE_BUF + 1) + b"\n"
    assert list(blocks(b"a\n" + long + b"b\nc\n")) == [b"a\n", long, b"b\nc\n"]
    assert list(blocks(b"")) == []


def test_many_lines_go_to_a_file_in_one_write(tmp_path: Path, written: list[bytes]) -> None:
    handler = LogFileHandler(str(tmp_path / "log"))
    handler.write_lines((b"x" * 100 + b"\n") * 1000)
    assert len(written) == 1
    handler.close()


# --- failures ---


def fail(handler: OneWriteHandler, capfd: pytest.CaptureFixture[str]) -> str:
    """Write twice to what fails; the one line that this put on standard error."""
    for text in ("one", "two"):
        emit(handler, text)
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    assert handler.lost == 2
    return lines[0]


@pytest.mark.rule(40)
def test_a_full_disk_is_said_once(capfd: pytest.CaptureFixture[str]) -> None:
    handler = LogFileHandler("/dev/full")
    assert re.fullmatch(
        r"cyhorn: cannot write the log /dev/full: .*No space left on device; going on without it",
        fail(handler, capfd),
    )
    handler.write_lines(b"three\nfour\n")
    assert handler.lost == 4
    assert capfd.readouterr().err == ""
    handler.close()


def test_the_end_of_an_outage_says_what_was_lost(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "log"
    path.symlink_to("/dev/full")
    handler = LogFileHandler(str(path))
    fail(handler, capfd)
    path.unlink()
    handler.reopen()
    emit(handler, "three")
    emit(handler, "four")
    assert capfd.readouterr().err == f"cyhorn: the log {path} is written again; 2 lines were lost\n"
    assert path.read_text() == "three\nfour\n"
    handler.close()


@pytest.mark.rule(40)
def test_a_reader_that_went_away_stops_nothing(pipe: Any, capfd: pytest.CaptureFixture[str]) -> None:
    read, stream = pipe
    end, _ = os.pipe()
    os.dup2(end, read)  # the pipe loses its reader, the fixture keeps its descriptor
    os.close(end)
    assert "Broken pipe" in fail(ConsoleHandler(stream), capfd)


def test_a_closed_stream_stops_nothing(pipe: Any, capfd: pytest.CaptureFixture[str]) -> None:
    _, stream = pipe
    handler = ConsoleHandler(stream)
    stream.close()
    assert "closed file" in fail(handler, capfd)


def test_a_closed_descriptor_stops_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    handler = LogFileHandler(str(tmp_path / "log"))
    os.close(handler.stream.fileno())
    assert "Bad file descriptor" in fail(handler, capfd)
    os.open(os.devnull, os.O_RDONLY)  # something for close to close
    handler.close()


@pytest.mark.parametrize("there", [False, True])
def test_no_standard_error_stops_nothing(monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    full = open("/dev/full", "wb", buffering=0)
    stream = io.TextIOWrapper(full, write_through=True) if there else None  # type: ignore[type-var]
    monkeypatch.setattr(sys, "stderr", stream)
    console, file = ConsoleHandler(), LogFileHandler("/dev/full")
    emit(file, "lost")
    emit(console, "lost")
    assert (console.lost, file.lost) == (1, 1)
    monkeypatch.undo()
    file.close()
    full.close()


def test_a_wrong_call_of_the_logger_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    handler = LogFileHandler(str(tmp_path / "log"))
    handler.handle(logging.LogRecord("test", logging.INFO, "", 0, "%d items", ("many",), None))
    assert "many" in sys.stderr.getvalue()  # type: ignore[attr-defined]
    handler.close()


def test_a_full_pipe_that_does_not_block_costs_a_moment_and_the_line(
    pipe: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    read, stream = pipe
    os.set_blocking(stream.fileno(), False)
    with pytest.raises(BlockingIOError):
        while True:
            os.write(stream.fileno(), b"x" * 65536)
    handler = ConsoleHandler(stream)
    begin = time.monotonic()
    emit(handler, "lost")
    assert time.monotonic() - begin < 5
    assert handler.lost == 1
    os.read(read, 1 << 20)
    emit(handler, "kept")
    assert os.read(read, 100) == b"kept\n"
    assert "written again" in capfd.readouterr().err


def test_a_line_that_the_disk_cut_does_not_run_into_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    handler = LogFileHandler(str(tmp_path / "log"))
    fd_of_log = handler.stream.fileno()
    real = os.write
    outcomes = iter([3, OSError(errno.ENOSPC, "full"), None])

    def write(fd: int, data: bytes) -> int:
        if fd != fd_of_log:
            return real(fd, data)
        outcome = next(outcomes)
        if isinstance(outcome, OSError):
            raise outcome
        return real(fd, data[:outcome])

    monkeypatch.setattr(os, "write", write)
    emit(handler, "cut here")
    emit(handler, "whole")
    assert (tmp_path / "log").read_text() == "cut\nwhole\n"
    handler.close()


# --- re-opening ---


def test_a_reopened_file_keeps_its_descriptor(tmp_path: Path) -> None:
    path = tmp_path / "log"
    handler = LogFileHandler(str(path))
    fd = handler.stream.fileno()
    emit(handler, "old")
    path.rename(tmp_path / "log.1")
    emit(handler, "still old")
    handler.reopen()
    emit(handler, "new")
    assert handler.stream.fileno() == fd
    assert not os.get_inheritable(fd)
    assert (tmp_path / "log.1").read_text() == "old\nstill old\n"
    assert path.read_text() == "new\n"
    handler.close()


@pytest.mark.rule(40)
def test_a_file_that_cannot_be_reopened_stays(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    handler = LogFileHandler(str(folder / "log"))
    folder.rename(tmp_path / "moved")
    with pytest.raises(FileNotFoundError):
        handler.reopen()
    emit(handler, "still here")
    assert (tmp_path / "moved" / "log").read_text() == "still here\n"
    handler.close()


def test_reopening_leaks_no_descriptor(tmp_path: Path) -> None:
    handler = LogFileHandler(str(tmp_path / "log"))
    handler.reopen()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        handler.reopen()
    assert len(os.listdir("/proc/self/fd")) == before
    handler.close()


def test_a_closed_handler_that_is_still_used_opens_its_file_again(tmp_path: Path) -> None:
    handler = LogFileHandler(str(tmp_path / "log"))
    emit(handler, "one")
    handler.close()  # as dictConfig and logging.shutdown do
    emit(handler, "two")
    handler.stream.close()
    emit(handler, "three")
    handler.stream.close()
    handler.reopen()
    handler.write_lines(b"four\n")
    assert (tmp_path / "log").read_text() == "one\ntwo\nthree\nfour\n"
    handler.close()


def write_until_told(cfg: Any, lines: type[Any], number: int, make: Callable[..., Any], tell: int) -> None:
    """A worker: error records one by one, access lines in turns, both re-opened at USR1; ends at TERM."""
    logger = Logger(cfg)
    plain = fast_access_log(logger, cfg)
    assert plain is not None
    access = lines(plain.line, plain.steps, plain.clock, plain)
    told = []
    signal.signal(signal.SIGUSR1, lambda *_: logger.reopen_files())
    signal.signal(signal.SIGTERM, lambda *_: told.append(True))
    os.write(tell, b"ready\n")
    line = 0
    while not told:
        logger.info("%d-%d-%s", number, line, "x" * (line % 97))
        access.record(make(), {"PATH_INFO": f"{number}-{line}-{'x' * (line % 97)}"}, 0.1)
        if line % 7 == 0:
            access.flush()
        line += 1
    access.flush()
    os.write(tell, f"{number} {line}\n".encode())


@pytest.mark.rule(41)
def test_rotation_under_several_writers_loses_doubles_and_tears_nothing(
    impl: Any, make_cfg: Callable[..., Any], tmp_path: Path, make_response: Callable[..., Any]
) -> None:
    names = ("error.log", "access.log")
    cfg = make_cfg(
        errorlog=str(tmp_path / "error.log"),
        accesslog=str(tmp_path / "access.log"),
        access_log_format="%(U)s end",
    )
    said, tell = os.pipe()
    children = []
    for number in range(3):
        child = os.fork()
        if not child:
            status = 1
            try:
                write_until_told(cfg, impl.access.AccessLines, number, make_response, tell)
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    os.close(tell)
    with os.fdopen(said) as reports:
        assert [reports.readline() for _ in children] == ["ready\n"] * 3
        for rotation in range(6):
            for name in names:
                path = tmp_path / name
                path.rename(tmp_path / f"{name}.{rotation}")
                deadline = time.monotonic() + 10
                # Until the new file has lines: then at least one of them writes there.
                while not (path.exists() and path.stat().st_size) and time.monotonic() < deadline:
                    for child in children:
                        os.kill(child, signal.SIGUSR1)
                    select.select([], [], [], 0.002)
                assert path.stat().st_size
        for child in children:
            os.kill(child, signal.SIGTERM)
        counts = [tuple(map(int, line.split())) for line in reports]
    for child in children:
        assert os.waitpid(child, 0)[1] == 0
    wanted = sorted(
        f"{number}-{line}-{'x' * (line % 97)}" for number, count in counts for line in range(count)
    )
    assert len(counts) == 3
    errors, accesses = (
        "".join(file.read_text() for file in tmp_path.glob(f"{name}*")).splitlines() for name in names
    )
    assert sorted(accesses) == sorted(f"{text} end" for text in wanted)
    assert all(re.match(r"\[\d{4}-\d\d-\d\d .*\] \[\d+\] \[INFO\] \d", text) for text in errors)
    assert sorted(text.split("[INFO] ")[1] for text in errors) == wanted
