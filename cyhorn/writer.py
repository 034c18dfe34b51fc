"""The writer, from whichever side `cyhorn._impl` chose. No logic lives here."""

from typing import TYPE_CHECKING

from cyhorn import _impl

if TYPE_CHECKING or not _impl.COMPILED:
    from cyhorn._writer_py import OutputBuffer, ResponseWriter
else:
    from cyhorn._writer import OutputBuffer, ResponseWriter

__all__ = ["OutputBuffer", "ResponseWriter"]
