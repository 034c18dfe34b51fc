"""The loop, from whichever side `cyhorn._impl` chose. No logic lives here."""

from typing import TYPE_CHECKING

from cyhorn import _impl

if TYPE_CHECKING or not _impl.COMPILED:
    from cyhorn._loop_py import Loop
else:
    from cyhorn._loop import Loop

__all__ = ["Loop"]
