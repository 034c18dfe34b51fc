"""Processes that are killed, crash, hang, or take all the memory."""

from __future__ import annotations

import contextlib
import os
import signal
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

from reliability.bench import Bench, NotHere, Result, at_most, scenario, seconds_until
from tests.integration.client import Failed, KeptConnection, Traffic
from tests.integration.harness import Server, is_alive, until


def loaded(server: Server, since: int) -> set[int]:
    return {int(line.split()[-1]) for line in server.seen(r"^LOADED in \d+$", since)}


@scenario("kill -9 of an idle worker, again and again", "another one serves within a second", 21, 22, peers=True, short=True)
def worker_killed(bench: Bench) -> Result:
    server = bench.start("workers = 2", ready=2)
    times = []
    for _ in range(bench.size(5, 2)):
        time.sleep(1.1)  # one that dies younger counts as a boot that failed
        mark, victim = server.mark(), server.workers()[0]
        os.kill(victim, signal.SIGKILL)
        times.append(seconds_until(lambda mark=mark: loaded(server, mark)))
        server.ready(2)
    zombies = seconds_until(lambda: not server.zombies(), 3)
    median = statistics.median(times)
    return Result(f"{median:.2f} s (worst {max(times):.2f})", median < 1 and zombies < 1.5)


@scenario("kill -9 of the master, workers idle", "they are gone within a second", 6, 23, peers=True, short=True)
def master_killed(bench: Bench) -> Result:
    server = bench.start("workers = 3", ready=3)
    workers = server.workers()
    server.signal(signal.SIGKILL)
    return at_most(seconds_until(lambda: not any(map(is_alive, workers)), 20), 1)


@scenario(
    "kill -9 of the master, a worker in a call of a minute, graceful_timeout 2 s",
    "it is gone after it and not much later",
    23,
    peers=True,
)
def master_killed_worker_stuck(bench: Bench) -> Result:
    server = bench.start("workers = 1\ngraceful_timeout = 2", ready=1)
    [worker] = server.workers()
    connection = server.send("/sleep?60")
    server.wait_for("SLEEPING")
    server.signal(signal.SIGKILL)
    seconds = seconds_until(lambda: not is_alive(worker), 10)
    connection.close()
    return at_most(seconds, 5)


@scenario("an application that crashes its worker: SIGSEGV, os._exit(0), os._exit(7)", "others lose nothing", 22, peers=True)
def crash(bench: Bench) -> Result:
    server = bench.start("workers = 2", ready=2)
    with Traffic(server.connect, 2, pause=0.005) as kept:
        for target in ("/segfault", "/exit?0", "/exit?7"):
            victim = KeptConnection(server.connect)
            with contextlib.suppress(Failed):
                victim.ask(target)
            server.ready(2)
    # A connection that the dying worker had is lost with it: at most one for each client and death.
    lost = kept.hard_failures + kept.counts["retry"]
    return Result(f"{lost} of {kept.counts['whole']} requests of others met it", lost <= 6)


@scenario("a worker that hangs in C with the GIL held, timeout 2 s", "killed and replaced within 5 s", 27, 45, peers=True)
def hang(bench: Bench) -> Result:
    server = bench.start("workers = 1\ntimeout = 2", ready=1)
    [victim] = server.workers()
    connection = server.send("/hold?30")
    server.wait_for("HOLDING")
    seconds = seconds_until(lambda: not is_alive(victim))
    server.ready(1)
    connection.close()
    return at_most(seconds, 5)


@scenario("code that became broken, then kill -9 of all workers, for 5 s", "few tries, the master lives", 8, peers=True)
def boot_loop(bench: Bench) -> Result:
    server = bench.start("workers = 2", ready=2)
    bench.write("broken", "raise RuntimeError('broken')")
    mark = server.mark()
    for pid in server.workers():
        os.kill(pid, signal.SIGKILL)
    time.sleep(5)
    tries = len(server.seen("Booting worker", mark))
    if server.process.poll() is not None:
        return Result(f"the server ended with {server.process.poll()}", False)
    bench.write("mended")
    server.signal(signal.SIGHUP)
    back = seconds_until(lambda: loaded(server, mark))
    return Result(f"{tries} tries; serves {back:.1f} s after the repair", tries <= 12 and back < 5)


@contextlib.contextmanager
def memory_limit(pid: int, size: int) -> Iterator[None]:
    """Hold `pid` and what it forks to `size` bytes of memory. Raises NotHere."""
    root = Path("/sys/fs/cgroup")
    old, new = root / "memory", root / "cyhorn-reliability"
    legacy = (old / "memory.limit_in_bytes").exists()
    group = old / f"cyhorn-reliability-{pid}" if legacy else new
    try:
        group.mkdir()
        (group / ("memory.limit_in_bytes" if legacy else "memory.max")).write_text(str(size))
        if not legacy:
            (group / "memory.swap.max").write_text("0")
    except OSError as error:
        with contextlib.suppress(OSError):
            group.rmdir()
        raise NotHere(f"no writable memory cgroup ({error.strerror})") from None
    try:
        (group / "cgroup.procs").write_text(str(pid))
        yield
    finally:
        home = old if legacy else root
        for each in (group / "cgroup.procs").read_text().split():
            with contextlib.suppress(OSError):
                (home / "cgroup.procs").write_text(each)
        with contextlib.suppress(OSError):
            group.rmdir()


@scenario("a request that takes all the memory of the cgroup", "that worker alone dies, and the log says why", 22)
def out_of_memory(bench: Bench) -> Result:
    server = bench.start("workers = 2")
    try:
        with memory_limit(server.pid, 200 << 20):
            for pid in server.workers():
                os.kill(pid, signal.SIGKILL)  # so that all workers are in the group
            server.ready(2)
            mark = server.mark()
            with contextlib.suppress(Failed):
                KeptConnection(server.connect).ask(f"/eat?{400 << 20}")
            line = server.wait_for("was sent SIGKILL", mark)[0]
            explained = "out-of-memory" in line
            with Traffic(server.connect, 2, keep_alive=False) as traffic:
                traffic.wait(50)
            until(lambda: len(server.workers()) == 2, "the replacement")
            said = "said" if explained else "not said"
            return Result(f"replaced, cause {said}; {traffic.hard_failures} failed", explained and not traffic.failures)
    finally:
        server.destroy()
