"""The sync loop, in Python over `selectors`: the readable specification of its twin.

One thread waits for all connections of a worker, and calls the application only with a
complete request, one at a time. States of a connection::

    HEAD ──▶ BODY ──▶ (in the application) ──▶ SENDING ──▶ IDLE ──▶ HEAD …
      └───────────── error, close ──────────────▶ LINGER ──▶ CLOSED

    HEAD     a head is awaited or half read                client_header_timeout, for the whole head
    BODY     the head is known, the body not complete      client_body_timeout, between reads
    SENDING  the client takes its response slowly          send_timeout, between writes
    IDLE     kept alive, nothing of a next request read    keepalive
    LINGER   FIN sent; what still comes is dropped (9112 9.6)   linger_timeout

Invariants: a connection stands in at most one timer list, that of its state. It is read
from in HEAD, BODY, IDLE and LINGER only. What was received beyond the request at hand
waits in `pending`. Answers to pipelined requests gather in one buffer and leave in one
send, unless one streams, has a `close()` or the application has not shown to be fast.
"""

from __future__ import annotations

import contextvars
import errno
import re
import select
import selectors
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cyhorn._environ_py import EnvironBuilder
from cyhorn._parser_py import ChunkedDecoder, RequestHead, RequestParser
from cyhorn._writer_py import OutputBuffer, ResponseWriter
from cyhorn.errors import ApplicationError, ClientDisconnected, Code, HttpError, ResponseCut, http_error
from cyhorn.net.addresses import TrustedPeers
from cyhorn.wsgi.client_socket import ClientSocket
from cyhorn.wsgi.error_page import error_response
from cyhorn.wsgi.file_wrapper import FileWrapper
from cyhorn.wsgi.input import StreamInput
from cyhorn.wsgi.options import LoopOptions
from cyhorn.wsgi.request import Request
from cyhorn.wsgi.spool import BodySpool, OutQueue
from cyhorn.wsgi.template import ListenerInfo, environ_template

if TYPE_CHECKING:
    from cyhorn.net.proxy_protocol import ProxyHeader
    from cyhorn.net.tls import TLSChannel

HEAD, BODY, SENDING, IDLE, LINGER, CLOSED = range(6)

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE

#: Bytes asked for at once.
RECEIVE_SIZE = 65536
#: Connections accepted in one turn before the others are looked at again.
ACCEPT_BATCH = 16
#: Batches accepted at most when the loop stops: clients may come as fast as they are accepted.
DRAIN_BATCHES = 256
#: Above this many bytes, parts are sent without being joined.
JOIN_MAX = 16384
#: Answers to pipelined requests that are more bytes than this do not wait for those behind them.
GATHER_MAX = 65536
#: Bytes encrypted at once: a large answer is not in memory a second time.
ENCRYPT_SIZE = 256 << 10
#: Bytes read and dropped from a lingering connection before it is closed all the same.
LINGER_MAX = 32 << 20
#: Seconds that a silent connection may still take to send a request once the loop stops: one that is
#: on its way is answered with "Connection: close", where a close at once would have crossed it.
STOP_GRACE = 0.3
#: Seconds without accepting after the process ran out of descriptors.
ACCEPT_PAUSE = 0.25
#: Seconds for which a worker that holds more than its share leaves new connections to the others.
SHARE_PAUSE = 0.05
#: A call of the application that takes longer has kept others waiting (seconds).
LONG_CALL = 0.1
#: Answers wait for those behind them only when as many calls took no longer than this (seconds).
FAST_CALL, FAST_CALLS = 50e-6, 64

#: The beginning of a HEAD request, whose answer has no body also when it is refused.
_HEAD_BEGUN = re.compile(rb"(?:\r\n)?HEAD ").match

_SCARCE = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))


class _Timers:
    """Connections that wait for the same duration: order of insertion is order of expiry."""

    __slots__ = ("deadlines", "duration")

    def __init__(self, duration: float) -> None:
        self.duration = duration
        self.deadlines: dict[Connection, float] = {}


class _Listener:
    """A listening socket, and what its connections have in common."""

    __slots__ = ("builder", "info", "resume_at", "unix")

    def __init__(self, info: ListenerInfo, builder: EnvironBuilder) -> None:
        self.info = info
        self.builder = builder
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

    def __init__(self, sock: socket.socket, listener: _Listener, addr: str, port: str | None) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.listener = listener
        self.remote_addr = addr
        self.remote_port = port
        self.trusted = False
        self.state = HEAD
        self.events = 0  # what the selector watches
        self.timers: _Timers | None = None
        self.pending: bytes | bytearray = b""  # received, not yet consumed
        self.parser: RequestParser | None = None  # its own while a head is half read
        self.queue: OutQueue | None = None  # what the client has not taken yet
        self.tls: TLSChannel | None = None
        self.proxy_due = False  # a PROXY header may come first
        self.proxy: ProxyHeader | None = None
        self.client_socket: ClientSocket | None = None
        self.served = 0
        self.close_after = False  # close when all is sent
        self.linger: _Timers | None = None  # and then read on for so long, so that the client gets it
        self.dropped = 0  # bytes read while lingering

        self.head: RequestHead | None = None
        self.environ: dict[str, Any] | None = None
        self.body: BodySpool | None = None
        self.body_complete = False
        self.decoder: ChunkedDecoder | None = None
        self.remaining = 0  # bytes of body still to come, when its length is known
        self.continue_due = False  # 100 (Continue) is promised and not sent


