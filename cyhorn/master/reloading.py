"""Reloads one after the other, from the wish (HUP) to the last old worker's leave or to the state of before.

At most one `Reload` is under way, and at most one more is wanted: whatever is asked for meanwhile
is the same wish, since a reload reads everything anew. The states:

    idle → [rehearsing, with preload_app] → under way → idle

Each turn of the arbiter's loop calls `turn`; nothing here waits. A reload that fails leaves the old
workers serving, says so in one line, and tells the service manager that the server is ready again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cyhorn.errors import CyhornError
from cyhorn.master.rehearsal import GOT_THROUGH, Rehearsal, rehearse
from cyhorn.master.reload import Reload
from cyhorn.master.roster import WorkerRecord, how_it_ended
from cyhorn.master.supervisor import Supervisor
from cyhorn.process.preload import Interrupted

if TYPE_CHECKING:
    from cyhorn.arbiter import Arbiter


class Reloading:
    """The reloads of `arbiter`, of which `supervisor` is told.

    `generation` counts those that came as far as to boot workers; a worker belongs to the one at its fork.
    """

    def __init__(self, arbiter: Arbiter, supervisor: Supervisor) -> None:
        self.generation = 0
        self._arbiter = arbiter
        self._supervisor = supervisor
        self._current: Reload | None = None
        self._rehearsal: Rehearsal | None = None
        self._wanted = False

    @property
    def is_under_way(self) -> bool:
        """Whether workers are being replaced: their number is this one's business, not the loop's."""
        return self._current is not None

    @property
    def deadline(self) -> float | None:
        """When a rehearsal has taken too long, in monotonic seconds."""
        return self._rehearsal.deadline if self._rehearsal is not None else None

    def ask(self) -> None:
        """Want a reload, once the one that is under way is over."""
        self._wanted = True
        if self._current is not None:
            # There is newer code now: boot no more of the old. What is booting decides what comes next.
            self._current.superseded = True

    def turn(self, may_begin: bool) -> None:
        """Go on as far as it is time; begin what is wanted only if it `may_begin`."""
        if self._rehearsal is not None:
            if self._rehearsal.is_late():
                self._rehearsal.kill()
        elif self._wanted and self._current is None and may_begin:
            self._begin()
        if self._current is not None:
            self._advance(self._current)

    def _begin(self) -> None:
        """Reload, or have it rehearsed first."""
        self._wanted = False
        self._supervisor.reloading()
        if not self._arbiter.cfg.preload_app:
            self._arbiter.reload()
            return
        try:
            self._rehearsal = rehearse(self._arbiter)
        except OSError as error:
            self._refuse(f"the new application cannot be tried in a child: {error}")

    def is_rehearsal(self, pid: int) -> bool:
        """Whether the child `pid` is one that tries a reload."""
        return self._rehearsal is not None and pid == self._rehearsal.pid

    def end_rehearsal(self, code: int, stopping: bool) -> None:
        """The rehearsal has exited with `code`: follow it, unless the server is `stopping`."""
        self._rehearsal = None
        if stopping or self._wanted:
            return  # there is newer code now, to be rehearsed in its turn
        if code == GOT_THROUGH:
            self._arbiter.reload()
        else:
            self._refuse(f"the new application does not load (its trial {how_it_ended(code)})")

    def start(self) -> None:
        """Read the configuration again and begin to replace the workers, see `Arbiter.reload`."""
        arbiter = self._arbiter
        reload = Reload(arbiter, self.generation + 1)
        try:
            reload.prepare()
        except Interrupted:
            reload.undo()  # the signal is in the queue
            return
        except (Exception, SystemExit) as error:
            expected = isinstance(error, CyhornError)
            reason = arbiter.app.cfg.located(str(error)) if expected else f"{type(error).__name__}: {error}"
            reload.undo()
            self._refuse(reason, exc_info=not expected)
            return
        arbiter.show_config()
        arbiter.reload_begins()
        self.generation = reload.generation
        self._current = reload

    def _refuse(self, reason: str, exc_info: bool = False) -> None:
        log = self._arbiter.log
        log.error("Reload failed: %s. The old workers keep serving.", reason, exc_info=exc_info)
        self._supervisor.notify("READY=1")

    def _advance(self, reload: Reload) -> None:
        if not reload.advance() or self._current is not reload:
            return
        if reload.superseded and not reload.proven:
            self._undo(reload)  # the next one starts, and may fall back to, what has been serving
        else:
            self._finish(reload)
        self._supervisor.notify("READY=1")
        self._arbiter.wakeup()  # there may be another one, or workers too many

    def concerns(self, record: WorkerRecord) -> bool:
        """Whether the reload under way stands or falls with this worker's boot."""
        return self._current is not None and record.generation == self._current.generation

    def fail(self, what: str) -> None:
        """Give up the reload that is under way, if there is one: a new worker did not boot."""
        reload = self._current
        if reload is None:
            return
        arbiter = self._arbiter
        for record in arbiter.records():
            if record.generation == reload.generation and record.is_booting:
                arbiter.ask_to_leave(record)
        if reload.proven:
            # The new code boots, and old workers have left for it: what serves stays as it is.
            self._finish(reload)
            fate = "The new workers that are ready and the old ones that are left keep serving"
        else:
            self._undo(reload)
            fate = "The old workers keep serving"
        arbiter.log.error("Reload failed: %s. %s.", what, fate)
        self._supervisor.notify("READY=1")
        arbiter.wakeup()

    def _undo(self, reload: Reload) -> None:
        self._current = None
        reload.undo()
        self._arbiter.show_config()

    def _finish(self, reload: Reload) -> None:
        self._current = None
        reload.finish(unlink=self._arbiter.owns_sockets())

    def former_fds(self) -> list[int]:
        """The descriptors of listeners that a reload does without, and a new worker is not to keep."""
        return [listener.fileno() for listener in (self._current.removed() if self._current else [])]

    def close_listeners(self) -> None:
        """The server stops: close the listeners that only old workers had."""
        if self._current is not None:
            self._current.finish(unlink=self._arbiter.owns_sockets())

    def end(self) -> None:
        """The server stops: try nothing any more. A rehearsal is still to be reaped."""
        if self._rehearsal is not None:
            self._rehearsal.kill()
