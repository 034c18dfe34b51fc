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

import errno
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from cyhorn._chunked_py import ChunkedDecoder
from cyhorn._connection_py import (
    BODY,
    CALLING,
    CLOSED,
    GRACE,
    HEAD,
    IDLE,
    LINGER,
    SENDING,
    Connection,
    Listener,
    Timers,
)
from cyhorn._cycle_py import RequestCycle
from cyhorn._environ_py import EnvironBuilder
from cyhorn._parser_py import RequestParser, refusal
from cyhorn._pulse_py import Pulse
from cyhorn.errors import ClientDisconnected, Code, HttpError, Stopped, TakenOver, http_error
from cyhorn.native import native
from cyhorn.net import shared_listener
from cyhorn.net.addresses import TrustedPeers
from cyhorn.wsgi.options import LoopOptions
from cyhorn.wsgi.spool import BodySpool
from cyhorn.wsgi.template import ListenerInfo, environ_template

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE

#: Connections accepted in one turn before the others are looked at again.
ACCEPT_BATCH = 16
#: Batches accepted at most when the loop stops: clients may come as fast as they are accepted.
DRAIN_BATCHES = 256
#: Answers to pipelined requests that are more bytes than this do not wait for those behind them.
GATHER_MAX = 65536
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
_SCARCE = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))


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
        self._pulse = Pulse(heartbeat, options.multiprocess, options.shared_listeners)
        self.on_max_requests = on_max_requests
        self.requests = 0
        self.stopping = False
        self._draining = False  # stop has taken effect
        self._connections: dict[int, Connection] = {}
        self._long_caller: Connection | None = None  # who has kept them waiting, and stays
        self._late_turns = 0  # this turn and so many more serve who waited behind a long call
        self._now = time.monotonic()
        self._next_tick = 0.0
        self._ready = 0  # descriptors that were ready in the turn before

        self._timers = {
            HEAD: Timers(options.client_header_timeout),
            BODY: Timers(options.client_body_timeout),
            SENDING: Timers(options.send_timeout),
            IDLE: Timers(options.keepalive),
            LINGER: Timers(options.linger_timeout),
            GRACE: Timers(STOP_GRACE),
        }
        self._cycles = 0
        self._lead_with(self._new_cycle())
        # Several calls at a time (max_calls > 0): see `lead`.
        self.call_watch: Any = None  # who is told of the calls of the one who leads: begins(ticket), ends()
        self._lead = threading.Lock()  # who leads, and whether it is in a call
        self._called: Connection | None = None  # for whom the one who leads calls
        self._ticket = 0  # counts calls
        self._calls = 0  # in the application now
        self._returned: deque[tuple[Connection, RequestCycle, bool]] = deque()  # answered by other threads
        self._parked: deque[Connection] = deque()  # their complete requests wait for a call to end
        self._away: dict[RequestCycle, float] = {}  # whose threads were taken over, and when
        self._spare: list[RequestCycle] = []  # without a thread
        self._parser = self._new_parser()
        self._trusted = TrustedPeers(options.forwarded_allow_ips)
        self._proxy_trusted = TrustedPeers(options.proxy_allow_ips)

        self._selector: selectors.BaseSelector = native("selectors", "DefaultSelector")()
        self._listeners = [self._listen(info, errors) for info in listeners]
        for fd, callback in (watch or {}).items():
            self._selector.register(fd, READ, callback)
        self._wakers: tuple[socket.socket, socket.socket] | None = None
        if options.max_calls:
            self._wakers = native("socket", "socketpair")()
            for end in self._wakers:
                end.setblocking(False)
            self._selector.register(self._wakers[0], READ, self._woken)

    def _listen(self, info: ListenerInfo, errors: Any) -> Listener:
        options = self.options
        template = environ_template(
            info, errors=errors, multithread=options.multithread, multiprocess=options.multiprocess
        )
        template["wsgi.early_hints"] = self._cycle.early_hints
        builder = EnvironBuilder(
            template,
            header_map=options.header_map,
            forwarder_headers=options.forwarder_headers,
            secure_scheme_headers=options.secure_scheme_headers,
            script_name=options.script_name,
        )
        listener = Listener(info, builder, options, self.log, self._pulse)
        shared_listener.register(self._selector, info.sock, listener)
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

    # -- the turn -------------------------------------------------------------------

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._connections)

    def run(self) -> None:
        """Serve until stopped, and until the last connection has ended."""
        try:
            while self.turn():
                pass
        finally:
            if self.options.access_lines is not None:
                self.options.access_lines.flush()
        self.close()

    def stop(self) -> None:
        """Stop gracefully: what was received is answered, then the connections close.

        May be called from a signal handler or from the application's thread.
        """
        self.stopping = True
        for cycle in (self._cycle, *self._away):
            cycle.stop()

    def give_up(self) -> None:
        """Answer every request that is in the application by 504, as far as nothing was sent.

        The calls are stuck, and the process ends next. May be called from a signal handler.
        """
        for cycle in (self._cycle, *self._away):
            cycle.give_up()

    def adopt(self, sock: socket.socket, listener: int = 0) -> None:
        """Serve the connected socket `sock` as if listener number `listener` had accepted it."""
        sock = native("socket", "socket")(fileno=sock.detach())
        sock.setblocking(False)
        self._now = time.monotonic()
        self._accepted(sock, "", self._listeners[listener])

    def close(self) -> None:
        """Close what is still open, without ceremony."""
        for connection in list(self._connections.values()):
            self._close(connection)
        self._close_listeners()
        self._selector.close()
        for end in self._wakers or ():
            end.close()

    def turn(self, timeout: float | None = None) -> bool:
        """Wait at most `timeout` seconds (None: until the next timer), and serve what is ready.

        Returns whether there is more to do: False once stopped and without connections.
        """
        if self.stopping and not self._draining:
            self._drain()
        if self.options.max_calls:
            self._take_back()
        if self._draining and not self._connections:
            return False
        self._pulse.mark(busy=False)
        events = self._selector.select(self._patience() if timeout is None else timeout)
        self._ready = len(events)
        now = self._now = time.monotonic()
        if not self._all_stuck():
            self._pulse.beat()
        self._pulse.mark(busy=True)
        if self._late_turns:
            self._late_turns -= 1
            if not self._late_turns:
                self._long_caller = None
        for key, mask in events:
            target = key.data
            if type(target) is Connection:
                if target.state != CLOSED:
                    self._serve(target, mask)
            elif type(target) is Listener:
                self._accept(target)
            else:
                target()
        self._expire(now)
        if self.options.access_lines is not None:
            self.options.access_lines.flush()
        self._pulse.publish(self.requests, len(self._connections))
        if self._now >= self._next_tick:
            self._next_tick = self._now + self.options.tick
            if self.options.on_tick is not None:
                self.options.on_tick()
        return not (self._draining and not self._connections)

    def _serve(self, connection: Connection, mask: int) -> None:
        try:
            if connection.state == CALLING:
                # What the client sends or how it leaves is looked at after the answer.
                self._selector.unregister(connection.fd)
                connection.events = 0
            elif mask & WRITE:
                self._writable(connection)
            else:
                self._readable(connection)
        except ClientDisconnected as error:
            connection.log_loss(error)
            self._close(connection)
        except Exception:
            # A mistake of ours, or a resource that ran out: this connection's loss alone.
            self.log.exception("Error while serving ip=%s", connection.remote_addr)
            self._close(connection)

    def _patience(self) -> float:
        """Seconds until the next timer, at most a tick."""
        until = self._now + self.options.tick
        for timers in self._timers.values():
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
        for timers in self._timers.values():
            while timers.deadlines:
                connection, deadline = next(iter(timers.deadlines.items()))
                if deadline > now:
                    break
                self._timed_out(connection)
        for listener in self._listeners:
            if listener.resume_at and listener.resume_at <= now and not self._draining:
                if self._has_enough():
                    listener.resume_at = now + SHARE_PAUSE
                else:
                    listener.resume_at = 0.0
                    shared_listener.register(self._selector, listener.info.sock, listener)

    def _timed_out(self, connection: Connection) -> None:
        # 408 only where a request had begun: a silent connection has asked for nothing.
        if connection.state == BODY or (connection.state == HEAD and connection.pending):
            read = connection.parser._fields if connection.parser is not None else []
            self._refuse(connection, refusal(Code.TIMEOUT, read), connection.pending)
            self._settle(connection)
        elif connection.state in (IDLE, HEAD):
            self._finish(connection)
        else:
            self._close(connection)

    def _arm(self, connection: Connection, timers: Timers | None) -> None:
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

    def _accept(self, listener: Listener) -> bool:
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
                self._cycle.warn_once("accept", "Accepting pauses: %s", error)
                return False
            sock.setblocking(False)
            self._accepted(sock, address, listener)
            if not self.stopping and self._has_enough():
                self._pause(listener, SHARE_PAUSE)
                return False
        return True

    def _pause(self, listener: Listener, seconds: float) -> None:
        """Leave new connections to the other workers for a while."""
        if not listener.resume_at:
            self._selector.unregister(listener.info.sock)
        listener.resume_at = self._now + seconds

    def _stand_back(self) -> None:
        """After a long call: who is sent away now does not come back to this worker."""
        if not self.stopping and self._pulse.others_wait():
            for listener in self._listeners:
                self._pause(listener, SHARE_PAUSE)

    def _has_enough(self) -> bool:
        """Whether new connections are left to the others, or to wait."""
        limit = self.options.max_connections
        if limit and len(self._connections) >= limit:
            return True
        return self._pulse.has_its_share(len(self._connections))

    def _accepted(self, sock: socket.socket, address: Any, listener: Listener) -> None:
        if isinstance(address, tuple):
            connection = Connection(sock, listener, address[0], str(address[1]))
            connection.trusted = address[0] in self._trusted
        else:
            connection = Connection(sock, listener, "", None)
            connection.trusted = True
        connection.proxy_due = self.options.proxy_protocol != "off"
        self._connections[connection.fd] = connection
        self._pulse.publish(self.requests, len(self._connections))  # what is served at once may take its time
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
        connection.lost = True
        self._out.clear()  # what waits there is this connection's, never another's
        if connection.events:
            self._selector.unregister(connection.fd)
            connection.events = 0
        del self._connections[connection.fd]
        connection.forget_request()
        if connection.queue is not None:
            connection.queue.close()
            connection.queue = None
        if connection.client_socket is not None:
            connection.client_socket.detach_from_loop()
        connection.pending = b""
        connection.parser = None
        connection.sock.close()

    def _finish(self, connection: Connection) -> None:
        """Nothing more is to be sent: close, after a linger where the client may still send (9112 9.6)."""
        tls, connection.tls = connection.tls, None
        if tls is not None:
            tls.shutdown()
            try:
                connection.send_bytes(tls.pending_output())
            except ClientDisconnected:
                self._close(connection)
                return
            if connection.queue:  # close_notify waits for the client, too
                self._enter(connection, SENDING)
                self._watch(connection, WRITE)
                return
        try:
            if connection.linger is not None and self._timers[connection.linger].duration:
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
        self._arm(connection, self._timers[connection.linger])
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
                self._arm(connection, self._timers[GRACE])

    def _close_listeners(self) -> None:
        for listener in self._listeners:
            if listener.info.sock.fileno() >= 0:
                if not listener.resume_at:
                    self._selector.unregister(listener.info.sock)
                listener.resume_at = 0.0
                listener.info.sock.close()

    # -- receiving ----------------------------------------------------------------------

    def _readable(self, connection: Connection) -> None:
        try:
            data = connection.receive()
        except HttpError as error:  # it was no TLS
            self._refuse(connection, error, connection.pending)
            if connection.state != CLOSED:
                self._settle(connection)
            return
        if data is None:
            if connection.queue:
                self._settle(connection)  # TLS had to answer, and could not yet
            return
        if not data and connection.tls is not None:
            self._finish(connection)  # the client's close_notify wants ours (8446 6.1)
        elif not data:
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
                        if connection.state != HEAD or connection.timers is self._timers[GRACE]:
                            self._enter(connection, HEAD)
                        break
                    start += taken
                    self._begin_body(connection, start < size)
                if connection.body_complete:
                    connection.pending = data[start:]  # a streamed body is read from here
                    self._respond(connection, start < size)
                    if connection.state in (CLOSED, CALLING):
                        return
                    if self._out.size > GATHER_MAX:
                        connection.flush(self._out)
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
            self._cycle.send_continue(connection)
        self._enter(connection, BODY)

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

    # -- the request at hand -----------------------------------------------------------------

    def _respond(self, connection: Connection, pipelined: bool) -> None:
        """Have the complete request answered, and decide what becomes of the connection.

        `pipelined` says that bytes of a next request are there already.
        """
        head = connection.head
        assert head is not None
        if self.options.max_calls and self._calls >= self.options.max_calls:
            self._arm(connection, None)
            connection.state = CALLING
            self._parked.append(connection)
            return
        self.requests += 1
        connection.served += 1
        if self.requests == self.options.max_requests:
            self.stop()
            if self.on_max_requests is not None:
                self.on_max_requests()
        keep_alive = head.keep_alive and self.options.keepalive > 0 and not self.stopping
        if not self.options.buffer_request_body and connection.body_awaited():
            keep_alive = False  # the application may leave some of it unread
        waited = self._late_turns > 0 and connection is not self._long_caller
        if waited and keep_alive and self._pulse.others_wait():
            keep_alive = False  # the client need not wait here: others have nothing to do
        if self.options.max_calls:
            keep_alive = self._call(connection, keep_alive, pipelined)
        else:
            keep_alive = self._cycle.respond(connection, keep_alive, pipelined)
        before, self._now = self._now, time.monotonic()  # who waits from now on does not pay for the call
        if self._now - before >= LONG_CALL:
            self._late_turns = 2  # the rest of this turn, and what came in during the call
            self._long_caller = connection
            self._stand_back()
        self._answered(connection, keep_alive, pipelined)

    def _answered(self, connection: Connection, keep_alive: bool, pipelined: bool) -> None:
        """The answer is in the buffer or on its way: what becomes of the connection?"""
        if connection.lost:
            self._close(connection)
            return
        if connection.close_after:
            return  # refused
        connection.state = IDLE
        if not keep_alive:
            connection.close_after = True
            if pipelined or connection.body_awaited():
                connection.linger = LINGER
            elif connection.head is not None and connection.head.keep_alive:
                # A next request may cross our close.
                connection.linger = GRACE if self.stopping else LINGER
            elif connection.body is not None and connection.more_waits():
                # A close over unread bytes would be a reset, and cost the client its answer.
                connection.linger = LINGER
        connection.forget_request()

    # -- several calls at a time ----------------------------------------------------------------

    def lead(self) -> bool:
        """Serve in this thread until all is over, or until another thread leads.

        Returns whether all is over. With ``options.max_calls`` the loop belongs to whoever leads:
        it waits for the connections and calls the application itself. While that call lasts another
        thread may `take_over`; the one in the call then answers its request, and nothing else.
        Whoever has been taken over may lead again, by taking over in turn.
        """
        try:
            while self.turn():
                pass
        except TakenOver:
            return False
        return True

    def lead_on(self, seconds: float) -> float | None:
        """Lead without waiting: serve what is ready for about `seconds`, less while other calls are made.

        For those who wait for `fileno` elsewhere. Afterwards nobody leads. Returns the seconds to the next
        timer, at most a tick: after these it is to be called also when nothing is ready; None when all is
        over. Raises TakenOver where another leads by now.
        """
        until = time.monotonic() + seconds
        while self.turn(0):
            if self._returned:
                continue  # in this very turn, while it waited for a client
            if self._ready < 2 or self._calls or time.monotonic() >= until:
                self._pulse.mark(busy=False)
                return self._patience()
        return None

    def fileno(self) -> int:
        """A descriptor that is readable while something is ready to be served."""
        return self._selector.fileno()  # type: ignore[attr-defined, no-any-return]

    def take_over(self, ticket: int) -> bool:
        """Become the one who leads, in the place of who makes call number `ticket`.

        Returns False where that call has ended, or is another's by now: then somebody leads.
        """
        with self._lead:
            connection = self._called
            if connection is None or self._ticket != ticket:
                return False
            self._call_ends()
            self._now = time.monotonic()
            self._away[self._cycle] = self._now
            self._arm(connection, None)
            connection.state = CALLING
            self._lead_with(self._spare.pop() if self._spare else self._new_cycle())
            return True

    @property
    def call_ticket(self) -> int | None:
        """The number of the call that the one who leads makes now; None while it makes none."""
        return self._ticket if self._called is not None else None

    def _new_cycle(self) -> RequestCycle:
        record = self._pulse.call_record(self._cycles)
        self._cycles += 1
        return RequestCycle(self.options, self.application, self.log, record)

    def _lead_with(self, cycle: RequestCycle) -> None:
        self._cycle = cycle
        self._out = cycle.out

    def _call_ends(self) -> None:
        self._called = None
        if self.call_watch is not None:
            self.call_watch.ends()

    def _call(self, connection: Connection, keep_alive: bool, pipelined: bool) -> bool:
        """Have `connection` answered by the application. Raises TakenOver where another leads afterwards."""
        cycle = self._cycle
        self._calls += 1
        self._ticket += 1
        self._called = connection
        if self.call_watch is not None:
            self.call_watch.begins(self._ticket)
        try:
            keep_alive = cycle.respond(connection, keep_alive, pipelined)
            if cycle.out.size > GATHER_MAX:
                connection.flush(cycle.out)  # where it waits for the client, others may lead
        except ClientDisconnected as error:
            connection.log_loss(error)
            connection.lost = True
        except BaseException as error:
            # In the main thread the worker is told to leave; elsewhere it was the application's own idea,
            # and the client has its 500.
            if isinstance(error, Stopped) or threading.current_thread() is threading.main_thread():
                raise
            keep_alive = False
        with self._lead:
            leads = cycle is self._cycle
            if leads:
                self._call_ends()
        if leads:
            self._calls -= 1
            return keep_alive
        self._hand_back(connection, cycle, keep_alive)

    def _hand_back(self, connection: Connection, cycle: RequestCycle, keep_alive: bool) -> NoReturn:
        """Send the answer, and leave the rest to the one who leads by now."""
        try:
            connection.flush(cycle.out)
        except ClientDisconnected:
            connection.lost = True
        self._returned.append((connection, cycle, keep_alive))
        assert self._wakers is not None
        try:
            self._wakers[1].send(b"\0")
        except BlockingIOError:
            pass  # it wakes anyway
        raise TakenOver

    def _take_back(self) -> None:
        """Go on with the connections that other threads have answered, and those that wait for a call."""
        while self._returned:
            connection, cycle, keep_alive = self._returned.popleft()
            self._calls -= 1
            del self._away[cycle]
            self._spare.append(cycle)
            if connection.state == CALLING:
                self._resume(connection, keep_alive)
        while self._parked and self._calls < self.options.max_calls:
            connection = self._parked.popleft()
            if connection.state == CALLING:
                self._resume(connection, None)

    def _resume(self, connection: Connection, answered: bool | None) -> None:
        """What comes after a call for `connection` that was not made in its turn, or that call.

        `answered` is whether the connection may persist, None before the call.
        """
        try:
            if answered is None:
                self._respond(connection, bool(connection.pending))
            else:
                self._answered(connection, answered, bool(connection.pending))
            if connection.state in (CLOSED, CALLING):
                return
            if connection.pending and not connection.close_after and not connection.queue:
                self._process(connection, connection.pending)
            else:
                self._settle(connection)
        except ClientDisconnected as error:
            connection.log_loss(error)
            self._close(connection)
        except Exception:
            self.log.exception("Error while serving ip=%s", connection.remote_addr)
            self._close(connection)

    def _all_stuck(self) -> bool:
        """Whether every call that may be made is made, and lasts longer than `timeout`."""
        options = self.options
        if not options.timeout or not options.max_calls or len(self._away) < options.max_calls:
            return False
        return all(self._now - begun >= options.timeout for begun in self._away.values())

    def _woken(self) -> None:
        assert self._wakers is not None
        try:
            self._wakers[0].recv(4096)
        except BlockingIOError:
            pass

    def _refuse(self, connection: Connection, error: HttpError, begun: bytes | bytearray = b"") -> None:
        """Answer the peer's mistake; nothing after it on the connection is read."""
        self._cycle.refuse(connection, error, begun)
        if connection.lost:
            self._close(connection)

    def _writable(self, connection: Connection) -> None:
        """The client takes more of its response."""
        took = connection.drain_queue()
        if connection.queue:
            if took:
                self._enter(connection, SENDING)
            return
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
            connection.flush(self._out)
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
        self._arm(connection, self._timers[GRACE if self.stopping else IDLE])
