"""Noticing that source files changed: the development server's `reload`.

A reloader is a daemon thread in the worker. It watches the files of all imported modules, and
the extra files and patterns it was given, until one of them changes; then it calls back once,
with the file's name, and ends. What counts as changed is one rule for both
engines: the file's signature (modification time, size, inode) is not the one first seen, or a
new file matches an extra entry. After `watch_imports` a module's file is first seen just before
it is imported: what is saved again while the application loads is a change. A file that
vanishes is waited for: editors and version control replace files in two steps, and there is
nothing to load in between.

``poll``     looks at every file each interval; works everywhere.
``inotify``  (Linux) is woken by the kernel about the directories of those files, and looks
             only at files that it watches: a log beside them reloads nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import glob
import importlib.abc
import importlib.machinery
import os
import select
import struct
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import ModuleType
from typing import ClassVar, Final

from cyhorn.errors import ConfigError

Callback = Callable[[str], object]
Signature = tuple[int, int, int]

#: Seconds between two looks (poll), and between two looks for new modules (inotify).
INTERVAL: Final = 1.0


class Reloader(threading.Thread):
    """What both engines share: which files there are, and whether one has changed."""

    engine: ClassVar[str]

    def __init__(
        self,
        extra_files: Iterable[str] | None = None,
        callback: Callback | None = None,
        interval: float = INTERVAL,
    ) -> None:
        super().__init__(name=f"cyhorn-reloader-{self.engine}", daemon=True)
        self._callback = callback
        self._interval = interval
        self._extra_files: set[str] = set()
        self._extra_patterns: set[str] = set()
        self._seen: dict[str, Signature | None] = {}
        self._stopping = threading.Event()
        self._import_watch: _ImportWatch | None = None
        for entry in extra_files or ():
            self.add_extra_file(entry)

    def add_extra_file(self, filename: str) -> None:
        """Watch a file, or the files that match a pattern, now or later; also while running.

        What is there when it is first seen is not a change.
        """
        is_pattern = glob.has_magic(filename)
        for name in glob.iglob(filename, recursive=True) if is_pattern else (filename,):
            self._seen.setdefault(name, signature(name))
        (self._extra_patterns if is_pattern else self._extra_files).add(filename)

    def watch_imports(self) -> None:
        """Look at the file of each module before it is imported, from now until `start`."""
        self._import_watch = _ImportWatch(self._seen)
        sys.meta_path.insert(0, self._import_watch)

    def start(self) -> None:
        """Begin to watch. What was not seen before is taken as it is now."""
        with contextlib.suppress(ValueError):
            sys.meta_path.remove(self._import_watch)  # type: ignore[arg-type]
        self._first_look()
        super().start()

    def stop(self) -> None:
        """End the thread and wait for it; does nothing when it never ran, or calls itself."""
        self._stopping.set()
        self._wake()
        if self.is_alive() and threading.current_thread() is not self:
            self.join()

    def run(self) -> None:
        changed = self._wait_for_change()
        if changed is not None and self._callback is not None:
            self._callback(changed)

    def _wait_for_change(self) -> str | None:
        """The changed file's name, or None when stopped."""
        raise NotImplementedError

    def _wake(self) -> None:
        """Make the thread look at `_stopping`."""

    # Files

    def _module_files(self) -> Iterator[str]:
        for module in tuple(sys.modules.values()):
            filename = getattr(module, "__file__", None)
            if isinstance(filename, str):
                yield source_of(filename)

    def _extras(self) -> Iterator[str]:
        # Copies: `add_extra_file` may come from another thread.
        yield from tuple(self._extra_files)
        for pattern in tuple(self._extra_patterns):
            yield from glob.iglob(pattern, recursive=True)

    def _first_look(self) -> None:
        """Take the state of things at the start: none of it is a change."""
        for filename in (*self._module_files(), *self._extras()):
            self._seen.setdefault(filename, signature(filename))

    def _changed_extra(self) -> str | None:
        """The first extra file that changed or appeared."""
        for filename in self._extras():
            # A file that matches only now has no signature yet: it is new.
            self._seen.setdefault(filename, None)
            if self._has_changed(filename):
                return filename
        return None

    def _has_changed(self, filename: str) -> bool:
        now = signature(filename)
        return now is not None and now != self._seen[filename]


