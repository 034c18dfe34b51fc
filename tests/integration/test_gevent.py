"""The gevent worker as processes and clients see it: while a request waits, all others are served."""

from __future__ import annotations

import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.integration.client import KeptConnection, Traffic
from tests.integration.conftest import starter
from tests.integration.green import BLOCK
from tests.integration.harness import (
    APPLICATION,
    Load,
    Server,
    answer,
    is_alive,
    parse_answer,
    to_the_end,
    until,
)

Serve = Callable[..., Server]

pytestmark = pytest.mark.kinds("gevent-compiled", "gevent-python")

GREEN = "tests.integration.green:app"
KEYS = ROOT / "tests" / "data" / "tls"

#: Blocks in C, and no other greenlet runs meanwhile.
STUCK = """
import ctypes, os

def wrapped(environ, start_response):
    if environ["PATH_INFO"] == "/stuck":
        os.write(1, b"SLEEPING\\n")
        left = 60.0
        while left:
            left = ctypes.CDLL(None).sleep(60)
    return inner(environ, start_response)

inner, app = app, wrapped
"""


@pytest.fixture(scope="module")
def green(kind: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One worker around the application of `green`, which reads uploads itself and waits for slow readers early."""
    with contextmanager(starter)(kind, tmp_path_factory.mktemp("green")) as start:
        yield start(
            "buffer_request_body = False\nresponse_buffer_size = response_spool_size = 100_000\n"
            "accesslog = '-'\naccess_log_format = 'ACCESS %(r)s %(s)s'\nworker_connections = 500\n",
            application=GREEN,
        ).ready()


@contextmanager
def holding(server: Server, name: str, count: int = 1) -> Iterator[list[socket.socket]]:
    """Requests that are held in the application meanwhile, and answered afterwards."""
    mark = server.mark()
    with ExitStack() as stack:
        connections = [stack.enter_context(server.send(f"/hold?{name}")) for _ in range(count)]
        server.wait_for("HOLDING", mark, count)
        yield connections
        assert server.get(f"/release?{name}") == str(count)
        assert {answer(connection) for connection in connections} == {name}


# -- requests beside each other ----------------------------------------------------------------------


def test_two_hundred_requests_wait_in_one_worker_at_a_time(green: Server) -> None:
    with ExitStack() as stack:
        connections = [stack.enter_context(green.send("/together?200")) for _ in range(200)]
        assert {answer(connection) for connection in connections} == {"200"}


def test_requests_are_served_while_a_hundred_others_wait(green: Server) -> None:
    with holding(green, "hundred", 100) as waiting:
        kept = KeptConnection(green.connect)
        assert [kept.ask("/").body for _ in range(200)] == [b"ok"] * 200
        assert kept.opened == 1
        kept.close()
        for connection in waiting:
            connection.setblocking(False)
            with pytest.raises(BlockingIOError):
                connection.recv(1)
            connection.settimeout(20)


def test_greenlets_do_not_become_more(green: Server) -> None:
    def after(count: int) -> int:
        with holding(green, "many", count):
            pass
        return int(green.get("/greenlets"))

    first = [after(150) for _ in range(2)][-1]
    assert first < 120  # not all of them are kept
    assert [after(150) for _ in range(4)][-1] <= first + 5


def test_context_variables_of_a_thousand_requests_do_not_mix(green: Server) -> None:
    wrong: list[bytes] = []

    def ask(client: int) -> None:
        kept = KeptConnection(green.connect)
        for number in range(50):
            body = kept.ask(f"/context?{client}-{number}").body
            if body != f"none {client}-{number}".encode():
                wrong.append(body)
        kept.close()

    clients = [threading.Thread(target=ask, args=(client,)) for client in range(20)]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join(60)
    assert wrong == [] and not any(thread.is_alive() for thread in clients)


def test_pipelined_requests_are_answered_in_order_while_they_wait(green: Server) -> None:
    requests = b"".join(b"GET /context?%d HTTP/1.1\r\nHost: a\r\n\r\n" % n for n in range(10))
    received = green.exchange(requests + b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert [received.find(b"none %d" % n) for n in range(10)] == sorted(received.find(b"none %d" % n) for n in range(10))
    assert received.count(b"HTTP/1.1 200") == 11 and b"none 0" in received


# -- slow clients --------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["/stream?160", "/large?160", "/file?160"])
def test_others_are_served_while_a_response_waits_for_its_reader(green: Server, target: str) -> None:
    slow = socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    slow.settimeout(20)
    slow.connect(green.address)
    with slow:
        slow.sendall(f"GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        received = slow.recv(4096)
        for _ in range(20):
            assert green.get("/") == "ok"
        received += to_the_end(slow)
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert body.replace(b"10000\r\n" + BLOCK + b"\r\n", b"") == b"0\r\n\r\n" if b"chunked" in head else body == BLOCK * 160


def test_others_are_served_while_a_body_comes_slowly(green: Server) -> None:
    mark = green.mark()
    with green.connect() as slow:
        slow.sendall(b"POST /begin HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 300000\r\n\r\nbegun")
        green.wait_for("READING", mark)
        assert [green.get("/") for _ in range(20)] == ["ok"] * 20
        slow.sendall(b"x" * 299_995)
        assert answer(slow) == "300000"


def test_others_are_served_while_a_proxy_header_comes_slowly(serve: Serve) -> None:
    server = serve("proxy_protocol = True", application=GREEN).ready()
    request = b"GET /peer HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    with server.connect() as slow:
        slow.sendall(b"PROXY TCP4 192.0.2.1 192.0.2.9")
        for number in range(20):
            with server.connect() as quick:
                quick.sendall(b"PROXY TCP4 192.0.2.%d 192.0.2.9 1000 80\r\n" % (number + 2) + request)
                assert answer(quick) == f"192.0.2.{number + 2}"
        slow.sendall(b" 1000 80\r\n" + request)
        assert answer(slow) == "192.0.2.1"


def test_a_body_is_closed_once_when_its_reader_leaves(green: Server) -> None:
    before = int(green.get("/closed"))
    with green.send("/stream?1000") as leaving:
        leaving.recv(1)
    until(lambda: int(green.get("/closed")) == before + 1, "the body is closed")


# -- how long things last ------------------------------------------------------------------------------


@pytest.mark.provokes("is stuck in", "Error handling request", "exited with code 1", "Traceback")
def test_timeout_is_for_who_holds_the_event_loop_and_not_for_who_waits(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APPLICATION.format(version="one") + STUCK)
    server = serve("timeout = 1").ready()
    (worker,) = server.workers()
    with server.occupy(2.5) as slow:
        assert answer(slow) == "slept"
    assert server.workers() == [worker]
    with server.occupy(60), server.send("/stuck"):
        server.wait_for(rf"WORKER TIMEOUT \(pid:{worker}\)")
        server.wait_for(r"^Greenlet 1 of 1 \(most recent call last\)")
        until(lambda: not is_alive(worker), "the stuck worker's end")
    server.ready(1)


def test_client_timeouts_end_connections_and_hold_nobody(serve: Serve) -> None:
    server = serve("client_header_timeout = client_body_timeout = 1\nkeepalive = 1\nbuffer_request_body = False",
                   application=GREEN).ready()  # fmt: skip
    with server.connect() as head, server.connect() as body, server.connect() as idle:
        head.sendall(b"GET / HT")
        body.sendall(b"POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nbegun")
        idle.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert parse_answer(to_the_end(head)).status == 408
        assert parse_answer(to_the_end(body)).status == 408
        assert parse_answer(to_the_end(idle)).body == b"ok"
    assert server.get("/") == "ok"


def test_a_worker_is_replaced_after_max_requests_and_its_waiting_requests_are_answered(serve: Serve) -> None:
    server = serve("max_requests = 6", application=GREEN).ready()
    (worker,) = server.workers()
    with ExitStack() as stack:
        slow = [stack.enter_context(server.send("/sleep?1")) for _ in range(3)]
        server.wait_for("SLEEPING", count=3)
        until(lambda: server.get("/") and server.seen("Autorestarting worker"), "the last request")
        assert [answer(connection) for connection in slow] == ["slept"] * 3
    until(lambda: not is_alive(worker), "the old worker's end")
    assert server.ready(1).get("/") == "ok"


# -- stops and reloads ---------------------------------------------------------------------------------


def test_term_lets_requests_end(serve: Serve) -> None:
    server = serve("keepalive = 60", application=GREEN).ready()
    with ExitStack() as stack:
        idle = stack.enter_context(server.connect())
        idle.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert idle.recv(65536).startswith(b"HTTP/1.1 200")
        slow = [stack.enter_context(server.send("/sleep?1")) for _ in range(5)]
        server.wait_for("SLEEPING", count=5)
        server.signal(signal.SIGTERM)
        assert [answer(connection) for connection in slow] == ["slept"] * 5
    assert server.wait_exit() == 0
    assert not server.seen("^Traceback|ERROR|WARNING")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
@pytest.mark.provokes("Error handling request", "Traceback")
def test_a_quick_stop_waits_for_nobody(serve: Serve, tmp_path: Path, number: int) -> None:
    (tmp_path / "app.py").write_text(APPLICATION.format(version="one") + STUCK)
    hook = "graceful_timeout = 60\ndef worker_int(worker): worker.log.info('INTERRUPTED')\n"
    server = serve(hook).ready()
    with server.occupy(60), server.occupy(60):
        server.signal(number)
        assert server.wait_exit(6) == 0
        server.wait_for("INTERRUPTED")
    again = serve(hook).ready()
    with again.send("/stuck"):  # the event loop does not turn
        again.wait_for("SLEEPING")
        again.signal(number)
        assert again.wait_exit(6) == 0


def test_reloads_lose_no_request(serve: Serve) -> None:
    server = serve("workers = 2\n").ready(2)
    with Load(server, clients=4) as load:
        for _ in range(3):
            mark = server.mark()
            before = set(server.workers())
            server.signal(signal.SIGHUP)
            until(lambda: not before & set(server.workers()), "the old workers' end")  # noqa: B023
            server.wait_for("Booting worker", mark, count=2)
            load.wait(20)
    assert load.failures == []
    assert server.stop() == 0


def test_usr1_opens_the_logs_anew(serve: Serve, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    server = serve("accesslog = 'access.log'").ready()
    until(lambda: server.get("/") and log.read_text(), "a line")
    log.rename(tmp_path / "old.log")
    server.signal(signal.SIGUSR1)
    until(lambda: server.get("/") and log.exists() and log.read_text(), "a line in the new file")


def test_lines_of_requests_that_wait_beside_each_other_go_to_syslog(serve: Serve) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as daemon:
        daemon.bind(("127.0.0.1", 0))
        daemon.settimeout(20)
        address = f"udp://127.0.0.1:{daemon.getsockname()[1]}"
        server = serve(f"syslog = True\nsyslog_addr = {address!r}\naccess_log_format = 'ASKED %(U)s'", application=GREEN)
        server.ready()
        with holding(server, "logged", 20):
            assert server.get("/length") == "0"
        told: list[str] = []
        while told.count("/hold") < 20 or "/length" not in told:
            told += re.findall(r"ASKED (\S+)\0$", daemon.recv(65536).decode())


@pytest.mark.provokes("Reloader is on", "reload")
def test_the_reloader_notices_changes(serve: Serve) -> None:
    server = serve("reload = True").ready()
    assert server.get("/") == "one"
    server.write_application("two and more")
    server.serves("two and more")


# -- patches ---------------------------------------------------------------------------------------------

#: Imported before it is said that the worker is gevent's, by what is to find a patched library.
EARLY_IMPORTS = """
import ssl, urllib.request, http.client, subprocess, time
from ssl import SSLContext
worker_class = "gevent"
certfile, keyfile = {keys!r} + "/server.pem", {keys!r} + "/server.key"
def post_fork(server, worker):
    time.sleep(0.01)
"""


@pytest.mark.parametrize("preload", [True, False])
def test_all_is_patched_before_anybody_imports_it(kind: str, tmp_path: Path, preload: bool) -> None:
    with contextmanager(starter)(kind, tmp_path) as start:
        server = start(
            EARLY_IMPORTS.format(keys=str(KEYS)) + f"preload_app = {preload}\n", application=GREEN
        )
        server.wait_for("LOADED")
        context = ssl.create_default_context(cafile=KEYS / "ca.pem") if (KEYS / "ca.pem").exists() else None
        if context is None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE

        def get(target: str) -> bytes:
            with context.wrap_socket(server.connect(), server_hostname="localhost") as connection:
                connection.sendall(f"GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
                return parse_answer(to_the_end(connection)).body

        assert get("/patched") == b"socket ssl thread subprocess fork"
        held = threading.Thread(target=get, args=("/hold?tls",))
        held.start()
        server.wait_for("HOLDING")
        assert get("/") == b"ok"
        assert get("/release?tls") == b"1"
        held.join(20)
        assert server.stop() == 0
        assert not server.seen("Warning|Traceback")


EMBEDDED = """
{before}
import sys
from cyhorn.app.base import BaseApplication

class Embedded(BaseApplication):
    def load_config(self):
        self.cfg.set("bind", "127.0.0.1:0")
        self.cfg.set("worker_class", {named})
        self.cfg.set("preload_app", True)

    def load(self):
        from tests.integration.green import app
        return app

Embedded().run()
"""


@pytest.mark.parametrize(
    ("before", "named"),
    [
        ("", "'gevent'"),
        ("from cyhorn.workers.ggevent import GeventWorker", "GeventWorker"),
        ("from gevent import monkey; monkey.patch_all()", "'gevent'"),
    ],
    ids=["named", "class", "patched already"],
)
def test_an_embedded_server_is_patched(kind: str, tmp_path: Path, before: str, named: str) -> None:
    script = EMBEDDED.format(before=before, named=named)
    with contextmanager(starter)(kind, tmp_path) as start:
        server = start(None, wrapper=script)
        server.wait_for("LOADED")
        assert server.get("/patched") == "socket ssl thread subprocess fork"
        with holding(server, "one", 3):
            assert server.get("/") == "ok"
        (worker,) = server.workers()
        server.signal(signal.SIGHUP)
        until(lambda: not is_alive(worker), "the old worker's end")
        until(lambda: server.get("/") == "ok", "the new worker")
        assert server.stop() == 0
        assert not server.seen("Warning|Traceback|ERROR")


def test_patching_again_in_the_application_is_silent(serve: Serve, tmp_path: Path) -> None:
    patch = "from gevent import monkey; monkey.patch_all()\n"
    (tmp_path / "app.py").write_text(patch + APPLICATION.format(version="one"))
    server = serve("preload_app = True").ready()
    with server.occupy(60):
        assert server.get("/") == "one"
    assert not server.seen("Warning")


def test_without_gevent_one_line_says_what_to_install(kind: str, tmp_path: Path) -> None:
    code = "import sys, runpy; sys.modules['gevent'] = None; runpy.run_module('cyhorn', run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", code, "-k", "gevent", "-b", "127.0.0.1:0", "app:app"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "CYHORN_IMPL": kind.split("-")[1]},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "pip install" in line]
    assert "worker_class = 'gevent'" in line and "cyhorn[gevent]" in line and "the command line" in line


def test_traffic_of_all_kinds_beside_each_other_is_answered(green: Server) -> None:
    kinds: dict[str, dict[str, Any]] = {
        "/": {"clients": 4},
        "/context?1": {"clients": 4},
        "/length": {"clients": 2, "method": "POST", "body": b"x" * 200_000},
        "/stream?3": {"clients": 2},
        "/sleep?0.01": {"clients": 4, "keep_alive": False},
    }
    with ExitStack() as stack:
        traffic = [
            stack.enter_context(Traffic(green.connect, target=target, **options)) for target, options in kinds.items()
        ]
        for each in traffic:
            each.wait(100)
    assert [failure for each in traffic for failure in each.failures] == []
