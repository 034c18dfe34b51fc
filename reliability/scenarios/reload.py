"""HUP, again and again, with new code, slow code, broken code, and under load."""

from __future__ import annotations

import signal
import time

from reliability.bench import Bench, Result, failed, scenario, told
from tests.integration.accounts import open_files, resident
from tests.integration.client import KeptConnection, Traffic
from tests.integration.harness import until

BROKEN = "raise RuntimeError('broken')"


@scenario("20 reloads under load", "no request fails", 12, 13, 21, peers=True, short=True)
def twenty_reloads(bench: Bench) -> Result:
    server = bench.start("workers = 2", ready=2)
    with Traffic(server.connect, 3, pause=0.002) as kept, Traffic(server.connect, 2, keep_alive=False) as fresh:
        for number in range(bench.size(20, 5)):
            bench.write(f"version {number}")
            bench.reload(server)
    kept_wait = max(kept.waits + fresh.waits)
    return Result(f"{told(kept, fresh)}; longest wait {kept_wait:.2f} s", failed(kept, fresh) == 0)


@scenario("reload of code that takes 2 s to load", "nobody waits for it", 11, peers=True)
def slow_boot(bench: Bench) -> Result:
    server = bench.start("workers = 2", ready=2)
    bench.write("slow", "import time; time.sleep(2)")
    with Traffic(server.connect, 2, keep_alive=False, pause=0.01) as traffic:
        bench.reload(server)
        traffic.wait(10)
    longest = max(traffic.waits)
    return Result(f"{told(traffic)}; longest wait {longest:.2f} s", failed(traffic) == 0 and longest < 1.5)


@scenario("reload of code that does not import", "the old code serves on", 10, peers=True, short=True)
def broken_code(bench: Bench) -> Result:
    return _broken(bench, lambda: bench.write("broken", BROKEN))


@scenario("reload of a configuration that is broken", "the old code serves on", 10, peers=True)
def broken_configuration(bench: Bench) -> Result:
    return _broken(bench, lambda: bench.servers[0].write_config("def broken(:"))


def _broken(bench: Bench, breaks) -> Result:  # type: ignore[no-untyped-def]
    server = bench.start("workers = 2", ready=2)
    with Traffic(server.connect, 2, keep_alive=False, pause=0.01) as traffic:
        breaks()
        server.signal(signal.SIGHUP)
        if bench.who.ours:
            server.wait_for("Reload failed")
        else:
            deadline = time.monotonic() + 5
            while server.process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.05)
        time.sleep(0.5)
    code = server.process.poll()
    fate = "serves" if code is None else f"the server ended with {code}"
    return Result(f"{fate}; {told(traffic)}", code is None and failed(traffic) == 0)


@scenario("reload of code whose workers are killed while they boot", "the old code serves on", 10)
def crashing_boot(bench: Bench) -> Result:
    return _broken(bench, lambda: bench.write("killed", "os.kill(os.getpid(), 9)"))


@scenario("30 HUPs, one each 30 ms, new code with each", "the newest is served, no request fails", 14, short=True)
def storm(bench: Bench) -> Result:
    server = bench.start("workers = 2", ready=2)
    mark = server.mark()
    times = bench.size(30, 10)
    with Traffic(server.connect, 2, keep_alive=False) as traffic:
        for number in range(times):
            bench.write(f"version {number}")
            server.signal(signal.SIGHUP)
            time.sleep(0.03)
        asker = KeptConnection(server.connect, keep_alive=False)
        newest = f"version {times - 1}".encode()
        until(lambda: all(asker.ask("/version").body == newest for _ in range(10)), "the newest code")
    reloads = len(server.seen("Reload done", mark))
    return Result(f"newest served after {reloads} whole reloads; {told(traffic)}", failed(traffic) == 0)


@scenario("10 generations, each held by a slow reader", "the master grows by no descriptor; all answers whole", 15)
def generations(bench: Bench) -> Result:
    server = bench.start("workers = 1", ready=1)
    bench.reload(server)
    files, memory = len(open_files(server.pid)), resident(server.pid)
    held = []
    for _ in range(10):
        reader = server.connect()
        reader.sendall(b"GET /large?30000000 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        reader.recv(100)
        held.append(reader)
        bench.reload(server)
    most = len(server.workers())
    grown = len(open_files(server.pid)) - files
    whole = 0
    for reader in held:
        count = 100
        while piece := reader.recv(1 << 20):
            count += len(piece)
        whole += count > 30_000_000
        reader.close()
    until(lambda: len(server.workers()) == 1, "the end of the old")
    more = (resident(server.pid) - memory) / (1 << 20)
    return Result(
        f"{most} workers at most, {grown} descriptors and {more:.1f} MB more, {whole} of 10 whole",
        grown == 0 and whole == 10 and more < 4,
    )


