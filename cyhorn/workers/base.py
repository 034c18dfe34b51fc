"""The worker: what every worker class has in common, and the contract for classes of others.

A worker is made in the master, once per process, and comes to life in the child after the fork:
`init_process` prepares the process, loads the application and calls `run`, which
the subclass provides. `run` serves until `alive` is false, calls `notify` more often than every
`timeout` seconds, and returns. It watches two descriptors beside its own:

`wakeup_fd`   readable when a signal came in; read it empty (`drain_wakeups`), look at `alive`;
`parent_fd`   readable when the master is gone: stop (see also `is_parent_alive`).

States, as the master sees them in the heartbeat slot `tmp`: booting, ready (set before
`run`), busy (set by the loop, where it wishes), stopping. `announce` sets them and wakes the
master, which replaces a worker when it stops, not when it is gone.
"""

from __future__ import annotations

import faulthandler
import gc
import importlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from types import FrameType
from typing import IO, Any

from cyhorn import orphan
from cyhorn.errors import AppImportError, Stopped
from cyhorn.process.heartbeat import BOOTING, READY, STOPPING, HeartbeatTable, Slot
from cyhorn.process.privileges import set_owner_process
from cyhorn.process.signals import WakeupPipe
from cyhorn.workers.hooks import call_hook, require_hook

#: What a worker imports when it first needs it. The user whom it becomes may not be able to.
LATER = ("ast", "cyhorn.net.proxy_protocol", "cyhorn.process.reloader", "datetime", "difflib", "tempfile")
#: A worker that is stuck is killed this long after its grace is over, seconds.
ORPHAN_MARGIN = 1.0


