"""Loading code again in a process that has it loaded: the application, and what the configuration names.

With `preload_app` the master itself imports the application, and a module is imported once
per process. To load it anew, the modules that the application brought in are forgotten first; when the
new ones fail to load, the old ones are put back. The same goes for the modules of hooks and for others that
a config file imports, but only for the project's own: those that were installed are not in `OwnCode`'s care.

Forgotten are all modules that appeared during the load, except

* the standard library and this package: they belong to the process;
* whole top-level packages of which an extension module is loaded: most extension modules cannot be
  loaded twice (numpy refuses outright), and their Python side must stay with them.

What these hold is reloaded only by an upgrade (USR2) or a restart.
"""

from __future__ import annotations

import gc
import importlib
import importlib.machinery
import linecache
import os
import sys
from collections.abc import Callable
from types import ModuleType

KEPT = frozenset({"cyhorn", "__main__", "__config__"})
#: Directories of what pip or a distribution has installed.
INSTALLED = frozenset({"site-packages", "dist-packages"})


class Interrupted(BaseException):
    """A signal that ends the server came while the application was loaded."""


class Preloader:
    """Loads the application, remembers which modules came with it, and can go back by one load."""

    def __init__(self) -> None:
        self._brought: set[str] = set()
        self._former: tuple[set[str], dict[str, ModuleType]] = (set(), {})
        self._loading = False
        self._frozen = False
        self._again = False

    def load(self, function: Callable[[], object] | None, freeze: bool = False) -> None:
        """Forget what the last load brought in, then call `function` (None: load nothing).

        With `freeze` the collector leaves alone what there is afterwards, in this process and in those
        that it forks: pages that nobody touches stay shared with the workers. On any exception the
        modules are as they were, and it is raised.
        """
        if self._frozen:
            gc.unfreeze()
            self._frozen = False
        saved = {name: sys.modules.pop(name) for name in _with_submodules(self.forgettable(self._brought))}
        self._former = (self._brought, saved)
        if self._again:  # on some Pythons the first of these loads importlib.metadata
            importlib.invalidate_caches()
            linecache.checkcache()
        self._again = True
        before = set(sys.modules)
        try:
            self._loading = True
            if function is not None:
                function()
        except BaseException:
            self._brought = set(sys.modules) - before
            self.undo()
            raise
        finally:
            self._loading = False
        self._brought = (self._brought - set(saved)) | (set(sys.modules) - before)
        if freeze:
            gc.collect()
            gc.freeze()
            self._frozen = True

    def interrupt(self) -> None:
        """For a signal handler: raise Interrupted where a load is under way."""
        if self._loading:
            self._loading = False
            raise Interrupted

    def undo(self) -> None:
        """Put back the modules from before the last load. Doing so twice changes nothing."""
        brought, saved = self._former
        if self._brought is brought:
            return
        for name in self.forgettable(self._brought - brought | set(saved)):
            sys.modules.pop(name, None)
        sys.modules.update(saved)
        self._brought = brought

    def forgettable(self, names: set[str]) -> set[str]:
        """Those of the modules `names` that may be loaded anew."""
        present = {name for name in names if sys.modules.get(name) is not None}
        kept = KEPT | sys.stdlib_module_names
        kept |= {top_package(name) for name in sys.modules if _is_extension(sys.modules[name])}
        return {name for name in present if top_package(name) not in kept}


class OwnCode(Preloader):
    """A Preloader that forgets only modules of files outside of ``site-packages`` and ``dist-packages``.

    A config file may import agents and instruments that hook themselves into the process, which must
    not happen twice; a deployment changes the project's own files.
    """

    def forgettable(self, names: set[str]) -> set[str]:
        return {name for name in super().forgettable(names) if is_own(sys.modules[name])}


def is_own(module: ModuleType) -> bool:
    """Whether `module` is the project's: of a file that was not installed."""
    file = getattr(module, "__file__", None)
    return isinstance(file, str) and not INSTALLED & set(os.path.normpath(file).split(os.sep))


def _with_submodules(names: set[str]) -> set[str]:
    """`names` and what was imported of these packages later: a new package has no attribute for old ones."""
    below = tuple(f"{name}." for name in names)
    return names | {name for name in sys.modules if name.startswith(below)}


def top_package(name: str) -> str:
    """The package at the top of a dotted `name`."""
    return name.partition(".")[0]


def _is_extension(module: ModuleType | None) -> bool:
    spec = getattr(module, "__spec__", None)
    return isinstance(getattr(spec, "loader", None), importlib.machinery.ExtensionFileLoader)
