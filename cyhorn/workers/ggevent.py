"""The gevent worker: the sync worker's loop, led by greenlets in turn.

The application's blocking calls are made cooperative (`patching`): while one request waits, others are served
by the same thread. Up to `worker_connections` connections are open, and as many calls of the application
made, at a time. The parser, the request cycle and the loop are those of the sync worker; a request that waits
for its client, to read its body or to send its response, lets the others go on, too.

The heartbeat says that the event loop turns: `timeout` is for an application that holds it, not for a request
that waits.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from types import FrameType

from cyhorn.native import native
from cyhorn.workers import patching
from cyhorn.workers.sync import SyncWorker
from cyhorn.wsgi.options import LoopOptions

patching.require()

import gevent  # noqa: E402
from gevent import select as cooperative  # noqa: E402

from cyhorn.workers.greenlets import GreenletCrew  # noqa: E402

Handler = Callable[[int, FrameType | None], None]

#: Seconds for the event loop to obey INT or QUIT, if the application holds it.
QUIT_PATIENCE = 1.0


def wait_in_hub(fd: int, events: int, seconds: float) -> bool:
    """Wait at most `seconds` until `fd` has one of `events` (of poll), while other greenlets run."""
    poll = cooperative.poll()
    poll.register(fd, events)
    return bool(poll.poll(seconds * 1000))


class GeventWorker(SyncWorker):
    """Serves by one `Loop` with as many calls of the application at a time as there are connections."""

    crew: GreenletCrew | None = None

    @classmethod
    def setup(cls) -> None:
        """Patch the standard library in the master, if that has not been done."""
        patching.patch()

    def init_process(self) -> None:
        """Patch what the master had to keep, and import what gevent imports late while it can be read."""
        patching.patch_worker()
        hub = gevent.get_hub()
        if (self.cfg.uid, self.cfg.gid) != (os.geteuid(), os.getegid()):
            # Privileges are dropped next: the classes are looked up by what uses them later.
            for name in ("resolver_class", "threadpool_class"):
                getattr(hub, name)
        super().init_process()

    def loop_options(self) -> LoopOptions:
        """What the sync worker's loop knows, how many calls there may be, and how they wait."""
        options = super().loop_options()
        connections = self.cfg.worker_connections or sys.maxsize
        return options._replace(
            multithread=True, max_calls=connections, max_connections=connections, wait=wait_in_hub
        )

    def serve(self) -> None:
        """Have the loop led in turn, to its end."""
        assert self.loop is not None
        self.crew = GreenletCrew(self.loop)
        try:
            self.crew.run()
        finally:
            if self._lines is not None:
                self._lines.flush()

    # -- signals: a handler runs in whatever greenlet is running, be it the hub, which must not wait ------

    def handle_quit(self, sig: int, frame: FrameType | None) -> None:
        """INT, QUIT: end now, also where the application does not let go of the event loop."""
        self.alive = False
        native("_thread", "start_new_thread")(_leave_in_any_case, (native("time", "sleep"),))
        self._aside(super().handle_quit, sig, frame)

    def handle_usr1(self, sig: int, frame: FrameType | None) -> None:
        """USR1: open the log files anew, once whoever writes to them is done."""
        self._aside(super().handle_usr1, sig, frame)

    def handle_abort(self, sig: int, frame: FrameType | None) -> None:
        """ABRT: say also where the greenlets stand that wait."""
        if self.crew is not None and (stacks := self.crew.stacks()):
            print(stacks, file=self._error_file(), flush=True)
        super().handle_abort(sig, frame)

    def _aside(self, handler: Handler, sig: int, frame: FrameType | None) -> None:
        """Call `handler` in a greenlet of its own; while the worker boots in the main one, here."""
        if self.crew is None and gevent.getcurrent() is not gevent.get_hub():
            handler(sig, frame)
        else:
            gevent.spawn(handler, sig, frame)


def _leave_in_any_case(sleep: Callable[[float], None]) -> None:
    sleep(QUIT_PATIENCE)
    os._exit(0)


#: What Gunicorn calls its worker around gevent's own server.
GeventPyWSGIWorker = GeventWorker
