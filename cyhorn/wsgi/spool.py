"""Bytes that wait: in memory first, then in an unlinked temporary file.

`BodySpool` collects a request body before the application is called; `OutQueue`
holds what a slow client has not taken of its response. Both are the slow path of
the loop, the same objects under both twins, and know neither sockets nor HTTP.
"""

from __future__ import annotations

import io
import os
from collections import deque
from typing import IO

from cyhorn.errors import ClientDisconnected, ResponseCut

Bytes = bytes | bytearray | memoryview

#: Some kernels take no more than 2 GiB at once.
_SENDFILE_MAX = 1 << 30


def _temporary_file(prefix: str, directory: str | None) -> io.FileIO:
    """An unlinked file in `directory`, not buffered. Raises OSError."""
    # Most workers never spool, and the modules behind this one are many.
    import tempfile

    return tempfile.TemporaryFile(buffering=0, prefix=prefix, dir=directory)


class _BodyFile(io.BufferedRandom):
    """The file of a body. It reads as `io.BytesIO` does, which a smaller body is."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Read `size` bytes; all that is left when it is None or negative."""
        return super().read(-1 if size is not None and size < 0 else size)


class BodySpool:
    """A request body: at most `memory` bytes in memory, the rest of it in a file.

    `directory` is where the file is made (None: the system's choice). `append` raises
    OSError when the file cannot be made or written; the spool is then only to be closed.
    """

    __slots__ = ("_directory", "_file", "_memory", "_parts", "size")

    def __init__(self, memory: int, directory: str | None = None) -> None:
        self.size = 0
        self._memory = memory
        self._directory = directory
        self._parts: list[bytes] = []
        self._file: IO[bytes] | None = None

    def append(self, data: Bytes) -> None:
        """Add `data` at the end; it is copied."""
        self.size += len(data)
        if self._file is None:
            if self.size <= self._memory:
                self._parts.append(bytes(data))
                return
            self._file = _BodyFile(_temporary_file("cyhorn-body-", self._directory))
            for part in self._parts:
                self._file.write(part)
            self._parts.clear()
        self._file.write(data)

    def open(self) -> IO[bytes]:
        """The complete body as a file at its start, for wsgi.input.

        Raises OSError when what was not written yet cannot be.
        """
        if self._file is None:
            return io.BytesIO(b"".join(self._parts))
        self._file.seek(0)
        return self._file

    def close(self) -> None:
        """Drop the body. A file is closed at once: whoever keeps the environ does not keep the disk full."""
        self._parts.clear()
        if self._file is not None:
            file, self._file = self._file, None
            try:
                file.close()
            except OSError:
                pass  # the disk is full: what could not be written is not wanted any more


class FileRegion:
    """`count` bytes of the open descriptor `fd` from `offset`; `owned` ones are closed at the end."""

    __slots__ = ("count", "fd", "offset", "owned")

    def __init__(self, fd: int, offset: int, count: int, owned: bool) -> None:
        self.fd = fd
        self.offset = offset
        self.count = count
        self.owned = owned


def _name_of(fd: int) -> str:
    """What is behind the open descriptor `fd`, in words."""
    try:
        return f"the file {os.readlink(f'/proc/self/fd/{fd}')!r}"
    except OSError:
        return "a file"


class OutQueue:
    """What a connection has still to send, in order: memory, then a spool file.

    `memory` and `spool` bound it in bytes; beyond both it is `full`, and the producer
    must wait. `directory` is where the spool file is made.
    """

    __slots__ = ("_directory", "_file", "_file_size", "_items", "_memory", "_memory_size", "_spool", "size")

    def __init__(self, memory: int, spool: int, directory: str | None = None) -> None:
        self.size = 0
        self._memory = memory
        self._spool = spool
        self._directory = directory
        self._items: deque[memoryview | FileRegion] = deque()
        self._memory_size = 0
        self._file: IO[bytes] | None = None
        self._file_size = 0

    def __len__(self) -> int:
        return self.size

    @property
    def full(self) -> bool:
        """Whether more should wait until some was sent."""
        return self._memory_size > self._memory

    def append(self, data: Bytes) -> None:
        """Add `data` at the end. It is kept, not copied: only bytes, or a view of bytes."""
        size = len(data)
        self.size += size
        if self._memory_size + size > self._memory and self._file_size + size <= self._spool:
            try:
                self._append_to_file(data)
                return
            except OSError:
                # A full disk or no descriptor: the producer waits for the client instead.
                self._spool = 0
        self._items.append(memoryview(data))
        self._memory_size += size

    def _append_to_file(self, data: Bytes) -> None:
        if self._file is None:
            self._file = _temporary_file("cyhorn-out-", self._directory)
        fd, offset, view = self._file.fileno(), self._file_size, memoryview(data)
        written = 0
        while written < len(view):
            written += os.pwrite(fd, view[written:], offset + written)
        self._file_size += written
        last = self._items[-1] if self._items else None
        if isinstance(last, FileRegion) and last.fd == fd and last.offset + last.count == offset:
            last.count += written
        else:
            self._items.append(FileRegion(fd, offset, written, owned=False))

    def append_file(self, fd: int, offset: int, count: int) -> None:
        """Add `count` bytes of a file from `offset`; a duplicate of `fd` is kept until they are sent."""
        self._items.append(FileRegion(os.dup(fd), offset, count, owned=True))
        self.size += count

    def drain(self, fd: int) -> bool:
        """Write to the non-blocking socket `fd` what it takes; return whether it took any.

        Raises ClientDisconnected when the peer is gone, and ResponseCut when a file that was being
        sent has become shorter than its response.
        """
        took = False
        try:
            while self._items:
                item = self._items[0]
                if isinstance(item, FileRegion):
                    count = os.sendfile(fd, item.fd, item.offset, min(item.count, _SENDFILE_MAX))
                    if not count:
                        raise ResponseCut(f"{_name_of(item.fd)} became shorter while it was sent")
                else:
                    count = os.write(fd, item)
                took = True
                self._advance(item, count)
        except BlockingIOError:
            pass
        except OSError as error:
            raise ClientDisconnected(str(error)) from None
        return took

    def _advance(self, item: memoryview | FileRegion, count: int) -> None:
        self.size -= count
        if isinstance(item, FileRegion):
            item.offset += count
            item.count -= count
            if not item.count:
                self._forget()
        else:
            self._memory_size -= count
            if count == len(item):
                self._items.popleft()
            else:
                self._items[0] = item[count:]
        if not self._items and self._file is not None:
            # Empty: the file's room is free again.
            self._file.truncate(0)
            self._file_size = 0

    def _forget(self) -> None:
        item = self._items.popleft()
        if isinstance(item, FileRegion) and item.owned:
            os.close(item.fd)

    def close(self) -> None:
        """Drop all that waits."""
        while self._items:
            self._forget()
        self.size = self._memory_size = 0
        if self._file is not None:
            self._file.close()
            self._file = None
