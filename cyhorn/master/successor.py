"""Starting the master that is to replace this one (USR2).

The child that becomes it is a copy of this master for a moment. It calls `pre_exec` and runs the
same command again; if either fails it ends without having touched anything of ours.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from cyhorn.errors import EXIT_CONFIG
from cyhorn.native import native
from cyhorn.process.signals import Blocked
from cyhorn.process.upgrade import exec_successor
from cyhorn.workers.hooks import require_hook

if TYPE_CHECKING:
    from cyhorn.arbiter import Arbiter


def start_successor(arbiter: Arbiter) -> int:
    """Fork and run the same command with the listeners of `arbiter`. Returns the child's pid.

    Raises OSError when there is no process to be had.
    """
    with Blocked(arbiter.SIGNALS):
        pid: int = native("os", "fork")()
        if pid:
            return pid
        try:
            # What arrives before the new program has its handlers ends it, instead of being queued here.
            for number in arbiter.SIGNALS:
                native("signal", "signal")(number, signal.SIG_DFL)
            require_hook(arbiter.cfg, arbiter.log, "pre_exec", arbiter)
            exec_successor(
                arbiter.START_CTX,
                arbiter.cfg.env_orig,
                [listener.fileno() for listener in arbiter.LISTENERS],
                systemd=arbiter.systemd,
            )
        except BaseException as error:
            arbiter.log.error("The new master cannot be started: %s", error)
        finally:
            os._exit(EXIT_CONFIG)
