"""One client's connection: bytes in, bytes out.

A connection knows its socket, what was received beyond the request at hand, what the
client has not taken yet, and TLS between the two. It knows nothing of timers and of who
waits for it: that is the loop's. What a client does not take at once is queued, in memory,
then in a file; only beyond both does the worker wait for it.

Every method that sends raises ClientDisconnected where the client is gone.
"""

from __future__ import annotations

import select
import socket
import time
from typing import TYPE_CHECKING, Any

from cyhorn._chunked_py import ChunkedDecoder
from cyhorn._environ_py import EnvironBuilder
from cyhorn._parser_py import RequestHead, RequestParser
from cyhorn._pulse_py import Pulse
from cyhorn._writer_py import OutputBuffer
from cyhorn.errors import ClientDisconnected, Code, ResponseCut, http_error
from cyhorn.wsgi.client_socket import ClientSocket
from cyhorn.wsgi.options import LoopOptions
from cyhorn.wsgi.spool import BodySpool, OutQueue
from cyhorn.wsgi.template import ListenerInfo

if TYPE_CHECKING:
    from cyhorn.net.proxy_protocol import ProxyHeader
    from cyhorn.net.tls import TLSChannel

#: What a connection waits for. CLOSED waits for nothing; in CALLING another thread calls the application
#: for it, or it waits for that; GRACE is a time, not a state (see the loop).
HEAD, BODY, SENDING, IDLE, LINGER, CLOSED, CALLING, GRACE = range(8)

#: Bytes asked for at once.
RECEIVE_SIZE = 65536
#: Above this many bytes, parts are sent without being joined.
JOIN_MAX = 16384
#: Bytes encrypted at once: a large answer is not in memory a second time.
ENCRYPT_SIZE = 256 << 10
#: Parts of one sendmsg.
PART_COUNT = 512


class Timers:
    """Connections that wait for the same duration: order of insertion is order of expiry."""

    __slots__ = ("deadlines", "duration")

    def __init__(self, duration: float) -> None:
        self.duration = duration
        self.deadlines: dict[Connection, float] = {}


class Listener:
    """A listening socket, and what its connections have in common."""

    __slots__ = ("builder", "info", "log", "options", "pulse", "resume_at", "unix")

    def __init__(
        self, info: ListenerInfo, builder: EnvironBuilder, options: LoopOptions, log: Any, pulse: Pulse
    ) -> None:
        self.info = info
        self.builder = builder
        self.options = options
        self.log = log
        self.pulse = pulse
        self.unix = info.is_unix
        self.resume_at = 0.0  # when accepting goes on after a pause; 0: it is going on


