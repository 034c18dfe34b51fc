"""A reload tried in a child first, where the master itself will load the application.

With `preload_app` new code runs in the master. Code that raises can be undone there; code that
crashes, calls ``os._exit``, hangs or starts threads before it raises cannot. So a copy of the
master reads the configuration and loads the application first; the master follows only when it
got through. The others go on meanwhile: for the master this is a child like any other.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import TYPE_CHECKING

from cyhorn.errors import EXIT_APP_LOAD, EXIT_BOOT, EXIT_CONFIG, AppImportError, CyhornError
from cyhorn.native import native
from cyhorn.process.signals import Blocked
from cyhorn.process.title import set_title

if TYPE_CHECKING:
    from cyhorn.arbiter import Arbiter


#: The status of a rehearsal that got through. Not 0: that is what code exits with that has enough early on.
GOT_THROUGH = 167


class Rehearsal:
    """The child `pid`. At `deadline` (monotonic seconds, None for never) it has taken too long."""

    def __init__(self, pid: int, deadline: float | None) -> None:
        self.pid = pid
        self.deadline = deadline

    def is_late(self) -> bool:
        return self.deadline is not None and time.monotonic() >= self.deadline

    def kill(self) -> None:
        """End it. It is still to be reaped."""
        self.deadline = None
        os.kill(self.pid, signal.SIGKILL)


def rehearse(arbiter: Arbiter) -> Rehearsal:
    """Fork a child that does what a reload of `arbiter` would do, and exits with GOT_THROUGH if it could.

    Raises OSError when there is no process to be had.
    """
    with Blocked(arbiter.SIGNALS):
        pid = native("os", "fork")()
        if pid == 0:
            _perform(arbiter)
    return Rehearsal(pid, time.monotonic() + arbiter.timeout if arbiter.timeout else None)


def _perform(arbiter: Arbiter) -> None:
    status = EXIT_BOOT
    try:
        signal.set_wakeup_fd(-1)
        for number in arbiter.SIGNALS:
            native("signal", "signal")(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, arbiter.SIGNALS)
        arbiter.leave_to_master()
        set_title(f"reload [{arbiter.proc_name}]")
        arbiter.app.logger = None  # what a configuration has to say is said when it is taken on
        arbiter.app.reload()
        os.environ.update(arbiter.app.cfg.env or {})
        arbiter.load_application(arbiter.app.cfg)
        status = GOT_THROUGH
    except CyhornError as error:
        arbiter.log.error("%s", error)
        status = EXIT_APP_LOAD if isinstance(error, AppImportError) else EXIT_CONFIG
    except SystemExit as leaving:
        arbiter.log.error("The application called sys.exit(%r) while it was loaded", leaving.code)
    except BaseException:
        arbiter.log.exception("The application cannot be preloaded")
    finally:
        # Not the end of a process of its own: nothing that was registered in the master is to run here.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
