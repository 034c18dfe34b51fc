"""Handlers that put each record on its descriptor with one write(2).

Invariants:

* A record is one `os.write` to an O_APPEND descriptor, so that lines of several
  processes never mix; only a full disk or a full pipe can cut one, and what follows
  a cut starts on a line of its own.
* The descriptor number of a file handler stays the same for its life. `reopen` opens
  the new file first and then moves it onto that number with dup2(2), so a thread or an
  interrupted writer never sees a closed descriptor, and when the new file cannot be
  opened the old one stays in use.
* A write that fails is said once per outage on standard error and counted; nothing is
  raised to whoever logs.

Uses the standard library only; knows no configuration object.
"""

from __future__ import annotations

import io
import logging
import os
import select
import stat
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TextIO

from cyhorn.native import native

if TYPE_CHECKING:
    StreamHandler = logging.StreamHandler[TextIO]
else:  # not subscriptable at run time before 3.11
    StreamHandler = logging.StreamHandler

#: What pipe(7) writes without mixing it with other writers (POSIX says at least 512).
PIPE_BUF = getattr(select, "PIPE_BUF", 512)

#: How long a non-blocking descriptor that is full may hold up its writer, in milliseconds.
FULL_PIPE_WAIT = 100


def say(text: str) -> None:
    """Put one line on standard error if that is possible, and never raise."""
    stream = sys.stderr
    if stream is None:
        return
    try:
        if type(stream) is io.TextIOWrapper:
            os.write(stream.fileno(), f"{text}\n".encode(errors="backslashreplace"))
        else:
            stream.write(f"{text}\n")
    except Exception:
        pass


def give(fd: int, owner: tuple[int, int] | None) -> None:
    """Hand the regular file behind `fd` to `owner` (uid, gid), if this process may.

    Workers that have given up root must be able to open the file again at USR1.
    Devices and pipes, such as /dev/null, are left alone.
    """
    if owner is None:
        return
    try:
        facts = os.fstat(fd)
        if stat.S_ISREG(facts.st_mode) and (facts.st_uid, facts.st_gid) != owner:
            os.fchown(fd, *owner)
    except OSError:
        pass


def open_log(path: str, owner: tuple[int, int] | None = None) -> TextIO:
    """Open the log file at `path` for appending, made if missing and given to `owner`. Raises OSError."""
    stream = open(path, "a", encoding="utf-8", errors="backslashreplace")
    give(stream.fileno(), owner)
    return stream


