"""HAProxy in front: reused connections, PROXY v1 and v2, health checks, interim answers, idle ends."""

from __future__ import annotations

import os
import random
import re
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import Implementation
from tests.integration.harness import until
from tests.neighbours.application import ETAG, content
from tests.neighbours.conftest import Serve
from tests.neighbours.harness import (
    Backend,
    Program,
    Wire,
    chunked,
    failures_of_reloads,
    listening,
    request,
    sha256,
    upload_is_whole,
)

pytestmark = pytest.mark.skipif(shutil.which("haproxy") is None, reason="haproxy is not installed")

LARGE = 8_000_000

CONFIGURATION = """
global
    log stdout format raw local0
    stats socket unix@admin mode 600
    nbthread 1

defaults
    mode http
    log global
    option httplog
    timeout connect 5s
    timeout client 30s
    timeout server 30s
    retry-on conn-failure empty-response

frontend web
    bind 127.0.0.1:PORT
    default_backend app

backend app
    http-reuse always
    OPTIONS
    server cyhorn WHERE FLAGS
"""


class Front(NamedTuple):
    """HAProxy, where it listens, and what it stands before."""

    program: Program
    address: tuple[str, int]
    server: Backend

    def wire(self, source: str = "") -> Wire:
        return Wire(self.address, source)

    def health(self) -> tuple[str, str]:
        """Status and result of the last check of cyhorn, as ("UP", "L7OK")."""
        with socket.socket(socket.AF_UNIX) as stats:
            stats.connect(str(self.program.folder / "admin"))
            stats.sendall(b"show stat -1 4 -1\n")
            told = b""
            while data := stats.recv(65536):
                told += data
        names, values = (line.split(",") for line in told.decode().lstrip("# ").splitlines()[:2])
        row = dict(zip(names, values, strict=True))
        return row["status"], row["check_status"].removeprefix("* ")  # a further check is under way


def start(folder: Path, server: Backend, flags: str, options: str, ports: list[int]) -> Program:
    text = CONFIGURATION
    where = server.where.replace("unix:", "unix@")
    for name, value in {"WHERE": where, "PORT": str(ports[0]), "FLAGS": flags, "OPTIONS": options}.items():
        text = text.replace(name, value)
    (folder / "haproxy.cfg").write_text(text)
    return Program(["haproxy", "-db", "-f", "haproxy.cfg"], folder)


class Behind:
    """``with Behind(server, folder, flags, options) as front``."""

    def __init__(self, server: Backend, folder: Path, flags: str = "", options: str = "") -> None:
        self.server = server
        self._running = listening(lambda ports: start(folder, server, flags, options, ports))

    def __enter__(self) -> Front:
        program, ports = self._running.__enter__()
        return Front(program, ("127.0.0.1", ports[0]), self.server)

    def __exit__(self, *what: object) -> None:
        self._running.__exit__(*what)  # type: ignore[arg-type]


@pytest.fixture(scope="module", params=["tcp", "unix"])
def front(
    request: pytest.FixtureRequest,
    impl: Implementation,
    serve: Serve,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Front]:
    folder = tmp_path_factory.mktemp("haproxy")
    with (
        serve(impl.name, request.param) as server,
        Behind(server, folder, options="option forwardfor") as front,
    ):
        yield front


@pytest.fixture
def server(front: Front) -> Backend:
    return front.server


def complaints(program: Program, since: int = 0) -> list[str]:
    """Lines of requests that ended otherwise than well: a state other than "----" and clients' own aborts."""
    lines = program.log[since:].splitlines()
    ended = [line for line in lines if re.search(r" web app/\S+ ", line)]
    assert all(re.search(r" \S{4} \d+/\d+/", line) for line in ended), ended
    return [line for line in ended if not re.search(r" (----|C[DHR]--|CL--) \d+/\d+/", line)]


@pytest.fixture(autouse=True)
def haproxy_has_no_complaint(request: pytest.FixtureRequest) -> Iterator[None]:
    """No request ended by the server's fault or with an answer that HAProxy could not take."""
    if "front" not in request.fixturenames:
        yield
        return
    front: Front = request.getfixturevalue("front")
    before = len(front.program.log)
    yield
    assert complaints(front.program, before) == []


def test_one_connection_serves_requests_of_every_kind(front: Front) -> None:
    with front.wire() as wire:
        seen = [
            wire.ask("GET", "/"),
            wire.ask("POST", "/echo", content(100_000)),
            wire.ask("HEAD", "/entity"),
            wire.ask("GET", "/entity", If_None_Match=ETAG),
            wire.ask("GET", "/empty"),
            wire.ask("GET", "/bytes/chunked?200000"),
            wire.ask("GET", "/bytes/write?200000"),
            wire.ask("GET", "/bytes/file?200000"),
            wire.ask("GET", "/bytes/chunked?0"),
            wire.ask("HEAD", "/bytes/chunked?200000"),
            wire.ask("PUT", "/unread", content(100_000)),
            wire.ask("GET", "/"),
        ]
    assert [answer.status for answer in seen] == [200, 200, 200, 304, 204, *[200] * 5, 403, 200]
    assert len({answer.connection for answer in seen}) == 1


