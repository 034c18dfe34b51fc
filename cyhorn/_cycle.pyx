# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, auto_pickle=False
"""The request cycle, compiled: one request into the application, its response out.

`_cycle_py` says what it does. Here the writer, its `start_response` and `write` are made once
and used again for each request, unless the application kept one of them.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.ref cimport PyObject

from cyhorn._connection cimport LINGER, Connection
from cyhorn._pulse cimport call_begins, call_ends
from cyhorn._system cimport CLOCK_MONOTONIC, CLOCK_REALTIME_COARSE, clock_ns
from cyhorn._writer cimport OutputBuffer, ResponseWriter

from io import BytesIO

from cyhorn.errors import OUR_ERRORS, ApplicationError, ClientDisconnected, Code, HttpError, http_error
from cyhorn.wsgi.client_socket import ClientSocket
from cyhorn.wsgi.error_page import error_response
from cyhorn.wsgi.file_wrapper import FileWrapper
from cyhorn.wsgi.input import StreamInput
from cyhorn.wsgi.request import Request

cdef extern from "Python.h":
    object PyContext_CopyCurrent()
    int PyContext_Enter(object context) except -1
    int PyContext_Exit(object context) except -1
    Py_ssize_t Py_REFCNT(PyObject *o)  # a pointer: an argument of type object would count itself

cdef enum:
    FAST_CALLS = 64             # calls that must have been fast before answers wait for those behind them
    FAST_CALL = 50000           # nanoseconds of a fast call
    SECOND = 1000000000


@cython.final
cdef class RequestCycle:
    """Calls `application` for one complete request after the other. `log` is the error log."""

    def __cinit__(self):
        self.record = NULL

    def __init__(self, options, application, log):
        self.options = options
        self.application = application
        self.log = log
        self.warned = set()
        self.several = options.max_calls > 0
        self.context_isolation = options.context_isolation
        self.sendfile = options.sendfile
        self.pre_request = options.pre_request
        self.post_request = options.post_request
        self.lines = options.access_lines
        self.access_with_request = options.access_with_request
        self.wants_head = not (self.pre_request is None and self.post_request is None
                               and self.access_with_request is None)
        self.out = OutputBuffer()
        self.flush_callback = self._flush_current
        self.renew_writer()

    cdef int renew_writer(self) except -1:
        if self.writer is not None:
            self.writer.write_callable = NULL
        self.writer = ResponseWriter(self.out, self.options.server_header, self.flush_callback)
        self.start_response = self.writer.start_response
        self.write = self.writer.write
        self.writer.write_callable = <PyObject *>self.write
        return 0

    cdef int stop(self) noexcept:
        if self.current is not None and not self.writer.headers_sent:
            self.writer.keep_alive = False
        return 0

    cdef int give_up(self) except -1:
        cdef Connection c = self.current
        if c is None or c.lost or self.writer.headers_sent:
            return 0
        self.given_up = True
        self.writer.fail(504)
        self.append_error(c, 504, False, "")
        try:
            c.flush(self.out)
        except ClientDisconnected:
            pass
        return self.lose(c)

    cdef bint respond(self, Connection c, bint keep_alive, bint pipelined, long long began) except -1:
        cdef ResponseWriter writer
        cdef dict environ = c.environ
        cdef bint timed
        cdef long long begun = 0
        cdef long long now = clock_ns(CLOCK_REALTIME_COARSE)
        cdef str target = c.target
        try:
            self.complete_environ(c, environ)
        except OSError as error:
            self.log.error("Spooling a request body failed: %s", error)
            self.refuse(c, http_error(Code.SPOOL_FULL), False)
            return False
        if (Py_REFCNT(<PyObject *>self.start_response) > 1 or Py_REFCNT(<PyObject *>self.write) > 1
                or Py_REFCNT(<PyObject *>self.writer) > 3):  # ours, and that of each of the two
            self.renew_writer()  # the application or a hook kept one: it must not reach the next response
        writer = self.writer
        writer.set_time(now // SECOND)
        writer.start(c.head_only, c.http_1_1, keep_alive)
        request = self.request_view(c, environ) if self.wants_head else None

        timed = pipelined or self.out.size > 0 or request is not None
        if self.lines is not None:
            timed = timed or self.lines.timed
            if self.lines.are_old(now):
                self.lines.write_out()  # the call may be slow
        if timed:
            begun = clock_ns(CLOCK_MONOTONIC)
        if self.out.size and self.fast_calls < FAST_CALLS:
            try:
                c.flush(self.out)  # an answer does not wait for a call that may be slow
            except ClientDisconnected:
                self.lose(c)
                return False
        self.current = c
        if self.record != NULL:
            self.calls += 1
            call_begins(self.record, self.calls, began, &c.caller, target)
        try:
            if self.context_isolation:
                context = PyContext_CopyCurrent()
                PyContext_Enter(context)
                try:
                    self.call(c, writer, environ, request)
                finally:
                    PyContext_Exit(context)
            else:
                self.call(c, writer, environ, request)
        except BaseException:
            self.current = None
            self.account(writer, environ, request, begun)  # it was answered all the same
            if self.post_request is not None:
                self.post_request(request, environ, writer)
            self.end_record()
            raise
        self.current = None
        if timed or self.lines is not None:
            self.account(writer, environ, request, begun)
        if self.post_request is not None:
            self.post_request(request, environ, writer)
        self.end_record()
        if writer.excess or writer.left_out is not None:
            self.complain(writer, target)
        return writer.keep_alive

    cdef inline void end_record(self) noexcept:
        if self.record != NULL:
            call_ends(self.record)

    cdef int account(self, ResponseWriter writer, dict environ, object request, long long begun) except -1:
        """Tell the access log of an answer; its call began at `begun`, 0 where nobody wants to know."""
        cdef long long taken = 0
        if begun:
            taken = clock_ns(CLOCK_MONOTONIC) - begun
            self.fast_calls = self.fast_calls + 1 if taken <= FAST_CALL else 0
        if self.lines is not None:
            self.lines.add(writer, writer.status_code, writer.sent, environ, taken / 1e9)
        if self.access_with_request is not None:
            self.access_with_request(request, writer, environ, taken / 1e9)
        return 0

    cdef int complete_environ(self, Connection c, dict environ) except -1:
        """The keys that need the connection or the body."""
        if c.client_socket is None:
            c.client_socket = ClientSocket(c.fd)
        environ["gunicorn.socket"] = c.client_socket
        if self.several:
            environ["wsgi.early_hints"] = self.early_hints
        if c.body_bytes is not None:
            environ["wsgi.input"] = BytesIO(c.body_bytes)
        elif c.body is not None:
            environ["wsgi.input"] = c.body.open()
            if c.decoder is not None:
                # The body is complete, so its length is known (3875 4.1.2).
                environ["CONTENT_LENGTH"] = str(c.decoder.size)
        elif c.decoder is not None or c.remaining:
            environ["wsgi.input"] = self.stream_input(c)
        if c.proxy is not None:
            environ["PROXY_PROTOCOL"] = c.proxy.protocol
            environ["PROXY_ADDR"] = c.proxy.proxy_addr
            environ["PROXY_PORT"] = str(c.proxy.proxy_port)
        return 0

    cdef object stream_input(self, Connection c):
        # Not in complete_environ: where a lambda stands, each call makes an object for what it may see.
        return StreamInput(lambda size: self._receive_body(c, size))

    cdef object request_view(self, Connection c, dict environ):
        trailers = c.decoder.trailers if c.decoder is not None else []
        proxy = c.proxy._asdict() if c.proxy is not None else None
        return Request(c.head, environ, c.served, trailers, proxy)

    cdef int call(self, Connection c, ResponseWriter writer, dict environ, object request) except -1:
        """Run the application and its iterable; `close()` is called exactly once, whatever happens."""
        result = None
        try:
            try:
                if self.pre_request is not None:
                    self.pre_request(request)
                result = self.application(environ, self.start_response)
                if type(result) is list or type(result) is tuple:
                    writer.put_whole(result)
                    writer.end()
                else:
                    self.stream(c, writer, result)
                    c.flush(self.out)  # the client does not wait for close()
            finally:
                if type(result) is not list and type(result) is not tuple:
                    close_iterable = getattr(result, "close", None)
                    if close_iterable is not None:
                        self.close_iterable(close_iterable, c)
        except ClientDisconnected as error:
            c.log_loss(error)
            writer.fail(499)
            self.lose(c)
        except BaseException as error:
            self.failed(c, writer, error)
            # The worker is told to leave, from inside the application: leave with an answer. Other
            # exceptions of this kind (a cancelled task) end what the application did, and no more.
            if isinstance(error, (SystemExit, KeyboardInterrupt)):
                raise
        return 0

    cdef int close_iterable(self, object close_it, Connection c) except -1:
        try:
            close_it()
        except Exception:
            # What was sent stays sent; the next request is not this one's victim.
            self.log.exception("Error in close() after request %s", c.target)
        return 0

    cdef int stream(self, Connection c, ResponseWriter writer, object result) except -1:
        """Send the items of `result` as they come, without waiting for the next."""
        if isinstance(result, FileWrapper) and self.send_file(c, writer, result):
            return 0
        try:
            items = iter(result)
        except TypeError as error:
            raise ApplicationError(
                f"the application returned {type(result).__name__}, not an iterable of bytes"
            ) from error
        for item in items:
            writer.put_chunk(item)
            if self.out.size:
                c.flush(self.out)
                c.listener.pulse.beat()
            if writer.is_full():
                break
        return writer.end()

    cdef bint send_file(self, Connection c, ResponseWriter writer, object wrapper) except -1:
        """Send a real file from its position without reading it; False when it is to be iterated."""
        if not self.sendfile or c.tls is not None:
            return False
        region = wrapper.region()
        if region is None:
            return False
        fd, offset, available = region
        count = writer.file(available)
        if count < 0:
            return False
        writer.end()
        c.flush(self.out)
        if count:
            c.send_region(fd, offset, count)
        return True

    cdef int lose(self, Connection c) noexcept:
        """The client of `c` is gone, or must not be told more: what waits is nobody's."""
        c.lost = True
        self.out.forget()
        return 0

    cdef int failed(self, Connection c, ResponseWriter writer, object error) except -1:
        """The application raised, or broke PEP 3333: 500 where nothing was sent, else cut."""
        cdef int status = 500
        cdef bint sent = writer.headers_sent
        if isinstance(error, HttpError):  # the client's mistake, met in wsgi.input
            self.log_refusal(c, error)
            status = error.status
        else:
            method = c.environ.get("REQUEST_METHOD", "-")  # the application may have emptied it
            self.log.exception("Error handling request %s %s", method, c.target, exc_info=error)
        if self.given_up:
            return 0  # it was answered, by 504
        writer.fail(status)
        try:
            if sent:
                c.flush(self.out)
                self.lose(c)
            else:
                self.append_error(c, status, False, "")
                c.flush(self.out)
        except ClientDisconnected:
            self.lose(c)
        return 0

    cdef int complain(self, ResponseWriter writer, str target) except -1:
        if writer.excess:
            self.log.warning(
                "The body of %s is longer than its Content-Length of %s; the rest was cut",
                target,
                writer.response_length,
            )
        for name in writer.dropped:
            self.warn_once(name, "The application's hop-by-hop header %r was dropped (PEP 3333)", name)
        return 0

    cdef int warn_once(self, str key, str message, object value) except -1:
        if key not in self.warned:
            self.warned.add(key)
            self.log.warning(message, value)
        return 0

    def early_hints(self, headers):
        """environ["wsgi.early_hints"]: for the request that is in the application, if any."""
        if self.current is not None:
            self.writer.early_hints(headers)

    def _flush_current(self):
        """What `write()` and early hints call: the bytes leave at once."""
        if self.current is not None:
            self.current.flush(self.out)
            self.current.listener.pulse.beat()

    # -- answers without the application ---------------------------------------------------------

    cdef int refuse(self, Connection c, object error, bint head_only) except -1:
        if c.remote_addr is None:
            c.name_peer()
        self.log_refusal(c, error)
        try:
            self.append_error(c, error.status, head_only, error.accept)
            c.flush(self.out)
        except ClientDisconnected:
            return self.lose(c)
        c.close_after = True
        c.linger = LINGER
        return c.forget_request()

    cdef int log_refusal(self, Connection c, object error) except -1:
        log = self.log.error if error.code in OUR_ERRORS else self.log.info
        log("Invalid request from ip=%s: %s [%s]", c.remote_addr, error.detail, error.code.name)
        return 0

    cdef int append_error(self, Connection c, int status, bint head_only, object accept) except -1:
        """Append an error page. `accept` is what is known of Accept when there is no environ."""
        if c.environ is not None:
            accept = c.environ.get("HTTP_ACCEPT", "")
        return self.out.put_bytes(
            error_response(
                status,
                accept=accept if isinstance(accept, str) else "",
                head_only=head_only or c.head_only,
                server_header=self.options.server_header,
            )
        )

    cdef int send_continue(self, Connection c) except -1:
        """Ask for the body (9110 10.1.1)."""
        c.continue_due = False
        self.out.put(b"HTTP/1.1 100 Continue\r\n\r\n", 25)
        return c.flush(self.out)

    # -- reading while the application runs (buffer_request_body = False) ----------------------------

    def _receive_body(self, Connection c not None, size):
        """Up to about `size` decoded bytes of the body of the request at hand; b"" at its end."""
        if self.current is not c:
            raise ClientDisconnected("the request is over")
        if c.continue_due:
            if self.writer.headers_sent:
                c.continue_due = False  # the final answer is on its way (9110 15.2)
            else:
                self.send_continue(c)
        while c.body_awaited():
            if c.pending_size:
                data = PyBytes_FromStringAndSize(<const char *>c.pending, c.pending_size)
            else:
                c.flush(self.out)  # the client may wait for the answers before
                data = c.await_bytes()
            if c.decoder is not None:
                pieces, stop = c.decoder.feed(data)
            else:
                stop = min(len(data), c.remaining)
                c.remaining -= stop
                pieces = (data[:stop],)
            c.forget_pending()
            rest = data[stop:]
            c.keep(<const unsigned char *>PyBytes_AS_STRING(rest), PyBytes_GET_SIZE(rest))
            plain = b"".join(pieces)
            if plain:
                return plain
        return b""
