"""TERM, INT and QUIT, with everything under way."""

from __future__ import annotations

import os
import signal
import time

from reliability.bench import Bench, Result, at_most, scenario, seconds_until
from tests.integration.client import drip
from tests.integration.harness import Broken, answer
from tests.loop.driver import Incomplete, read_all


@scenario("TERM with 50 connections in the queue of a busy worker", "all are answered", 30, 31, peers=True, short=True)
def queued(bench: Bench) -> Result:
    server = bench.start("workers = 1", ready=1)
    busy = server.send("/sleep?0.5")
    server.wait_for("SLEEPING")
    waiting = [server.send("/") for _ in range(50)]
    server.signal(signal.SIGTERM)
    whole = 0
    for connection in (busy, *waiting):
        try:
            whole += bool(answer(connection))
        except Broken:
            pass
        connection.close()
    code = server.wait_exit(40)
    return Result(f"{whole} of 51 answered, exit {code}", whole == 51 and code == 0)


@scenario(
    "TERM with an answer, a stream, an upload and a slow reader under way", "all end whole", 32, peers=True, short=True
)
def under_way(bench: Bench) -> Result:
    server = bench.start("workers = 4", ready=4)
    sleeper, stream, upload, reader = (server.connect() for _ in range(4))
    sleeper.sendall(b"GET /sleep?1 HTTP/1.1\r\nHost: a\r\n\r\n")
    server.wait_for("SLEEPING")
    stream.sendall(b"GET /stream?10,0.1 HTTP/1.1\r\nHost: a\r\n\r\n")
    upload.sendall(b"POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\n1")
    reader.sendall(b"GET /large?30000000 HTTP/1.1\r\nHost: a\r\n\r\n")
    time.sleep(0.2)
    server.signal(signal.SIGTERM)
    drip(upload, b"23456", 0.2)
    whole = 0
    for connection, size in ((sleeper, 5), (stream, 10240), (upload, 1), (reader, 30_000_000)):
        received = []
        try:
            while piece := connection.recv(1 << 20):
                received.append(piece)
            whole += [len(each.body) for each in read_all(b"".join(received))] == [size]
        except (OSError, AssertionError, Incomplete):
            pass
        connection.close()
    code = server.wait_exit(40)
    return Result(f"{whole} of 4 whole, exit {code}", whole == 4 and code == 0)


@scenario("QUIT while the application hangs and one of its threads, too", "ended within 3 s", 33, peers=True)
def quick(bench: Bench) -> Result:
    server = bench.start("workers = 2")
    bench.write("x", "import threading, time; threading.Thread(target=time.sleep, args=[60]).start()")
    server.destroy()
    server = bench.start("workers = 2", ready=2)
    connection = server.send("/sleep?60")
    server.wait_for("SLEEPING")
    server.signal(signal.SIGQUIT)
    seconds = seconds_until(lambda: server.process.poll() is not None)
    connection.close()
    return at_most(seconds, 3)


@scenario("a second TERM a second after the first, the application hangs", "ended within 3 s of it", 33, peers=True)
def second_term(bench: Bench) -> Result:
    server = bench.start("workers = 1\ngraceful_timeout = 15", ready=1)
    connection = server.send("/sleep?60")
    server.wait_for("SLEEPING")
    server.signal(signal.SIGTERM)
    time.sleep(1)
    server.signal(signal.SIGTERM)
    seconds = seconds_until(lambda: server.process.poll() is not None)
    connection.close()
    return at_most(seconds, 3)


@scenario("TERM, INT and QUIT while the application loads", "ended within 3 s, exit 0", 35, short=True)
def booting(bench: Bench) -> Result:
    worst, codes = 0.0, []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        bench.write("slow", "import time; os.write(1, b'LOADING\\n'); time.sleep(60)")
        server = bench.start("workers = 2")
        server.wait_for("LOADING", count=2)
        server.signal(number)
        worst = max(worst, seconds_until(lambda server=server: server.process.poll() is not None))
        codes.append(server.process.poll())
    return Result(f"{worst:.2f} s, exit {codes}", worst < 3 and codes == [0, 0, 0])


@scenario("TERM during a reload whose code takes a minute to load", "ended within 3 s, exit 0", 35)
def reloading(bench: Bench) -> Result:
    server = bench.start("workers = 2\npidfile = 'pid'", ready=2)
    bench.write("slow", "import time; os.write(1, b'LOADING\\n'); time.sleep(60)")
    server.signal(signal.SIGHUP)
    server.wait_for("LOADING")
    server.signal(signal.SIGTERM)
    seconds = seconds_until(lambda: server.process.poll() is not None)
    clean = server.process.poll() == 0 and not os.path.exists(bench.folder / "pid")
    return Result(f"{seconds:.2f} s, exit {server.process.poll()}", seconds < 3 and clean)