def test_clients_that_come_and_go_share_one_connection(front: Front) -> None:
    seen = set()
    for _ in range(20):
        with front.wire() as wire:
            seen.add(wire.ask("GET", "/", Connection="close").connection)
    assert len(seen) == 1


@pytest.mark.parametrize("how", ["list", "length", "chunked", "write", "file"])
def test_a_large_download_arrives_whole(front: Front, how: str) -> None:
    with front.wire() as wire:
        answer = wire.ask("GET", f"/bytes/{how}?{LARGE}")
        assert (answer.status, sha256(answer.body)) == (200, sha256(content(LARGE)))
        assert wire.ask("GET", "/").body == b"here"


def test_a_large_upload_arrives_whole(front: Front) -> None:
    with front.wire() as wire:
        answer = wire.ask("POST", "/echo", content(LARGE))
        assert upload_is_whole(answer.json(), LARGE)
        assert wire.ask("GET", "/").connection == answer.connection


@pytest.mark.parametrize("size", [0, 1, 5_000, 3_000_000])
def test_a_chunked_upload_arrives_whole(front: Front, size: int) -> None:
    with front.wire() as wire:
        wire.send(request("POST", "/echo", Transfer_Encoding="chunked"))
        for piece in chunked(content(size), 1 + size // 40):
            wire.send(piece)
        answer = wire.answer()
        assert upload_is_whole(answer.json(), size)
        assert answer.json()["headers"]["TRANSFER_ENCODING"] == "chunked"
        assert wire.ask("GET", "/").connection == answer.connection


def test_not_modified_no_content_and_head_have_no_body(front: Front) -> None:
    with front.wire() as wire:
        assert wire.ask("HEAD", "/bytes/list?1234").headers["Content-Length"] == "1234"
        not_modified = wire.ask("GET", "/entity", If_None_Match=ETAG)
        assert (not_modified.status, not_modified.headers["ETag"]) == (304, ETAG)
        assert wire.ask("GET", "/empty").status == 204
        assert wire.ask("GET", "/").body == b"here"


def test_early_hints_pass_before_the_answer(front: Front) -> None:
    with front.wire() as wire:
        for _ in range(5):
            hints = wire.ask("GET", "/hints")
            assert (hints.status, hints.headers["Link"]) == (103, "</style.css>; rel=preload; as=style")
            answer = wire.answer()
            assert (answer.status, answer.body) == (200, b"after the hints")


def test_continue_comes_from_the_server_once_and_the_upload_arrives(front: Front) -> None:
    body = content(300_000)
    with front.wire() as wire:
        for number in range(3):
            length = str(len(body))
            wire.send(request("POST", f"/echo?{number}", Expect="100-continue", Content_Length=length))
            assert wire.answer().status == 100
            wire.send(body)
            assert upload_is_whole(wire.answer().json(), len(body))
        wire.send(request("POST", "/echo", Expect="100-continue", Transfer_Encoding="chunked"))
        assert wire.answer().status == 100
        wire.send(b"".join(chunked(body)))
        assert upload_is_whole(wire.answer().json(), len(body))


def test_a_body_that_is_too_large_is_refused_instead_of_continued(
    impl: Implementation, serve: Serve, tmp_path: Path
) -> None:
    with (
        serve(impl.name, "tcp", "--limit-request-body", "1000") as server,
        Behind(server, tmp_path) as front,
        front.wire() as wire,
    ):
        wire.send(request("POST", "/echo", Expect="100-continue", Content_Length="1001"))
        answer = wire.answer()
        assert (answer.status, answer.headers["Content-Type"].split(";")[0]) == (413, "text/html")
        server.provoked(r"Invalid request from ip=127.0.0.1: .*\[BODY_LENGTH\]")
        with front.wire() as next_wire:
            assert next_wire.ask("POST", "/echo", b"x" * 1000).json()["size"] == 1000


def test_pipelined_requests_are_answered_in_order(front: Front) -> None:
    with front.wire() as wire:
        wire.send(b"".join(request("POST", f"/echo?{number}", b"x" * number) for number in range(30)))
        told = [wire.answer().json() for _ in range(30)]
    assert [(each["target"], each["size"]) for each in told] == [(f"/echo?{n}", n) for n in range(30)]


def test_the_response_is_passed_on_as_it_is_made(front: Front, tmp_path: Path) -> None:
    pipe = tmp_path / "gate"
    os.mkfifo(pipe)
    with front.wire() as wire:
        wire.send(request("GET", f"/gate?{pipe}"))
        assert wire.head()[0] == 200
        assert (wire.file.readline(), wire.file.readline()) == (b"5\r\n", b"first\r\n")
        pipe.write_bytes(b"")
        assert (wire.file.readline(), wire.file.readline()) == (b"6\r\n", b"second\r\n")
        assert (wire.file.readline(), wire.file.readline()) == (b"0\r\n", b"\r\n")


def test_a_client_that_leaves_inside_its_transfer_costs_nothing(front: Front) -> None:
    before = front.server.state()
    with front.wire() as wire:
        wire.send(request("POST", "/echo", Content_Length="1000000") + content(200_000))
        wire.abort()
    with front.wire() as wire:
        wire.send(request("POST", "/echo", Transfer_Encoding="chunked") + b"ffff\r\nhalf")
    with front.wire() as wire:
        wire.send(request("GET", "/endless"))
        assert wire.head()[0] == 200
        wire.file.read(100_000)
        wire.abort()
    with front.wire() as wire:
        assert wire.ask("GET", "/").body == b"here"
    after = front.server.state()
    assert after["requests"] == before["requests"] + 3
    assert (after["begun"], after["closed"]) == (before["begun"] + 1, before["closed"] + 1)


def test_the_client_is_named_by_forwardfor_alone(front: Front) -> None:
    with front.wire("127.0.0.9") as wire:
        told = wire.ask("GET", "/echo").json()
    assert told["headers"]["X_FORWARDED_FOR"] == "127.0.0.9"
    assert told["peer"] == ("" if front.server.unix else "127.0.0.1")


@pytest.mark.parametrize(
    ("flag", "mode", "transport"),
    [("send-proxy", "v1", "tcp"), ("send-proxy-v2", "v2", "tcp"), ("send-proxy-v2", "auto", "unix")],
)
def test_the_proxy_protocol_names_each_client(
    impl: Implementation, serve: Serve, flag: str, mode: str, transport: str, tmp_path: Path
) -> None:
    with (
        serve(impl.name, transport, "--proxy-protocol", mode) as server,
        Behind(server, tmp_path, flag) as front,
        front.wire("127.0.0.5") as one,
        front.wire("127.0.0.6") as other,
    ):
        for number in range(3):
            for wire in (one, other):
                name, port = wire.sock.getsockname()
                told = wire.ask("POST", f"/echo?{number}", content(50_000)).json()
                assert upload_is_whole(told, 50_000)
                assert (told["peer"], told["port"]) == (name, str(port))
                assert told["proxy"] == {
                    "PROXY_PROTOCOL": "TCP4",
                    "PROXY_ADDR": "127.0.0.1",
                    "PROXY_PORT": str(front.address[1]),
                }
        assert complaints(front.program) == []


@pytest.fixture(scope="module")
def listener(impl: Implementation, serve: Serve) -> Iterator[Backend]:
    """A server that takes PROXY headers of both versions, and requests without."""
    with serve(impl.name, "tcp", "--proxy-protocol", "auto") as server:
        yield server


CHECKS = {
    "http": ("check", "option httpchk GET /", "L7OK"),
    "http v1": ("check send-proxy check-send-proxy", "option httpchk GET /", "L7OK"),
    "http v2": ("check send-proxy-v2 check-send-proxy", "option httpchk GET /", "L7OK"),
    "http 1.1": (
        "check send-proxy-v2",
        "option httpchk\n    http-check send meth HEAD uri / ver HTTP/1.1 hdr Host a",
        "L7OK",
    ),
    "connect": ("check", "", "L4OK"),
    "connect v1": ("check send-proxy", "", "L4OK"),
    "connect v2": ("check send-proxy-v2", "", "L4OK"),
}


@pytest.mark.parametrize("kind", CHECKS)
def test_health_checks_find_the_server_up_and_leave_no_trace(
    listener: Backend, kind: str, tmp_path: Path
) -> None:
    flags, options, result = CHECKS[kind]
    with Behind(listener, tmp_path, f"{flags} inter 20ms", options) as front:
        before = listener.state()["requests"]
        until(lambda: front.health() == ("UP", result), f"{result}, not {front.health()}")
        if result == "L7OK":
            until(lambda: listener.state()["requests"] > before + 20, "further checks")
        assert front.health() == ("UP", result)
        with front.wire() as wire:
            assert wire.ask("GET", "/").body == b"here"


def test_no_request_is_lost_where_idle_connections_end(
    impl: Implementation, serve: Serve, tmp_path: Path
) -> None:
    with (
        serve(impl.name, "tcp", "--keep-alive", "1") as server,
        Behind(server, tmp_path) as front,
    ):
        failures: list[str] = []
        chance = random.Random(7)

        def ask_again(after: float) -> None:
            try:
                with front.wire() as wire:
                    first = wire.ask("GET", "/echo?1")
                    # The moment is the subject: just before, at and just after the server's end.
                    time.sleep(after)
                    second = wire.ask("GET", "/echo?2")
                    assert (first.status, second.status) == (200, 200)
                    assert second.json()["target"] == "/echo?2"
            except Exception as error:
                failures.append(f"{after}: {error!r}")

        moments = [1 + chance.uniform(-0.02, 0.05) for _ in range(60)]
        clients = [threading.Thread(target=ask_again, args=(moment,)) for moment in moments]
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        assert failures == []
        assert complaints(front.program) == []


def test_a_reload_under_load_fails_no_request(front: Front) -> None:
    assert failures_of_reloads(front.server, front.address) == []
