"""The guard of a worker, from whichever side `cyhorn._impl` chose. No logic lives here."""

from typing import TYPE_CHECKING

from cyhorn import _impl

if TYPE_CHECKING or not _impl.COMPILED:
    from cyhorn._orphan_py import guard
else:
    from cyhorn._orphan import guard

__all__ = ["guard"]
