"""One reload (HUP) as a transaction: all of it, or the state of before.

`prepare` reads the configuration again, binds what is new, loads a preloaded application anew and
turns the logs over. Whatever fails there is undone at once. Then `advance` replaces the workers,
turn by turn; when a new one does not boot before any of them was ready, `undo` brings back the
configuration, the sockets and the loaded application of before, and the old workers have never
stopped serving.

Listeners that the new configuration does not name are closed by `finish`: until then old workers
accept from them and a failed reload still needs them.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING

from cyhorn.errors import ConfigError
from cyhorn.net.listeners import Listener, close_listeners, create_listeners
from cyhorn.process.rollout import next_step

if TYPE_CHECKING:
    from cyhorn.arbiter import Arbiter


class Reload:
    """The reload of `arbiter` to `generation`."""

    def __init__(self, arbiter: Arbiter, generation: int) -> None:
        self.generation = generation
        self.superseded = False  # another reload was asked for meanwhile
        self.proven = False  # a worker of this generation has become ready
        self._loading = False  # the application has been, or is being, loaded into the master
        self._arbiter = arbiter
        self._started = time.monotonic()
        # What it changes, as it was before.
        self._cfg = arbiter.cfg
        self._app_state = dict(vars(arbiter.app))
        self._environ = dict(os.environ)
        self._cwd = os.getcwd()
        self._listeners = list(arbiter.LISTENERS)
        self._num_workers = arbiter.num_workers
        self._added: list[Listener] = []

    def prepare(self) -> None:
        """Everything that comes before the new workers. What it raises leaves half of it done: `undo`."""
        arbiter = self._arbiter
        for name in self._cfg.env or {}:
            if name in self._cfg.env_orig:
                os.environ[name] = self._cfg.env_orig[name]
            else:
                os.environ.pop(name, None)
        arbiter.app.reload()
        cfg = arbiter.app.cfg
        worker_class = cfg.worker_class
        if hasattr(worker_class, "check_config"):
            worker_class.check_config(cfg, arbiter.log)
        if not arbiter.systemd:
            arbiter.LISTENERS = create_listeners(cfg, arbiter.log, keep=self._listeners, sleep=_no_patience)
            self._added = [made for made in arbiter.LISTENERS if made not in self._listeners]
        os.environ.update(cfg.env or {})
        self._loading = True
        arbiter.load_application(cfg)
        arbiter.log.setup(cfg)
        arbiter.log.reopen_files()
        arbiter.apply_config(cfg)
        if self._added or self.removed():
            arbiter.tell_listeners()

    def undo(self) -> None:
        """Put everything back. What cannot be is logged."""
        arbiter = self._arbiter
        vars(arbiter.app).clear()
        vars(arbiter.app).update(self._app_state)
        if self._loading:
            arbiter.restore_application()
        arbiter.app.restore_modules()
        for name in set(os.environ) - set(self._environ):
            del os.environ[name]
        os.environ.update(self._environ)
        with contextlib.suppress(OSError):
            os.chdir(self._cwd)
        close_listeners(self._added, unlink=True)
        arbiter.LISTENERS = self._listeners
        try:
            arbiter.log.setup(self._cfg)
        except Exception as error:
            arbiter.log.error("The former logs cannot be set up again: %s", error)
        if arbiter.cfg is not self._cfg:
            arbiter.apply_config(self._cfg)
        if arbiter.num_workers != self._num_workers:
            arbiter.num_workers = self._num_workers

    def removed(self) -> list[Listener]:
        """The listeners that the new configuration does without."""
        return [former for former in self._listeners if former not in self._arbiter.LISTENERS]

    def advance(self) -> bool:
        """Boot new workers and let old ones go, as far as it is time. True when nothing is left to do."""
        arbiter = self._arbiter
        staying = [record for record in arbiter.records() if record.stays]
        new = [record for record in staying if record.generation == self.generation]
        old = [record for record in staying if record.generation != self.generation]
        ready = sum(record.is_ready for record in new)
        self.proven = self.proven or ready > 0
        step = next_step(
            target=arbiter.num_workers,
            ready=ready,
            booting=len(new) - ready,
            old=len(old),
            concurrency=arbiter.cfg.reload_concurrency,
            superseded=self.superseded,
        )
        for record in sorted(old, key=lambda record: record.worker.age)[: step.retire]:
            arbiter.ask_to_leave(record)
        for _ in range(step.spawn):
            if not arbiter.spawn_worker():
                break
        if step.done and not self.superseded:
            seconds = time.monotonic() - self._started
            arbiter.log.info("Reload done: %d new workers in %.1f s", ready, seconds)
        return step.done

    def finish(self, unlink: bool) -> None:
        """Close the listeners that are not needed any more, and with `unlink` remove their files."""
        close_listeners(self.removed(), unlink=unlink)


def _no_patience(seconds: float) -> None:
    """In place of a sleep between tries to bind: a reload does not wait for an address."""
    raise ConfigError("an address of bind is not free")
