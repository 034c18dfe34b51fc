"""The control socket: a unix socket by which a running master is asked and told things.

A request and its answer are frames: four bytes, big-endian, of length, then as many of JSON.

    request   {"id", "command"[, "args"]}
    answer    {"id", "status": "ok", "data"} or {"id", "status": "error", "error"}

It is served from the arbiter's own loop, without a thread: `watched` goes into the loop's poll and
`attend` does, once each turn, what can be done without waiting. A client is in one phase,
and has until its deadline to leave it:

    reading   from the connection, or the first byte of a frame, to the frame's end: PATIENCE seconds
    writing   its answer is not out yet: PATIENCE; no more is read meanwhile
    idle      answered, between two frames: IDLE; the first to go when there are too many clients

Invariants: no call waits; one frame of a client is answered in a turn; there are never more than
MAX_CLIENTS; a peer is of the master's own user or root, whatever the file's mode lets in. The file is
replaced only when nobody listens at it, and removed only by the process that made it, while it is its own.
Without a path in the settings each instance has a file of its own, named after its pid.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import struct
import time
from typing import TYPE_CHECKING, Any

from cyhorn.native import native
from cyhorn.net.listeners import UNIX_PATH_MAX, Listener, remove_stale

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cyhorn.arbiter import Arbiter

#: Bytes of JSON in a request at most.
MAX_FRAME = 65536
MAX_CLIENTS = 16
#: How many are accepted in one turn of the loop.
BATCH = 8
#: How long a client may take to send a frame, and to take its answer. Seconds.
PATIENCE = 5.0
#: How long it may stay between two frames. Seconds.
IDLE = 300.0
#: How long nobody is accepted after accepting has failed. Seconds.
PAUSE = 1.0
#: What the files of instances that were given no path end with.
SUFFIX = ".ctl"
#: What is added to a given path while the predecessor of an upgrade has it, as with pid files.
SUCCESSOR = ".2"

_LENGTH = struct.Struct(">I")
_PEER = struct.Struct("=iII")  # struct ucred of unix(7): pid, uid, gid


class FrameTooLong(ValueError):
    """A frame announces more than MAX_FRAME bytes."""


def encode(message: Mapping[str, Any]) -> bytes:
    """The frame of `message`."""
    import json  # not for servers that nobody asks anything

    payload = json.dumps(message).encode()
    return _LENGTH.pack(len(payload)) + payload


def directories(environ: Mapping[str, str]) -> list[str]:
    """Where instances that were given no path have their sockets: the first is this process's own."""
    places = []
    if environ.get("XDG_RUNTIME_DIR"):
        places.append(os.path.join(environ["XDG_RUNTIME_DIR"], "cyhorn"))
    home = environ.get("HOME") or os.path.expanduser("~")
    if os.path.isabs(home):
        places.append(os.path.join(home, ".cyhorn"))
    return places


class Client:
    """One connection: what came of a frame, and what is left of an answer."""

    def __init__(self, sock: socket.socket, peer: str, now: float) -> None:
        self.sock = sock
        self.peer = peer
        self.deadline = now + PATIENCE
        self.is_idle = False
        self.ended = False  # it sends no more
        self.closing = False  # nothing it sends can be understood any more
        self._inbox = bytearray()
        self._outbox = bytearray()

    @property
    def has_frame(self) -> bool:
        """Whether there is a frame to be answered at once, if only with a refusal."""
        if self.closing or self._outbox or len(self._inbox) < _LENGTH.size:
            return False
        length: int = _LENGTH.unpack_from(self._inbox)[0]
        return length > MAX_FRAME or len(self._inbox) >= _LENGTH.size + length

    @property
    def done(self) -> bool:
        """Whether there is nothing left to do for it."""
        return not self._outbox and (self.closing or self.ended)

    def events(self) -> int:
        """What to poll for. Nothing is read while an answer is not out."""
        return select.POLLOUT if self._outbox else select.POLLIN

    def receive(self, now: float) -> None:
        """Take what has come. Raises OSError."""
        if self._outbox or self.ended or self.closing:
            return
        try:
            piece = self.sock.recv(MAX_FRAME)
        except BlockingIOError:
            return
        if not piece:
            self.ended = True
        elif not self._inbox:
            self._be_patient(now)
        self._inbox += piece

    def take(self) -> bytes:
        """The JSON of the frame that is there. Raises FrameTooLong: from then on nothing is understood."""
        (length,) = _LENGTH.unpack_from(self._inbox)
        if length > MAX_FRAME:
            self.closing = True
            raise FrameTooLong(f"a frame has at most {MAX_FRAME} bytes, not {length}")
        end = _LENGTH.size + length
        payload = bytes(self._inbox[_LENGTH.size : end])
        del self._inbox[:end]
        return payload

    def answer(self, message: Mapping[str, Any], now: float) -> None:
        """Send `message`, as much of it as goes. Raises OSError."""
        self._outbox += encode(message)
        self._be_patient(now)
        self.send(now)

    def send(self, now: float) -> None:
        """Send what is left. Raises OSError."""
        if not self._outbox:
            return
        try:
            del self._outbox[: self.sock.send(self._outbox)]
        except BlockingIOError:
            return
        if not self._outbox:
            self.is_idle = not self._inbox
            self.deadline = now + (IDLE if self.is_idle else PATIENCE)

    def _be_patient(self, now: float) -> None:
        self.is_idle = False
        self.deadline = now + PATIENCE


