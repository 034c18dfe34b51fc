"""Listening sockets: made, inherited, handed on and put away.

A `Listener` is in one of three states:

listening   accepts connections; shared by master and workers;
reserved    bound with SO_REUSEPORT but not listening: under `reuse_port` the master
            only holds the address (so that a wrong one fails at start, port 0 means
            one port for all workers, and an upgrade has descriptors to hand on),
            and `worker_listeners` makes each worker's own listening socket;
closed      its descriptor is gone.

Invariants: the sockets are non-blocking and inheritable. A unix socket's path is
removed only by the process that made the `Listener`, only while the path is still
the file it bound, and only when it is ours: a path handed over by a supervisor is not.
Nothing here depends on the arbiter; `cfg` is read for `address`, `backlog`,
`reuse_port`, `umask`, `uid`, `gid` and `is_ssl`, and for the TLS settings.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from cyhorn.errors import ConfigError, ListenError
from cyhorn.native import native
from cyhorn.net.addresses import Address, address_url, is_ipv6
from cyhorn.net.newcomers import hold_off

#: A failed bind is tried again this often, `BIND_PAUSE` seconds apart: long enough for
#: the orphans of a dead master to let go of the address.
BIND_RETRIES: Final = 5
BIND_PAUSE: Final = 1.0

#: What waiting does not heal.
HOPELESS: Final = frozenset(
    {
        errno.EACCES,
        errno.EPERM,
        errno.ENOENT,
        errno.ENOTDIR,
        errno.ENOTSOCK,
        errno.EROFS,
        errno.ENAMETOOLONG,
        errno.EAFNOSUPPORT,
        errno.EPROTONOSUPPORT,
        errno.EPROTOTYPE,
        errno.EINVAL,
        errno.ELOOP,
        errno.EISDIR,
    }
)

#: The longest path of a unix socket in bytes: sun_path without its closing NUL.
UNIX_PATH_MAX: Final = 107 if sys.platform == "linux" else 103

# struct tcp_info of Linux: eight bytes, then 32-bit words; the fifth word of a listening
# socket, tcpi_unacked, counts the connections that wait to be accepted.
_TCP_INFO_SIZE: Final = 104
_TCP_INFO_QUEUE: Final = 8 + 4 * 4


class Listener:
    """A bound stream socket and how it came to be.

    `sock` is the socket, `address` what `bind` asked for (for an inherited one, what
    it is bound to), `inherited` whether another process bound it. `str()` is the URL that is
    shown at "Listening at:". Attributes that are not its own are the socket's.
    """

    def __init__(
        self,
        sock: socket.socket,
        address: Address,
        *,
        is_ssl: bool = False,
        inherited: bool = False,
        owns_path: bool = False,
    ) -> None:
        self.sock = sock
        self.address = address
        self.family = sock.family
        self.is_ssl = is_ssl
        self.inherited = inherited
        self._name = sock.getsockname()
        # Absolute, because the working directory may change before it is removed.
        path = _socket_path(self._name) if self.is_unix else None
        self._path = None if path is None else os.path.abspath(path)
        self._pid = os.getpid()
        self._identity = _file_identity(self._path) if owns_path else None

    @property
    def is_unix(self) -> bool:
        return self.family == socket.AF_UNIX

    @property
    def path(self) -> str | None:
        """The unix socket's file, None for TCP and for the abstract namespace."""
        return self._path

    @property
    def is_listening(self) -> bool:
        """Whether connections are queued for it; false while reserved or closed."""
        try:
            return bool(self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
        except OSError:
            return False

    def fileno(self) -> int:
        return self.sock.fileno()

    def getsockname(self) -> Any:
        """What it is bound to; still known after `close`."""
        return self._name

    def get_backlog(self) -> int:
        """How many connections wait to be accepted; -1 where the kernel does not say."""
        if self.is_unix or sys.platform != "linux":
            return -1
        try:
            info = self.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_SIZE)
        except OSError:
            return -1
        return int(struct.unpack_from("=I", info, _TCP_INFO_QUEUE)[0])

    def unlink(self) -> bool:
        """Remove the unix socket's file if it is still the one bound here. True if it was."""
        path = self._path
        if self._identity is None or path is None or self._pid != os.getpid():
            return False
        # While this socket is open its inode cannot be given to another file,
        # so the same number means the same file.
        if self.fileno() == -1 or _file_identity(path) != self._identity:
            return False
        self._identity = None
        try:
            os.unlink(path)
        except OSError:
            return False
        return True

    def rename(self, path: str) -> None:
        """Move the unix socket's file to `path`, absolute; whatever is there is replaced. Raises OSError."""
        assert self._path is not None
        os.rename(self._path, path)
        self._path = path

    def disown(self) -> None:
        """Leave the unix socket's file to a successor: `unlink` does nothing from now on."""
        self._identity = None

    def close(self) -> None:
        """Close this process's descriptor. Other processes' stay open, the file stays."""
        self.sock.close()

    def __str__(self) -> str:
        return address_url(self._name, is_ssl=self.is_ssl)

    def __repr__(self) -> str:
        return f"<Listener {self} fd={self.fileno()}>"

    def __getattr__(self, name: str) -> Any:
        # Only called for names that are not found. `sock` is missing while unpickling.
        if name == "sock":
            raise AttributeError(name)
        return getattr(self.sock, name)


