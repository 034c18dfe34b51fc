"""Making the standard library cooperative for gevent: what is patched, and when.

The application must find a patched standard library when it is imported, and so must whatever imports `ssl`.
So the master patches itself as soon as it is known that its workers are gevent's: before it runs a config
file that says so, before it loads certificates, before it preloads the application. Only what would take the
children of the master from it (`os.fork`, `os.waitpid`, SIGCHLD, `subprocess`) is left alone there and
patched in the worker.

The master itself runs no event loop: what it waits with are the standard library's own functions
(`cyhorn.native`). A process that is patched already, by an application that embeds cyhorn, is left as it is.
"""

from __future__ import annotations

import os
import re
from importlib import import_module
from importlib.util import find_spec

from cyhorn.errors import ConfigError

#: The oldest gevent that is known to work with every Python that cyhorn supports.
MINIMUM = (24, 10)

#: What gevent replaces to wait for child processes. In the master these are the workers: it would reap them.
OF_CHILDREN = ("os", "signal", "subprocess")

_reinitialised = False


def require() -> None:
    """Raise ConfigError, in one line, where there is no gevent or one that is too old."""
    wanted = ".".join(map(str, MINIMUM))
    try:
        import gevent
    except ImportError as cause:
        why = "is not installed" if find_spec("gevent") is None else f"does not import: {cause}"
        raise ConfigError(
            f"the gevent worker needs gevent {wanted} or newer, which {why}: pip install 'cyhorn[gevent]'"
        ) from cause
    found = tuple(map(int, re.findall(r"\d+", gevent.__version__)[:2]))
    if found < MINIMUM:
        raise ConfigError(f"the gevent worker needs gevent {wanted} or newer, not {gevent.__version__}")


def patch() -> None:
    """Patch what the application uses, in the master. Doing so twice changes nothing. Raises ConfigError."""
    require()
    from gevent import monkey

    if not monkey.is_module_patched("threading"):
        masters_own = {name: dict(vars(import_module(name))) for name in OF_CHILDREN}
        # All of it, so that a patch_all() of the application's finds nothing left to do, and says nothing.
        monkey.patch_all()
        for name, items in masters_own.items():
            vars(import_module(name)).update(items)
    _reinitialise_after_forks()


def patch_worker() -> None:
    """Patch the rest, in a worker: processes, and the signal of their end."""
    from gevent import monkey

    monkey.patch_os()
    monkey.patch_signal()
    monkey.patch_subprocess()


def _reinitialise_after_forks() -> None:
    """Let each child have an event loop of its own, from its first moment: a hook may wait for something."""
    global _reinitialised
    if not _reinitialised:
        import gevent

        os.register_at_fork(after_in_child=gevent.reinit)
        _reinitialised = True
