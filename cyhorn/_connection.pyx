# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, auto_pickle=False
"""One client's connection, compiled: bytes in, bytes out. `_connection_py` says what each thing is for.

What was received beyond the request at hand lies in `pending`, which exists only while it
holds something: an idle connection has no buffer. The common answer is one `send` of the
output buffer, from where it was written.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdio cimport snprintf
from libc.string cimport memcpy, memmove, memset, strchr

from cyhorn._pulse cimport PEER_SIZE
from cyhorn._system cimport (
    AF_INET,
    AF_INET6,
    INET6_ADDRSTRLEN,
    MSG_DONTWAIT,
    MSG_NOSIGNAL,
    MSG_PEEK,
    inet_ntop,
    iovec,
    msghdr,
    ntohs,
    recv,
    send,
    sendmsg,
    sockaddr,
    sockaddr_in,
    sockaddr_in6,
)

import os
import select
import time

from cyhorn.errors import ClientDisconnected, Code, ResponseCut, http_error
from cyhorn.wsgi.spool import OutQueue

cdef enum:
    PART_COUNT = 512            # parts of one sendmsg
    ENCRYPT_SIZE = 256 << 10    # bytes encrypted at once


@cython.final
cdef class Listener:
    """A listening socket, and what its connections have in common."""


@cython.final
@cython.freelist(64)
cdef class Connection:
    """One client's connection."""

    def __cinit__(self):
        self.fd = -1
        self.timers = NULL
        self.pending = NULL
        self.before = self.after = NULL

    def __dealloc__(self):
        PyMem_Free(self.pending)

    cdef int name_peer(self) except -1:
        """Fill in remote_addr, remote_port and trusted, which most connections need once."""
        cdef char text[INET6_ADDRSTRLEN]
        cdef unsigned int port = 0
        cdef int family = (<sockaddr *>self.address).sa_family
        if family == AF_INET:
            inet_ntop(AF_INET, &(<sockaddr_in *>self.address).sin_addr, text, INET6_ADDRSTRLEN)
            port = ntohs((<sockaddr_in *>self.address).sin_port)
        elif family == AF_INET6:
            inet_ntop(AF_INET6, &(<sockaddr_in6 *>self.address).sin6_addr, text, INET6_ADDRSTRLEN)
            port = ntohs((<sockaddr_in6 *>self.address).sin6_port)
        else:
            text[0] = 0
        self.remote_addr = (<bytes>text).decode("ascii")
        if text[0]:
            self.remote_port = str(port)
            self.note_peer(text, port)
        self.trusted = family == 0 or self.listener.is_unix or self.remote_addr in self.listener.trusted
        return 0

    cdef void note_peer(self, const char *address, unsigned int port) noexcept:
        """Have ``address:port`` stand in the record of calls."""
        if strchr(address, c':') != NULL:
            snprintf(self.caller.peer, PEER_SIZE, b"[%s]:%u", address, port)
        else:
            snprintf(self.caller.peer, PEER_SIZE, b"%s:%u", address, port)

    cdef int log_loss(self, object error) except -1:
        """Say why this connection ended: an operator's business only where a response was cut."""
        if isinstance(error, ResponseCut):
            if self.remote_addr is None:
                self.name_peer()
            self.listener.log.warning("A response to ip=%s was cut: %s", self.remote_addr, error)
        else:
            self.listener.log.debug("The client is gone: %s", error)
        return 0

    cdef int forget_request(self) except -1:
        """Let go of what belongs to the request at hand."""
        self.environ = None
        self.head = None
        self.target = None
        self.decoder = None
        self.body_bytes = None
        self.remaining = 0
        self.continue_due = self.head_only = False
        if self.body is not None:
            self.body.close()
            self.body = None
        return 0

    cdef bint body_awaited(self) noexcept:
        """Whether the request has a body that was not read to its end."""
        return self.remaining > 0 or (self.decoder is not None and not self.decoder.done)

    # -- received bytes --------------------------------------------------------------------------

    cdef int reserve_pending(self, Py_ssize_t wanted) except -1:
        cdef unsigned char *grown
        if wanted > self.pending_capacity:
            wanted = max(wanted, 2 * self.pending_capacity)
            grown = <unsigned char *>PyMem_Realloc(self.pending, wanted)
            if grown == NULL:
                raise MemoryError
            self.pending = grown
            self.pending_capacity = wanted
        return 0

    cdef int keep(self, const unsigned char *p, Py_ssize_t n) except -1:
        """Keep p[0:n], which may lie in `pending` itself, as what is pending."""
        if not n:
            self.forget_pending()
        elif self.pending_size:
            memmove(self.pending, p, n)
            self.pending_size = n
        else:
            self.reserve_pending(n)
            memcpy(self.pending, p, n)
            self.pending_size = n
        return 0

    cdef void forget_pending(self) noexcept:
        PyMem_Free(self.pending)
        self.pending = NULL
        self.pending_size = self.pending_capacity = 0

    cdef bytes decrypt(self):
        """Plaintext from the client, b"" at its end, None when there is none now."""
        cdef unsigned char received[RECEIVE_SIZE]
        cdef Py_ssize_t n = recv(self.fd, received, RECEIVE_SIZE, 0)
        cdef bytes plain
        cdef bint ended = n == 0
        if n < 0:
            return None if errno == EAGAIN or errno == EINTR else b""
        self.tls.feed(PyBytes_FromStringAndSize(<const char *>received, n))
        try:
            plain = self.tls.read(RECEIVE_SIZE)
            while True:
                more = self.tls.read(RECEIVE_SIZE)
                if not more:
                    break
                plain += more
        except ClientDisconnected as error:
            if getattr(error, "plain_http", False):
                self.tls = None  # so that the client can read what is wrong
                self.keep(received, n)
                raise http_error(Code.PLAIN_HTTP) from None
            if self.remote_addr is None:
                self.name_peer()
            self.listener.log.debug("TLS from %s failed: %s", self.remote_addr, error)
            plain = b""
            ended = True
        output = self.tls.pending_output()  # the handshake's side of it, or an alert
        if output:
            try:
                self.send_bytes(output)
            except ClientDisconnected:
                return b""
        if plain:
            return plain
        return b"" if ended or self.tls.eof else None

    cdef bint more_waits(self) noexcept:
        """Whether the client has sent more than was received."""
        cdef char byte
        return recv(self.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0

    cdef bytes await_bytes(self):
        """Wait for bytes of the body, up to client_body_timeout."""
        cdef bytes data
        deadline = time.monotonic() + (self.listener.options.client_body_timeout or float("inf"))
        while True:
            self.listener.pulse.beat()  # a client that is slow keeps moving
            data = self.receive() if self.tls is None else self.decrypt()
            if data:
                return data
            if data is not None:
                raise ClientDisconnected("the client left inside its request")
            if not self.wait(select.POLLIN, deadline):
                raise http_error(Code.TIMEOUT)

    cdef bytes receive(self):
        """Bytes from the client, b"" at its end, None when there are none now.

        Not on the stack of who waits for them: a greenlet that waits has its stack copied.
        """
        cdef bytes data = PyBytes_FromStringAndSize(NULL, RECEIVE_SIZE)
        cdef Py_ssize_t n = recv(self.fd, PyBytes_AS_STRING(data), RECEIVE_SIZE, 0)
        if n < 0:
            return None if errno == EAGAIN or errno == EINTR else b""
        return data[:n]

    cdef bint wait(self, int events, double deadline) except -1:
        """Wait for `events` of poll until the `deadline`, and beat meanwhile; return whether they came."""
        wait = self.listener.options.wait
        while not wait(self.fd, events, min(1.0, max(0.0, deadline - time.monotonic()))):
            if time.monotonic() >= deadline:
                return False
            self.listener.pulse.beat()
        return True

    # -- bytes to send -----------------------------------------------------------------------------

    cdef int flush(self, OutputBuffer out) except -1:
        """Send what has gathered in `out`; what the socket does not take is queued."""
        cdef Py_ssize_t sent
        if not out.size:
            return 0
        if self.lost:
            out.forget()
            raise ClientDisconnected("the connection is closed")
        if self.tls is not None:
            return self.encrypt(out)
        if self.queue is not None:
            return self.send_bytes(out.take())
        if out.large_count:
            return self.flush_parts(out)
        sent = send(self.fd, out.data, out.used, MSG_NOSIGNAL)
        if sent == out.used:
            out.forget()
            return 0
        if sent < 0:
            if not would_block():
                out.forget()
                raise gone()
            sent = 0
        data = PyBytes_FromStringAndSize(<const char *>out.data + sent, out.used - sent)
        out.forget()
        return self.enqueue(data)

    cdef int flush_parts(self, OutputBuffer out) except -1:
        """Send large parts from where they are, and the small ones between them."""
        cdef iovec parts[PART_COUNT]
        cdef msghdr message
        cdef Py_ssize_t i, at = 0, sent, length
        cdef int count = 0
        cdef list large = out.large
        if 2 * out.large_count + 1 > PART_COUNT:
            return self.send_bytes(out.take())
        for i in range(out.large_count):
            if out.places[i] > at:
                parts[count].iov_base = out.data + at
                parts[count].iov_len = out.places[i] - at
                count += 1
                at = out.places[i]
            parts[count].iov_base = PyBytes_AS_STRING(large[i])
            parts[count].iov_len = PyBytes_GET_SIZE(large[i])
            count += 1
        if out.used > at:
            parts[count].iov_base = out.data + at
            parts[count].iov_len = out.used - at
            count += 1
        memset(&message, 0, sizeof(message))
        message.msg_iov = parts
        message.msg_iovlen = count
        sent = sendmsg(self.fd, &message, MSG_NOSIGNAL)
        if sent == out.size:
            out.forget()
            return 0
        if sent < 0:
            if not would_block():
                out.forget()
                raise gone()
            sent = 0
        for part in take_parts(out):  # what is left goes to the queue
            length = PyBytes_GET_SIZE(part)
            if sent >= length:
                sent -= length
            else:
                self.enqueue(memoryview(part)[sent:])
                sent = 0
        return 0

    cdef int encrypt(self, OutputBuffer out) except -1:
        """Send what has gathered over TLS, a piece at a time: a large answer is not in memory twice."""
        cdef Py_ssize_t start
        tls = self.tls
        for part in take_parts(out):
            for start in range(0, PyBytes_GET_SIZE(part), ENCRYPT_SIZE):
                tls.write(memoryview(part)[start:start + ENCRYPT_SIZE])
                self.send_bytes(tls.pending_output())
        return 0

    cdef int send_bytes(self, bytes data) except -1:
        """Send `data`, after what is queued already; what the socket does not take is queued."""
        cdef Py_ssize_t sent
        if self.queue is not None:
            self.enqueue(data)
            return 0 if self.queue is None else self.advance()
        sent = send(self.fd, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), MSG_NOSIGNAL)
        if sent < 0:
            if not would_block():
                raise gone()
            sent = 0
        if sent < PyBytes_GET_SIZE(data):
            self.enqueue(memoryview(data)[sent:])
        return 0

    cdef int send_region(self, int fd, long long offset, long long count) except -1:
        """Send `count` bytes of the file `fd` from `offset`, by sendfile."""
        self.queue_of().append_file(fd, offset, count)
        return self.advance()

    cdef object queue_of(self):
        """What the client has not taken yet, made where there is none."""
        options = self.listener.options
        if self.queue is None:
            self.queue = OutQueue(
                options.response_buffer_size, options.response_spool_size, options.tmp_upload_dir
            )
        return self.queue

    cdef int enqueue(self, object data) except -1:
        """Add `data` to what is queued; wait for the client while memory and spool are full."""
        queue = self.queue_of()
        queue.append(data)
        while queue.full:
            self.wait_writable()
            self.advance()
            if self.queue is None:
                break
        return 0

    cdef int advance(self) except -1:
        """Send what the socket takes of the queue."""
        self.drain_queue()
        return self.listener.pulse.beat()

    cdef bint drain_queue(self) except -1:
        """`advance`, and whether the client took anything."""
        cdef bint took = self.queue.drain(self.fd)
        if not self.queue.size:
            self.queue.close()
            self.queue = None
        return took

    cdef int wait_writable(self) except -1:
        """Memory and spool are full: the worker waits for this client, up to send_timeout."""
        deadline = time.monotonic() + (self.listener.options.send_timeout or float("inf"))
        if not self.wait(select.POLLOUT, deadline):
            raise ClientDisconnected("the client does not read its response")
        return 0


cdef list take_parts(OutputBuffer out):
    """What has gathered in `out`, and forget it: the large parts as they are, the others copied."""
    cdef Py_ssize_t i, at = 0
    cdef list parts = []
    for i in range(out.large_count):
        if out.places[i] > at:
            parts.append(PyBytes_FromStringAndSize(<const char *>out.data + at, out.places[i] - at))
            at = out.places[i]
        parts.append(out.large[i])
    if out.used > at:
        parts.append(PyBytes_FromStringAndSize(<const char *>out.data + at, out.used - at))
    out.forget()
    return parts


cdef inline bint would_block() noexcept:
    """Whether a send failed only because the socket is full."""
    return errno == EAGAIN or errno == EINTR


cdef object gone():
    """The exception for a send that failed."""
    return ClientDisconnected(os.strerror(errno))
