"""USR2, there and back, under load."""

from __future__ import annotations

import os
import signal

from reliability.bench import Bench, Result, failed, scenario, told
from tests.integration.accounts import open_files, resident
from tests.integration.client import Traffic
from tests.integration.harness import Server, processes, until


def gone(pid: int) -> bool:
    """Whether `pid` is reaped, too: until then its parent refuses another upgrade."""
    return pid not in {found for found, _, state in processes() if state != "Z"}


def begin(server: Server, old: int, workers: int) -> int:
    """USR2 to `old`. The new master, when its workers are there."""
    before = {pid for pid, ppid, _ in processes() if ppid == old}
    os.kill(old, signal.SIGUSR2)

    def found() -> int:
        for pid, ppid, _ in processes():
            if ppid == old and pid not in before and len(server.workers(pid)) == workers:
                return pid
        return 0

    new: int = until(found, "the new master")
    if server.seen("cyhorn"):
        until(lambda: server.seen(rf"\[{new}\] .*Listening at"), "its listening")
    # Ready is told by the workers' own lines.
    until(lambda: set(server.workers(new)) <= loaded(server), "its workers")
    return new


def loaded(server: Server) -> set[int]:
    return {int(line.split()[-1]) for line in server.seen(r"^LOADED in \d+$")}


@scenario(
    "20 upgrades under load, every fourth rolled back",
    "no request fails, nothing grows",
    16,
    17,
    18,
    19,
    20,
    peers=True,
    short=True,
)
def twenty_upgrades(bench: Bench) -> Result:
    server = bench.start("workers = 2\npidfile = 'pid'\nbind = 'unix:socket'", bind="")
    server.ready(2)
    master = server.pid
    figures = []
    with Traffic(server.connect, 2, pause=0.002) as kept, Traffic(server.connect, 2, keep_alive=False) as fresh:
        for number in range(1, bench.size(20 if bench.who.ours else 8, 4) + 1):
            new = begin(server, master, 2)
            if number % 4 == 0:
                os.kill(new, signal.SIGTERM)
                until(lambda new=new: gone(new), "the rollback")
                until(lambda new=new: new not in {pid for pid, _, _ in processes()}, "its parent's notice")
            else:
                os.kill(master, signal.SIGTERM)
                until(lambda master=master: gone(master), "the end of the old master")
                master = new
                pid_file = bench.folder / "pid"
                until(
                    lambda pid_file=pid_file, new=new: pid_file.exists() and pid_file.read_text() == f"{new}\n",
                    "its pid file",
                )
            figures.append((len(open_files(master)), resident(master)))
    files = figures[-1][0] - figures[0][0]
    memory = (figures[-1][1] - figures[0][1]) / (1 << 20)
    return Result(
        f"{told(kept, fresh)}; {files} descriptors, {memory:.1f} MB more",
        failed(kept, fresh) == 0 and files == 0 and memory < 4,
    )
