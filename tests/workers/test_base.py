"""What every worker does, whatever its kind."""

from __future__ import annotations

import subprocess
import sys

#: A process gets a USR1 after each change of a handler, as one that the master tells to open its log files anew may.
UNDER_USR1 = """
import os, signal
from cyhorn.config.config import Config
from cyhorn.log.logger import Logger
from cyhorn.workers.base import Worker
from cyhorn.workers.child import _say_goodbye

config = Config()
worker = Worker(1, os.getppid(), [], None, 15.0, config, Logger(config))
seen = []
signal.signal(signal.SIGUSR1, lambda *_: seen.append("boot"))
worker.log.reopen_files = lambda: seen.append("worker")
change = signal.signal

def changed(number, handler):
    before = change(number, handler)
    os.kill(os.getpid(), signal.SIGUSR1)
    return before

signal.signal = changed
worker.init_signals()
print(seen[0], seen[-1], flush=True)
_say_goodbye(None, worker)

class Last:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGUSR1)

os.last = Last()  # goes when the interpreter does
"""


def test_no_moment_is_there_at_which_usr1_ends_a_worker() -> None:
    process = subprocess.run([sys.executable, "-c", UNDER_USR1], capture_output=True, text=True)
    assert (process.returncode, process.stdout) == (0, "boot worker\n"), process.stderr