class _ImportWatch(importlib.abc.MetaPathFinder):
    """Finds no module: it notes in `seen` what the file is like that is about to be loaded."""

    def __init__(self, seen: dict[str, Signature | None]) -> None:
        self._seen = seen

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> None:
        with contextlib.suppress(Exception):  # whoever loads it meets the same, and tells it
            spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
            if spec is not None and spec.has_location and spec.origin is not None:
                filename = source_of(spec.origin)
                self._seen.setdefault(filename, signature(filename))


class PollReloader(Reloader):
    """Looks at every file, every `interval` seconds."""

    engine = "poll"

    def _wait_for_change(self) -> str | None:
        while not self._stopping.wait(self._interval):
            for filename in self._module_files():
                if filename not in self._seen:
                    self._seen[filename] = signature(filename)  # imported since
                elif self._has_changed(filename):
                    return filename
            changed = self._changed_extra()
            if changed is not None:
                return changed
        return None


class InotifyReloader(Reloader):
    """Sleeps until the kernel reports something about a watched file. Raises OSError if it cannot."""

    engine = "inotify"

    def __init__(
        self,
        extra_files: Iterable[str] | None = None,
        callback: Callback | None = None,
        interval: float = INTERVAL,
    ) -> None:
        super().__init__(extra_files, callback, interval)
        self._inotify = Inotify()
        self._wake_reader, self._wake_writer = os.pipe()
        os.set_blocking(self._wake_writer, False)
        #: directory → base name → the watched files that are reached through it
        self._folders: dict[str, dict[str, set[str]]] = {}
        #: watch → directories; several where one directory has several names
        self._watches: dict[int, set[str]] = {}
        #: directories that the kernel cannot watch, looked at each interval instead
        self._unwatched: set[str] = set()
        self._known: set[str] = set()

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):  # full: it is awake already
            os.write(self._wake_writer, b"x")

    def __del__(self) -> None:
        for fd in (self.__dict__.get("_wake_reader"), self.__dict__.get("_wake_writer")):
            if fd is not None:
                os.close(fd)

    def _wait_for_change(self) -> str | None:
        poller = select.poll()
        poller.register(self._inotify.fileno(), select.POLLIN)
        poller.register(self._wake_reader, select.POLLIN)
        while not self._stopping.is_set():
            changed = self._changed_extra() or self._refresh()
            if changed is not None:
                return changed
            for fd, _ in poller.poll(self._interval * 1000):
                if fd == self._inotify.fileno():
                    changed = self._take_events()
                    if changed is not None:
                        return changed
        return None

    def _refresh(self) -> str | None:
        """Watch what has come to be imported, or was lost sight of. Returns a file that changed meanwhile."""
        for filename in self._module_files():
            self._seen.setdefault(filename, signature(filename))
        for filename in (*self._module_files(), *self._extras()):
            # An extra file that was not seen yet is new: `_changed_extra` says so when it looks next.
            if filename not in self._known and filename in self._seen:
                self._known.add(filename)
                for place in (os.path.abspath(filename), os.path.realpath(filename)):
                    folder, name = os.path.split(place)
                    names = self._folders.setdefault(os.path.realpath(folder), {})
                    names.setdefault(name, set()).add(filename)
        watched: set[str] = set().union(*self._watches.values())
        for folder in self._folders.keys() - watched:
            self._watch(folder)
            # What happened in it before it was watched, or while it cannot be.
            changed = self._changed_in(folder)
            if changed is not None:
                return changed
        return None

    def _watch(self, folder: str) -> None:
        if folder in self._unwatched:
            return
        try:
            self._watches.setdefault(self._inotify.add_watch(folder), set()).add(folder)
        except OSError as error:
            if error.errno == errno.ENOENT:
                return  # it may come back
            self._unwatched.add(folder)

    def _changed_in(self, folder: str, name: str | None = None) -> str | None:
        """A changed file of `folder`: of that name, or of any."""
        names = self._folders[folder]
        for filenames in names.values() if name is None else (names.get(name, ()),):
            for filename in filenames:
                if self._has_changed(filename):
                    return filename
        return None

    def _take_events(self) -> str | None:
        for watch, mask, name in self._inotify.read():
            if mask & IN_Q_OVERFLOW:
                folders: Iterable[str] = self._folders
                only: str | None = None
            elif mask & (IN_IGNORED | IN_MOVE_SELF):
                # The directory is gone or elsewhere; `_refresh` watches its successor.
                if self._watches.pop(watch, None) and mask & IN_MOVE_SELF:
                    self._inotify.remove_watch(watch)
                continue
            else:
                folders, only = self._watches.get(watch, ()), name
            for folder in folders:
                changed = self._changed_in(folder, only)
                if changed is not None:
                    return changed
        return None


