"""``python -m reliability.soak --minutes 30``: everything at once, for a long time.

Keep-alive and fresh clients, uploads, streams, slow readers and clients that leave run against one server,
while it is reloaded, upgraded (forward and back), scaled, its logs turned over and its workers killed.

Zero hard failures: a request that a killed worker held is lost with it, so during the seconds around a kill
losses are counted apart, and may not be more than the clients there are. Memory and descriptors of master and
workers must be flat: the last quarter of the samples against the second.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from reliability.contestants import COMPILED, PURE, write
from reliability.scenarios.upgrade import begin
from tests.integration.accounts import open_files, resident
from tests.integration.client import Failed, KeptConnection, reset
from tests.integration.harness import Server, listens, processes, until

#: Seconds after a kill within which what that worker held may be missed.
WAKE = 3.0


@dataclass
class Tally:
    """What the clients met."""

    counts: Counter[str] = field(default_factory=Counter)
    hard: list[str] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    killed_at: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def whole(self, kind: str, wait: float) -> None:
        with self.lock:
            self.counts[kind] += 1
            if kind == "small":
                self.waits.append(wait)

    def failed(self, kind: str, failure: Failed, begun: float) -> None:
        with self.lock:
            if failure.kind == "retry":
                self.counts["retried"] += 1
            elif begun < self.killed_at + WAKE and time.monotonic() > self.killed_at:
                self.counts["lost to a kill"] += 1
            else:
                self.hard.append(f"{time.strftime('%H:%M:%S')} {kind}: {failure}")


#: Kind of client → (target, method, body, what the answer's length has to be, keep-alive, pause).
WORK = {
    "small": ("/id?0123456789", "GET", None, 10, True, 0.01),
    "fresh": ("/id?0123456789", "GET", None, 10, False, 0.02),
    "upload": ("/length", "POST", b"u" * 3_000_000, 7, True, 0.2),
    "stream": ("/stream?20,0.005", "GET", None, 20480, True, 0.1),
    "large": ("/large?5000000", "GET", None, 5_000_000, False, 0.3),
    "slow call": ("/sleep?0.3", "GET", None, 5, True, 1.0),
}
CLIENTS = {"small": 4, "fresh": 2, "upload": 1, "stream": 1, "large": 1, "slow call": 1}


class Soak:
    """One server and its clients."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.master = server.pid
        self.tally = Tally()
        self.deeds: Counter[str] = Counter()
        self.samples: list[dict[str, float]] = []
        self.over = threading.Event()
        self.trouble: list[str] = []
        self._threads = [
            threading.Thread(target=self._ask, args=[kind]) for kind, count in CLIENTS.items() for _ in range(count)
        ]
        self._threads.append(threading.Thread(target=self._leave))

    def _ask(self, kind: str) -> None:
        target, method, body, size, keep_alive, pause = WORK[kind]
        connection = KeptConnection(self.server.connect, keep_alive)
        while not self.over.is_set():
            begun = time.monotonic()
            try:
                answer = connection.ask(target, method, body)
                if len(answer.body) != size:
                    raise Failed("malformed", f"{len(answer.body)} bytes")
                self.tally.whole(kind, time.monotonic() - begun)
            except Failed as failure:
                self.tally.failed(kind, failure, begun)
                if failure.kind == "retry":
                    continue
            self.over.wait(pause)
        connection.close()
        if connection.idle_resets:
            self.tally.counts["idle resets"] += connection.idle_resets

    def _leave(self) -> None:
        """A client that goes away somewhere, again and again."""
        chance = random.Random(3)
        while not self.over.wait(0.1):
            request = chance.choice((b"GET /large?3000000 HTTP/1.1\r\nHost: a\r\n\r\n", b"POST /length HTTP/1.1\r\nHos"))
            try:
                connection = self.server.connect()
                connection.sendall(request)
                (reset if chance.random() < 0.5 else socket.socket.close)(connection)
                self.tally.counts["left"] += 1
            except OSError as error:
                self.tally.failed("left", Failed("refused", repr(error)), time.monotonic())

    def workers(self) -> list[int]:
        return self.server.workers(self.master)

    # -- what is done to it ------------------------------------------------------------------

    def reload(self) -> None:
        write(self.server.folder, f"version {sum(self.deeds.values())}")
        mark = self.server.mark()
        os.kill(self.master, signal.SIGHUP)
        self.server.wait_for(rf"\[{self.master}\] .*Reload done", mark, patience=60)

    def broken_reload(self) -> None:
        write(self.server.folder, "broken", "raise RuntimeError('broken')")
        mark = self.server.mark()
        os.kill(self.master, signal.SIGHUP)
        self.server.wait_for(rf"\[{self.master}\] .*Reload failed", mark, patience=60)
        write(self.server.folder, "mended")

    def upgrade(self) -> None:
        old, new = self.master, begin(self.server, self.master, 2)
        os.kill(old, signal.SIGTERM)
        self.server.process.poll()
        until(lambda: old not in {pid for pid, _, state in processes() if state != "Z"}, "the old master's end", 60)
        self.master = new
        until(lambda: self.server.seen(rf"\[{new}\] .*Master has been promoted"), "its promotion", 60)

    def rollback(self) -> None:
        new = begin(self.server, self.master, 2)
        os.kill(new, signal.SIGTERM)
        until(lambda: new not in {pid for pid, _, _ in processes()}, "the new master's end", 60)

    def scale(self) -> None:
        os.kill(self.master, signal.SIGTTIN)
        until(lambda: len(self.workers()) >= 3, "three workers", 60)
        time.sleep(1)
        os.kill(self.master, signal.SIGTTOU)

    def turn_logs(self) -> None:
        access = self.server.folder / "access"
        os.replace(access, self.server.folder / "access.1")
        os.kill(self.master, signal.SIGUSR1)
        until(access.exists, "the new log", 60)

    def kill(self) -> None:
        with self.tally.lock:
            self.tally.killed_at = time.monotonic()
        os.kill(random.choice(self.workers()), signal.SIGKILL)

    # -- the run -----------------------------------------------------------------------------

    def run(self, seconds: float) -> None:
        for thread in self._threads:
            thread.start()
        deeds = [
            self.reload,
            self.kill,
            self.reload,
            self.scale,
            self.upgrade,
            self.broken_reload,
            self.turn_logs,
            self.rollback,
        ]
        end, number = time.monotonic() + seconds, 0
        while time.monotonic() < end and len(self.trouble) < 5:
            deed = deeds[number % len(deeds)]
            number += 1
            try:
                deed()
                self.deeds[deed.__name__] += 1
                until(lambda: len(self.workers()) == 2, "two workers", 60)
            except (AssertionError, OSError) as error:
                self.trouble.append(f"{deed.__name__}: {str(error).partition(chr(10))[0]}")
            time.sleep(2)
            self.sample()
        self.over.set()
        for thread in self._threads:
            thread.join(60)

    def sample(self) -> None:
        """Memory and descriptors, when all is as at the beginning."""
        try:
            workers = self.workers()
            sample = {
                "master MB": resident(self.master) / (1 << 20),
                "worker MB": max(resident(pid) for pid in workers) / (1 << 20),
                "master descriptors": len(open_files(self.master)),
                # Connections are not what a leak is made of here: files and pipes are.
                "worker files": max(len([n for n in open_files(pid) if n != "socket"]) for pid in workers),
            }
        except (OSError, ValueError, AssertionError):
            return
        self.samples.append(sample)
        if len(self.samples) % 10 == 0:
            print(time.strftime("%H:%M:%S"), self.words(), flush=True)

    def growth(self) -> dict[str, tuple[float, float]]:
        """Figure → (median of the second quarter, median of the last)."""
        quarter = max(1, len(self.samples) // 4)
        return {
            name: (
                statistics.median(sample[name] for sample in self.samples[quarter : 2 * quarter] or self.samples),
                statistics.median(sample[name] for sample in self.samples[-quarter:]),
            )
            for name in self.samples[0]
        }

    def words(self) -> str:
        counts = ", ".join(f"{count} {name}" for name, count in sorted(self.tally.counts.items()))
        deeds = ", ".join(f"{count} {name}" for name, count in sorted(self.deeds.items()))
        shown = ", ".join(f"{name} {value:.1f}" for name, value in self.samples[-1].items())
        return f"{counts} | {deeds} | {shown} | {len(self.tally.hard)} hard failures"

    def verdict(self) -> list[str]:
        """What is wrong; nothing if all is well."""
        wrong = [*self.trouble, *self.tally.hard[:20]]
        kills = self.deeds["kill"]
        if self.tally.counts["lost to a kill"] > kills * sum(CLIENTS.values()):
            wrong.append("more was lost to kills than the workers can have held")
        if self.tally.counts["idle resets"] > kills * sum(CLIENTS.values()):
            wrong.append("idle connections were reset without a kill")
        for name, (before, after) in self.growth().items():
            if after > before * 1.1 + 1:
                wrong.append(f"{name} grew from {before:.1f} to {after:.1f}")
        # In a broken reload the workers say why; nothing else has one.
        odd = self.server.seen("^Traceback|CRITICAL|Error handling|Error while")
        if len(odd) > 2 * self.deeds["broken_reload"]:
            wrong.append(f"{len(odd)} tracebacks in the log")
        return wrong


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m reliability.soak", description="A long mixed run.")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--pure", action="store_true", help="cyhorn without its compiled side")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cyhorn-soak-", ignore_cleanup_errors=True) as name:
        config = "workers = 2\npidfile = 'pid'\nbind = 'unix:socket'\nerrorlog = '-'\naccesslog = 'access'\n"
        who = PURE if options.pure else COMPILED
        server = who.start(Path(name), config, bind="", at=f"{name}/socket")
        try:
            until(lambda: listens(Path(name, "socket")) and len(server.workers()) == 2, "the start")
            soak = Soak(server)
            soak.run(options.minutes * 60)
            os.kill(soak.master, signal.SIGTERM)
            until(lambda: not server.workers(soak.master) and not Path(name, "socket").exists(), "the stop", 60)
        finally:
            server.destroy()
    print(soak.words())
    waits = sorted(soak.tally.waits)
    print(f"small requests: half within {waits[len(waits) // 2] * 1000:.1f} ms, 99 % {waits[int(len(waits) * 0.99)] * 1000:.1f} ms")
    for figure, (before, after) in soak.growth().items():
        print(f"{figure}: {before:.1f} -> {after:.1f}")
    wrong = soak.verdict()
    print("\n".join(wrong) or "all is well")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
