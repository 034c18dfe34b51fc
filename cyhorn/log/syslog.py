"""The error and access logs to a syslog daemon, in the lines of the standard library's handler (RFC 3164).

A daemon that goes away stops nothing: records are dropped, which is said once, and the
connection is tried again at most every `RETRY` seconds. A name is resolved once, not per record.
"""

from __future__ import annotations

import logging
import logging.handlers
import socket
import time
from contextlib import suppress

from cyhorn.errors import ConfigError
from cyhorn.log.handlers import say
from cyhorn.native import native

#: Seconds between two attempts to reach a daemon that is away.
RETRY = 5.0

#: The longest that a daemon which does not read may hold up a process, in seconds.
SEND_TIMEOUT = 1.0

DEFAULT_PORT = 514

#: A path, or a host and a port.
Address = str | tuple[str, int]


def facility_code(name: str) -> int:
    """The number of the syslog facility `name`. Raises ConfigError."""
    try:
        return logging.handlers.SysLogHandler.facility_names[name.lower()]
    except KeyError:
        raise ConfigError(
            f"syslog_facility: {name!r} is not a facility, such as user, daemon or local0"
        ) from None


def parse_syslog_address(text: str) -> tuple[socket.SocketKind | None, Address]:
    """Parse ``udp://HOST:PORT``, ``tcp://HOST:PORT`` or ``unix://PATH`` (with ``#dgram`` or ``#stream``).

    Returns the kind of socket, None when the handler is to find out, and the address.
    Raises ConfigError.
    """
    scheme, separator, rest = text.partition("://")
    if separator and scheme == "unix":
        path, _, kind = rest.partition("#")
        return {"dgram": socket.SOCK_DGRAM, "stream": socket.SOCK_STREAM}.get(kind), path
    if not separator or scheme not in ("udp", "tcp"):
        raise ConfigError(f"syslog_addr: {text!r} is not udp://HOST:PORT, tcp://HOST:PORT or unix://PATH")
    if rest.startswith("["):
        host, _, tail = rest[1:].partition("]")
        port = tail.removeprefix(":")
    else:
        host, _, port = rest.partition(":")
    if port and not (port.isascii() and port.isdigit() and int(port) < 65536):
        raise ConfigError(f"syslog_addr: {port!r} in {text!r} is not a port number")
    kind_of = socket.SOCK_DGRAM if scheme == "udp" else socket.SOCK_STREAM
    return kind_of, (host.lower() or "localhost", int(port) if port else DEFAULT_PORT)


class SyslogHandler(logging.handlers.SysLogHandler):
    """A SysLogHandler that outlives its daemon.

    address: where the daemon listens. facility: a number of `facility_code`.
    kind: the kind of socket; None tries a datagram socket and then a stream.
    Raises OSError when a host is unknown or a TCP daemon does not answer; a unix
    socket may be missing at first.
    """

    def __init__(self, address: Address, facility: int, kind: socket.SocketKind | None) -> None:
        # Not the parent's: it keeps an unbounded connection and resolves the host for each record.
        logging.Handler.__init__(self)
        self.address = address
        self.facility = facility
        self.kind = kind
        self.lost = 0
        self._retry_at = 0.0
        self._connection: socket.socket | None = None
        try:
            self._connection = self._connect()
        except OSError:
            if not isinstance(address, str):
                raise

    def _connect(self) -> socket.socket:
        """A socket for the address; raises OSError."""
        if isinstance(self.address, str):
            kinds = [self.kind] if self.kind else [socket.SOCK_DGRAM, socket.SOCK_STREAM]
            targets = [(socket.AF_UNIX, kind, 0, self.address) for kind in kinds]
        else:
            found = native("socket", "getaddrinfo")(*self.address, 0, self.kind or socket.SOCK_DGRAM)
            targets = [(family, kind, protocol, where) for family, kind, protocol, _, where in found]
        failure: OSError | None = None
        for family, kind, protocol, where in targets:
            connection: socket.socket = native("socket", "socket")(family, kind, protocol)
            connection.settimeout(SEND_TIMEOUT)
            try:
                # A connected UDP socket would report, a record late, that nobody listens.
                if family == socket.AF_UNIX or kind == socket.SOCK_STREAM:
                    connection.connect(where)
                else:
                    self._datagram_address = where
                return connection
            except OSError as cause:
                connection.close()
                failure = cause
        raise failure or OSError("the host has no address")

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.ident + self.format(record) + ("\0" if self.append_nul else "")
            priority = self.encodePriority(self.facility, self.mapPriority(record.levelname))
        except Exception:  # the call that logs is wrong
            self.handleError(record)
            return
        if self.lost and time.monotonic() < self._retry_at:
            self.lost += 1
            return
        try:
            self._send(f"<{priority}>{text}".encode(errors="backslashreplace"))
        except OSError as cause:
            self._disconnect()
            if not self.lost:
                say(f"cyhorn: cannot write to syslog at {self.address}: {cause}; going on without it")
            self.lost += 1
            self._retry_at = time.monotonic() + RETRY
            return
        if self.lost:
            say(f"cyhorn: syslog at {self.address} is written again; {self.lost} records were lost")
            self.lost = 0

    def _send(self, data: bytes) -> None:
        fresh = self._connection is None
        connection = self._connection = self._connection or self._connect()
        if connection.family != socket.AF_UNIX and connection.type == socket.SOCK_DGRAM:
            connection.sendto(data, self._datagram_address)
            return
        try:
            connection.sendall(data)
        except TimeoutError:
            raise
        except OSError:
            if fresh:
                raise
            # The daemon was restarted: its socket is another one now.
            self._disconnect()
            self._connection = self._connect()
            self._connection.sendall(data)

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def handleError(self, record: logging.LogRecord) -> None:
        with suppress(Exception):
            super().handleError(record)

    def close(self) -> None:
        self.acquire()
        try:
            self._disconnect()
            logging.Handler.close(self)
        finally:
            self.release()