def create_listeners(
    cfg: Any,
    log: Any,
    fds: Iterable[int] | None = None,
    *,
    keep: Sequence[Listener] = (),
    sleep: Callable[[float], None] = time.sleep,
) -> list[Listener]:
    """The master's listeners, in the order of `cfg.address`.

    `fds` are inherited descriptors (systemd's, or those of CYHORN_FD); when there are
    any, they are all there is and `cfg.address` is not bound. A listener of `keep` whose address
    is asked for again is handed on, not bound anew, so a reload loses no connection; the
    caller closes those that are not in the result. Under `cfg.reuse_port` TCP listeners
    come out reserved: see `worker_listeners`. `sleep` is called between retries with seconds.

    Raises ConfigError for TLS settings that cannot work and where there is no address at all, and
    ListenError, after having closed what it opened, when a listener cannot be had.
    """
    check_tls(cfg)
    made: list[Listener] = []
    listeners: list[Listener] = []
    inherited: list[Address] = list(fds) if fds is not None else []
    if not inherited and not cfg.address:
        raise ConfigError("bind: there is no address to listen at")
    try:
        for address in dict.fromkeys(inherited or cfg.address):
            listener = None if inherited else _kept(keep, address)
            if listener is None:
                if isinstance(address, int):
                    listener = _inherit(address, cfg)
                else:
                    listener = _bind_patiently(address, cfg, log, sleep)
                made.append(listener)
            if listener not in listeners:
                listeners.append(listener)
    except BaseException:
        for listener in made:
            close_listeners([listener], unlink=not listener.inherited)
        raise
    for listener in listeners:
        listener.is_ssl = bool(cfg.is_ssl)
        if listener not in made and not listener.inherited and listener.is_listening:
            listener.listen(cfg.backlog)  # a reload may have changed it
    return listeners


def worker_listeners(cfg: Any, log: Any, listeners: Sequence[Listener]) -> list[Listener]:
    """What a worker accepts from, called in the worker before it drops privileges.

    A reserved listener is replaced by a listening one of the worker's own at the same
    address, and the worker's copy of the reservation is closed. All others are shared as
    they are, so without `reuse_port` the result equals `listeners`. Raises ListenError.
    """
    own: list[Listener] = []
    for listener in listeners:
        if listener.is_unix or listener.is_listening or listener.fileno() == -1:
            own.append(listener)
            continue
        address = listener.getsockname()
        sock = tcp_socket(listener.family, reuse_port=True)
        try:
            if listener.family == socket.AF_INET6:
                only = listener.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
            sock.bind(address)
            sock.listen(cfg.backlog)
        except OSError as error:
            sock.close()
            log.error("connection to %s failed: %s", str(address), error)
            raise ListenError(explain(listener.address, error)) from error
        listener.close()
        own.append(Listener(sock, listener.address, is_ssl=listener.is_ssl))
    return own


def close_listeners(listeners: Iterable[Listener], unlink: bool = True) -> None:
    """Close `listeners` for good: with `unlink` nobody can connect to those that are ours any more.

    The file of a unix socket is removed, and a TCP socket that others still share lets nobody in
    (`newcomers`). Pass `unlink=False` where a successor or a supervisor goes on using them.
    """
    for listener in listeners:
        if unlink:
            listener.unlink()
            if not listener.inherited:
                hold_off(listener.sock)
        listener.close()


def check_tls(cfg: Any) -> None:
    """Raise ConfigError when the certificate settings cannot work.

    The workers make their contexts themselves; checked here, a wrong file ends the start, or a
    reload, in one line. With the `ssl_context` hook only what it may do without is left out:
    files that are named have to exist.
    """
    if not (cfg.certfile or cfg.keyfile):
        return
    if cfg.ssl_context is None:
        from cyhorn.net.tls import make_ssl_context  # OpenSSL is for those who use it

        make_ssl_context(cfg)
        return
    for name in ("certfile", "keyfile"):
        path = getattr(cfg, name)
        if path and not os.path.isfile(path):
            raise ConfigError(f"{name}: {path!r} does not exist or is not a file")


