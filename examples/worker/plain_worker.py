"""A worker class of one's own: the HTTP server of the standard library, wsgiref, under cyhorn's master.

One connection at a time, HTTP/1.0: for development at most. What it shows is the contract, which is all
that the master asks for, so that workers are replaced, reloaded and stopped as others are: `run` serves
until `alive` is false, says by `notify` that it lives, and leaves nobody waiting who has connected.
"""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler

from cyhorn.workers.base import Worker

#: Seconds for a client to send its request or to read its answer.
PATIENCE = 5.0


class PlainWorker(Worker):
    """Answers one connection after the other."""

    def run(self) -> None:
        place = self.sockets[0].getsockname()
        host, port = place[:2] if isinstance(place, tuple) else ("localhost", 80)
        self.base_environ = {"SERVER_NAME": host, "SERVER_PORT": str(port), "SCRIPT_NAME": ""}
        # `wait_fds`: the listeners, and a pipe that tells of signals. `parent_fd`: the master is gone.
        poller = select.poll()
        for waited in (*self.wait_fds, self.parent_fd):
            poller.register(waited, select.POLLIN)
        while self.alive and self.is_parent_alive():
            self.notify()  # at least every `timeout` seconds, which is half the setting
            poller.poll(min(1.0, self.timeout or 1.0) * 1000)
            self.drain_wakeups()
            for listener in self.sockets:
                self.answer_one(listener)
            if self.nr >= self.max_requests and self.alive:
                self.handle_exit(0, None)  # as if told to; the master makes another
        for listener in self.sockets:
            while self.answer_one(listener):
                pass  # who had connected is answered before this worker goes

    def answer_one(self, listener: Any) -> bool:
        """Answer the next connection of `listener`. Returns False if there is none."""
        try:
            connection, peer = listener.accept()
        except BlockingIOError:
            return False  # another worker was faster
        with connection:
            connection.setblocking(True)
            connection.settimeout(PATIENCE)
            self.nr += 1
            try:
                Handler(connection, peer or ("", 0), self)
            except OSError as error:
                self.log.debug("A client went away: %s", error)
        return True

    def get_app(self) -> Callable[..., Any] | None:
        """The application, which has been loaded into `wsgi`. wsgiref asks for it, and for `base_environ`."""
        return self.wsgi


class Handler(WSGIRequestHandler):
    """Reads a request, calls the application and writes its response; `server` is the worker."""

    server: PlainWorker  # type: ignore[assignment]

    def log_message(self, format: str, *values: Any) -> None:
        """What wsgiref would print goes to the error log, for those who want it."""
        self.server.log.debug(format, *values)
