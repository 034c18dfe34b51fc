"""A worker process from its fork to its exit status.

The child begins as a copy of the master, so it first gives up what is the master's: its signal
handlers and queue, its pipes, the listeners that are not the worker's. Signals are blocked until
that is done: one that arrives meanwhile is the worker's, not lost in a copy of the master's queue.
Whatever happens then ends in SystemExit with a status of the contract: 0 served and
stopped, 3 did not boot, 4 no such application, 255 crashed while serving.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any, NoReturn

from cyhorn.errors import EXIT_APP_LOAD, EXIT_BOOT, AppImportError, CyhornError, Stopped
from cyhorn.native import native
from cyhorn.net.listeners import worker_listeners
from cyhorn.process.after_fork import run_after_fork
from cyhorn.process.signals import WakeupPipe, stop_at_once
from cyhorn.process.title import set_title
from cyhorn.workers.base import Worker
from cyhorn.workers.hooks import call_hook, require_hook

EXIT_CRASH = 255


def run_worker(
    arbiter: Any,
    worker: Worker,
    wakeup: WakeupPipe,
    master_fds: Iterable[int],
    unblock: Callable[[], None],
) -> NoReturn:
    """Be `worker`, in the forked child, with all signals blocked until `unblock` is called.

    `wakeup` is the master's wake-up pipe, of which the worker keeps the write end; `master_fds` are
    descriptors it must not keep. Raises SystemExit.
    """
    worker.pid = worker.tmp.pid = os.getpid()
    try:
        _leave_the_master(worker, wakeup, master_fds)
        unblock()
        set_title(f"worker [{arbiter.proc_name}]")
        worker.log.info("Booting worker with pid: %s", worker.pid)
        _serve(arbiter, worker)
        status = 0
    except Stopped as stopped:
        status = _status(stopped)
    except SystemExit as leaving:
        status = _left(worker, leaving)
    except CyhornError as error:
        # The operator's mistake: one line, the traceback for those who ask for it.
        worker.log.debug("Exception while booting", exc_info=True)
        worker.log.error("%s", error)
        status = error.exit_status if isinstance(error, AppImportError) else EXIT_BOOT
    except BaseException:
        worker.log.exception("Exception in worker process")
        status = EXIT_CRASH if worker.booted else EXIT_BOOT
    _say_goodbye(arbiter, worker)
    sys.exit(status)


def _leave_the_master(worker: Worker, wakeup: WakeupPipe, master_fds: Iterable[int]) -> None:
    signal.set_wakeup_fd(-1)

    def reopen(signum: int, frame: FrameType | None) -> None:
        worker.log.reopen_files()

    # Until the worker installs its own handlers.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, stop_at_once)
    for name in ("HUP", "USR2", "TTIN", "TTOU", "WINCH"):
        signal.signal(getattr(signal, f"SIG{name}"), signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, reopen)
    native("signal", "signal")(signal.SIGCHLD, signal.SIG_DFL)

    worker.master_fd = wakeup.write_fd
    for fd in (wakeup.read_fd, *master_fds):
        os.close(fd)


def _serve(arbiter: Any, worker: Worker) -> None:
    if worker.cfg.reuse_port:
        worker.sockets = list(worker_listeners(worker.cfg, worker.log, worker.sockets))
    run_after_fork(worker.log)
    require_hook(worker.cfg, worker.log, "post_fork", arbiter, worker)
    worker.init_process()


def _left(worker: Worker, leaving: SystemExit) -> int:
    """The status of a worker in which somebody called ``sys.exit``."""
    status = _status(leaving)
    if not worker.booted and worker.alive and status not in (EXIT_BOOT, EXIT_APP_LOAD):
        worker.log.error("The application called sys.exit(%r) while it was loaded", leaving.code)
        return EXIT_BOOT
    return status


def _status(leaving: SystemExit) -> int:
    code = leaving.code
    if code is None:
        return 0
    return code & 0xFF if isinstance(code, int) else 1


def _say_goodbye(arbiter: Any, worker: Worker) -> None:
    # Nothing is left to be asked for: what is still to be done is not to be cut short. Python takes
    # handlers away before the process has ended, and USR1 would then kill it.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    worker.log.info("Worker exiting (pid: %s)", worker.pid)
    try:
        call_hook(worker.cfg, worker.log, "worker_exit", arbiter, worker)
    except BaseException:
        # A signal has come in between; the status is settled.
        worker.log.debug("The hook worker_exit was interrupted", exc_info=True)