class OneWriteHandler(StreamHandler):
    """A StreamHandler that writes each record with one write(2) and outlives any failure.

    A stream that is not a plain text file over a descriptor (a replacement of
    sys.stdout, a StringIO) is written through its own methods.
    """

    #: Lines lost in the present outage.
    lost = 0
    #: Whether the last line on the descriptor lacks its end.
    cut = False

    @property
    def target(self) -> str:
        """What is written to, in words."""
        return str(getattr(self.stream, "name", self.stream))

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record) + self.terminator
        except Exception:  # the call that logs is wrong: its arguments do not fit its message
            self.handleError(record)
            return
        self.write(text)

    def handleError(self, record: logging.LogRecord) -> None:
        with suppress(Exception):
            super().handleError(record)

    def write(self, record: str | bytes, begun: bool = False) -> None:
        """Write one record, a str, at once, or whole lines, in UTF-8, in as few writes as keep each whole.

        `begun` says that the first line's beginning is on the descriptor already.
        Never raises; the caller holds the handler's lock.
        """
        try:
            self.put(record, begun)
        except Exception as cause:
            if not self.lost and self.stream is not sys.stderr:
                say(f"cyhorn: cannot write the log {self.target}: {cause}; going on without it")
            self.lost += max(1, record.count("\n") if isinstance(record, str) else record.count(b"\n"))
            return
        if self.lost:
            say(f"cyhorn: the log {self.target} is written again; {self.lost} lines were lost")
            self.lost = 0

    def write_lines(self, lines: bytes, begun: bool = False) -> None:
        """Write whole lines, each with its end, in UTF-8; see `write`."""
        self.acquire()
        try:
            self.write(lines, begun)
        finally:
            self.release()

    def direct(self) -> tuple[int, int] | None:
        """A descriptor that takes lines in UTF-8 as they are, and how many bytes one write keeps together.

        None in an outage, and where the stream has to be asked.
        """
        stream: Any = self.stream
        if self.lost or self.cut or type(stream) is not io.TextIOWrapper or stream.closed:
            return None
        if stream.encoding != "utf-8":
            return None
        try:
            stream.flush()  # what the application printed before
            return stream.fileno(), PIPE_BUF
        except Exception:
            return None

    def put(self, record: str | bytes, begun: bool) -> None:
        """Do what `write` promises; raises whatever keeps it from being done."""
        stream: Any = self.stream
        if type(stream) is not io.TextIOWrapper or stream.closed:
            stream = self.stream = self.renew(stream)
            if type(stream) is not io.TextIOWrapper:
                stream.write(record if isinstance(record, str) else record.decode())
                stream.flush()
                return
        # Standard output may hold what the application printed before. What cannot be flushed
        # stays there; this text has its own try. (contextlib.suppress costs more than the rest.)
        try:
            stream.flush()
        except Exception:
            pass
        try:
            fd = stream.fileno()
        except io.UnsupportedOperation:
            stream.write(record if isinstance(record, str) else record.decode())
            stream.flush()
            return
        if isinstance(record, str):
            self.write_whole(fd, record.encode(stream.encoding, "backslashreplace"))
            return
        if stream.encoding != "utf-8":
            record = record.decode().encode(stream.encoding, "backslashreplace")
        if len(record) > PIPE_BUF and not self.is_regular():
            for block in blocks(record):
                self.write_whole(fd, block, begun)
                begun = False
        else:
            self.write_whole(fd, record, begun)

    def renew(self, stream: Any) -> Any:
        """The stream to use in place of `stream`, which is closed or of an unknown kind."""
        return stream

    def is_regular(self) -> bool:
        """Whether the stream is a regular file: one append to it is whole, however long."""
        try:
            return stat.S_ISREG(os.fstat(self.stream.fileno()).st_mode)
        except Exception:
            return False

    def write_whole(self, fd: int, data: bytes, begun: bool = False) -> None:
        """One write(2), and more only where the kernel takes less than all."""
        if begun:
            self.cut = True  # until its end is there
        elif self.cut:
            data = b"\n" + data
        while True:
            try:
                count = os.write(fd, data)
            except BlockingIOError:
                # Someone made the pipe non-blocking. A reader that is merely slow gets a moment.
                poll = native("select", "poll")()
                poll.register(fd, select.POLLOUT)
                if not poll.poll(FULL_PIPE_WAIT):
                    raise
                continue
            if count == len(data):
                self.cut = False
                return
            self.cut = True
            data = data[count:]


class ConsoleHandler(OneWriteHandler):
    """A handler for standard output or error."""


class LogFileHandler(OneWriteHandler, logging.FileHandler):
    """A handler for a file that is re-opened on USR1.

    path: the file; made if missing.
    owner: uid and gid that get the file, or None.
    Raises OSError when the file cannot be opened.
    """

    def __init__(self, path: str, owner: tuple[int, int] | None = None) -> None:
        self.owner = owner
        self.regular: bool | None = None
        logging.FileHandler.__init__(self, path, encoding="utf-8", errors="backslashreplace")

    @property
    def target(self) -> str:
        return self.baseFilename

    def _open(self) -> io.TextIOWrapper:
        stream = open_log(self.baseFilename, self.owner)
        assert isinstance(stream, io.TextIOWrapper)
        return stream

    def emit(self, record: logging.LogRecord) -> None:
        OneWriteHandler.emit(self, record)

    def is_regular(self) -> bool:
        if self.regular is None:
            self.regular = super().is_regular()
        return self.regular

    def direct(self) -> tuple[int, int] | None:
        stream: Any = self.stream  # nobody else writes to it
        if self.lost or self.cut or type(stream) is not io.TextIOWrapper or stream.closed:
            return None
        return stream.fileno(), sys.maxsize if self.is_regular() else PIPE_BUF

    def renew(self, stream: Any) -> Any:
        # logging.shutdown and dictConfig close handlers that are still in use afterwards;
        # so may an application.
        self.regular = None
        return self._open()

    def reopen(self) -> None:
        """Turn to the file that now has the path's name. Raises OSError and keeps the old one."""
        self.acquire()
        try:
            if self.stream is None or self.stream.closed:
                return  # the next record opens it
            with self._open() as new:
                os.dup2(new.fileno(), self.stream.fileno(), inheritable=False)
            self.cut = False
            self.regular = None
        finally:
            self.release()


def blocks(data: bytes) -> Iterator[bytes]:
    """Cut `data` between lines into blocks that a pipe takes whole (a line longer than that is alone)."""
    start = 0
    while start < len(data):
        end = data.rfind(b"\n", start, start + PIPE_BUF) + 1 or data.find(b"\n", start) + 1 or len(data)
        yield data[start:end]
        start = end
