"""The arbiter: the master process that keeps the workers running.

One loop sleeps on a wake-up descriptor. What wakes it is a signal (queued by its handler, handled
here, never lost), a worker that became ready or is stopping, or a deadline. Each turn handles the
signals, then looks after the workers: `murder_workers` (silent too long), `manage_workers` (too few,
too many, replaced by a reload). Nothing in the loop waits for a worker: a `Reload` advances turn by
turn, so that every signal is obeyed while one is on its way.

The life of a master:

    starting   sockets bound, pid file written, hooks called; a failure ends it with status 1
    booting    until as many workers as wanted have been ready; a worker that exits with 3 or 4
               ends the master with the same status
    serving    no worker's end ends the master; after crashes the next one boots ever later
    reloading  serving, with a `Reload`; one that fails leaves the old workers serving
    stopping   workers asked, then killed; pid file and unix sockets removed

Invariants: `WORKERS` holds exactly the children that were forked and not yet reaped, with a
`WorkerRecord` and a heartbeat slot for each. A child leaves `run` only by SystemExit.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import deque
from collections.abc import Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from cyhorn import SERVER_SOFTWARE, __version__, _impl
from cyhorn.errors import EXIT_APP_LOAD, EXIT_BOOT, EXIT_CONFIG, ConfigError, CyhornError, HaltServer
from cyhorn.master.control import ControlSocket
from cyhorn.master.forensics import tell_silence
from cyhorn.master.reloading import Reloading
from cyhorn.master.roster import Departed, WorkerRecord, explain_exit, how_it_ended
from cyhorn.master.stop import Stop
from cyhorn.master.successor import start_successor
from cyhorn.master.supervisor import Supervisor
from cyhorn.native import native
from cyhorn.net.listeners import Listener, close_listeners, create_listeners
from cyhorn.process import systemd
from cyhorn.process.backoff import Backoff
from cyhorn.process.heartbeat import HeartbeatTable, NoSlot
from cyhorn.process.oom import OomCounter
from cyhorn.process.pidfile import Pidfile
from cyhorn.process.preload import Preloader
from cyhorn.process.signals import Blocked, WakeupPipe
from cyhorn.process.title import set_title
from cyhorn.process.upgrade import FIRST_FD, start_context, take_inheritance
from cyhorn.workers.base import Worker
from cyhorn.workers.child import run_worker
from cyhorn.workers.hooks import HookFailed, call_hook, require_hook

if TYPE_CHECKING:
    from cyhorn.process.fork_doctor import ForkDoctor

#: The longest sleep: what nothing announces (a new parent, a stale heartbeat) is noticed within it. Seconds.
TICK = 1.0
#: A worker that crashes this soon after it was ready counts as one that crashed while booting. Seconds.
EARLY = 1.0
#: But then the next one is tried this soon: who kills a worker by hand has it back at once. Seconds.
EARLY_PAUSE = 0.5

#: Signals that end the server.
ENDING = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT})


class Arbiter:
    """The master of the workers that serve `app`, an application of `cyhorn.app`."""

    # What third parties expect to find.
    WORKER_BOOT_ERROR = EXIT_BOOT
    APP_LOAD_ERROR = EXIT_APP_LOAD
    START_CTX: ClassVar[dict[Any, Any]] = {}
    SIGNALS: ClassVar[list[signal.Signals]] = [
        signal.SIGCHLD,
        signal.SIGHUP,
        signal.SIGQUIT,
        signal.SIGINT,
        signal.SIGTERM,
        signal.SIGTTIN,
        signal.SIGTTOU,
        signal.SIGUSR1,
        signal.SIGUSR2,
        signal.SIGWINCH,
    ]
    SIG_NAMES: ClassVar[dict[int, str]] = {number: number.name[3:].lower() for number in SIGNALS}

    def __init__(self, app: Any) -> None:
        os.environ["SERVER_SOFTWARE"] = SERVER_SOFTWARE
        self.START_CTX.update(start_context())
        self.WORKERS: dict[int, Worker] = {}
        self.LISTENERS: list[Listener] = []
        self.SIG_QUEUE: deque[int] = deque()
        self.PIPE: list[int] = []

        self.log: Any = None
        self.pid = os.getpid()
        self.pidfile: Pidfile | None = None
        self.systemd = False
        self.worker_age = 0
        self.reexec_pid = 0
        self.master_pid = 0
        self.master_name = "Master"
        self.proc_name = ""

        self._num_workers: int | None = None
        self._last_count: int | None = None
        self._records: dict[int, WorkerRecord] = {}
        self.departed = Departed()
        self._wakeup = WakeupPipe()
        self._parent_pipe = os.pipe()
        self._oom = OomCounter()
        self._backoff = Backoff()
        self._preloader = Preloader()
        self._fork_doctor: ForkDoctor | None = None
        self._booted = False
        self._stopping = False
        self.setup(app)
        self._table = HeartbeatTable(max(1024, 4 * self.num_workers))
        self._supervisor = Supervisor(self.log)
        self._reloading = Reloading(self, self._supervisor)
        self._control = ControlSocket(self)

    # --- configuration -------------------------------------------------------------------

    @property
    def num_workers(self) -> int:
        """How many workers there are to be."""
        return self._num_workers or 0

    @num_workers.setter
    def num_workers(self, value: int) -> None:
        old, self._num_workers = self._num_workers, value
        self._call_hook("nworkers_changed", self, value, old)  # as in Gunicorn also where it is the same

    def setup(self, app: Any) -> None:
        """Take over what `app.cfg` says, and load the application here if it is to be preloaded.

        Raises a CyhornError where the operator is wrong; ends the process where the application
        does not load.
        """
        self.app = app
        if self.log is None:
            self.log = app.cfg.logger_class(app.cfg)
        self.apply_config(app.cfg)
        os.environ.update(app.cfg.env or {})
        try:
            self.load_application(app.cfg)
        except CyhornError:
            raise
        except Exception:
            self.log.exception("The application cannot be preloaded")
            sys.exit(EXIT_CONFIG)

    def apply_config(self, cfg: Any) -> None:
        """Let the fields that stand for settings say what `cfg` says."""
        self.cfg = cfg
        self.worker_class = cfg.worker_class
        self.address = cfg.address
        self.timeout = cfg.timeout
        self.proc_name = f"{cfg.proc_name}.2" if self.master_pid else cfg.proc_name
        self.num_workers = cfg.workers
        self.log.debug(
            "Current configuration:\n%s",
            "\n".join(f"  {name}: {setting.value}" for name, setting in sorted(cfg.settings.items())),
        )

    def load_application(self, cfg: Any) -> None:
        """With `preload_app`, load the application into this process; anew, if it is there already."""
        self.app.callable = None
        if not cfg.preload_app:
            self._preloader.load(None, freeze=cfg.gc_freeze)
            return
        from cyhorn.process.fork_doctor import ForkDoctor

        with ForkDoctor() as doctor:
            self._preloader.load(self.app.wsgi, freeze=cfg.gc_freeze)
        self._fork_doctor = doctor

    def _warn_of_what_a_fork_breaks(self) -> None:
        """Say, once for each load, what the preloaded application has opened that workers cannot use."""
        doctor, self._fork_doctor = self._fork_doctor, None
        try:
            for line in doctor.diagnose() if doctor is not None else ():
                self.log.warning("Fork doctor: %s", line)
        except Exception:
            # It looks into other people's objects, and no start may fail for that.
            self.log.debug("The fork doctor could not look at everything", exc_info=True)

    def restore_application(self) -> None:
        """Undo the last `load_application`, as far as modules go."""
        self._preloader.undo()

    # --- start ---------------------------------------------------------------------------

    def start(self) -> None:
        """Bind the sockets and write the pid file. Raises ConfigError or ListenError."""
        self.log.info("Starting cyhorn %s", __version__)
        self.master_pid, fds = take_inheritance(os.environ)
        if self.master_pid:
            self.proc_name = f"{self.cfg.proc_name}.2"
            self.master_name = "Master.2"
        self.pid = os.getpid()
        self.pidfile = pidfile = self._make_pidfile()
        running = pidfile.validate() if pidfile is not None else None
        if pidfile is not None and running and running != self.pid:
            raise ConfigError(f"Already running on PID {running} (pid file {pidfile.fname!r})")
        require_hook(self.cfg, self.log, "on_starting", self)

        self.init_signals()
        passed = systemd.listen_fds()
        if passed:
            self.systemd = True
            fds = list(range(FIRST_FD, FIRST_FD + passed))
        self.LISTENERS = create_listeners(self.cfg, self.log, fds or None, sleep=self._sleep_unless_stopped)
        if pidfile is not None:
            pidfile.create(self.pid)  # from here on there is something to be signalled

        self.log.debug("Arbiter booted")
        self.tell_listeners()
        self.log.info("Using worker: %s", self.cfg.worker_class_str)
        self._tell_implementation()
        if hasattr(self.worker_class, "check_config"):
            self.worker_class.check_config(self.cfg, self.log)
        require_hook(self.cfg, self.log, "when_ready", self)
        self._control.configure()

    def _make_pidfile(self) -> Pidfile | None:
        path = self.cfg.pidfile
        if path is None:
            return None
        return Pidfile(f"{path}.2" if self.master_pid else path)

    def tell_listeners(self) -> None:
        """Log where this server can be reached."""
        self.log.info("Listening at: %s (%s)", ",".join(map(str, self.LISTENERS)), self.pid)

    def _tell_implementation(self) -> None:
        fell_back = _impl.NAME == "python" and (os.environ.get(_impl.VARIABLE) or "auto") == "auto"
        tell = self.log.warning if fell_back else self.log.info
        tell("Running %s: %s", _impl.NAME, _impl.REASON)

    def init_signals(self) -> None:
        """Install the handlers of all signals, and the wake-up pipe behind them."""
        self.PIPE = [self._wakeup.read_fd, self._wakeup.write_fd]
        self.log.close_on_exec()
        for number in self.SIGNALS:
            native("signal", "signal")(number, self.signal)
        self._wakeup.install()

    def signal(self, sig: int, frame: FrameType | None) -> None:
        """The handler of all signals: they are handled in the loop."""
        if sig != signal.SIGCHLD or sig not in self.SIG_QUEUE:
            self.SIG_QUEUE.append(sig)
        self.wakeup()
        if sig in ENDING:
            self._preloader.interrupt()

    def wakeup(self) -> None:
        """End the loop's sleep."""
        self._wakeup.wakeup()

    def sleep_for(self, seconds: float, watched: Sequence[tuple[int, int]] = ()) -> None:
        """Sleep until something wakes the arbiter, at most for `seconds` and `TICK`.

        `watched` are descriptors that wake it too, each with its events of poll.
        """
        self._wakeup.wait(min(seconds, TICK), watched)

    def _sleep_unless_stopped(self, seconds: float) -> None:
        """Sleep between two tries to bind. Raises StopIteration when a signal ends the server."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if ENDING & set(self.SIG_QUEUE):
                raise StopIteration
            self.sleep_for(left)

    # --- the loop ------------------------------------------------------------------------

    def run(self) -> NoReturn:
        """Start, serve, and end the process."""
        try:
            self.start()
        except StopIteration:
            self.halt()
        except CyhornError as error:
            self._refuse(str(error))
        except HaltServer as halted:
            self.halt(reason=halted.reason, exit_status=halted.exit_status)
        except Exception as error:
            self.log.exception("The start failed")
            self._refuse(str(error))
        set_title(f"master [{self.proc_name}]")
        try:
            while True:
                self.maybe_promote_master()
                self._handle_signals()
                self.murder_workers()
                self.manage_workers()
                self._supervisor.ping()
                self._control.attend()
                self.sleep()
        except (StopIteration, KeyboardInterrupt):
            self.halt()
        except HaltServer as halted:
            self.halt(reason=halted.reason, exit_status=halted.exit_status)
        except SystemExit:
            self._control.close()  # a child has left it before
            raise
        except Exception:
            self.log.error("Unhandled exception in main loop", exc_info=True)
            self.stop(False)
            if self.pidfile is not None:
                self.pidfile.unlink()
            sys.exit(-1)

    def _refuse(self, reason: str) -> NoReturn:
        """End a start that cannot be: one line, nothing left behind, status 1."""
        reason = self.cfg.located(reason)
        self.log.error("%s", reason)
        if self.cfg.errorlog != "-":
            print(f"\nError: {reason}\n", file=sys.stderr)
        close_listeners(self.LISTENERS, unlink=self.owns_sockets())
        if self.pidfile is not None:
            self.pidfile.unlink()
        sys.exit(EXIT_CONFIG)

    def _handle_signals(self) -> None:
        while self.SIG_QUEUE:
            sig = self.SIG_QUEUE.popleft()
            name = self.SIG_NAMES.get(sig)
            if name is None:
                self.log.info("Ignoring unknown signal: %s", sig)
                continue
            handler = getattr(self, f"handle_{name}", None)
            if handler is None:
                self.log.error("Unhandled signal: %s", name)
                continue
            (self.log.debug if sig == signal.SIGCHLD else self.log.info)("Handling signal: %s", name)
            handler()

    def sleep(self) -> None:
        """Sleep until something wakes the arbiter or the next deadline is due."""
        due = [record.kill_due() for record in self._records.values()]
        due.append(self._supervisor.next_ping())
        due.append(self._control.next_deadline())
        due.append(self._reloading.deadline)
        moments = [moment for moment in due if moment is not None]
        timeout = min([TICK, *(moment - time.monotonic() for moment in moments)])
        if not self._reloading.is_under_way and (pause := self._backoff.remaining()) > 0:
            timeout = min(timeout, pause)
        self.sleep_for(timeout, self._control.watched())

    # --- signals -------------------------------------------------------------------------

    def handle_chld(self) -> None:
        """CHLD: a child has ended."""
        self.reap_workers()

    def handle_hup(self) -> None:
        """HUP: reload configuration and application."""
        self.log.info("Hang up: %s", self.master_name)
        self._reloading.ask()

    def handle_term(self) -> None:
        """TERM: graceful stop."""
        raise StopIteration

    def handle_int(self) -> None:
        """INT: quick stop."""
        self.stop(False)
        raise StopIteration

    def handle_quit(self) -> None:
        """QUIT: quick stop."""
        self.stop(False)
        raise StopIteration

    def handle_ttin(self) -> None:
        """TTIN: one worker more."""
        self.num_workers += 1
        self.manage_workers()

    def handle_ttou(self) -> None:
        """TTOU: one worker less, but never none."""
        if self.num_workers <= 1:
            return
        self.num_workers -= 1
        self.manage_workers()

    def handle_usr1(self) -> None:
        """USR1: open the log files anew, here and in the workers."""
        try:
            self.log.reopen_files()
        except Exception:
            self.log.exception("The log files cannot be opened anew")
        self.kill_workers(signal.SIGUSR1)

    def handle_usr2(self) -> None:
        """USR2: start a new master beside this one."""
        self.reexec()

    def handle_winch(self) -> None:
        """WINCH: let all workers go, where nobody watches a window change its size."""
        if self.cfg.daemon:
            self.log.info("graceful stop of workers")
            self.num_workers = 0
            self.kill_workers(signal.SIGTERM)
        else:
            self.log.debug("SIGWINCH ignored. Not daemonized")

    # --- upgrade -------------------------------------------------------------------------

    def reexec(self) -> None:
        """Start the successor with our sockets (USR2). Refused while there is one, or a predecessor."""
        if self.reexec_pid:
            self.log.warning("USR2 signal ignored. Child exists.")
            return
        if self.master_pid:
            self.log.warning("USR2 signal ignored. Parent exists.")
            return
        try:
            self.reexec_pid = start_successor(self)
        except OSError as error:
            self.log.error("The new master cannot be forked: %s", error)
        else:
            self.log.info("Started a new master (pid: %s)", self.reexec_pid)

    def maybe_promote_master(self) -> None:
        """Become the master when the predecessor has ended."""
        if self.master_pid == 0 or self.master_pid == os.getppid():
            return
        self.log.info("Master has been promoted.")
        self.master_name = "Master"
        self.master_pid = 0
        self.proc_name = self.cfg.proc_name
        if self.pidfile is not None:
            try:
                self.pidfile.rename(self.cfg.pidfile)
            except ConfigError as error:
                self.log.error("%s", error)
        self._control.promote()
        set_title(f"master [{self.proc_name}]")
        self._supervisor.notify(f"MAINPID={self.pid}", *(["READY=1"] if self._booted else []))

    # --- reload --------------------------------------------------------------------------

    def reload(self) -> None:
        """Read the configuration again and begin to replace the workers.

        Whatever cannot be had (a setting, a socket, a log file, a preloaded application) leaves
        everything as it was, with one error in the log.
        """
        self._reloading.start()

    def reload_begins(self) -> None:
        """A new configuration has been taken on: its workers come next, and may crash as those at a start."""
        self._call_hook("on_reload", self)
        self._backoff.reset()

    def show_config(self) -> None:
        """Let what is seen from outside be as the configuration says now."""
        self._rewrite_pidfile()
        self._control.configure()
        set_title(f"master [{self.proc_name}]")

    def _rewrite_pidfile(self) -> None:
        """Let the pid file be where the configuration says now."""
        old, new = self.pidfile, self._make_pidfile()
        try:
            if new is not None:
                new.create(self.pid)
        except ConfigError as error:
            self.log.error("%s", error)
            return
        if old is not None and (new is None or new.fname != old.fname):
            old.unlink()
        self.pidfile = new

    # --- looking after the workers -------------------------------------------------------

    def murder_workers(self) -> None:
        """Abort workers that have been silent for longer than `timeout`; `manage_workers` kills them then."""
        if not self.timeout:
            return
        now = time.monotonic()
        for record in self.records():
            if record.aborted_at is None and now - record.slot.last_update() > self.timeout:
                self.log.critical("WORKER TIMEOUT (pid:%s)", record.pid)
                tell_silence(self.log, record.pid, record.slot)
                record.worker.aborted = True
                record.aborted_at = now
                self.kill_worker(record.pid, signal.SIGABRT)

    def reap_workers(self) -> None:
        """Take leave of all children that have ended. Raises HaltServer when the boot has failed."""
        failure: HaltServer | None = None
        while True:
            try:
                pid, status = native("os", "waitpid")(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            if pid == self.reexec_pid:
                self.reexec_pid = 0
                self.log.info("The new master (pid: %s) has ended", pid)
                continue
            if self._reloading.is_rehearsal(pid):
                self._reloading.end_rehearsal(os.waitstatus_to_exitcode(status), self._stopping)
                continue
            record = self._records.pop(pid, None)
            worker = self.WORKERS.pop(pid, None)
            if record is None or worker is None:
                self.log.debug("Reaped unknown child process (pid:%s, status:%s)", pid, status)
                continue
            code = os.waitstatus_to_exitcode(status)
            booted = record.has_booted
            explain_exit(self.log, record, code, self._oom)
            self.departed.note(record)
            self._table.release(record.slot)
            self._call_hook("child_exit", self, worker)
            failure = self._after_exit(record, booted, code) or failure
        if failure is not None:
            raise failure

    def _after_exit(self, record: WorkerRecord, booted: bool, code: int) -> HaltServer | None:
        """What the end of a worker means for the others."""
        if self._stopping or record.asked:
            return None
        if not booted:
            if self._reloading.concerns(record):
                self._reloading.fail(f"a new worker (pid:{record.pid}) {how_it_ended(code)} while booting")
                return None
            self._observe_workers()  # somebody may have become ready meanwhile
            if not self._booted and not self._reloading.is_under_way:
                if code == self.WORKER_BOOT_ERROR:
                    return HaltServer("Worker failed to boot.", code)
                if code == self.APP_LOAD_ERROR:
                    return HaltServer("App failed to load.", code)
        age = time.monotonic() - record.ready_at if record.ready_at is not None else 0.0
        if not booted or (code != 0 and age < EARLY):
            self._boot_failed(EARLY_PAUSE if booted else None)
        else:
            self._backoff.reset()
        return None

    def _boot_failed(self, most: float | None = None) -> None:
        pause = self._backoff.fail(most)
        if pause >= 1.0:
            self.log.warning("Workers do not stay up; the next one is tried in %.1f s", pause)

    def manage_workers(self) -> None:
        """Keep the number of workers what it is to be, and a reload going."""
        self._observe_workers()
        self._reloading.turn(may_begin=self._booted or self._backoff.active)
        if not self._reloading.is_under_way:
            staying = [record for record in self._records.values() if record.stays]
            if len(staying) < self.num_workers:
                self.spawn_workers()
            excess = max(0, len(staying) - self.num_workers)
            for record in sorted(staying, key=lambda record: record.worker.age)[:excess]:
                self.ask_to_leave(record)
        count = len(self.WORKERS)
        if count != self._last_count:
            self._last_count = count
            self.log.debug(
                "%d workers", count, extra={"metric": "cyhorn.workers", "value": count, "mtype": "gauge"}
            )
        if self.cfg.enable_backlog_metric:
            self._measure_backlog()

    def _measure_backlog(self) -> None:
        backlog = sum(max(0, listener.get_backlog()) for listener in self.LISTENERS)
        self.log.debug(
            "socket backlog: %d",
            backlog,
            extra={"metric": "cyhorn.backlog", "value": backlog, "mtype": "histogram"},
        )

    def _observe_workers(self) -> None:
        """Read off the heartbeat table who is ready and who is leaving; kill who stayed too long."""
        now = time.monotonic()
        self.remind_workers()
        for record in self.records():
            record.observe(now, self.cfg.graceful_timeout)
            due = record.kill_due()
            if due is not None and now >= due:
                record.killed = True
                if record.aborted_at is None:
                    self.log.warning("Worker (pid:%s) did not leave in time: killed", record.pid)
                self.kill_worker(record.pid, signal.SIGKILL)
        ready = sum(record.is_ready for record in self._records.values())
        # TTIN may come before the first workers are ready: they are enough.
        if not self._booted and ready >= min(self.num_workers, self.cfg.workers):
            self._booted = True
            self._supervisor.notify("READY=1")
        self._supervisor.status(ready, self.num_workers)

    @property
    def reloads(self) -> int:
        """How many reloads have come as far as to boot new workers."""
        return self._reloading.generation

    def records(self) -> list[WorkerRecord]:
        """What is known about each worker, in the order of their forks."""
        return list(self._records.values())

    def spawn_workers(self) -> None:
        """Fork the workers that are missing; after crashes one at a time, and not too soon."""
        missing = self.num_workers - sum(record.stays for record in self._records.values())
        if self._backoff.active:
            if self._backoff.remaining() > 0:
                return
            if any(record.is_booting for record in self._records.values()):
                return
            missing = min(missing, 1)
        for _ in range(missing):
            if not self.spawn_worker():
                return

    def spawn_worker(self) -> int:
        """Fork one worker. Returns its pid, 0 when that was not possible."""
        slot = None
        try:
            slot = self._table.claim()
            self.worker_age += 1
            worker: Worker = self.worker_class(
                self.worker_age, self.pid, self.LISTENERS, self.app, self.timeout / 2.0, self.cfg, self.log
            )
            worker.tmp = slot
            worker.parent_fd = self._parent_pipe[0]
            require_hook(self.cfg, self.log, "pre_fork", self, worker)
            self._warn_of_what_a_fork_breaks()  # what the hook has closed breaks nothing
            with Blocked(self.SIGNALS) as blocked:
                pid: int = native("os", "fork")()
                if pid == 0:
                    self.SIG_QUEUE.clear()  # it was the master's
                    self._control.detach()
                    run_worker(self, worker, self._wakeup, self._masters_own_fds(), blocked.end)
        except Exception as error:
            if slot is not None:
                self._table.release(slot)
            return self._spawn_failed(error)
        worker.pid = slot.pid = pid
        self.WORKERS[pid] = worker
        self._records[pid] = WorkerRecord(worker, pid, slot, self._reloading.generation)
        return pid

    def _spawn_failed(self, error: Exception) -> int:
        """The master could not make a worker. Returns 0, or raises HaltServer at the first boot."""
        if isinstance(error, OSError | NoSlot):
            self.log.error("No worker can be forked: %s", error)
        else:
            self.log.error("No worker can be made: %s", error, exc_info=not isinstance(error, HookFailed))
            if not self._booted and not self._reloading.is_under_way:
                raise HaltServer("Worker failed to boot.", self.WORKER_BOOT_ERROR)
        self._reloading.fail(f"no worker can be made ({type(error).__name__}: {error})")
        self._boot_failed()
        return 0

    def leave_to_master(self) -> None:
        """In a forked child that is no worker: let go of what is to end when the master does."""
        os.close(self._parent_pipe[1])  # those who watch the pipe are to notice the master's end
        self._control.detach()

    def _masters_own_fds(self) -> list[int]:
        """Descriptors that a worker must not keep: the parent pipe's write end, listeners of the past."""
        return [self._parent_pipe[1], *self._reloading.former_fds()]

    def ask_to_leave(self, record: WorkerRecord) -> None:
        """TERM to a worker: it finishes what it has begun."""
        self.kill_worker(record.pid, signal.SIGTERM)

    def remind_workers(self) -> None:
        """Ask again those that were asked while booting and did not hear it."""
        now = time.monotonic()
        for record in self.records():
            if record.has_not_heard(now):
                self.ask_to_leave(record)

    def kill_workers(self, sig: int) -> None:
        """Send `sig` to all workers."""
        for pid in list(self.WORKERS):
            self.kill_worker(pid, sig)

    def kill_worker(self, pid: int, sig: int) -> None:
        """Send `sig` to the worker `pid`. One that is asked to leave has `graceful_timeout` seconds."""
        record = self._records.get(pid)
        if record is not None and sig in (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT):
            record.asked_at = time.monotonic()
            if record.stop_deadline is None:
                record.stop_deadline = time.monotonic() + self.cfg.graceful_timeout
        try:
            os.kill(pid, sig)
        except ProcessLookupError:
            # Reaped by somebody else: it will not be reported to us.
            worker = self.WORKERS.pop(pid, None)
            record = self._records.pop(pid, None)
            if record is not None:
                self._table.release(record.slot)
            if worker is not None:
                self._call_hook("worker_exit", self, worker)

    # --- stop ----------------------------------------------------------------------------

    def halt(self, reason: str | None = None, exit_status: int = 0) -> NoReturn:
        """Stop the workers and end the process with `exit_status`."""
        self.stop()
        tell = self.log.info if exit_status == 0 else self.log.error
        tell("Shutting down: %s", self.master_name)
        if reason is not None:
            tell("Reason: %s", reason)
        if self.pidfile is not None:
            self.pidfile.unlink()
        self._call_hook("on_exit", self)
        sys.exit(exit_status)

    def stop(self, graceful: bool = True) -> None:
        """Stop the workers, see `Stop`, and let go of the listeners.

        The listeners are closed here before the workers are asked. Each worker then accepts and answers
        what the kernel has queued, and lets go of its own copy: the last one to do so is one that has
        looked, where this process would reset whoever connected meanwhile.
        """
        if self._stopping:
            return
        self._stopping = True
        self._control.close()
        self._supervisor.stopping(self.reexec_pid)
        self._reloading.close_listeners()
        close_listeners(self.LISTENERS, unlink=self.owns_sockets())
        self.LISTENERS = []
        stop = Stop(self, graceful)
        stop.ask()
        self._reloading.end()
        stop.wait()

    def owns_sockets(self) -> bool:
        """Whether nobody else uses the unix sockets' files."""
        return not (self.systemd or self.reexec_pid or self.master_pid)

    def _call_hook(self, name: str, *args: Any) -> None:
        call_hook(self.cfg, self.log, name, *args)
