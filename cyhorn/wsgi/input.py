"""wsgi.input (PEP 3333, input and error streams) where it is not a plain file object.

A buffered body is an `io.BytesIO` or the spool file itself, which read to the letter
already. `EMPTY` serves the requests without a body. `StreamInput` is for
``buffer_request_body = False``, where the application reads while the client sends.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

from cyhorn.errors import ClientDisconnected


class EmptyInput:
    """A body of no bytes. It has no state, so that one object serves every request."""

    __slots__ = ()

    def read(self, size: int | None = -1, /) -> bytes:
        """No bytes, however many are asked for."""
        return b""

    readline = read1 = read

    def readlines(self, hint: int | None = -1, /) -> list[bytes]:
        """No lines."""
        return []

    def readinto(self, buffer: bytearray | memoryview, /) -> int:
        """Put nothing into `buffer`."""
        return 0

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        # a body that is there is a file, whose lines may be asked for by next() as well
        raise StopIteration

    def readable(self) -> bool:
        """True: reading works, and finds the end."""
        return True

    def seekable(self) -> bool:
        """True: the one position there is can be sought."""
        return True

    def writable(self) -> bool:
        """False."""
        return False

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Stay at 0."""
        return 0

    def tell(self) -> int:
        """Always 0."""
        return 0

    def flush(self) -> None:
        """Nothing to do; wrappers of the standard library call it when they are closed."""

    def close(self) -> None:
        """Nothing to do: the object is shared."""

    def __enter__(self) -> EmptyInput:
        return self

    def __exit__(self, *raised: object) -> None:
        """Nothing to do, as in close()."""

    @property
    def closed(self) -> bool:
        """False: it cannot be closed."""
        return False


EMPTY = EmptyInput()


class StreamInput(io.BufferedReader):
    """A body that is read from the client as the application asks for it.

    `receive(n)` returns up to about n bytes of decoded body, waiting for at least one,
    and b"" at its end; it raises when the client breaks HTTP, is too slow or goes away.
    Every read returns as many bytes as were asked for, fewer only at the end.
    """

    def __init__(self, receive: Callable[[int], bytes]) -> None:
        super().__init__(_Receiver(receive), 65536)

    def read(self, size: int | None = -1, /) -> bytes:
        """Read `size` bytes; all that is left when it is None or, as `io.BytesIO` has it, negative."""
        return super().read(-1 if size is not None and size < 0 else size)


class _Receiver(io.RawIOBase):
    """The raw stream below `StreamInput`: one `receive` for each read."""

    def __init__(self, receive: Callable[[int], bytes]) -> None:
        self._receive: Callable[[int], bytes] | None = receive
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        if self._receive is None:
            raise ClientDisconnected("the request is over")
        data = self._rest or self._receive(len(buffer))
        size = min(len(data), len(buffer))
        buffer[:size] = data[:size]
        self._rest = data[size:]
        return size

    def close(self) -> None:
        self._receive = None
        super().close()