# --- binding -----------------------------------------------------------------------------


def _bind_patiently(
    address: tuple[str, int] | str, cfg: Any, log: Any, sleep: Callable[[float], None]
) -> Listener:
    for attempt in range(BIND_RETRIES + 1):
        try:
            return _bind_unix(address, cfg) if isinstance(address, str) else _bind_tcp(address, cfg)
        except OSError as error:
            failure = error
        if failure.errno == errno.EADDRINUSE:
            log.error("Connection in use: %s: %s", str(address), failure)
        elif failure.errno == errno.EADDRNOTAVAIL:
            log.error("Invalid address: %s: %s", str(address), failure)
        else:
            log.error("connection to %s failed: %s", str(address), failure)
        if _is_hopeless(failure):
            break
        if attempt < BIND_RETRIES:
            log.debug("Retrying in %d second.", BIND_PAUSE)
            sleep(BIND_PAUSE)
    raise ListenError(explain(address, failure)) from failure


def _is_hopeless(failure: OSError) -> bool:
    if isinstance(failure, socket.gaierror):
        return failure.errno != socket.EAI_AGAIN
    return failure.errno in HOPELESS


def tcp_socket(family: int, *, reuse_port: bool) -> socket.socket:
    sock: socket.socket = native("socket", "socket")(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.set_inheritable(True)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Linux gives accepted sockets the listener's TCP_NODELAY: one system call less for each.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except BaseException:
        sock.close()
        raise
    return sock


def _bind_tcp(address: tuple[str, int], cfg: Any) -> Listener:
    family, target = resolve(address)
    reuse_port = bool(cfg.reuse_port) and hasattr(socket, "SO_REUSEPORT")
    sock = tcp_socket(family, reuse_port=reuse_port)
    try:
        if family == socket.AF_INET6 and shares_wildcard(address, cfg.address):
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(target)
        if not reuse_port:
            sock.listen(cfg.backlog)
        return Listener(sock, address, is_ssl=cfg.is_ssl)
    except BaseException:
        sock.close()
        raise


def resolve(address: tuple[str, int]) -> tuple[int, Any]:
    """The family and socket address of `address`: IPv4 where a name has both, as Gunicorn."""
    host, port = address
    if host == "":
        return socket.AF_INET, address
    found = native("socket", "getaddrinfo")(
        # Text would be encoded as a name of any script, which takes the tables of Unicode.
        host.encode("ascii") if host.isascii() else host,
        port,
        socket.AF_INET6 if is_ipv6(host) else socket.AF_UNSPEC,
        socket.SOCK_STREAM,
        flags=socket.AI_PASSIVE,
    )
    by_family = {family: target for family, _, _, _, target in reversed(found)}
    for family in (socket.AF_INET, socket.AF_INET6):
        if family in by_family:
            return family, by_family[family]
    raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))


def shares_wildcard(address: tuple[str, int], addresses: Iterable[Address]) -> bool:
    """Whether "[::]" at this port stands beside IPv4's "all interfaces" at the same port.

    On its own "[::]" takes IPv4 too, where the system is set so; beside it, it must not.
    """
    host, port = address
    return host == "::" and any(other in (("0.0.0.0", port), ("", port)) for other in addresses)


def _bind_unix(path: str, cfg: Any) -> Listener:
    if len(os.fsencode(path)) > UNIX_PATH_MAX:
        raise OSError(errno.ENAMETOOLONG, f"path of a unix socket longer than {UNIX_PATH_MAX} bytes")
    abstract = path.startswith("\0")
    if not abstract:
        remove_stale(path)
    sock = native("socket", "socket")(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.set_inheritable(True)
        umask = os.umask(cfg.umask)
        try:
            sock.bind(path)
        finally:
            os.umask(umask)
        listener = Listener(sock, path, is_ssl=cfg.is_ssl, owns_path=not abstract)
        try:
            if not abstract:
                _give(path, cfg.uid, cfg.gid)
            sock.listen(cfg.backlog)
        except BaseException:
            listener.unlink()
            raise
        return listener
    except BaseException:
        sock.close()
        raise


def remove_stale(path: str) -> None:
    """Remove a unix socket that nobody listens at. Raises OSError when something else is there."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError(errno.ENOTSOCK, "the path exists and is not a socket", path)
    with native("socket", "socket")(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except FileNotFoundError:
            return
        except BlockingIOError:
            pass  # its queue is full: somebody listens
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE), path)


def _give(path: str, uid: int, gid: int) -> None:
    status = os.stat(path)
    if (status.st_uid, status.st_gid) != (uid, gid):
        os.chown(path, uid, gid)


# --- inheriting --------------------------------------------------------------------------


def _inherit(fd: int, cfg: Any) -> Listener:
    """The listener over an open descriptor. Its family is the descriptor's."""
    try:
        sock = native("socket", "socket")(fileno=fd)
    except OSError as error:
        what = "is not a socket" if error.errno == errno.ENOTSOCK else "is not open"
        raise ListenError(f"cannot listen at fd://{fd}: the descriptor {what}") from error
    try:
        _adopt(sock, cfg)
        name = sock.getsockname()
        address: Address = name if sock.family == socket.AF_UNIX else (name[0], name[1])
        # A successor owns the path that its own `bind` names; a supervisor's is left alone.
        owns_path = sock.family == socket.AF_UNIX and name in cfg.address
        return Listener(sock, address, is_ssl=cfg.is_ssl, inherited=True, owns_path=owns_path)
    except OSError as error:
        sock.detach()  # whoever opened the descriptor keeps it
        raise ListenError(f"cannot listen at fd://{fd}: {error.strerror or error}") from error
    except ListenError:
        sock.detach()
        raise


def _adopt(sock: socket.socket, cfg: Any) -> None:
    if sock.type != socket.SOCK_STREAM or sock.family not in (
        socket.AF_INET,
        socket.AF_INET6,
        socket.AF_UNIX,
    ):
        raise ListenError(
            f"cannot listen at fd://{sock.fileno()}: the descriptor is not a TCP or unix stream socket"
        )
    sock.setblocking(False)
    sock.set_inheritable(True)
    reserved = False
    if sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        reserved = bool(
            cfg.reuse_port
            and hasattr(socket, "SO_REUSEPORT")
            and sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)
        )
    # Listening again on what systemd already listens on can be denied (SELinux).
    if not reserved and not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        sock.listen(cfg.backlog)


def _kept(keep: Sequence[Listener], address: Address) -> Listener | None:
    """The open listener of `keep` that is bound to `address`."""
    for listener in keep:
        if listener.fileno() == -1:
            continue
        if address == listener.address or address == listener.fileno():
            return listener
        if listener.inherited and isinstance(address, tuple) and not listener.is_unix:
            # An inherited listener knows only the numeric address, `bind` may use a name.
            try:
                family, target = resolve(address)
            except OSError:
                continue
            bound = listener.getsockname()
            if family == listener.family and (target[0] or "0.0.0.0", target[1]) == bound[:2]:
                return listener
    return None


# --- words and files ---------------------------------------------------------------------


def _socket_path(name: str | bytes) -> str | None:
    if isinstance(name, bytes) or not name or name.startswith("\0"):
        return None
    return name


def _file_identity(path: str | None) -> tuple[int, int] | None:
    if path is None:
        return None
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return (status.st_dev, status.st_ino) if stat.S_ISSOCK(status.st_mode) else None


def explain(address: Address, failure: OSError) -> str:
    """One line: which address, what is wrong, what helps."""
    return f"cannot listen at {address_url(address)}: {_cause(address, failure)}"


def _cause(address: Address, failure: OSError) -> str:
    if isinstance(failure, socket.gaierror):
        return f"the host name does not resolve ({failure.strerror})"
    number = failure.errno
    if number == errno.EADDRINUSE:
        return "the address is already in use by another process"
    if number == errno.EADDRNOTAVAIL:
        return "this machine does not have that address"
    if isinstance(address, str):
        folder = os.path.dirname(address) or "."
        words = {
            errno.ENOENT: f"the directory {folder!r} does not exist",
            errno.ENOTDIR: f"{folder!r} is not a directory",
            errno.EACCES: f"no permission to make a socket in {folder!r}, or to give it to user and group",
            errno.EPERM: f"no permission to make a socket in {folder!r}, or to give it to user and group",
            errno.EROFS: f"{folder!r} is on a read-only file system",
            errno.ENAMETOOLONG: f"the path is longer than {UNIX_PATH_MAX} bytes",
            errno.ENOTSOCK: "the path exists and is not a socket",
            errno.EPROTOTYPE: "the path belongs to a socket of another type",
        }
    elif isinstance(address, tuple):
        words = {
            errno.EACCES: f"no permission for port {address[1]}: ports below 1024 need root,"
            " CAP_NET_BIND_SERVICE or a socket from systemd",
            errno.EAFNOSUPPORT: "this machine does not speak that address family",
        }
    else:
        words = {}
    if number in words:
        return words[number]
    return f"{failure.strerror or failure} (errno {number})"