class Worker:
    """A worker process.

    `age` numbers the workers of a master from 1, `ppid` is the master's pid, `sockets` are the
    listeners, `timeout` is half the setting, in seconds, `cfg` the configuration and `log` the logger.
    `nr` counts requests up to `max_requests`, jitter included; `booted` says that the application is
    loaded, `aborted` that the master has given the worker up.
    """

    SIGNALS = [
        getattr(signal, f"SIG{name}")
        for name in "ABRT HUP QUIT INT TERM USR1 USR2 WINCH TTIN TTOU CHLD".split()
    ]

    PIPE: tuple[int, int] | list[int] = []

    def __init__(
        self, age: int, ppid: int, sockets: Sequence[Any], app: Any, timeout: float, cfg: Any, log: Any
    ) -> None:
        self.age = age
        self.pid: int | str = "[booting]"
        self.ppid = ppid
        self.sockets = list(sockets)
        self.app = app
        self.timeout = timeout
        self.cfg = cfg
        self.log = log
        self.booted = False
        self.aborted = False
        self.alive = True
        self.reloader: Any = None
        self.wsgi: Callable[..., Iterable[bytes]] | None = None
        self.nr = 0
        if (cfg.uid, cfg.gid) != (os.geteuid(), os.getegid()):
            for name in LATER:
                importlib.import_module(name)
        if cfg.max_requests > 0:
            import random

            self.max_requests = cfg.max_requests + random.randint(0, cfg.max_requests_jitter)
        else:
            self.max_requests = sys.maxsize
        #: Read end of the parent pipe and write end of the master's wake-up pipe, set before the fork.
        self.parent_fd = -1
        self.master_fd = -1
        self.wait_fds: list[Any] = []
        self._tmp: Slot | None = None
        self._wakeup: WakeupPipe | None = None
        self._dumps_on_abort = False

    def __str__(self) -> str:
        return f"<Worker {self.pid}>"

    # --- what a subclass uses ------------------------------------------------------------

    @property
    def tmp(self) -> Slot:
        """The heartbeat slot. A worker that no arbiter made has one of its own."""
        if self._tmp is None:
            self._tmp = HeartbeatTable(1).claim()
        return self._tmp

    @tmp.setter
    def tmp(self, slot: Slot) -> None:
        self._tmp = slot

    @property
    def wakeup_fd(self) -> int:
        """Readable when a signal came in."""
        return self.PIPE[0] if self.PIPE else -1

    def drain_wakeups(self) -> bytes:
        """Empty the wake-up pipe. Returns the numbers of the signals that came in."""
        return self._wakeup.drain() if self._wakeup is not None else b""

    def notify(self) -> None:
        """Say that this worker lives; to be called at least every `timeout` seconds."""
        self.tmp.notify()

    def announce(self, state: int) -> None:
        """Enter a `state` of the heartbeat table and let the master know at once."""
        self.tmp.state = state
        if self.master_fd >= 0:
            try:
                os.write(self.master_fd, b"\0")
            except OSError:
                pass  # full: it wakes anyway; closed: `parent_fd` tells

    def is_parent_alive(self) -> bool:
        """Whether the master that made this worker is still its parent."""
        if os.getppid() == self.ppid:
            return True
        self.log.info("Parent changed, shutting down: %s", self)
        return False

    # --- what a subclass provides --------------------------------------------------------

    def run(self) -> None:
        """Serve until `alive` is false."""
        raise NotImplementedError

    @classmethod
    def setup(cls) -> None:
        """Called when the class has been loaded, in the master."""

    @classmethod
    def check_config(cls, cfg: Any, log: Any) -> None:
        """Called in the master before the first fork; raises when `cfg` does not suit the class."""

    # --- boot ----------------------------------------------------------------------------

    def init_process(self) -> None:
        """Prepare the process, load the application, run.

        A subclass that overrides this calls it last: it returns when the worker is to end.
        """
        os.environ.update(self.cfg.env or {})
        set_owner_process(self.cfg.uid, self.cfg.gid, initgroups=self.cfg.initgroups)
        if self.parent_fd >= 0:
            self._guard()

        self._wakeup = WakeupPipe()
        self.PIPE = (self._wakeup.read_fd, self._wakeup.write_fd)
        for sock in self.sockets:
            os.set_inheritable(sock.fileno(), False)
        self.wait_fds = [*self.sockets, self.PIPE[0]]
        self.log.close_on_exec()

        self.init_signals()
        self._init_fault_handler()
        if self.cfg.reload:
            self._make_reloader()
        self.load_wsgi()
        if self.cfg.gc_freeze:
            # What the boot has left is there to stay: the collector need not walk it again.
            gc.collect()
            gc.freeze()
        if self.reloader is not None:
            self.reloader.start()
        require_hook(self.cfg, self.log, "post_worker_init", self)

        self.booted = True
        self.tmp.notify()
        self.announce(READY)
        if not self.alive:
            self.announce(STOPPING)
        self.run()

    def _guard(self) -> None:
        """See to it that this process does not outlive its master, whatever it is busy with then."""
        try:
            orphan.guard(self.parent_fd, self.ppid, self.cfg.graceful_timeout + ORPHAN_MARGIN)
        except OSError as error:
            self.log.warning("A worker that is stuck may outlive its master: %s", error)

    def load_wsgi(self) -> None:
        """Load the application into `wsgi`.

        With `reload`, one that does not load is replaced by a page that shows why, until its files change.
        """
        try:
            self.wsgi = self.app.wsgi()
        except AppImportError:
            raise
        except Exception as error:
            if not self.cfg.reload:
                raise
            self.log.exception("The application does not load; waiting for its files to change")
            for name in _files_of(error):
                self.reloader.add_extra_file(name)
            self.wsgi = _traceback_page(error)
        # One worker of a generation speaks for all.
        if self.cfg.workers > 1 and (self.age - 1) % self.cfg.workers == 0:
            self._warn_of_debugger()

    def _warn_of_debugger(self) -> None:
        if "werkzeug.debug" not in sys.modules or self.wsgi is None:
            return
        from cyhorn.wsgi.debugger import debugger_warning

        if line := debugger_warning(self.wsgi, self.cfg.workers):
            self.log.warning("%s", line)

    def _make_reloader(self) -> None:
        from cyhorn.process.reloader import make_reloader

        self.log.warning("Reloader is on. Use in development only!")
        self.reloader = make_reloader(
            self.cfg.reload_engine, self.cfg.reload_extra_files, self._files_changed
        )
        self.reloader.watch_imports()

    def _files_changed(self, filename: str) -> None:
        """The reloader's thread has seen a change: leave as at SIGTERM, in the main thread."""
        self.log.info("Worker reloading: %s modified", filename)
        call_hook(self.cfg, self.log, "worker_int", self)
        os.kill(os.getpid(), signal.SIGTERM)

    # --- signals -------------------------------------------------------------------------

    def init_signals(self) -> None:
        """Install the handlers, and the wake-up pipe behind them."""
        # None goes by way of its default in between: a USR1 that came then would end the worker.
        signal.signal(signal.SIGQUIT, self.handle_quit)
        signal.signal(signal.SIGTERM, self.handle_exit)
        signal.signal(signal.SIGINT, self.handle_quit)
        signal.signal(signal.SIGWINCH, self.handle_winch)
        signal.signal(signal.SIGUSR1, self.handle_usr1)
        signal.signal(signal.SIGABRT, self.handle_abort)
        # These are for the master; a worker that gets one by mistake lives on.
        for number in (signal.SIGHUP, signal.SIGUSR2, signal.SIGTTIN, signal.SIGTTOU):
            signal.signal(number, signal.SIG_IGN)
        # A request under way is not to see its system calls interrupted.
        signal.siginterrupt(signal.SIGTERM, False)
        signal.siginterrupt(signal.SIGUSR1, False)
        if self._wakeup is not None:
            self._wakeup.install()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """TERM: finish what was begun, then end. While booting: end."""
        self.alive = False
        if not self.booted and self.tmp.state == BOOTING:
            raise Stopped(0)
        self.announce(STOPPING)

    def handle_quit(self, sig: int, frame: FrameType | None) -> None:
        """INT, QUIT: end now."""
        self.alive = False
        call_hook(self.cfg, self.log, "worker_int", self)
        time.sleep(0.1)  # for what the hook has set in motion, as in Gunicorn
        raise Stopped(0)

    def handle_abort(self, sig: int, frame: FrameType | None) -> None:
        """ABRT: the master has given this worker up. Say where every thread stands, and end."""
        self.alive = False
        if not self._dumps_on_abort:
            faulthandler.dump_traceback(file=self._error_file(), all_threads=True)
        call_hook(self.cfg, self.log, "worker_abort", self)
        raise Stopped(1)

    def handle_usr1(self, sig: int, frame: FrameType | None) -> None:
        """USR1: open the log files anew."""
        try:
            self.log.reopen_files()
        except Exception:
            self.log.exception("The log files cannot be opened anew")
        self._init_fault_handler()

    def handle_winch(self, sig: int, frame: FrameType | None) -> None:
        """WINCH is the master's."""
        self.log.debug("worker: SIGWINCH ignored.")

    def _init_fault_handler(self) -> None:
        """Let a fatal signal, and ABRT, write the stacks of all threads to the error log.

        This works also where no Python handler can run: blocked in C, or crashed there. After the dump
        ABRT goes to `handle_abort`, which was installed before. An application's own choice is left alone.
        """
        if faulthandler.is_enabled() and not self._dumps_on_abort:
            return
        try:
            faulthandler.enable(file=self._error_file(), all_threads=True)
            self._dumps_on_abort = True
        except (OSError, ValueError, RuntimeError):
            self._dumps_on_abort = False

    def _error_file(self) -> IO[Any]:
        for handler in getattr(getattr(self.log, "error_log", None), "handlers", ()):
            stream = getattr(handler, "stream", None)
            try:
                stream.fileno()  # type: ignore[union-attr]
            except (AttributeError, OSError, ValueError):
                continue
            return stream  # type: ignore[return-value]
        return sys.__stderr__ or sys.stderr


def _files_of(error: BaseException) -> set[str]:
    """The source files that `error` passed through, and the one it is about."""
    names = {frame.filename for frame in traceback.extract_tb(error.__traceback__)}
    about = getattr(error, "filename", None) if isinstance(error, SyntaxError) else None
    if about:
        names.add(about)
    return {name for name in names if os.path.isfile(name)}


def _traceback_page(error: BaseException) -> Callable[..., Iterable[bytes]]:
    """An application that answers every request with the traceback of `error`. For development."""
    body = "".join(traceback.format_exception(error)).encode("utf-8", "backslashreplace")

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        start_response(
            "500 Internal Server Error",
            [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))],
        )
        return [body]

    return application