class ControlSocket:
    """The control socket of `arbiter`, closed until `configure`."""

    def __init__(self, arbiter: Arbiter) -> None:
        self._arbiter = arbiter
        self._began = time.monotonic()
        self._listener: Listener | None = None
        self._mode = 0
        self._clients: list[Client] = []
        self._commands: Any = None
        self._accept_at = 0.0

    # --- the file ------------------------------------------------------------------------

    @property
    def path(self) -> str | None:
        """Where it is, None while it is closed."""
        return self._listener.path if self._listener is not None else None

    def configure(self) -> None:
        """Be where the configuration of the arbiter says, or closed.

        A given path that cannot be had is an error in the log, and leaves things as they are; the
        default one is worth a debug line.
        """
        cfg, log = self._arbiter.cfg, self._arbiter.log
        if cfg.control_socket_disable:
            self.close()
            return
        given = cfg.control_socket
        try:
            path = self._given_path() if given else self._own_path()
            if path == self.path:
                if self._mode != cfg.control_socket_mode:
                    os.chmod(path, cfg.control_socket_mode)
            else:
                listener = _listen(path, cfg.control_socket_mode)
                self._close_listener()
                self._listener = listener
                (log.info if given else log.debug)("Control socket: %s", path)
            self._mode = cfg.control_socket_mode
        except OSError as error:
            where = repr(given) if given else "its default path"
            problem = f"control_socket: {where} cannot be had: {error.strerror or error}"
            if given:
                log.error("%s", cfg.located(problem))
            else:
                log.debug("%s", problem)

    def promote(self) -> None:
        """Take the given path, which the predecessor has left."""
        path, listener = self._arbiter.cfg.control_socket, self._listener
        if listener is None or not path or listener.path != os.path.abspath(path) + SUCCESSOR:
            return
        try:
            remove_stale(path)
            listener.rename(os.path.abspath(path))
        except OSError as error:
            self._arbiter.log.error("control_socket: %r cannot be had: %s", path, error.strerror or error)

    def close(self) -> None:
        """Let go of all clients, and remove the file."""
        for client in list(self._clients):
            self._drop(client)
        self._close_listener()

    def detach(self) -> None:
        """In a forked child: close its copies of what is the master's."""
        for client in self._clients:
            client.sock.close()
        self._clients.clear()
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def _close_listener(self) -> None:
        if self._listener is not None:
            self._listener.unlink()
            self._listener.close()
            self._listener = None

    def _given_path(self) -> str:
        path: str = os.path.abspath(self._arbiter.cfg.control_socket)
        return path + SUCCESSOR if self._arbiter.master_pid else path

    def _own_path(self) -> str:
        places = directories(self._arbiter.cfg.env_orig)
        if not places:
            raise OSError(errno.ENOENT, "there is neither XDG_RUNTIME_DIR nor a home directory")
        with contextlib.suppress(FileExistsError):
            os.mkdir(places[0], 0o700)
        path = os.path.join(places[0], f"{self._arbiter.pid}{SUFFIX}")
        if path != self.path:
            _sweep(places[0])
        return path

    # --- the loop ------------------------------------------------------------------------

    def watched(self) -> list[tuple[int, int]]:
        """Descriptors and events to poll for."""
        watched = [(client.sock.fileno(), client.events()) for client in self._clients]
        if self._listener is not None and self._has_room() and time.monotonic() >= self._accept_at:
            watched.append((self._listener.fileno(), select.POLLIN))
        return watched

    def next_deadline(self) -> float | None:
        """When `attend` has to be called at the latest, monotonic seconds; None when that is no matter."""
        if any(client.has_frame for client in self._clients):
            return 0.0
        return min((client.deadline for client in self._clients), default=None)

    def attend(self) -> None:
        """Accept, read, answer and drop, as far as it goes without waiting. Raises nothing."""
        now = time.monotonic()
        if self._listener is not None and now >= self._accept_at:
            self._accept(self._listener, now)
        for client in list(self._clients):
            try:
                self._attend_to(client, now)
            except OSError:
                self._drop(client)  # it went away
            except Exception:
                self._arbiter.log.exception("Control socket: a client is dropped")
                self._drop(client)
            else:
                if client.done or now >= client.deadline:
                    self._drop(client)

    def _accept(self, listener: Listener, now: float) -> None:
        for _ in range(BATCH):
            if not self._has_room():
                return
            try:
                sock, _ = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                self._arbiter.log.debug("Control socket: nobody can be accepted: %s", error)
                self._accept_at = now + PAUSE
                return
            sock.setblocking(False)
            pid, uid = _peer(sock)
            if uid is not None and uid not in (0, os.geteuid()):
                self._arbiter.log.warning("Control socket: refused process %s of user %s", pid, uid)
                sock.close()
                continue
            if len(self._clients) == MAX_CLIENTS:
                self._drop(min(self._idle(), key=lambda client: client.deadline))
            self._clients.append(Client(sock, str(pid or "unknown"), now))

    def _attend_to(self, client: Client, now: float) -> None:
        client.send(now)
        if not client.has_frame:
            client.receive(now)
        if client.has_frame:
            client.ended = False  # there may be more frames: the end is read again
            try:
                answer = self._reply(client.take(), client.peer)
            except FrameTooLong as error:
                answer = _failure(0, str(error))
            client.answer(answer, now)

    def _reply(self, payload: bytes, peer: str) -> dict[str, Any]:
        import json

        try:
            request = json.loads(payload)
        except (ValueError, RecursionError):
            return _failure(0, "the frame is not JSON")
        if not isinstance(request, dict):
            return _failure(0, "the frame is not a JSON object")
        ident, command, args = request.get("id", 0), request.get("command"), request.get("args") or []
        if not isinstance(command, str) or not isinstance(args, list):
            return _failure(ident, "command is to be a text and args a list")
        from cyhorn.master.commands import CommandError, Commands

        if self._commands is None:
            self._commands = Commands(self._arbiter, self._began)
        try:
            data = self._commands.run(" ".join([command, *map(str, args)]).split(), peer)
        except CommandError as error:
            return _failure(ident, str(error))
        except Exception as error:
            self._arbiter.log.exception("Control socket: %s failed", command)
            return _failure(ident, f"{type(error).__name__}: {error}")
        return {"id": ident, "status": "ok", "data": data}

    def _idle(self) -> list[Client]:
        return [client for client in self._clients if client.is_idle]

    def _has_room(self) -> bool:
        return len(self._clients) < MAX_CLIENTS or bool(self._idle())

    def _drop(self, client: Client) -> None:
        client.sock.close()
        self._clients.remove(client)


