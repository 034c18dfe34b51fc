"""The pid file: which process is the master.

It appears whole or not at all (written beside its name and renamed), names a live
process or is stale, and is removed only by the process it names.
"""

from __future__ import annotations

import os

from cyhorn.errors import ConfigError


class Pidfile:
    """The pid file at path `fname`; `pid` is what this process wrote into it, or None."""

    def __init__(self, fname: str) -> None:
        self.fname = fname
        self.pid: int | None = None

    def create(self, pid: int) -> None:
        """Write `pid`, taking over a stale file. Raises ConfigError when its master lives."""
        running = self.validate()
        if running and running != pid:
            raise ConfigError(f"Already running on PID {running} (pid file {self.fname!r})")
        import tempfile  # most servers have no pid file, and the modules behind it are many

        folder = os.path.dirname(self.fname) or "."
        temporary = None
        try:
            handle, temporary = tempfile.mkstemp(prefix=".cyhorn-", suffix=".pid", dir=folder)
            with os.fdopen(handle, "w") as file:
                file.write(f"{pid}\n")
                os.fchmod(file.fileno(), 0o644)
            os.rename(temporary, self.fname)
        except OSError as error:
            if temporary is not None:
                _remove(temporary)
            raise ConfigError(f"pidfile: cannot write {self.fname!r}: {error.strerror}") from error
        self.pid = pid

    def rename(self, path: str) -> None:
        """Move to `path`: write there first, then remove the old file if it is ours."""
        pid = self.pid if self.pid is not None else os.getpid()
        old = Pidfile(self.fname)
        old.pid = self.pid
        if path == self.fname:
            self.create(pid)
            return
        successor = Pidfile(path)
        successor.create(pid)
        old.unlink()
        self.fname, self.pid = path, pid

    def unlink(self) -> None:
        """Remove the file if it still holds the pid that this process wrote."""
        if self.pid is not None and self._read() == self.pid:
            _remove(self.fname)

    def validate(self) -> int | None:
        """The pid of the live process that the file names, None when it is stale or absent."""
        pid = self._read()
        return pid if pid is not None and _is_alive(pid) else None

    def _read(self) -> int | None:
        try:
            with open(self.fname, encoding="ascii", errors="replace") as file:
                pid = int(file.read(32).strip() or 0)
        except (OSError, ValueError):
            return None
        return pid if pid > 0 else None


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        pass  # somebody else's, but alive
    except (OSError, OverflowError):
        return False
    return not _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    """Whether `pid` has ended and only waits to be reaped, where the system tells."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name in parentheses may hold anything, even parentheses.
            return file.read().rpartition(b")")[2].split()[0] in (b"Z", b"X")
    except (OSError, IndexError):
        return False


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass
