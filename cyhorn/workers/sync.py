"""The sync worker: one thread, any number of connections, one request at a time.

All it does itself is to give the loop what it needs of configuration, log and hooks. The
loop (`cyhorn.loop`, compiled or Python) waits for the network, so that no client holds the
worker; the application is called in this thread, with a complete request.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Any

from cyhorn.access import AccessLines
from cyhorn.log.access import access_wanted, fast_access_log
from cyhorn.log.errors_stream import WSGIErrors
from cyhorn.loop import Loop
from cyhorn.process.heartbeat import STOPPING
from cyhorn.workers.base import Worker
from cyhorn.wsgi.options import LoopOptions
from cyhorn.wsgi.template import ListenerInfo, process_script_name

if TYPE_CHECKING:
    import ssl

#: How a setting of the configuration becomes a field of LoopOptions where it is not simply copied.
_COMPUTED = frozenset(
    (
        "access_lines",
        "access_with_request",
        "forwarded_allow_ips",
        "linger_timeout",
        "max_calls",
        "max_connections",
        "max_requests",
        "multiprocess",
        "shared_listeners",
        "multithread",
        "on_tick",
        "post_request",
        "pre_request",
        "proxy_allow_ips",
        "script_name",
        "tick",
        "timeout",
        "wait",
    )
)


class SyncWorker(Worker):
    """Serves by one `Loop` until told to stop."""

    loop: Loop | None = None
    ssl_context: ssl.SSLContext | None = None
    _lines: AccessLines | None = None
    _alive = True

    @property
    def alive(self) -> bool:
        """False once it is to end. Whoever assigns false has it end as at TERM: a hook, the application."""
        return self._alive

    @alive.setter
    def alive(self, value: bool) -> None:
        self._alive = value
        if not value and self.loop is not None and not self.loop.stopping:
            self.loop.stop()

    @property
    def nr(self) -> int:
        """How many requests it has begun."""
        return self.loop.requests if self.loop is not None else 0

    @nr.setter
    def nr(self, value: int) -> None:
        """The loop counts."""

    def init_process(self) -> None:
        """Load certificate and key while they can be read: privileges are dropped next."""
        if self.cfg.is_ssl:
            from cyhorn.net.tls import make_ssl_context  # OpenSSL is for those who use it

            self.ssl_context = make_ssl_context(self.cfg)
        super().init_process()

    def run(self) -> None:
        """Serve until a signal, the end of the master or `max_requests`; then drain and return."""
        assert self.wsgi is not None
        watch: dict[int, Callable[[], None]] = {self.wakeup_fd: self._on_wakeup}
        if self.parent_fd >= 0:
            watch[self.parent_fd] = self._on_orphaned
        self.loop = Loop(
            self.loop_options(),
            [ListenerInfo(getattr(sock, "sock", sock), self.ssl_context) for sock in self.sockets],
            self.wsgi,
            log=self.log,
            errors=WSGIErrors(self.cfg),
            heartbeat=self.tmp,
            watch={fd: callback for fd, callback in watch.items() if fd >= 0},
            on_max_requests=self._on_max_requests,
        )
        if not self.alive:
            self.loop.stop()
        self.serve()

    def serve(self) -> None:
        """Run the loop to its end."""
        assert self.loop is not None
        self.loop.run()

    def loop_options(self) -> LoopOptions:
        """What the loop has to know, from the configuration."""
        cfg = self.cfg
        values = {name: getattr(cfg, name) for name in LoopOptions._fields if name not in _COMPUTED}
        return LoopOptions(
            **values,
            **self._access_options(),
            forwarded_allow_ips=None if "*" in cfg.forwarded_allow_ips else cfg.forwarded_allow_networks(),
            proxy_allow_ips=None if "*" in cfg.proxy_allow_ips else cfg.proxy_allow_networks(),
            multiprocess=cfg.workers > 1,
            shared_listeners=not cfg.reuse_port,
            tick=min(1.0, self.timeout or 1.0),  # a beat at least every half `timeout`
            max_requests=0 if self.max_requests == sys.maxsize else self.max_requests,
            script_name=process_script_name(),
            pre_request=self._guarded("pre_request"),
            post_request=self._guarded("post_request"),
        )

    def _access_options(self) -> dict[str, Any]:
        """The access log: lines made by ourselves, or the logger's `access`, or nothing."""
        plain = fast_access_log(self.log, self.cfg)
        if plain is not None:
            self._lines = AccessLines(plain.line, plain.steps, plain.clock, plain)
            return {"access_lines": self._lines}
        if not access_wanted(self.log):
            return {}
        from datetime import timedelta  # what loggers take, and nothing else here

        log_access = self.log.access

        def access(request: Any, response: Any, environ: dict[str, Any], seconds: float) -> None:
            try:
                log_access(response, request, environ, timedelta(seconds=seconds))
            except Exception:
                self.log.exception("The access log line could not be made")

        return {"access_with_request": access}

    def _guarded(self, name: str) -> Callable[..., None] | None:
        """Hook `name` for the loop: this worker is its first argument, and what it raises is logged."""
        hook = getattr(self.cfg, name)
        if hook is None:
            return None

        def call(*arguments: Any) -> None:
            try:
                hook(self, *arguments)
            except Exception:
                self.log.exception("The hook %s failed", name)

        return call

    # -- what ends it -----------------------------------------------------------------------

    def handle_abort(self, sig: int, frame: FrameType | None) -> None:
        """ABRT: the application is stuck, in every thread there may be. Whoever waits for it is told so."""
        if self.loop is not None:
            self.loop.give_up()
        super().handle_abort(sig, frame)

    def handle_usr1(self, sig: int, frame: FrameType | None) -> None:
        """USR1: what was logged before goes to the files of before."""
        if self._lines is not None:
            self._lines.flush()
        super().handle_usr1(sig, frame)

    def _on_wakeup(self) -> None:
        # The handlers have run by now, or run before the next bytecode: only the pipe is left.
        self.drain_wakeups()

    def _on_orphaned(self) -> None:
        if self.alive:
            self.log.info("Parent changed, shutting down: %s", self)
            self.alive = False

    def _on_max_requests(self) -> None:
        self.log.info("Autorestarting worker after current request.")
        self.alive = False
        self.announce(STOPPING)
