"""A worker class as a third party would write it: blocking, one connection at a time.

It knows only the contract of `cyhorn.workers.base.Worker`. It serves GET requests, closes each
connection after its response, and stops the way the contract asks for: what the kernel has
queued is answered before it leaves.
"""

from __future__ import annotations

import io
import select
import socket
import sys
from typing import Any

from cyhorn.workers.base import Worker


class LineWorker(Worker):
    def run(self) -> None:
        poller = select.poll()
        for waited in (*self.wait_fds, self.parent_fd):
            poller.register(waited, select.POLLIN)
        while self.alive and self.is_parent_alive():
            self.notify()
            for _ in poller.poll(min(1.0, self.timeout or 1.0) * 1000):
                self.drain_wakeups()
            for listener in self.sockets:
                self.accept(listener)
            if self.nr >= self.max_requests and self.alive:
                self.log.info("Autorestarting worker after current request.")
                self.handle_exit(0, None)
        for listener in self.sockets:
            while self.accept(listener):
                pass

    def accept(self, listener: Any) -> bool:
        try:
            connection, peer = listener.accept()
        except (BlockingIOError, InterruptedError):
            return False
        with connection:
            connection.setblocking(True)
            connection.settimeout(5)
            try:
                self.serve(connection, peer)
            except OSError:
                self.log.debug("a client went away")
            except Exception:
                self.log.exception("Error handling request")
        return True

    def serve(self, connection: socket.socket, peer: Any) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            received = connection.recv(65536)
            if not received:
                return
            head += received
        method, target, _ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
        self.nr += 1
        started: list[Any] = []
        path, _, query = target.partition("?")
        environ: dict[str, Any] = {
            "REQUEST_METHOD": method,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "0",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": False,
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
        }
        assert self.wsgi is not None
        body = b"".join(self.wsgi(environ, lambda status, fields, exc=None: started.extend([status, fields])))
        status, fields = started
        lines = [f"HTTP/1.1 {status}", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in fields if name.lower() != "content-length"]
        lines.append(f"Content-Length: {len(body)}")
        connection.sendall("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
