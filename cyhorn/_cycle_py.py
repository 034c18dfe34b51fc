"""The request cycle: one request into the application, its response out.

It gets a connection whose request is complete, or, where the application reads the body
itself, whose head is. It makes the rest of the environ, calls the application in a context
of its own, puts the response into the output buffer and calls `close()`, the hooks and the
access log. What it may tell the client goes through the connection; what becomes of the
connection afterwards is the loop's business.

One cycle serves one request at a time, and all of a loop's one after the other. Answers to
pipelined requests gather in its output buffer and leave in one send, unless one streams,
has a `close()` or the application has not shown to be fast.
"""

from __future__ import annotations

import contextvars
import re
import sys
import time
from collections.abc import Callable
from typing import Any

from cyhorn._connection_py import LINGER, Connection
from cyhorn._parser_py import RequestHead
from cyhorn._writer_py import OutputBuffer, ResponseWriter
from cyhorn.errors import OUR_ERRORS, ApplicationError, ClientDisconnected, Code, HttpError, http_error
from cyhorn.wsgi.client_socket import ClientSocket
from cyhorn.wsgi.error_page import error_response
from cyhorn.wsgi.file_wrapper import FileWrapper
from cyhorn.wsgi.input import StreamInput
from cyhorn.wsgi.options import LoopOptions
from cyhorn.wsgi.request import Request

#: Answers wait for those behind them only when as many calls took no longer than this (seconds).
FAST_CALL, FAST_CALLS = 50e-6, 64

#: The method of a request that has begun.
_METHOD_BEGUN = re.compile(rb"(?:\r\n)?([A-Za-z]+) ").match


