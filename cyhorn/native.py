"""The standard library's own functions, also where gevent has put others in their place.

The gevent worker makes the application's blocking calls cooperative by replacing functions of the standard
library, early, in the master. What must not run an event loop of gevent's asks here for the original: the
master's sleep, its forks and children, a guard that is to work while the event loop is blocked, and the
loop's own descriptor.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any


def native(module: str, name: str) -> Any:
    """`name` of the standard library's `module`, not patched."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is None:
        return getattr(importlib.import_module(module), name)
    return monkey.get_original(module, name)
