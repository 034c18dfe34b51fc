"""`wsgi.errors`: a text stream into the error log's streams (PEP 3333, "Input and Error Streams")."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterable
from typing import Any

from cyhorn.log import ERROR
from cyhorn.log.handlers import OneWriteHandler, say


class WSGIErrors(io.TextIOBase):
    """What the application writes goes at once, as it is, where the error log goes.

    That is standard error where errorlog is "-", and every further handler of the error log that has a
    stream, syslog therefore not. The handlers are asked for at each write, so a re-opened log and a
    configuration of the application are followed. Never raises for a stream that cannot be written;
    `close` does nothing, since the stream belongs to the server.
    """

    def __init__(self, cfg: Any) -> None:
        super().__init__()
        self._log = logging.getLogger(ERROR)
        self._standard_error = cfg.errorlog == "-"
        self._said = False

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return "utf-8"

    def writable(self) -> bool:
        return True

    def write(self, data: str) -> int:
        """Write `data` and return its length. Raises TypeError when it is not a str."""
        if not isinstance(data, str):
            raise TypeError(f"wsgi.errors takes str, not {type(data).__name__}")
        if not data:
            return 0
        handlers = self._log.handlers[:]
        if self._standard_error:
            # The first handler stands for standard error.
            first = handlers[0] if handlers else None
            del handlers[:1]
            if isinstance(first, OneWriteHandler) and first.stream is sys.stderr:
                self._write_handler(first, data)
            else:
                self._write_stream(sys.stderr, data)
        for handler in handlers:
            if isinstance(handler, OneWriteHandler):
                self._write_handler(handler, data)
            elif getattr(handler, "stream", None) is not None:
                self._write_stream(handler.stream, data)  # type: ignore[attr-defined]
        return len(data)

    def writelines(self, lines: Iterable[str]) -> None:  # type: ignore[override]
        """Write `lines` as they are, in one piece."""
        self.write("".join(lines))

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Nothing: other requests still write here."""

    def _write_handler(self, handler: OneWriteHandler, data: str) -> None:
        handler.acquire()
        try:
            handler.write(data)
        finally:
            handler.release()

    def _write_stream(self, stream: Any, data: str) -> None:
        if stream is None:
            return
        try:
            try:
                stream.write(data)
            except UnicodeError:
                stream.write(data.encode("ascii", "backslashreplace").decode())
            stream.flush()
        except Exception as cause:
            if not self._said and stream is not sys.stderr:
                self._said = True
                say(f"cyhorn: cannot write wsgi.errors to {stream!r}: {cause}")