class Loop:
    """Serves `application` on `listeners` until `stop` and the last connection's end.

    `log` is the error log (a Gunicorn-style logger). `heartbeat` is a slot with `notify()`
    and settable `requests` and `connections`, or None. `watch` maps descriptors to callables
    for when they become readable (wake-up and parent pipe). `on_max_requests` is called once
    when `options.max_requests` is reached; the loop then stops by itself.
    """

    def __init__(
        self,
        options: LoopOptions,
        listeners: Sequence[ListenerInfo],
        application: Callable[..., Any],
        *,
        log: Any,
        errors: Any = None,
        heartbeat: Any = None,
        watch: Mapping[int, Callable[[], None]] | None = None,
        on_max_requests: Callable[[], None] | None = None,
    ) -> None:
        self.options = options
        self.application = application
        self.log = log
        self.heartbeat = heartbeat
        # Only a slot among others has a state, and a share of the connections.
        self._slot = heartbeat if getattr(heartbeat, "table", None) is not None else None
        self.on_max_requests = on_max_requests
        self.requests = 0
        self.stopping = False
        self._draining = False  # stop has taken effect
        self._connections: dict[int, Connection] = {}
        self._warned: set[str] = set()
        self._fast_calls = 0
        self._late_turns = 0  # this turn and so many more serve who waited behind a long call
        self._now = time.monotonic()
        self._next_tick = 0.0

        self._timers = {
            HEAD: _Timers(options.client_header_timeout),
            BODY: _Timers(options.client_body_timeout),
            SENDING: _Timers(options.send_timeout),
            IDLE: _Timers(options.keepalive),
            LINGER: _Timers(options.linger_timeout),
        }
        self._grace = _Timers(STOP_GRACE)
        self._all_timers = (*self._timers.values(), self._grace)

        self._out = OutputBuffer()
        self._writer = self._new_writer()
        self._parser = self._new_parser()
        self._current: Connection | None = None  # whose request is in the application
        self._trusted = TrustedPeers(options.forwarded_allow_ips)
        self._proxy_trusted = TrustedPeers(options.proxy_allow_ips)

        self._selector = selectors.DefaultSelector()
        self._listeners = [self._listen(info, errors) for info in listeners]
        for fd, callback in (watch or {}).items():
            self._selector.register(fd, READ, callback)

    def _listen(self, info: ListenerInfo, errors: Any) -> _Listener:
        options = self.options
        template = environ_template(
            info, errors=errors, multithread=options.multithread, multiprocess=options.multiprocess
        )
        template["wsgi.early_hints"] = self._early_hints
        builder = EnvironBuilder(
            template,
            header_map=options.header_map,
            forwarder_headers=options.forwarder_headers,
            secure_scheme_headers=options.secure_scheme_headers,
            script_name=options.script_name,
        )
        listener = _Listener(info, builder)
        self._selector.register(info.sock, READ, listener)
        return listener

    def _new_parser(self) -> RequestParser:
        options = self.options
        return RequestParser(
            limit_request_line=options.limit_request_line,
            limit_request_fields=options.limit_request_fields,
            limit_request_field_size=options.limit_request_field_size,
            permit_obsolete_folding=options.permit_obsolete_folding,
            strip_header_spaces=options.strip_header_spaces,
            permit_unconventional_http_method=options.permit_unconventional_http_method,
            permit_unconventional_http_version=options.permit_unconventional_http_version,
            casefold_http_method=options.casefold_http_method,
        )

    def _new_writer(self) -> ResponseWriter:
        return ResponseWriter(self._out, self.options.server_header, self._flush_current)

    # -- the turn -------------------------------------------------------------------

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._connections)

    def run(self) -> None:
        """Serve until stopped, and until the last connection has ended."""
        while self.turn():
            pass
        self.close()

    def stop(self) -> None:
        """Stop gracefully: what was received is answered, then the connections close.

        May be called from a signal handler or from the application's thread.
        """
        self.stopping = True

    def adopt(self, sock: socket.socket, listener: int = 0) -> None:
        """Serve the connected socket `sock` as if listener number `listener` had accepted it."""
        sock = socket.socket(fileno=sock.detach())
        sock.setblocking(False)
        self._now = time.monotonic()
        self._accepted(sock, "", self._listeners[listener])

    def close(self) -> None:
        """Close what is still open, without ceremony."""
        for connection in list(self._connections.values()):
            self._close(connection)
        self._close_listeners()
        self._selector.close()

    def turn(self, timeout: float | None = None) -> bool:
        """Wait at most `timeout` seconds (None: until the next timer), and serve what is ready.

        Returns whether there is more to do: False once stopped and without connections.
        """
        if self.stopping and not self._draining:
            self._drain()
        if self._draining and not self._connections:
            return False
        if self._slot is not None:
            self._slot.mark(busy=False)
        events = self._selector.select(self._patience() if timeout is None else timeout)
        now = self._now = time.monotonic()
        if self.heartbeat is not None:
            self.heartbeat.notify()
            if self._slot is not None:
                self._slot.mark(busy=True)
        self._late_turns = max(0, self._late_turns - 1)
        for key, mask in events:
            target = key.data
            if type(target) is Connection:
                if target.state != CLOSED:
                    self._serve(target, mask)
            elif type(target) is _Listener:
                self._accept(target)
            else:
                target()
        self._expire(now)
        if self.options.flush_access is not None:
            self.options.flush_access()
        if self.heartbeat is not None:
            self.heartbeat.requests = self.requests
            self.heartbeat.connections = len(self._connections)
        if self._now >= self._next_tick:
            self._next_tick = self._now + self.options.tick
            if self.options.on_tick is not None:
                self.options.on_tick()
        return not (self._draining and not self._connections)

    def _serve(self, connection: Connection, mask: int) -> None:
        try:
            if mask & WRITE:
                self._writable(connection)
            else:
                self._readable(connection)
        except ClientDisconnected as error:
            self._log_loss(connection, error)
            self._close(connection)
        except Exception:
            # A mistake of ours, or a resource that ran out: this connection's loss alone.
            self.log.exception("Error while serving ip=%s", connection.remote_addr)
            self._close(connection)

    def _log_loss(self, connection: Connection, error: ClientDisconnected) -> None:
        if isinstance(error, ResponseCut):
            self.log.warning("A response to ip=%s was cut: %s", connection.remote_addr, error)
        else:
            self.log.debug("The client is gone: %s", error)

    def _patience(self) -> float:
        """Seconds until the next timer, at most a tick."""
        until = self._now + self.options.tick
        for timers in self._all_timers:
            for deadline in timers.deadlines.values():
                until = min(until, deadline)
                break
        for listener in self._listeners:
            if listener.resume_at:
                until = min(until, listener.resume_at)
        return max(0.0, until - time.monotonic())

    def _expire(self, now: float) -> None:
        """Deal with the connections whose time is over, and with pauses in accepting.

        `now` is when it was last looked what had arrived: a call of the application that took
        longer is not the time of those who sent meanwhile.
        """
        for timers in self._all_timers:
            while timers.deadlines:
                connection, deadline = next(iter(timers.deadlines.items()))
                if deadline > now:
                    break
                self._timed_out(connection)
        for listener in self._listeners:
            if listener.resume_at and listener.resume_at <= now and not self._draining:
                if self._has_its_share():
                    listener.resume_at = now + SHARE_PAUSE
                else:
                    listener.resume_at = 0.0
                    self._selector.register(listener.info.sock, READ, listener)

    def _timed_out(self, connection: Connection) -> None:
        # 408 only where a request had begun: a silent connection has asked for nothing.
        if connection.state == BODY or (connection.state == HEAD and connection.pending):
            self._refuse(connection, http_error(Code.TIMEOUT), connection.pending)
            self._settle(connection)
        else:
            self._close(connection)

    def _arm(self, connection: Connection, timers: _Timers | None) -> None:
        """Put `connection` at the end of `timers`, and out of the list it stood in."""
        if connection.timers is not None:
            del connection.timers.deadlines[connection]
        if timers is None or not timers.duration:
            connection.timers = None
        else:
            connection.timers = timers
            timers.deadlines[connection] = self._now + timers.duration

    def _enter(self, connection: Connection, state: int) -> None:
        connection.state = state
        self._arm(connection, self._timers[state])

    def _watch(self, connection: Connection, events: int) -> None:
        """Have the selector look for `events`. Most connections are registered once."""
        if connection.events == events:
            return
        if connection.events:
            self._selector.modify(connection.fd, events, connection)
        else:
            self._selector.register(connection.fd, events, connection)
        connection.events = events

    # -- connections come and go ------------------------------------------------------

    def _accept(self, listener: _Listener) -> bool:
        """Accept a batch; return whether there may be more."""
        for _ in range(ACCEPT_BATCH):
            try:
                sock, address = listener.info.sock.accept()
            except BlockingIOError:
                return False
            except OSError as error:
                if error.errno not in _SCARCE:
                    continue  # this connection died in the queue; the next may live
                self._pause(listener, ACCEPT_PAUSE)
                self._warn_once("accept", "Accepting pauses: %s", error)
                return False
            sock.setblocking(False)
            self._accepted(sock, address, listener)
            if not self.stopping and self._has_its_share():
                self._pause(listener, SHARE_PAUSE)
                return False
        return True

    def _pause(self, listener: _Listener, seconds: float) -> None:
        """Leave new connections to the other workers for a while."""
        if not listener.resume_at:
            self._selector.unregister(listener.info.sock)
        listener.resume_at = self._now + seconds

    def _has_its_share(self) -> bool:
        """Whether this worker holds more connections than the others that accept."""
        if self._slot is None or not self.options.multiprocess:
            return False
        share = self._slot.fair_share()
        return share is not None and len(self._connections) >= share

    def _accepted(self, sock: socket.socket, address: Any, listener: _Listener) -> None:
        if isinstance(address, tuple):
            connection = Connection(sock, listener, address[0], str(address[1]))
            connection.trusted = address[0] in self._trusted
        else:
            connection = Connection(sock, listener, "", None)
            connection.trusted = True
        connection.proxy_due = self.options.proxy_protocol != "off"
        self._connections[connection.fd] = connection
        self._enter(connection, HEAD)
        try:
            if listener.info.ssl_context is not None:
                connection.tls = listener.info.tls_channel(self.options.suppress_ragged_eofs)
            if not self._draining:
                self._serve(connection, READ)  # a request usually is there already
            if connection.state != CLOSED and not connection.events:
                self._watch(connection, READ)
        except Exception:
            self.log.exception("Error while accepting ip=%s", connection.remote_addr)
            self._close(connection)

    def _close(self, connection: Connection) -> None:
        """Let go of everything a connection holds."""
        if connection.state == CLOSED:
            return
        self._arm(connection, None)
        connection.state = CLOSED
        self._out.clear()  # what waits there is this connection's, never another's
        if connection.events:
            self._selector.unregister(connection.fd)
            connection.events = 0
        del self._connections[connection.fd]
        self._forget_request(connection)
        if connection.queue is not None:
            connection.queue.close()
            connection.queue = None
        if connection.client_socket is not None:
            connection.client_socket.detach_from_loop()
        connection.pending = b""
        connection.parser = None
        connection.sock.close()

    def _forget_request(self, connection: Connection) -> None:
        connection.head = connection.environ = connection.decoder = None
        connection.remaining = 0
        connection.continue_due = False
        if connection.body is not None:
            connection.body.close()
            connection.body = None

    def _finish(self, connection: Connection) -> None:
        """All is sent: close, after a linger where the client may still be sending (9112 9.6)."""
        tls, connection.tls = connection.tls, None
        if tls is not None:
            tls.shutdown()
            try:
                self._send(connection, tls.pending_output())
            except ClientDisconnected:
                self._close(connection)
                return
            if connection.queue:  # close_notify waits for the client, too
                self._enter(connection, SENDING)
                self._watch(connection, WRITE)
                return
        try:
            if connection.linger is not None and connection.linger.duration:
                connection.sock.shutdown(socket.SHUT_WR)
            else:
                connection.linger = None
        except OSError:
            connection.linger = None
        if connection.linger is None:
            self._close(connection)
            return
        connection.pending = b""
        connection.state = LINGER
        self._arm(connection, connection.linger)
        self._watch(connection, READ)

    def _drain(self) -> None:
        """Stop takes effect: accept what the kernel has queued, give idle connections their grace."""
        self._draining = True
        self._now = time.monotonic()
        for listener in self._listeners:
            for _ in range(DRAIN_BATCHES):
                if not self._accept(listener):
                    break
        self._close_listeners()
        for connection in list(self._connections.values()):
            if connection.state == IDLE or (connection.state == HEAD and not connection.pending):
                self._arm(connection, self._grace)

    def _close_listeners(self) -> None:
        for listener in self._listeners:
            if listener.info.sock.fileno() >= 0:
                if not listener.resume_at:
                    self._selector.unregister(listener.info.sock)
                listener.resume_at = 0.0
                listener.info.sock.close()

    # -- receiving ----------------------------------------------------------------------

    def _receive(self, connection: Connection) -> bytes | None:
        """Bytes from the client, b"" at its end, None when there are none now."""
        try:
            data = connection.sock.recv(RECEIVE_SIZE)
        except BlockingIOError:
            return None
        except OSError:
            return b""
        if connection.tls is None or connection.state == LINGER:
            return data
        return self._decrypt(connection, connection.tls, data)

    def _decrypt(self, connection: Connection, tls: TLSChannel, data: bytes) -> bytes | None:
        tls.feed(data)
        try:
            plain = tls.read(RECEIVE_SIZE)
            while more := tls.read(RECEIVE_SIZE):
                plain += more
        except ClientDisconnected as error:
            if getattr(error, "plain_http", False):
                connection.tls = None  # so that the client can read what is wrong
                self._refuse(connection, http_error(Code.PLAIN_HTTP), data)
                self._settle(connection)
                return None
            self.log.debug("TLS from %s failed: %s", connection.remote_addr, error)
            plain, data = b"", b""
        output = tls.pending_output()  # the handshake's side of it, or an alert
        if output:
            try:
                self._send(connection, output)
            except ClientDisconnected:
                return b""
        if plain:
            return plain
        return b"" if tls.eof or not data else None

    def _readable(self, connection: Connection) -> None:
        data = self._receive(connection)
        if data is None:
            if connection.queue:
                self._settle(connection)  # TLS had to answer, and could not yet
            return
        if not data:
            self._close(connection)
        elif connection.state == LINGER:
            connection.dropped += len(data)
            if connection.dropped > LINGER_MAX:
                self._close(connection)
        elif connection.pending:
            if not isinstance(connection.pending, bytearray):
                connection.pending = bytearray(connection.pending)
            connection.pending += data
            self._process(connection, connection.pending)
        else:
            self._process(connection, data)

    def _process(self, connection: Connection, data: bytes | bytearray) -> None:
        """Consume `data`, all that was received: answer every request that is complete in it."""
        start, size = 0, len(data)
        try:
            if connection.proxy_due:
                start = self._take_proxy_header(connection, data)
            while start < size and not connection.proxy_due:
                if connection.state == BODY:
                    start = self._take_body(connection, data, start)
                else:
                    taken = self._take_head(connection, data, start)
                    if not taken:
                        if connection.state != HEAD or connection.timers is self._grace:
                            self._enter(connection, HEAD)
                        break
                    start += taken
                    self._begin_body(connection, start < size)
                if connection.body_complete:
                    connection.pending = data[start:]  # a streamed body is read from here
                    self._respond(connection, start < size)
                    if self._out.size > GATHER_MAX:
                        self._flush(connection)
                    data, start, size = connection.pending, 0, len(connection.pending)
                    if connection.close_after or connection.queue:
                        break
        except HttpError as error:
            self._parser.reset()
            self._refuse(connection, error, data[start:])
        if connection.state != CLOSED:
            connection.pending = data[start:] if start else data
            self._settle(connection)

    def _take_proxy_header(self, connection: Connection, data: bytes | bytearray) -> int:
        """Consume the PROXY header, if one comes first. `proxy_due` stays while it is half there."""
        from cyhorn.net.proxy_protocol import parse as parse_proxy_header  # few servers stand behind one

        found = parse_proxy_header(data, self.options.proxy_protocol)
        if found is None:
            return 0
        connection.proxy_due = False
        taken, header = found
        if header is not None:
            if connection.remote_addr not in self._proxy_trusted:
                raise http_error(Code.PROXY_PEER)
            if not header.keeps_peer:
                connection.proxy = header
                connection.remote_addr = header.client_addr or ""
                connection.remote_port = str(header.client_port)
        return taken

    def _take_head(self, connection: Connection, data: bytes | bytearray, start: int) -> int:
        """Read a head at `start`. Returns its length in bytes, 0 when more are needed."""
        parser = connection.parser or self._parser
        head = parser.parse(data, start)
        if head is None:
            if connection.parser is None:
                connection.parser, self._parser = parser, self._new_parser()
            return 0
        connection.parser = None
        connection.head = head
        connection.environ = connection.listener.builder.build(
            parser, data, start, connection.remote_addr, connection.remote_port, connection.trusted
        )
        return head.size

    def _begin_body(self, connection: Connection, more: bool) -> None:
        """Decide how the body comes; `more` says that bytes after the head are there."""
        head = connection.head
        assert head is not None
        options = self.options
        if not head.chunked and head.content_length <= 0:
            connection.body_complete = True
            return
        if options.limit_request_body and head.content_length > options.limit_request_body:
            raise http_error(Code.BODY_LENGTH)
        connection.remaining = max(0, head.content_length)
        if head.chunked:
            connection.decoder = ChunkedDecoder(
                limit_request_body=options.limit_request_body,
                limit_request_fields=options.limit_request_fields,
                limit_request_field_size=options.limit_request_field_size,
                strip_header_spaces=options.strip_header_spaces,
                permit_obsolete_folding=options.permit_obsolete_folding,
            )
        connection.continue_due = head.expect_continue and not more
        if not options.buffer_request_body:
            connection.body_complete = True  # for the loop: the application reads it
            return
        connection.body_complete = False
        connection.body = BodySpool(options.body_buffer_size, options.tmp_upload_dir)
        if connection.continue_due:
            self._send_continue(connection)
        self._enter(connection, BODY)

    def _send_continue(self, connection: Connection) -> None:
        """Ask for the body (9110 10.1.1)."""
        connection.continue_due = False
        self._out.append(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._flush(connection)

    def _take_body(self, connection: Connection, data: bytes | bytearray, start: int) -> int:
        """Consume the body's bytes from `start`; returns where they end."""
        body = connection.body
        assert body is not None
        try:
            if connection.decoder is not None:
                pieces, stop = connection.decoder.feed(data, start)
                for piece in pieces:
                    body.append(piece)
                connection.body_complete = connection.decoder.done
            else:
                stop = min(len(data), start + connection.remaining)
                with memoryview(data) as view:
                    body.append(view[start:stop])
                connection.remaining -= stop - start
                connection.body_complete = not connection.remaining
        except OSError as error:
            self.log.error("Spooling a request body failed: %s", error)
            raise http_error(Code.SPOOL_FULL) from None
        if not connection.body_complete:
            self._enter(connection, BODY)
        return stop

    # -- the request cycle -----------------------------------------------------------------

    def _respond(self, connection: Connection, pipelined: bool) -> None:
        """Call the application for the request at hand, and see its response on its way.

        `pipelined` says that bytes of a next request are there already.
        """
        head, environ, options = connection.head, connection.environ, self.options
        assert head is not None and environ is not None
        self.requests += 1
        connection.served += 1
        if self.requests == options.max_requests:
            self.stop()
            if self.on_max_requests is not None:
                self.on_max_requests()
        try:
            self._complete_environ(connection, environ)
        except OSError as error:
            self.log.error("Spooling a request body failed: %s", error)
            self._refuse(connection, http_error(Code.SPOOL_FULL))
            return

        unread = connection.decoder is not None or connection.remaining > 0
        keep_alive = head.keep_alive and options.keepalive > 0 and not self.stopping
        if not options.buffer_request_body and unread:
            keep_alive = False  # the application may leave some of it unread
        if self._late_turns and keep_alive and self._slot is not None and self._slot.others_wait():
            keep_alive = False  # the client has waited here, and need not: others have nothing to do
        if sys.getrefcount(self._writer) > 2:
            self._writer = self._new_writer()  # the application kept start_response or write
        writer = self._writer
        writer.tick(int(time.time()))
        writer.begin(head.method == "HEAD", head.version >= (1, 1), keep_alive)
        request = None
        if options.pre_request or options.post_request or options.access_with_request:
            request = self._request_view(connection, environ)

        timed = pipelined or len(self._out) > 0 or options.access is not None or request is not None
        begun = time.perf_counter() if timed else 0.0
        if len(self._out) and self._fast_calls < FAST_CALLS:
            self._flush(connection)  # an answer does not wait for a call that may be slow
        self._current = connection
        try:
            if options.context_isolation:
                contextvars.copy_context().run(self._call, connection, writer, environ, request)
            else:
                self._call(connection, writer, environ, request)
        finally:
            self._current = None
        before, self._now = self._now, time.monotonic()  # who waits from now on does not pay for the call
        if self._now - before >= LONG_CALL:
            self._late_turns = 2  # the rest of this turn, and what came in during the call
        if timed:
            seconds = time.perf_counter() - begun
            self._fast_calls = self._fast_calls + 1 if seconds <= FAST_CALL else 0
            if options.access is not None:
                options.access(writer, environ, seconds)
            if options.access_with_request is not None:
                options.access_with_request(request, writer, environ, seconds)
        if options.post_request is not None:
            options.post_request(request, environ, writer)
        if writer.excess or writer.dropped:
            self._complain(writer, head)

        if connection.state == CLOSED:
            return
        connection.state = IDLE
        if not writer.keep_alive:
            connection.close_after = True
            decoder = connection.decoder
            unread = connection.remaining > 0 or (decoder is not None and not decoder.done)
            if pipelined or unread:
                connection.linger = self._timers[LINGER]
            elif head.keep_alive:  # a next request may cross our close
                connection.linger = self._grace if self.stopping else self._timers[LINGER]
            elif connection.body is not None and self._more_waits(connection):
                # A close over unread bytes would be a reset, and cost the client its answer.
                connection.linger = self._timers[LINGER]
        self._forget_request(connection)

    def _more_waits(self, connection: Connection) -> bool:
        """Whether the client has sent more than its request and what was received with it."""
        try:
            return bool(connection.sock.recv(1, socket.MSG_PEEK))
        except OSError:
            return False

    def _complete_environ(self, connection: Connection, environ: dict[str, Any]) -> None:
        """The keys that need the connection or the body."""
        sock = connection.client_socket
        if sock is None:
            sock = connection.client_socket = ClientSocket(connection.fd)
        environ["cyhorn.socket"] = environ["gunicorn.socket"] = sock
        if connection.body is not None:
            environ["wsgi.input"] = connection.body.open()
            if connection.decoder is not None:
                # The body is complete, so its length is known (3875 4.1.2).
                environ["CONTENT_LENGTH"] = str(connection.decoder.size)
        elif connection.decoder is not None or connection.remaining:
            environ["wsgi.input"] = StreamInput(lambda size: self._receive_body(connection, size))
        proxy = connection.proxy
        if proxy is not None:
            environ["PROXY_PROTOCOL"] = proxy.protocol
            environ["PROXY_ADDR"] = proxy.proxy_addr
            environ["PROXY_PORT"] = str(proxy.proxy_port)

    def _request_view(self, connection: Connection, environ: dict[str, Any]) -> Request:
        trailers = connection.decoder.trailers if connection.decoder is not None else []
        proxy = connection.proxy._asdict() if connection.proxy is not None else None
        assert connection.head is not None
        return Request(connection.head, environ, connection.served, trailers, proxy)

    def _call(
        self, connection: Connection, writer: ResponseWriter, environ: dict[str, Any], request: Request | None
    ) -> None:
        """Run the application and its iterable; `close()` is called exactly once, whatever happens."""
        result: Any = None
        try:
            try:
                if self.options.pre_request is not None:
                    self.options.pre_request(request)
                result = self.application(environ, writer.start_response)
                kind = type(result)
                if kind is list or kind is tuple:
                    writer.whole(result)
                    writer.finish()
                else:
                    self._stream(connection, writer, result)
                    self._flush(connection)  # the client does not wait for close()
            finally:
                close = getattr(result, "close", None)
                if close is not None:
                    self._close_iterable(close, connection)
        except ClientDisconnected as error:
            self._log_loss(connection, error)
            writer.fail(499)
            self._close(connection)
        except Exception as error:
            self._failed(connection, writer, error)
        except BaseException as error:
            # The worker is told to leave, from inside the application: leave with an answer.
            self._failed(connection, writer, error)
            raise

    def _close_iterable(self, close: Callable[[], Any], connection: Connection) -> None:
        try:
            close()
        except Exception:
            # What was sent stays sent; the next request is not this one's victim.
            assert connection.head is not None
            self.log.exception("Error in close() after request %s", connection.head.target)

    def _stream(self, connection: Connection, writer: ResponseWriter, result: Any) -> None:
        """Send the items of `result` as they come, without waiting for the next."""
        if isinstance(result, FileWrapper) and self._send_file(connection, writer, result):
            return
        try:
            items = iter(result)
        except TypeError as error:
            raise ApplicationError(
                f"the application returned {type(result).__name__}, not an iterable of bytes"
            ) from error
        for item in items:
            writer.chunk(item)
            if len(self._out):
                self._flush(connection)
                if self.heartbeat is not None:
                    self.heartbeat.notify()
            if writer.full:
                break
        writer.finish()

    def _send_file(self, connection: Connection, writer: ResponseWriter, wrapper: FileWrapper) -> bool:
        """Send a real file from its position without reading it; False when it is to be iterated."""
        if not self.options.sendfile or connection.tls is not None:
            return False
        region = wrapper.region()
        if region is None:
            return False
        fd, offset, available = region
        count = writer.file(available)
        if count < 0:
            return False
        writer.finish()
        self._flush(connection)
        if count:
            queue = self._queue(connection)
            queue.append_file(fd, offset, count)
            self._advance(connection, queue)
        return True

    def _failed(self, connection: Connection, writer: ResponseWriter, error: BaseException) -> None:
        """The application raised, or broke PEP 3333: 500 where nothing was sent, else cut."""
        assert connection.head is not None
        status = 500
        if isinstance(error, HttpError):  # the client's mistake, met in wsgi.input
            self._log_refusal(connection, error)
            status = error.status
        else:
            self.log.error("Error handling request %s", connection.head.target, exc_info=error)
        sent = writer.headers_sent
        writer.fail(status)
        try:
            if sent:
                self._flush(connection)
                self._close(connection)
            else:
                self._append_error(connection, status)
                self._flush(connection)
        except ClientDisconnected:
            self._close(connection)

    def _complain(self, writer: ResponseWriter, head: RequestHead) -> None:
        if writer.excess:
            self.log.warning(
                "The body of %s is longer than its Content-Length of %s; the rest was cut",
                head.target,
                writer.response_length,
            )
        for name in writer.dropped:
            self._warn_once(name, "The application's hop-by-hop header %r was dropped (PEP 3333)", name)

    def _warn_once(self, key: str, message: str, *values: object) -> None:
        if key not in self._warned:
            self._warned.add(key)
            self.log.warning(message, *values)

    def _early_hints(self, headers: Any) -> None:
        """environ["wsgi.early_hints"]: for the request that is in the application, if any."""
        if self._current is not None:
            self._writer.early_hints(headers)

    # -- refusing -------------------------------------------------------------------------

    def _refuse(self, connection: Connection, error: HttpError, begun: bytes | bytearray = b"") -> None:
        """Answer the peer's mistake; nothing after it on the connection is read.

        `begun` is what there is of a head that is not known yet.
        """
        self._log_refusal(connection, error)
        try:
            self._append_error(connection, error.status, begun)
            self._flush(connection)
        except ClientDisconnected:
            self._close(connection)
            return
        connection.close_after = True
        connection.linger = self._timers[LINGER]
        self._forget_request(connection)

    def _log_refusal(self, connection: Connection, error: HttpError) -> None:
        log = self.log.info if error.status < 500 else self.log.error
        log("Invalid request from ip=%s: %s [%s]", connection.remote_addr, error.detail, error.code.name)

    def _append_error(self, connection: Connection, status: int, begun: bytes | bytearray = b"") -> None:
        head, environ = connection.head, connection.environ
        accept = environ.get("HTTP_ACCEPT", "") if environ is not None else ""
        self._out.append(
            error_response(
                status,
                accept=accept if isinstance(accept, str) else "",
                head_only=head.method == "HEAD" if head is not None else _HEAD_BEGUN(begun) is not None,
                server_header=self.options.server_header,
            )
        )

    # -- sending ----------------------------------------------------------------------------

    def _flush_current(self) -> None:
        """What `write()` and early hints call: the bytes leave at once."""
        if self._current is not None:
            self._flush(self._current)

    def _flush(self, connection: Connection) -> None:
        """Send what has gathered. Raises ClientDisconnected."""
        out = self._out
        if not out.size:
            return
        if connection.state == CLOSED:
            out.clear()
            raise ClientDisconnected("the connection is closed")
        if connection.tls is not None:
            self._encrypt(connection, connection.tls)
        elif out.size > JOIN_MAX and 1 < len(out.parts) < 512 and not connection.queue:
            self._send_parts(connection)
        else:
            self._send(connection, out.take())

    def _encrypt(self, connection: Connection, tls: TLSChannel) -> None:
        """Send what has gathered over TLS, a piece at a time."""
        parts = list(self._out.parts)
        self._out.clear()
        for part in parts if len(parts) == 1 or sum(map(len, parts)) > JOIN_MAX else [b"".join(parts)]:
            with memoryview(part) as view:
                for start in range(0, len(part), ENCRYPT_SIZE):
                    tls.write(view[start : start + ENCRYPT_SIZE])
                    self._send(connection, tls.pending_output())

    def _send_parts(self, connection: Connection) -> None:
        """Send large parts without joining them."""
        parts = list(self._out.parts)
        self._out.clear()
        try:
            sent = connection.sock.sendmsg(parts)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise ClientDisconnected(str(error)) from None
        for part in parts:
            if sent < len(part):
                self._enqueue(connection, memoryview(part)[sent:])
                sent = 0
            else:
                sent -= len(part)

    def _send(self, connection: Connection, data: bytes) -> None:
        """Send `data`, after what is queued already; what the socket does not take is queued."""
        if not connection.queue:
            try:
                sent = connection.sock.send(data)
            except BlockingIOError:
                sent = 0
            except OSError as error:
                raise ClientDisconnected(str(error)) from None
            if sent == len(data):
                return
            self._enqueue(connection, memoryview(data)[sent:])
        else:
            self._enqueue(connection, data)
            self._advance(connection, self._queue(connection))

    def _queue(self, connection: Connection) -> OutQueue:
        if connection.queue is None:
            options = self.options
            connection.queue = OutQueue(
                options.response_buffer_size, options.response_spool_size, options.tmp_upload_dir
            )
        return connection.queue

    def _enqueue(self, connection: Connection, data: bytes | memoryview) -> None:
        queue = self._queue(connection)
        queue.append(data)
        while queue.full:
            self._wait_writable(connection)
            self._advance(connection, queue)

    def _advance(self, connection: Connection, queue: OutQueue) -> None:
        queue.drain(connection.fd)
        if self.heartbeat is not None:
            self.heartbeat.notify()

    def _wait_writable(self, connection: Connection) -> None:
        """Memory and spool are full: the worker waits for this client, up to send_timeout."""
        poll = select.poll()
        poll.register(connection.fd, select.POLLOUT)
        deadline = time.monotonic() + (self.options.send_timeout or float("inf"))
        while not poll.poll(min(1.0, max(0.0, deadline - time.monotonic())) * 1000):
            if time.monotonic() >= deadline:
                raise ClientDisconnected("the client does not read its response")
            if self.heartbeat is not None:
                self.heartbeat.notify()

    def _writable(self, connection: Connection) -> None:
        queue = connection.queue
        assert queue is not None
        took = queue.drain(connection.fd)
        if queue:
            if took:
                self._enter(connection, SENDING)
            return
        connection.queue = None
        queue.close()
        if connection.close_after:
            self._finish(connection)
            return
        if connection.environ is not None:
            self._enter(connection, BODY)
        elif connection.served:
            self._idle(connection)
        else:
            self._enter(connection, HEAD)
        self._watch(connection, READ)
        if connection.pending:
            self._process(connection, connection.pending)

    def _settle(self, connection: Connection) -> None:
        """After a turn's work on a connection: send what gathered, and wait for what comes next."""
        try:
            self._flush(connection)
        except ClientDisconnected:
            self._close(connection)
        if connection.state == CLOSED:
            return
        if connection.queue:
            self._enter(connection, SENDING)
            self._watch(connection, WRITE)
        elif connection.close_after:
            self._finish(connection)
        else:
            if connection.state == IDLE:
                self._idle(connection)
            self._watch(connection, READ)

    def _idle(self, connection: Connection) -> None:
        """Wait for a next request: a while, or a moment once the loop stops."""
        connection.state = IDLE
        self._arm(connection, self._grace if self.stopping else self._timers[IDLE])

    # -- reading while the application runs (buffer_request_body = False) -------------------------

    def _receive_body(self, connection: Connection, size: int) -> bytes:
        """Up to about `size` decoded bytes of the body of the request at hand; b"" at its end."""
        if self._current is not connection:
            raise ClientDisconnected("the request is over")
        if connection.continue_due:
            self._send_continue(connection)
        decoder = connection.decoder
        while decoder.done is False if decoder is not None else connection.remaining > 0:
            data = connection.pending or self._await_bytes(connection)
            if decoder is not None:
                pieces, stop = decoder.feed(data)
                connection.pending = data[stop:]
                if plain := b"".join(pieces):
                    return plain
            else:
                stop = min(len(data), connection.remaining)
                connection.remaining -= stop
                connection.pending = data[stop:]
                return bytes(data[:stop])
        return b""

    def _await_bytes(self, connection: Connection) -> bytes:
        """Wait for bytes of the body, up to client_body_timeout."""
        self._flush(connection)  # the client may wait for the answers before
        poll = select.poll()
        poll.register(connection.fd, select.POLLIN)
        deadline = time.monotonic() + (self.options.client_body_timeout or float("inf"))
        while True:
            data = self._receive(connection)
            if data:
                return data
            if data is not None:
                raise ClientDisconnected("the client left inside its request")
            while not poll.poll(min(1.0, max(0.0, deadline - time.monotonic())) * 1000):
                if time.monotonic() >= deadline:
                    raise http_error(Code.TIMEOUT)
                if self.heartbeat is not None:
                    self.heartbeat.notify()