class RequestCycle:
    """Calls `application` for one complete request after the other. `log` is the error log.

    `record` is where it writes down what it calls for (`Pulse.call_record`), or None.
    """

    def __init__(
        self, options: LoopOptions, application: Callable[..., Any], log: Any, record: Any = None
    ) -> None:
        self.options = options
        self.application = application
        self.log = log
        self.out = OutputBuffer()  # answers that have not left yet
        self._writer = self._new_writer()
        self._current: Connection | None = None  # whose request is in the application
        self._warned: set[str] = set()
        self._fast_calls = 0
        self._given_up = False
        self._record = record
        self._calls = 0

    def _new_writer(self) -> ResponseWriter:
        return ResponseWriter(self.out, self.options.server_header, self._flush_current)

    def respond(self, connection: Connection, keep_alive: bool, pipelined: bool) -> bool:
        """Call the application for the request of `connection`, and see its response on its way.

        `pipelined` says that bytes of a next request are there already. Returns whether the
        connection may persist. Afterwards `connection.lost` says that the client is gone, and
        `connection.close_after` that an error was answered in the application's stead.
        """
        head, environ, options = connection.head, connection.environ, self.options
        assert head is not None and environ is not None
        try:
            self._complete_environ(connection, environ)
        except OSError as error:
            self.log.error("Spooling a request body failed: %s", error)
            self.refuse(connection, http_error(Code.SPOOL_FULL))
            return False
        if sys.getrefcount(self._writer) > 2:
            self._writer = self._new_writer()  # the application kept start_response or write
        writer = self._writer
        writer.tick(int(time.time()))
        writer.begin(head.method == "HEAD", head.version >= (1, 1), keep_alive)
        request = None
        if options.pre_request or options.post_request or options.access_with_request:
            request = self._request_view(connection, environ)

        lines = options.access_lines
        timed = pipelined or len(self.out) > 0 or request is not None or (lines is not None and lines.timed)
        if lines is not None:
            lines.flush_old()  # the call may be slow
        begun = time.perf_counter() if timed else 0.0
        if len(self.out) and self._fast_calls < FAST_CALLS:
            try:
                connection.flush(self.out)  # an answer does not wait for a call that may be slow
            except ClientDisconnected:
                self._lose(connection)
                return False
        self._current = connection
        if self._record is not None:
            self._calls += 1
            peer = connection.peer_name()
            self._record.begin(self._calls, time.monotonic_ns(), peer, head.method, head.target)
        try:
            try:
                if options.context_isolation:
                    contextvars.copy_context().run(self._call, connection, writer, environ, request)
                else:
                    self._call(connection, writer, environ, request)
            finally:
                self._current = None
                # Also for one that ends the worker: it was answered all the same.
                self._account(writer, environ, request, begun)
                if options.post_request is not None:
                    options.post_request(request, environ, writer)
        finally:
            if self._record is not None:
                self._record.end()
        if writer.excess or writer.dropped:
            self._complain(writer, head)
        return writer.keep_alive

    def stop(self) -> None:
        """Let the answer that the application is making say that it is the last, unless its head has left."""
        if self._current is not None and not self._writer.headers_sent:
            self._writer.keep_alive = False

    def give_up(self) -> None:
        """Answer the request that is in the application in its stead: 504, if nothing was sent.

        For the end of a worker whose calls are stuck. Called by another thread than the one in the call,
        which finds the client gone should it come back.
        """
        connection, writer = self._current, self._writer
        if connection is None or connection.lost or writer.headers_sent:
            return
        self._given_up = True
        writer.fail(504)
        self._append_error(connection, 504, False)
        try:
            connection.flush(self.out)
        except ClientDisconnected:
            pass
        self._lose(connection)

    def _account(
        self, writer: ResponseWriter, environ: dict[str, Any], request: Request | None, begun: float
    ) -> None:
        """Tell the access log of an answer; its call began at `begun`, 0 where nobody wants to know."""
        seconds = 0.0
        if begun:
            seconds = time.perf_counter() - begun
            self._fast_calls = self._fast_calls + 1 if seconds <= FAST_CALL else 0
        if self.options.access_lines is not None:
            self.options.access_lines.record(writer, environ, seconds)
        if self.options.access_with_request is not None:
            self.options.access_with_request(request, writer, environ, seconds)

    def _complete_environ(self, connection: Connection, environ: dict[str, Any]) -> None:
        """The keys that need the connection or the body."""
        sock = connection.client_socket
        if sock is None:
            sock = connection.client_socket = ClientSocket(connection.fd)
        environ["gunicorn.socket"] = sock
        if self.options.max_calls:
            environ["wsgi.early_hints"] = self.early_hints  # other cycles have requests, too
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
                    connection.flush(self.out)  # the client does not wait for close()
            finally:
                close = getattr(result, "close", None)
                if close is not None:
                    self._close_iterable(close, connection)
        except ClientDisconnected as error:
            connection.log_loss(error)
            writer.fail(499)
            self._lose(connection)
        except BaseException as error:
            self._failed(connection, writer, error)
            # The worker is told to leave, from inside the application: leave with an answer. Other
            # exceptions of this kind (a cancelled task) end what the application did, and no more.
            if isinstance(error, (SystemExit, KeyboardInterrupt)):
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
            if len(self.out):
                connection.flush(self.out)
                connection.listener.pulse.beat()
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
        connection.flush(self.out)
        if count:
            connection.send_region(fd, offset, count)
        return True

    def _lose(self, connection: Connection) -> None:
        """The client is gone, or must not be told more: what waits is nobody's."""
        connection.lost = True
        self.out.clear()

    def _failed(self, connection: Connection, writer: ResponseWriter, error: BaseException) -> None:
        """The application raised, or broke PEP 3333: 500 where nothing was sent, else cut."""
        assert connection.head is not None
        status = 500
        if isinstance(error, HttpError):  # the client's mistake, met in wsgi.input
            self._log_refusal(connection, error)
            status = error.status
        else:
            assert connection.environ is not None
            method = connection.environ.get("REQUEST_METHOD", "-")  # the application may have emptied it
            self.log.exception(
                "Error handling request %s %s", method, connection.head.target, exc_info=error
            )
        if self._given_up:
            return  # it was answered, by 504
        sent = writer.headers_sent
        writer.fail(status)
        try:
            if sent:
                connection.flush(self.out)
                self._lose(connection)
            else:
                self._append_error(connection, status, False)
                connection.flush(self.out)
        except ClientDisconnected:
            self._lose(connection)

    def _complain(self, writer: ResponseWriter, head: RequestHead) -> None:
        if writer.excess:
            self.log.warning(
                "The body of %s is longer than its Content-Length of %s; the rest was cut",
                head.target,
                writer.response_length,
            )
        for name in writer.dropped:
            self.warn_once(name, "The application's hop-by-hop header %r was dropped (PEP 3333)", name)

    def warn_once(self, key: str, message: str, *values: object) -> None:
        if key not in self._warned:
            self._warned.add(key)
            self.log.warning(message, *values)

    def early_hints(self, headers: Any) -> None:
        """environ["wsgi.early_hints"]: for the request that is in the application, if any."""
        if self._current is not None:
            self._writer.early_hints(headers)

    def refuse(self, connection: Connection, error: HttpError, begun: bytes | bytearray = b"") -> None:
        """Answer the peer's mistake; nothing after it on the connection is read.

        `begun` is what there is of a head that is not known yet.
        """
        self._log_refusal(connection, error)
        try:
            begins_head = connection.head is None and self._begins_head(begun)
            self._append_error(connection, error.status, begins_head, error.accept)
            connection.flush(self.out)
        except ClientDisconnected:
            self._lose(connection)
            return
        connection.close_after = True
        connection.linger = LINGER
        connection.forget_request()

    def _log_refusal(self, connection: Connection, error: HttpError) -> None:
        log = self.log.error if error.code in OUR_ERRORS else self.log.info
        log("Invalid request from ip=%s: %s [%s]", connection.remote_addr, error.detail, error.code.name)

    def _begins_head(self, begun: bytes | bytearray) -> bool:
        """Whether `begun` begins with a HEAD request, whose answer has no body also when it is refused."""
        match = _METHOD_BEGUN(begun)
        if match is None:
            return False
        method = match[1].upper() if self.options.casefold_http_method else match[1]
        return bool(method == b"HEAD")

    def _append_error(self, connection: Connection, status: int, head_only: bool, accept: Any = "") -> None:
        """Append an error page. `accept` is what is known of Accept when there is no environ."""
        head, environ = connection.head, connection.environ
        if environ is not None:
            accept = environ.get("HTTP_ACCEPT", "")
        self.out.append(
            error_response(
                status,
                accept=accept if isinstance(accept, str) else "",
                head_only=head_only or (head is not None and head.method == "HEAD"),
                server_header=self.options.server_header,
            )
        )

    def send_continue(self, connection: Connection) -> None:
        """Ask for the body (9110 10.1.1)."""
        connection.continue_due = False
        self.out.append(b"HTTP/1.1 100 Continue\r\n\r\n")
        connection.flush(self.out)

    def _receive_body(self, connection: Connection, size: int) -> bytes:
        """Up to about `size` decoded bytes of the body of the request at hand; b"" at its end."""
        if self._current is not connection:
            raise ClientDisconnected("the request is over")
        if connection.continue_due:
            if self._writer.headers_sent:
                connection.continue_due = False  # the final answer is on its way (9110 15.2)
            else:
                self.send_continue(connection)
        decoder = connection.decoder
        while connection.body_awaited():
            if not connection.pending:
                connection.flush(self.out)  # the client may wait for the answers before
            data = connection.pending or connection.await_bytes()
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

    def _flush_current(self) -> None:
        """What `write()` and early hints call: the bytes leave at once."""
        if self._current is not None:
            self._current.flush(self.out)
            self._current.listener.pulse.beat()