def auto_reloader(
    extra_files: Iterable[str] | None = None,
    callback: Callback | None = None,
    interval: float = INTERVAL,
) -> Reloader:
    """The inotify engine where the system has it to give, else the poll engine."""
    try:
        return InotifyReloader(extra_files, callback, interval)
    except OSError:
        return PollReloader(extra_files, callback, interval)


#: The values of the setting `reload_engine`.
reloader_engines: Final[dict[str, Callable[..., Reloader]]] = {
    "auto": auto_reloader,
    "poll": PollReloader,
    "inotify": InotifyReloader,
}


def make_reloader(
    engine: str,
    extra_files: Iterable[str] | None,
    callback: Callback,
    interval: float = INTERVAL,
) -> Reloader:
    """A reloader of `engine`, not started. Raises ConfigError when the system has no such engine."""
    try:
        return reloader_engines[engine](extra_files=extra_files, callback=callback, interval=interval)
    except KeyError:
        known = ", ".join(reloader_engines)
        raise ConfigError(f"reload_engine: {engine!r} is none of {known}") from None
    except OSError as error:
        raise ConfigError(
            f"reload_engine: {engine!r} does not work here: {error.strerror or error}"
        ) from error


def signature(filename: str) -> Signature | None:
    """What changes when a file does; None while there is no such file."""
    try:
        status = os.stat(filename)
    except (OSError, ValueError):
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def source_of(filename: str) -> str:
    """The source that a module's `__file__` was made of, if there is one."""
    if filename.endswith((".pyc", ".pyo")) and os.path.exists(filename[:-1]):
        return filename[:-1]
    return filename


# --- inotify(7) --------------------------------------------------------------------------

IN_ATTRIB: Final = 0x00000004
IN_CLOSE_WRITE: Final = 0x00000008
IN_MOVED_TO: Final = 0x00000080
IN_CREATE: Final = 0x00000100
IN_MOVE_SELF: Final = 0x00000800
IN_Q_OVERFLOW: Final = 0x00004000
IN_IGNORED: Final = 0x00008000
IN_ONLYDIR: Final = 0x01000000

#: The ends of changes, not IN_MODIFY: a half-written file is not loaded.
_EVENTS: Final = IN_CLOSE_WRITE | IN_MOVED_TO | IN_CREATE | IN_ATTRIB | IN_MOVE_SELF | IN_ONLYDIR

_EVENT_HEAD: Final = struct.Struct("iIII")  # watch, mask, cookie, length of the name
_READ_SIZE: Final = 64 * 1024


class Inotify:
    """An inotify instance by the C library; closed with the object. Raises OSError."""

    def __init__(self) -> None:
        self._fd = -1
        if not sys.platform.startswith("linux"):
            raise OSError(errno.ENOSYS, "inotify is a facility of Linux")
        self._libc = ctypes.CDLL(None, use_errno=True)
        # O_NONBLOCK and O_CLOEXEC are IN_NONBLOCK and IN_CLOEXEC by definition.
        self._fd = self._check(self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))

    def _check(self, result: int) -> int:
        if result == -1:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return result

    def fileno(self) -> int:
        return self._fd

    def add_watch(self, folder: str) -> int:
        """Watch a directory; the number that its events carry."""
        return self._check(
            self._libc.inotify_add_watch(self._fd, os.fsencode(folder), ctypes.c_uint32(_EVENTS))
        )

    def remove_watch(self, watch: int) -> None:
        self._libc.inotify_rm_watch(self._fd, watch)

    def read(self) -> Iterator[tuple[int, int, str]]:
        """The waiting events, as watch, mask and base name; none when there are none."""
        try:
            data = os.read(self._fd, _READ_SIZE)
        except BlockingIOError:
            return
        offset = 0
        while offset < len(data):
            watch, mask, _, length = _EVENT_HEAD.unpack_from(data, offset)
            offset += _EVENT_HEAD.size
            yield watch, mask, os.fsdecode(data[offset : offset + length].rstrip(b"\0"))
            offset += length

    def close(self) -> None:
        if self._fd != -1:
            fd, self._fd = self._fd, -1
            os.close(fd)

    def __del__(self) -> None:
        self.close()
