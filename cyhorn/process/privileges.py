"""Users and groups: dropping root's rights in a worker, and preparing files for it.

A drop is whole or it fails: afterwards real, effective, saved and file-system user and group are
those asked for, no supplementary group of root is left, and the kernel has taken all
capabilities away. Nothing here can be undone, and nothing here is for the master.
"""

from __future__ import annotations

import errno
import os
import pwd

from cyhorn.errors import ConfigError


def set_owner_process(uid: int | None, gid: int | None, initgroups: bool = False) -> None:
    """Become `uid` and `gid` for good; None, or what the process is already, changes nothing.

    With `initgroups` the supplementary groups become those of `uid` in the group database;
    without, or when `uid` has no name, they are cleared. Raises ConfigError when the
    process may not, or the kernel did less than was asked.
    """
    change_gid = gid is not None and (gid, gid) != (os.getgid(), os.getegid())
    change_uid = uid is not None and (uid, uid) != (os.getuid(), os.geteuid())
    if not change_gid and not change_uid and not (initgroups and os.geteuid() == 0):
        return
    new_gid = os.getegid() if gid is None else gid
    new_uid = os.geteuid() if uid is None else uid
    try:
        _set_groups(new_uid, new_gid, initgroups)
        if change_gid:
            _set_gid(new_gid)
        if change_uid:
            _set_uid(new_uid)
    except OSError as error:
        raise ConfigError(
            f"user, group: cannot switch to uid {new_uid} and gid {new_gid}: {error.strerror}"
            + (" (only root may)" if error.errno == errno.EPERM else "")
        ) from error
    _verify(new_uid, new_gid)


def _set_groups(uid: int, gid: int, initgroups: bool) -> None:
    name = _user_name(uid) if initgroups else None
    if name is not None:
        os.initgroups(name, gid)
    elif os.getgroups():  # a user namespace may deny the call where there is nothing to clear
        os.setgroups([])


def _set_gid(gid: int) -> None:
    if hasattr(os, "setresgid"):
        os.setresgid(gid, gid, gid)
    else:
        os.setgid(gid)


def _set_uid(uid: int) -> None:
    if hasattr(os, "setresuid"):
        os.setresuid(uid, uid, uid)
    else:
        os.setuid(uid)


def _verify(uid: int, gid: int) -> None:
    """A drop that silently left a way back is worse than one that failed."""
    if hasattr(os, "getresuid"):
        whole = set(os.getresuid()) == {uid} and set(os.getresgid()) == {gid}
    else:
        whole = (os.getuid(), os.geteuid(), os.getgid(), os.getegid()) == (uid, uid, gid, gid)
    if not whole:
        raise ConfigError(f"user, group: the system did not switch wholly to uid {uid} and gid {gid}")


def _user_name(uid: int) -> str | None:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


def chown(path: str | int, uid: int, gid: int) -> None:
    """Give a file (a path or a descriptor) to `uid` and `gid`, unless it is theirs. Raises OSError."""
    status = os.stat(path)
    if (status.st_uid, status.st_gid) != (uid, gid):
        os.chown(path, uid, gid)


def is_writable(path: str) -> bool:
    """Whether this process could open `path` to append to it, creating it if need be.

    Looks only: neither makes the file nor opens it.
    """
    return _why_not_writable(path) is None


def check_writable(path: str, setting: str) -> None:
    """Raise ConfigError, naming `setting`, unless `path` could be opened to append to it.

    Its cause is a PermissionError where another user could.
    """
    reason = _why_not_writable(path)
    if reason is not None:
        raise ConfigError(f"{setting}: {path!r} is not writable: {reason}") from reason


def _why_not_writable(path: str) -> OSError | None:
    """What opening would raise, in our words."""
    if os.path.isdir(path):
        return IsADirectoryError("it is a directory")
    if os.path.exists(path):
        return None if _may(path, os.W_OK) else PermissionError("permission denied")
    folder = os.path.dirname(os.path.realpath(path))
    try:
        os.stat(folder)
    except PermissionError:
        return PermissionError(f"no permission to look at the directory {folder!r}")
    except OSError:
        return FileNotFoundError(f"the directory {folder!r} does not exist")
    if not os.path.isdir(folder):
        return NotADirectoryError(f"{folder!r} is not a directory")
    may = _may(folder, os.W_OK | os.X_OK)
    return None if may else PermissionError(f"no permission in the directory {folder!r}")


def _may(path: str, mode: int) -> bool:
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)
