"""Who holds an object: the way to it from a global name of a module.

The walk goes from what modules hold to what that refers to (`gc.get_referents`), breadth first, so that the
way that is found is a shortest one. It looks and calls nothing: no attribute of an object is asked for. It
passes neither from module to module nor into frames and code.
"""

from __future__ import annotations

import gc
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from types import CodeType, FrameType, ModuleType
from typing import Any, NamedTuple

#: Objects that are looked at before a search is given up: a second or so of a start.
LIMIT = 500_000

#: Whoever has these has nothing else by them.
_LEAVES = (str, bytes, int, float, complex, bool, type(None), CodeType, FrameType, ModuleType)


class Holding(NamedTuple):
    """How the global `name` of `module` leads to an object: `chain` begins with its value and ends there."""

    module: str
    name: str
    chain: tuple[object, ...]


def find_holdings(
    modules: Iterable[ModuleType], is_wanted: Callable[[object], bool], limit: int = LIMIT
) -> Iterator[Holding]:
    """A `Holding` for each object that `is_wanted` and that `modules` hold; earlier modules are preferred.

    `is_wanted` is asked once for each object that is met. After `limit` objects the search ends.
    """
    loaded = [module for module in list(sys.modules.values()) if isinstance(module, ModuleType)]
    namespaces = {id(_namespace(module)) for module in loaded}
    # Object → who led to it: an object, or a name of a module. The table keeps all of them alive, so
    # that an id is that of one object only.
    met: dict[int, tuple[object, object]] = {}
    waiting: deque[object] = deque()

    def meet(thing: object, by: object) -> bool:
        if type(thing) in _LEAVES or id(thing) in met or id(thing) in namespaces:
            return False
        met[id(thing)] = (thing, by)
        waiting.append(thing)
        return is_wanted(thing)

    def holding(thing: object) -> Holding:
        chain = [thing]
        while not isinstance(by := met[id(chain[-1])][1], _Name):
            chain.append(by)
        return Holding(by.module, by.name, tuple(reversed(chain)))

    for module in modules:
        names = _namespace(module)
        for name, value in list(names.items()):
            if not name.startswith("__") and meet(value, _Name(str(names.get("__name__")), name)):
                yield holding(value)
    while waiting and len(met) < limit:
        thing = waiting.popleft()
        for part in _parts(thing):
            if meet(part, thing):
                yield holding(part)


class _Name(NamedTuple):
    module: str
    name: str


def _namespace(module: ModuleType) -> dict[str, Any]:
    """The names of `module`, also of one that would load itself if it were asked for an attribute."""
    names: dict[str, Any] = object.__getattribute__(module, "__dict__")
    return names


def _parts(thing: object) -> list[Any]:
    """What `thing` refers to. Of a thread-local: what it is in this thread, which is not told otherwise."""
    if type(thing) is threading.local:
        return list(vars(thing).values())
    return gc.get_referents(thing)
