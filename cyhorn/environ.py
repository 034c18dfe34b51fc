"""The environ, from whichever side `cyhorn._impl` chose. No logic lives here."""

from typing import TYPE_CHECKING

from cyhorn import _impl

if TYPE_CHECKING or not _impl.COMPILED:
    from cyhorn._environ_py import EnvironBuilder
else:
    from cyhorn._environ import EnvironBuilder

__all__ = ["EnvironBuilder"]
