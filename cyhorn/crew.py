"""Threads that lead a loop in turn, from whichever side `cyhorn._impl` chose. No logic lives here."""

from typing import TYPE_CHECKING

from cyhorn import _impl

if TYPE_CHECKING or not _impl.COMPILED:
    from cyhorn._crew_py import Crew
else:
    from cyhorn._crew import Crew

__all__ = ["Crew"]
