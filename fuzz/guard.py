"""Memory whose last byte stands before a page that may not be touched, so that a read of one
byte too many ends the process. Linux and other systems with mprotect.
"""

from __future__ import annotations

import ctypes
import mmap

_PROT_NONE = 0


class GuardedMemory:
    """Room for `size` bytes, a multiple of the page size, and the guard page after it."""

    def __init__(self, size: int = 1 << 16) -> None:
        self._room = mmap.mmap(-1, size + mmap.PAGESIZE)
        self._size = size
        guard = ctypes.addressof(ctypes.c_char.from_buffer(self._room, size))
        if ctypes.CDLL(None, use_errno=True).mprotect(ctypes.c_void_p(guard), mmap.PAGESIZE, _PROT_NONE):
            raise OSError(ctypes.get_errno(), "mprotect")
        self._view = memoryview(self._room)

    def place(self, data: bytes, stop: int) -> tuple[memoryview, int, int]:
        """data[:stop] at the very end of the memory, as `tests.twins.harness.Place` wants it.

        The view of the call before is overwritten.
        """
        start = self._size - stop
        self._view[start : self._size] = data[:stop]
        return self._view[start : self._size], 0, stop
