"""Whether Werkzeug's interactive debugger stands in front of an application.

Its consoles and the frames of its tracebacks live in the process that made them. With several workers a
command typed into a page meets whichever worker is next, which knows nothing of it; so it is worth a word at
start. Nothing is imported here: an application that has the debugger has loaded its module.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import MethodType
from typing import Any

DEBUGGER_MODULE = "werkzeug.debug"
#: How middlewares and frameworks call what they wrap: Werkzeug's and most others', Flask's, a bound
#: method's and a decorated function's.
_WRAPPED = ("app", "application", "wsgi_app", "__self__", "__wrapped__")
#: A chain that is longer goes in a circle, or is none of ours to follow.
_DEPTH = 32


def debugger_warning(application: Callable[..., Any], workers: int) -> str | None:
    """What to say of `application` before so many `workers` serve it; None where there is nothing to say."""
    if workers < 2 or not has_debugger(application):
        return None
    return (
        f"Werkzeug's debugger is on with {workers} workers: its consoles need workers = 1, as any may"
        " get what is typed into them; and whoever has its PIN can run code. For development only!"
    )


def has_debugger(application: Callable[..., Any]) -> bool:
    """Whether `application`, or what it wraps as far as that can be seen, is a ``DebuggedApplication``."""
    debugger = getattr(sys.modules.get(DEBUGGER_MODULE), "DebuggedApplication", None)
    if not isinstance(debugger, type):
        return False
    # By its type: a proxy would be asked for its class.
    return any(issubclass(type(layer), debugger) for layer in _layers(application))


def _layers(application: Any) -> Iterator[Any]:
    """`application`, what it wraps, and so on, each once."""
    seen: set[int] = set()
    level = [application]
    for _ in range(_DEPTH):
        new = [layer for layer in level if id(layer) not in seen]
        seen.update(map(id, new))
        yield from new
        level = [wrapped for layer in new for wrapped in _wrapped(layer)]


def _wrapped(layer: Any) -> Iterator[Any]:
    try:
        held = {**vars(layer)}
    except Exception:  # no attributes of its own; or a proxy, which may raise anything
        held = {}
    # A bound method shows the attributes of its function.
    held["__self__"] = getattr(layer, "__self__", None) if type(layer) is MethodType else None
    return (held[name] for name in _WRAPPED if held.get(name) is not None)