class Connection:
    """One client's connection. Fields below the blank line serve the request at hand."""

    __slots__ = (
        "body",
        "body_complete",
        "client_socket",
        "close_after",
        "continue_due",
        "decoder",
        "dropped",
        "environ",
        "events",
        "fd",
        "head",
        "linger",
        "listener",
        "lost",
        "parser",
        "pending",
        "proxy",
        "proxy_due",
        "queue",
        "remaining",
        "remote_addr",
        "remote_port",
        "served",
        "sock",
        "state",
        "timers",
        "tls",
        "trusted",
    )

    def __init__(self, sock: socket.socket, listener: Listener, addr: str, port: str | None) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.listener = listener
        self.remote_addr = addr
        self.remote_port = port
        self.trusted = False
        self.state = HEAD
        self.events = 0  # what the selector watches
        self.timers: Timers | None = None
        self.pending: bytes | bytearray = b""  # received, not yet consumed
        self.parser: RequestParser | None = None  # its own while a head is half read
        self.queue: OutQueue | None = None  # what the client has not taken yet
        self.tls: TLSChannel | None = None
        self.proxy_due = False  # a PROXY header may come first
        self.proxy: ProxyHeader | None = None
        self.client_socket: ClientSocket | None = None
        self.served = 0
        self.lost = False  # nothing can be said to the client any more: to be dropped
        self.close_after = False  # close when all is sent
        self.linger: int | None = None  # the timers of how long it then reads on, so that the client gets it
        self.dropped = 0  # bytes read while lingering

        self.head: RequestHead | None = None
        self.environ: dict[str, Any] | None = None
        self.body: BodySpool | None = None
        self.body_complete = False
        self.decoder: ChunkedDecoder | None = None
        self.remaining = 0  # bytes of body still to come, when its length is known
        self.continue_due = False  # 100 (Continue) is promised and not sent

    def peer_name(self) -> str:
        """The peer as ``address:port``; "" where it has none, as at a unix socket."""
        if self.remote_port is None:
            return ""
        addr = f"[{self.remote_addr}]" if ":" in self.remote_addr else self.remote_addr
        return f"{addr}:{self.remote_port}"

    def log_loss(self, error: ClientDisconnected) -> None:
        """Say why this connection ended: an operator's business only where a response was cut."""
        if isinstance(error, ResponseCut):
            self.listener.log.warning("A response to ip=%s was cut: %s", self.remote_addr, error)
        else:
            self.listener.log.debug("The client is gone: %s", error)

    def forget_request(self) -> None:
        """Let go of what belongs to the request at hand."""
        self.head = self.environ = self.decoder = None
        self.remaining = 0
        self.continue_due = False
        if self.body is not None:
            self.body.close()
            self.body = None

    def body_awaited(self) -> bool:
        """Whether the request has a body that was not read to its end."""
        return self.remaining > 0 or (self.decoder is not None and not self.decoder.done)

    # -- received bytes ---------------------------------------------------------------------

    def receive(self) -> bytes | None:
        """Bytes from the client, b"" at its end, None when there are none now."""
        try:
            data = self.sock.recv(RECEIVE_SIZE)
        except BlockingIOError:
            return None
        except OSError:
            return b""
        if self.tls is None or self.state == LINGER:
            return data
        return self._decrypt(self.tls, data)

    def _decrypt(self, tls: TLSChannel, data: bytes) -> bytes | None:
        tls.feed(data)
        try:
            plain = tls.read(RECEIVE_SIZE)
            while more := tls.read(RECEIVE_SIZE):
                plain += more
        except ClientDisconnected as error:
            if getattr(error, "plain_http", False):
                self.tls = None  # so that the client can read what is wrong
                self.pending = data
                raise http_error(Code.PLAIN_HTTP) from None
            self.listener.log.debug("TLS from %s failed: %s", self.remote_addr, error)
            plain, data = b"", b""
        output = tls.pending_output()  # the handshake's side of it, or an alert
        if output:
            try:
                self.send_bytes(output)
            except ClientDisconnected:
                return b""
        if plain:
            return plain
        return b"" if tls.eof or not data else None

    def more_waits(self) -> bool:
        """Whether the client has sent more than was received."""
        try:
            return bool(self.sock.recv(1, socket.MSG_PEEK))
        except OSError:
            return False

    def await_bytes(self) -> bytes:
        """Wait for bytes of the body, up to client_body_timeout."""
        deadline = time.monotonic() + (self.listener.options.client_body_timeout or float("inf"))
        while True:
            self.listener.pulse.beat()  # a client that is slow keeps moving
            data = self.receive()
            if data:
                return data
            if data is not None:
                raise ClientDisconnected("the client left inside its request")
            if not self._wait(select.POLLIN, deadline):
                raise http_error(Code.TIMEOUT)

    def _wait(self, events: int, deadline: float) -> bool:
        """Wait for `events` of poll until the `deadline`, and beat meanwhile; return whether they came."""
        listener = self.listener
        while not listener.options.wait(self.fd, events, min(1.0, max(0.0, deadline - time.monotonic()))):
            if time.monotonic() >= deadline:
                return False
            listener.pulse.beat()
        return True

    # -- bytes to send ------------------------------------------------------------------------

    def flush(self, out: OutputBuffer) -> None:
        """Send what has gathered in `out`; what the socket does not take is queued."""
        if not out.size:
            return
        if self.lost:
            out.clear()
            raise ClientDisconnected("the connection is closed")
        if self.tls is not None:
            self._encrypt(out, self.tls)
        elif out.size > JOIN_MAX and 1 < len(out.parts) < PART_COUNT and not self.queue:
            self._send_parts(out)
        else:
            self.send_bytes(out.take())

    def _encrypt(self, out: OutputBuffer, tls: TLSChannel) -> None:
        """Send what has gathered over TLS, a piece at a time."""
        parts = list(out.parts)
        out.clear()
        for part in parts if len(parts) == 1 or sum(map(len, parts)) > JOIN_MAX else [b"".join(parts)]:
            with memoryview(part) as view:
                for start in range(0, len(part), ENCRYPT_SIZE):
                    tls.write(view[start : start + ENCRYPT_SIZE])
                    self.send_bytes(tls.pending_output())

    def _send_parts(self, out: OutputBuffer) -> None:
        """Send large parts without joining them."""
        parts = list(out.parts)
        out.clear()
        try:
            sent = self.sock.sendmsg(parts)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise ClientDisconnected(str(error)) from None
        for part in parts:
            if sent < len(part):
                self._enqueue(memoryview(part)[sent:])
                sent = 0
            else:
                sent -= len(part)

    def send_bytes(self, data: bytes) -> None:
        """Send `data`, after what is queued already; what the socket does not take is queued."""
        if not self.queue:
            try:
                sent = self.sock.send(data)
            except BlockingIOError:
                sent = 0
            except OSError as error:
                raise ClientDisconnected(str(error)) from None
            if sent < len(data):
                self._enqueue(memoryview(data)[sent:])
        else:
            self._enqueue(data)
            if self.queue:
                self._advance()

    def send_region(self, fd: int, offset: int, count: int) -> None:
        """Send `count` bytes of the file `fd` from `offset`, by sendfile."""
        self._queue_of().append_file(fd, offset, count)
        self._advance()

    def _queue_of(self) -> OutQueue:
        if self.queue is None:
            options = self.listener.options
            self.queue = OutQueue(
                options.response_buffer_size, options.response_spool_size, options.tmp_upload_dir
            )
        return self.queue

    def _enqueue(self, data: bytes | memoryview) -> None:
        """Add `data` to what is queued; wait for the client while memory and spool are full."""
        queue = self._queue_of()
        queue.append(data)
        while queue.full:
            self._wait_writable()
            self._advance()

    def _advance(self) -> None:
        self.drain_queue()
        self.listener.pulse.beat()

    def drain_queue(self) -> bool:
        """Send what the socket takes of the queue; return whether it took any."""
        queue = self.queue
        assert queue is not None
        took = queue.drain(self.fd)
        if not queue:
            queue.close()
            self.queue = None
        return took

    def _wait_writable(self) -> None:
        """Memory and spool are full: the worker waits for this client, up to send_timeout."""
        deadline = time.monotonic() + (self.listener.options.send_timeout or float("inf"))
        if not self._wait(select.POLLOUT, deadline):
            raise ClientDisconnected("the client does not read its response")
