"""The thread worker: the sync worker's loop, led by its threads in turn.

The thread that waits for the network calls the application itself. When that call lasts,
another thread takes the loop over; so a fast application pays nothing for the threads, and
a slow one blocks nobody while a thread is free. Up to `threads` calls are made at a time;
one more thread sees to the connections. Idle, slow and half-read connections hold none.
"""

from __future__ import annotations

import os
import signal
import threading

from cyhorn.crew import Crew
from cyhorn.workers.sync import SyncWorker
from cyhorn.wsgi.options import LoopOptions

#: Seconds for the main thread to obey INT or QUIT, if it is inside the application.
QUIT_PATIENCE = 1.0


class ThreadWorker(SyncWorker):
    """Serves by one `Loop` with `threads` calls of the application at a time."""

    def loop_options(self) -> LoopOptions:
        """What the sync worker's loop knows, and how many calls there may be."""
        options = super().loop_options()
        return options._replace(
            multithread=True,
            max_calls=self.cfg.threads,
            max_connections=self.cfg.worker_connections,
            timeout=float(self.timeout),
        )

    def serve(self) -> None:
        """Lead the loop in turn, to its end."""
        assert self.loop is not None
        Crew(self.loop, self.cfg.threads).run()

    def _on_wakeup(self) -> None:
        # Handlers run in the main thread, which may be inside the application: what ends the worker
        # does not wait for it.
        told = self.drain_wakeups()
        if signal.SIGTERM in told and self.loop is not None:
            self.loop.stop()
        if signal.SIGINT in told or signal.SIGQUIT in told:
            timer = threading.Timer(QUIT_PATIENCE, os._exit, (0,))
            timer.daemon = True
            timer.start()