def _failure(ident: Any, reason: str) -> dict[str, Any]:
    return {"id": ident, "status": "error", "error": reason}


def _listen(path: str, mode: int) -> Listener:
    """A listening socket at `path`, where nobody else listens. Raises OSError."""
    if len(os.fsencode(path)) > UNIX_PATH_MAX:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), path)
    remove_stale(path)
    sock = native("socket", "socket")(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        umask = os.umask(0o777 & ~mode)  # from the first moment on
        try:
            sock.bind(path)
        finally:
            os.umask(umask)
        listener = Listener(sock, path, owns_path=True)
        try:
            os.chmod(path, mode)
            sock.listen(MAX_CLIENTS)
        except BaseException:
            listener.unlink()
            raise
        return listener
    except BaseException:
        sock.close()
        raise


def _sweep(directory: str) -> None:
    """Remove the sockets of instances that were killed."""
    for name in os.listdir(directory):
        if name.endswith(SUFFIX) and name.removesuffix(SUFFIX).isdigit():
            with contextlib.suppress(OSError):
                remove_stale(os.path.join(directory, name))


def _peer(sock: socket.socket) -> tuple[int | None, int | None]:
    """Pid and uid of who connected; None and None where the kernel does not say: there the mode decides."""
    if not hasattr(socket, "SO_PEERCRED"):
        return None, None
    pid, uid, _ = _PEER.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
    return pid, uid
