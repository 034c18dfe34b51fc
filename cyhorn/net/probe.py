"""Whether an address could be listened at, found out without listening there.

A TCP address is bound and let go: a socket that never listens takes no connection
from a server that does. A unix socket that exists is connected to once. For an
address that is taken, Linux says who has it.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import sys
from collections.abc import Iterator
from typing import Any

from cyhorn.errors import ListenError
from cyhorn.native import native
from cyhorn.net import listeners as making
from cyhorn.net.addresses import Address


class AddressInUse(ListenError):
    """Somebody listens at the address.

    `pids` are those who do, as far as this user may know; `uid` is whose socket it is, None if that is not
    known either.
    """

    pids: list[int]
    uid: int | None


def probe(address: Address, cfg: Any) -> None:
    """Raise ListenError unless `address` could be bound now, `AddressInUse` when it is taken."""
    try:
        if isinstance(address, int):
            _probe_descriptor(address)
        elif isinstance(address, str):
            _probe_unix(address)
        else:
            _probe_tcp(address, cfg)
    except OSError as failure:
        if failure.errno != errno.EADDRINUSE:
            raise ListenError(making.explain(address, failure)) from failure
        error = AddressInUse(making.explain(address, failure))
        error.pids = holders(address)
        error.uid = owner(address)
        raise error from failure


def _probe_tcp(address: tuple[str, int], cfg: Any) -> None:
    family, target = making.resolve(address)
    sock = making.tcp_socket(family, reuse_port=bool(cfg.reuse_port) and hasattr(socket, "SO_REUSEPORT"))
    with sock:
        if family == socket.AF_INET6 and making.shares_wildcard(address, cfg.address):
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(target)


def _probe_unix(path: str) -> None:
    if len(os.fsencode(path)) > making.UNIX_PATH_MAX:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
    if path.startswith("\0"):
        with native("socket", "socket")(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.bind(path)
        return
    folder = os.path.dirname(path) or "."
    os.stat(folder)
    if not os.access(folder, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError(errno.ENOTSOCK, os.strerror(errno.ENOTSOCK))
    with native("socket", "socket")(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        try:
            sock.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return  # stale: a start takes its place
        except BlockingIOError:
            pass
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def _probe_descriptor(fd: int) -> None:
    try:
        copy = os.dup(fd)
    except OSError as error:
        raise ListenError(f"cannot listen at fd://{fd}: the descriptor is not open") from error
    try:
        sock = native("socket", "socket")(fileno=copy)
    except OSError as error:
        os.close(copy)
        raise ListenError(f"cannot listen at fd://{fd}: the descriptor is not a socket") from error
    with sock:
        if sock.type != socket.SOCK_STREAM:
            raise ListenError(f"cannot listen at fd://{fd}: the descriptor is not a stream socket")


# --- who has it --------------------------------------------------------------------------


def holders(address: Address) -> list[int]:
    """The processes that listen at `address`, sorted; those of other users only for root."""
    if isinstance(address, int) or sys.platform != "linux":
        return []
    inodes = set(
        _unix_inodes(address) if isinstance(address, str) else (row[9] for row in _tcp_rows(address))
    )
    if not inodes:
        return []
    wanted = {f"socket:[{inode}]" for inode in inodes}
    return sorted(int(pid) for pid in os.listdir("/proc") if pid.isdigit() and wanted & _open_files(pid))


def owner(address: Address) -> int | None:
    """The uid of the one who made the socket that listens at `address`, None if it cannot be known."""
    if isinstance(address, int) or sys.platform != "linux":
        return None
    if isinstance(address, tuple):
        return next((int(row[7]) for row in _tcp_rows(address)), None)
    try:
        return os.stat(address).st_uid
    except (OSError, ValueError):  # gone, or an abstract name
        return None


def _open_files(pid: str) -> set[str]:
    folder = f"/proc/{pid}/fd"
    found = set()
    try:
        for name in os.listdir(folder):
            found.add(os.readlink(f"{folder}/{name}"))
    except OSError:
        pass  # not ours to see, or gone
    return found


def _tcp_rows(address: tuple[str, int]) -> Iterator[list[str]]:
    """The rows of /proc/net/tcp and tcp6 for sockets that listen at `address`."""
    try:
        wanted = making.resolve(address)[1][0]
    except OSError:
        return
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for fields in _table(table):
            host, _, port = fields[1].partition(":")
            if fields[3] != "0A" or int(port, 16) != address[1]:
                continue
            local = _host(host)
            if local == wanted or local in ("0.0.0.0", "::") or wanted in ("", "0.0.0.0", "::"):
                yield fields


def _host(text: str) -> str:
    """A host of /proc/net/tcp: 32-bit words in the machine's order."""
    raw = bytes.fromhex(text)
    if sys.byteorder == "little":
        raw = b"".join(raw[start : start + 4][::-1] for start in range(0, len(raw), 4))
    return socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw)


def _unix_inodes(path: str) -> Iterator[str]:
    names = {path.replace("\0", "@"), os.path.abspath(path)}
    for fields in _table("/proc/net/unix"):
        if len(fields) > 7 and fields[7] in names:
            yield fields[6]


def _table(path: str) -> Iterator[list[str]]:
    try:
        with open(path) as file:
            next(file, None)
            for line in file:
                yield line.split()
    except OSError:
        return
