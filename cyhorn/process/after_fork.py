"""What a forked worker owes to libraries that were loaded in the master.

`os.fork` itself calls what was registered by `os.register_at_fork`: so Python seeds `random` anew and
frees its locks, and OpenSSL notices by itself. What multiprocessing does in the children that it
starts it does not do in ours, though; nor does billiard, Celery's copy of it. Here the rest is done, and
only where these modules are loaded:

* Their registries of functions to call after a fork are called. Pools of connections (kombu's, and so
  Celery's) forget there what belongs to the parent.
* Processes that the master has started are not this worker's: it would end them when it exits.
* numpy's global generator is seeded anew, as `random` is: else all workers draw the same numbers.
"""

from __future__ import annotations

import sys
from typing import Any

#: Packages with the modules `util` and `process` of multiprocessing.
FAMILY = ("multiprocessing", "billiard")


def run_after_fork(log: Any) -> None:
    """Do it, in the child. What a library fails at is logged, and does not keep the worker from booting."""
    for package in FAMILY:
        process = sys.modules.get(f"{package}.process")
        if process is not None:
            getattr(process, "_children", set()).clear()
        util = sys.modules.get(f"{package}.util")
        if util is not None:
            _guarded(log, package, getattr(util, "_run_after_forkers", None))
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        _guarded(log, "numpy", getattr(numpy, "seed", None))


def _guarded(log: Any, name: str, function: Any) -> None:
    if function is None:
        return
    try:
        function()
    except Exception:
        log.exception("What %s does after a fork has failed", name)
