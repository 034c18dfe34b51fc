"""The access log's lines, from whichever side `cyhorn._impl` chose. No logic lives here."""

from typing import TYPE_CHECKING

from cyhorn import _impl

if TYPE_CHECKING or not _impl.COMPILED:
    from cyhorn._access_py import AccessLines
else:
    from cyhorn._access import AccessLines

__all__ = ["AccessLines"]
