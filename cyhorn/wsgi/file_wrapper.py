"""wsgi.file_wrapper (PEP 3333, optional platform-specific file handling)."""

from __future__ import annotations

import io
import os
import stat
from typing import Any

#: What `open` makes of files in binary mode: their bytes are those of the descriptor.
_PLAIN = (io.BufferedReader, io.BufferedRandom, io.FileIO)


class FileWrapper:
    """An iterable over `filelike` in blocks of `blksize` bytes.

    The loop sends a real file by sendfile instead of iterating, from its current
    position. `close` is the file's own, present only when the file has one.
    """

    def __init__(self, filelike: Any, blksize: int = 65536) -> None:
        self.filelike = filelike
        self.blksize = blksize
        if hasattr(filelike, "close"):
            self.close = filelike.close

    def __iter__(self) -> FileWrapper:
        return self

    def __next__(self) -> bytes:
        data: bytes = self.filelike.read(self.blksize)
        if data:
            return data
        raise StopIteration

    def region(self) -> tuple[int, int, int] | None:
        """(descriptor, offset, bytes to the end) of a regular file; None when it is no such thing.

        None also at the end of a file: files of /proc say that they are empty, and are not. And
        None for what only stands in front of a file and may read other bytes than it holds: a
        wrapper that ends a range, a subclass, text, what decompresses. Nor for a subclass of this
        one that iterates in its own way: its items are the answer, whether sendfile may be used or not.
        """
        if type(self.filelike) not in _PLAIN:
            return None
        kind = type(self)
        if kind.__iter__ is not FileWrapper.__iter__ or kind.__next__ is not FileWrapper.__next__:
            return None
        try:
            fd: int = self.filelike.fileno()
            offset: int = self.filelike.tell()
            status = os.fstat(fd)
        except (AttributeError, OSError, ValueError):
            return None
        if not self.filelike.readable() or not stat.S_ISREG(status.st_mode):
            return None
        if type(getattr(self.filelike, "raw", self.filelike)) is not io.FileIO:
            return None
        return (fd, offset, status.st_size - offset) if status.st_size > offset else None
