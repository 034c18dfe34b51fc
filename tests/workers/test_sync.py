"""The sync worker: what it gives the loop from the configuration, and what ends it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from cyhorn.config.config import Config
from cyhorn.log.logger import Logger
from cyhorn.process.heartbeat import READY, STOPPING
from cyhorn.workers import sync
from cyhorn.wsgi.options import LoopOptions
from tests.loop.driver import CLOSE, Answer, get, hello, post, read_all

TLS = Path(__file__).parents[1] / "data" / "tls"


class Worker:
    """A SyncWorker over one listener, with `application` loaded as `init_process` would have."""

    def __init__(
        self, impl: Any, monkeypatch: pytest.MonkeyPatch, directory: Path, application: Any = hello, **settings: Any
    ) -> None:
        monkeypatch.setattr(sync, "Loop", impl.loop.Loop)
        self.cfg = Config()
        self.error_log = directory / "error.log"
        for name, value in {"errorlog": str(self.error_log), "loglevel": "debug", **settings}.items():
            self.cfg.set(name, value)
        self.log = Logger(self.cfg)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        self.address = self.listener.getsockname()
        self.worker = sync.SyncWorker(1, os.getppid(), [self.listener], None, 15.0, self.cfg, self.log)
        self.worker.wsgi = application
        self.parent_read, self.parent_write = os.pipe()
        self.worker.parent_fd = self.parent_read
        self.worker.tmp.state = READY

    @contextlib.contextmanager
    def running(self) -> Iterator[threading.Thread]:
        """Run it in a thread meanwhile; it ends, at the latest, as if the master had."""
        failures: list[BaseException] = []

        def run() -> None:
            try:
                self.worker.run()
            except BaseException as error:
                failures.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield thread
        finally:
            with contextlib.suppress(OSError):
                os.close(self.parent_write)
            thread.join(10)
            assert not thread.is_alive()
            os.close(self.parent_read)
            self.listener.close()
            assert failures == []

    def exchange(self, data: bytes, *methods: str) -> list[Answer]:
        """All answers to `data`, which has to end its connection."""
        with socket.create_connection(self.address, timeout=10) as client:
            client.sendall(data)
            received = b""
            while piece := client.recv(65536):
                received += piece
        return read_all(received, *methods)

    def errors(self) -> str:
        return self.error_log.read_text()


@pytest.fixture
def made(impl: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    loggers: list[Logger] = []

    def make(application: Any = hello, **settings: Any) -> Worker:
        worker = Worker(impl, monkeypatch, tmp_path, application, **settings)
        loggers.append(worker.log)
        return worker

    yield make
    for log in loggers:
        for handler in [*log.error_log.handlers, *log.access_log.handlers]:
            handler.close()
        log.error_log.handlers.clear()
        log.access_log.handlers.clear()


def wait_for(true: Any) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.002)


# -- the options ------------------------------------------------------------------------------------------------------


def test_settings_with_the_name_of_an_option_are_its_value(made, tmp_path):
    settings = {
        "client_header_timeout": 3, "keepalive": 7, "limit_request_line": 300, "limit_request_fields": 5,
        "limit_request_field_size": 400, "limit_request_body": 17, "buffer_request_body": False,
        "body_buffer_size": 18, "response_buffer_size": 19, "sendfile": False, "permit_obsolete_folding": True,
        "header_map": "refuse", "server_header": "mine", "context_isolation": False, "casefold_http_method": True,
    }  # fmt: skip
    worker = made(**settings)
    options = worker.worker.loop_options()
    assert {name: getattr(options, name) for name in settings} == settings
    with worker.running():
        pass


def test_every_option_comes_from_a_setting_or_is_computed(made):
    worker = made()
    settings = set(worker.cfg.settings)
    assert {name for name in LoopOptions._fields if name not in settings} <= set(sync._COMPUTED)
    assert set(sync._COMPUTED) <= set(LoopOptions._fields)
    with worker.running():
        pass


def test_networks_workers_and_mount_point_are_computed(made, monkeypatch):
    monkeypatch.setenv("SCRIPT_NAME", "/m")
    worker = made(forwarded_allow_ips="10.0.0.0/8,::1", proxy_allow_ips="*", workers=3)
    options = worker.worker.loop_options()
    assert set(options.forwarded_allow_ips) == {ip_network("10.0.0.0/8"), ip_network("::1/128")}
    assert options.proxy_allow_ips is None and options.multiprocess is True and options.script_name == "/m"
    assert options.pre_request is options.post_request is options.access_lines is options.access_with_request is None
    with worker.running():
        assert worker.exchange(get("/m/x", CLOSE))[0].status == 200


@pytest.mark.parametrize("reuse_port", [False, True])
def test_connections_are_left_only_where_others_accept_them(made, reuse_port):
    worker = made(workers=2, reuse_port=reuse_port)
    assert worker.worker.loop_options().shared_listeners is not reuse_port
    with worker.running():
        pass


def test_the_loop_beats_more_often_than_the_master_looks(made):
    worker = made()
    worker.worker.timeout = 0.25
    assert worker.worker.loop_options().tick <= 0.25
    worker.worker.timeout = 0
    assert worker.worker.loop_options().tick == 1.0
    with worker.running():
        pass


# -- hooks and the access log ---------------------------------------------------------------------------------------------


def test_hooks_get_the_worker_and_what_gunicorn_gives_them(made):
    calls: list[Any] = []

    def pre_request(worker: Any, request: Any) -> None:
        calls.append(("pre", worker, request.path, worker.nr))

    def post_request(worker: Any, request: Any, environ: Any, response: Any) -> None:
        calls.append(("post", worker, request.path, environ["PATH_INFO"], response.status))

    worker = made(pre_request=pre_request, post_request=post_request)
    with worker.running():
        worker.exchange(get("/1") + get("/2", CLOSE))
    assert calls == [
        ("pre", worker.worker, "/1", 1), ("post", worker.worker, "/1", "/1", "200 OK"),
        ("pre", worker.worker, "/2", 2), ("post", worker.worker, "/2", "/2", "200 OK"),
    ]  # fmt: skip


def test_hooks_that_raise_are_logged_and_cost_no_request(made):
    def failing(*_: Any) -> None:
        raise ValueError("of the hook")

    def pre_request(worker: Any, request: Any) -> None:
        failing()

    def post_request(worker: Any, request: Any) -> None:
        failing()

    worker = made(pre_request=pre_request, post_request=post_request)
    with worker.running():
        assert [answer.body for answer in worker.exchange(get() + get("/", CLOSE))] == [b"hello", b"hello"]
    assert worker.errors().count("The hook pre_request failed") == 2
    assert worker.errors().count("The hook post_request failed") == 2


def test_one_access_line_is_written_for_each_answer(made, tmp_path):
    access = tmp_path / "access.log"
    worker = made(accesslog=str(access), access_log_format='%(m)s %(U)s %(s)s %(B)s "%({x}i)s"')
    with worker.running():
        worker.exchange(get("/a", "X: y") + get("/b", method="HEAD") + post(b"z", CLOSE, target="/c"), "GET", "HEAD")
        wait_for(lambda: access.read_text().count("\n") == 3)
    assert access.read_text() == 'GET /a 200 5 "y"\nHEAD /b 200 0 "-"\nPOST /c 200 5 "-"\n'


@pytest.mark.parametrize("subclass", [False, True])
def test_an_application_that_clears_its_environ_spoils_no_access_line(made, tmp_path, subclass):
    def clearing(environ: Any, start_response: Any) -> Any:
        environ.clear()
        return hello(environ, start_response)

    access = tmp_path / "access.log"
    worker = made(clearing, accesslog=str(access))
    if subclass:
        worker.log.__class__ = type("Own", (Logger,), {})  # a logger class of the user's own
    with worker.running():
        answers = worker.exchange(get("/1") + get("/2", CLOSE))
        assert [answer.body for answer in answers] == [b"hello", b"hello"]
        wait_for(lambda: access.read_text().count("\n") == 2)


def test_a_logger_of_the_users_own_gets_response_request_environ_and_time(made, tmp_path):
    calls: list[Any] = []

    class Own(Logger):
        def access(self, resp: Any, req: Any, environ: Any, request_time: Any) -> None:
            calls.append((resp.status, req.uri, environ["PATH_INFO"], request_time.total_seconds() >= 0))
            raise ValueError("of the logger")

    worker = made(accesslog=str(tmp_path / "access.log"))
    worker.log.__class__ = Own
    with worker.running():
        assert worker.exchange(get("/x?y", CLOSE))[0].status == 200
    assert calls == [("200 OK", "/x?y", "/x", True)]
    assert "The access log line could not be made" in worker.errors()


def test_wsgi_errors_is_the_error_log(made):
    def writing(environ: Any, start_response: Any) -> Any:
        print("from the application", file=environ["wsgi.errors"], flush=True)
        return hello(environ, start_response)

    worker = made(writing)
    with worker.running():
        worker.exchange(get("/", CLOSE))
    assert "from the application" in worker.errors()


# -- TLS ----------------------------------------------------------------------------------------------------------------------


def test_tls_is_served_with_the_context_of_the_settings(made):
    import ssl

    from cyhorn.net.tls import make_ssl_context

    worker = made(certfile=str(TLS / "server.pem"), keyfile=str(TLS / "server.key"))
    worker.worker.ssl_context = make_ssl_context(worker.cfg)
    context = ssl.create_default_context(cafile=str(TLS / "ca.pem"))
    context.check_hostname = False
    with worker.running(), socket.create_connection(worker.address, timeout=10) as plain:
        with context.wrap_socket(plain) as client:
            client.sendall(get("/", CLOSE))
            received = b""
            while piece := client.recv(65536):
                received += piece
        assert read_all(received)[0].body == b"hello"


# -- ends -----------------------------------------------------------------------------------------------------------------------


def test_the_end_of_the_master_ends_the_worker(made):
    worker = made()
    with worker.running() as thread:
        assert worker.exchange(get("/", CLOSE))[0].status == 200
        os.close(worker.parent_write)
        thread.join(10)
        assert not thread.is_alive() and worker.worker.alive is False
    assert "Parent changed, shutting down" in worker.errors()


def test_term_answers_what_was_received_and_ends(made):
    inside, leave = threading.Event(), threading.Event()

    def slow(environ: Any, start_response: Any) -> Any:
        inside.set()
        leave.wait(10)
        return hello(environ, start_response)

    worker = made(slow)
    with worker.running() as thread, socket.create_connection(worker.address, timeout=10) as client:
        client.sendall(get())
        assert inside.wait(10)
        worker.worker.handle_exit(signal.SIGTERM, None)
        leave.set()
        received = b""
        while piece := client.recv(65536):
            received += piece
        client.close()
        (answer,) = read_all(received)
        assert answer.body == b"hello"
        thread.join(10)
        assert not thread.is_alive() and worker.worker.alive is False


def test_a_worker_that_was_told_to_end_before_it_ran_accepts_what_waits_and_ends(made):
    worker = made()
    with socket.create_connection(worker.address, timeout=10) as client:
        client.sendall(get())
        worker.worker.alive = False
        with worker.running() as thread:
            received = b""
            while piece := client.recv(65536):
                received += piece
            assert read_all(received)[0].closes
            client.close()
            thread.join(10)
            assert not thread.is_alive()


def test_max_requests_is_announced_and_ends_the_worker(made):
    worker = made(max_requests=2)
    with worker.running() as thread:
        answers = worker.exchange(get() + get() + get())
        assert [answer.closes for answer in answers] == [False, True]
        thread.join(10)
        assert not thread.is_alive() and worker.worker.alive is False
        assert worker.worker.tmp.state == STOPPING and worker.worker.tmp.requests == 2
    assert "Autorestarting worker" in worker.errors()
