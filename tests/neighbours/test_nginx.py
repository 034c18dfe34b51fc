"""nginx in front: kept-alive connections to cyhorn over TCP and a unix socket, buffering and not."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import Implementation
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

pytestmark = pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")

STREAM_MODULE = Path("/usr/lib/nginx/modules/ngx_stream_module.so")
LARGE = 8_000_000

MAIN = """
daemon off;
worker_processes 1;
pid nginx.pid;
error_log stderr notice;
events { worker_connections 256; }
"""

HTTP = (
    MAIN
    + """
http {
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    upstream app {
        server WHERE;
        keepalive 8;
    }
    server {
        listen 127.0.0.1:PORT;
        client_max_body_size 64m;
        proxy_http_version 1.1;
        proxy_request_buffering off;
        proxy_buffering off;
        location / {
            FIELDS
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_pass http://app;
        }
        location /tls/ {
            FIELDS
            proxy_set_header X-Forwarded-Proto https;
            proxy_pass http://app/;
        }
        location /as-sent/ {
            FIELDS
            proxy_pass http://app/;
        }
        location /buffered/ {
            FIELDS
            proxy_buffering on;
            proxy_request_buffering on;
            proxy_pass http://app/;
        }
    }
}
"""
)

#: A location that sets one field inherits none.
FIELDS = """proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;"""

STREAM = (
    f"load_module {STREAM_MODULE};"
    + MAIN
    + """
stream {
    server {
        listen 127.0.0.1:PORT;
        proxy_protocol on;
        proxy_pass WHERE;
    }
}
"""
)


class Front(NamedTuple):
    """nginx, where it listens, and what it stands before."""

    program: Program
    address: tuple[str, int]
    server: Backend

    def wire(self, source: str = "") -> Wire:
        return Wire(self.address, source)


def start(folder: Path, template: str, server: Backend, ports: list[int]) -> Program:
    values = {"WHERE": server.where, "PORT": str(ports[0]), "FIELDS": FIELDS}
    for name, value in values.items():
        template = template.replace(name, value)
    (folder / "nginx.conf").write_text(template)
    # The master's user keeps the right to connect to the unix socket.
    more = ["-g", "user root;"] if os.geteuid() == 0 else []
    return Program(["nginx", "-p", str(folder), "-c", "nginx.conf", "-e", "stderr", *more], folder)


@pytest.fixture(scope="module", params=["tcp", "unix"])
def front(
    request: pytest.FixtureRequest,
    impl: Implementation,
    serve: Serve,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Front]:
    folder = tmp_path_factory.mktemp("nginx")
    with (
        serve(impl.name, request.param) as server,
        listening(lambda ports: start(folder, HTTP, server, ports)) as (program, ports),
    ):
        yield Front(program, ("127.0.0.1", ports[0]), server)


@pytest.fixture
def server(front: Front) -> Backend:
    return front.server


@pytest.fixture(autouse=True)
def nginx_has_no_complaint(request: pytest.FixtureRequest) -> Iterator[None]:
    """Nothing that nginx calls an error: no early end, no byte too many, no answer that nobody asked for."""
    if "front" not in request.fixturenames:
        yield
        return
    front: Front = request.getfixturevalue("front")
    before = len(front.program.log)
    yield
    said = front.program.log[before:].splitlines()
    levels = ("[warn] ", "[error]", "[crit]", "[alert]", "[emerg]")
    harmless = "is buffered to a temporary file"
    assert [line for line in said if any(level in line for level in levels) and harmless not in line] == []


def test_one_connection_serves_requests_of_every_kind(front: Front) -> None:
    with front.wire() as wire:
        seen = [
            wire.ask("GET", "/"),
            wire.ask("POST", "/echo", content(100_000)),
            wire.ask("HEAD", "/entity"),
            wire.ask("GET", "/entity", If_None_Match=ETAG),
            wire.ask("GET", "/empty"),
            wire.ask("DELETE", "/empty"),
            wire.ask("GET", "/bytes/chunked?200000"),
            wire.ask("GET", "/bytes/write?200000"),
            wire.ask("GET", "/bytes/file?200000"),
            wire.ask("GET", "/bytes/list?0"),
            wire.ask("GET", "/bytes/chunked?0"),
            wire.ask("HEAD", "/bytes/chunked?200000"),
            wire.ask("PUT", "/unread", content(100_000)),
            wire.ask("GET", "/missing"),
            wire.ask("GET", "/"),
        ]
    assert [answer.status for answer in seen] == [200, 200, 200, 304, 204, 204, *[200] * 6, 403, 404, 200]
    assert len({answer.connection for answer in seen}) == 1


def test_clients_that_come_and_go_share_one_connection(front: Front) -> None:
    seen = set()
    for _ in range(20):
        with front.wire() as wire:
            seen.add(wire.ask("GET", "/", Connection="close").connection)
    assert len(seen) == 1


@pytest.mark.parametrize("way", ["", "/buffered"])
@pytest.mark.parametrize("how", ["list", "length", "chunked", "write", "file"])
def test_a_large_download_arrives_whole(front: Front, way: str, how: str) -> None:
    with front.wire() as wire:
        answer = wire.ask("GET", f"{way}/bytes/{how}?{LARGE}")
        assert (answer.status, sha256(answer.body)) == (200, sha256(content(LARGE)))
        assert wire.ask("GET", "/").body == b"here"


@pytest.mark.parametrize("way", ["", "/buffered"])
def test_a_large_upload_arrives_whole(front: Front, way: str) -> None:
    with front.wire() as wire:
        answer = wire.ask("POST", f"{way}/echo", content(LARGE))
        assert upload_is_whole(answer.json(), LARGE)
        assert wire.ask("GET", "/").connection == answer.connection


@pytest.mark.parametrize("way", ["", "/buffered"])
@pytest.mark.parametrize("size", [0, 1, 5_000, 3_000_000])
def test_a_chunked_upload_arrives_whole(front: Front, way: str, size: int) -> None:
    with front.wire() as wire:
        wire.send(request("POST", f"{way}/echo", Transfer_Encoding="chunked"))
        for piece in chunked(content(size), 1 + size // 40):
            wire.send(piece)
        answer = wire.answer()
        told = answer.json()
        assert upload_is_whole(told, size)
        if not way and size > 1_000_000:  # nginx gives a length to what it has whole
            assert told["headers"]["TRANSFER_ENCODING"] == "chunked"
        assert wire.ask("GET", "/").connection == answer.connection


def test_head_has_the_length_and_no_body(front: Front) -> None:
    with front.wire() as wire:
        answer = wire.ask("HEAD", "/bytes/list?1234")
        assert (answer.status, answer.headers["Content-Length"]) == (200, "1234")
        assert wire.ask("GET", "/").body == b"here"


def test_not_modified_and_no_content_have_no_body(front: Front) -> None:
    with front.wire() as wire:
        assert wire.ask("GET", "/entity").body == b"entity"
        not_modified = wire.ask("GET", "/entity", If_None_Match=ETAG)
        assert (not_modified.status, not_modified.headers["ETag"]) == (304, ETAG)
        assert wire.ask("GET", "/empty").status == 204
        assert wire.ask("GET", "/").body == b"here"


def test_a_client_is_told_to_continue_and_its_upload_arrives(front: Front) -> None:
    with front.wire() as wire:
        body = content(300_000)
        wire.send(request("POST", "/echo", Expect="100-continue", Content_Length=str(len(body))))
        assert wire.answer().status == 100
        wire.send(body)
        assert upload_is_whole(wire.answer().json(), len(body))
        assert wire.ask("GET", "/").body == b"here"


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
        assert wire.file.readline() == b"5\r\n"
        assert wire.file.readline() == b"first\r\n"
        pipe.write_bytes(b"")
        assert wire.file.readline() == b"6\r\n"
        assert wire.file.readline() == b"second\r\n"
        assert (wire.file.readline(), wire.file.readline()) == (b"0\r\n", b"\r\n")


def test_a_client_that_leaves_inside_its_upload_costs_nothing(front: Front) -> None:
    before = front.server.state()["requests"]
    for piece in (b"", content(200_000)):
        with front.wire() as wire:
            wire.send(request("POST", "/echo", Content_Length="1000000") + piece)
            wire.abort()
    with front.wire() as wire:
        wire.send(request("POST", "/echo", Transfer_Encoding="chunked") + b"ffff\r\nhalf")
    with front.wire() as wire:
        assert wire.ask("GET", "/").body == b"here"
    assert front.server.state()["requests"] == before + 2  # the application has not seen the halves


def test_a_client_that_leaves_inside_its_download_ends_it(front: Front) -> None:
    before = front.server.state()
    with front.wire() as wire:
        wire.send(request("GET", "/endless"))
        assert wire.head()[0] == 200
        wire.file.read(100_000)
        wire.abort()
    with front.wire() as wire:
        assert wire.ask("GET", "/").body == b"here"
    after = front.server.state()
    assert (after["begun"], after["closed"]) == (before["begun"] + 1, before["closed"] + 1)


def test_the_scheme_is_the_one_that_nginx_says(front: Front) -> None:
    with front.wire() as wire:
        assert wire.ask("GET", "/echo").json()["scheme"] == "http"
        assert wire.ask("GET", "/tls/echo").json()["scheme"] == "https"
        # nginx writes over what the client says.
        assert wire.ask("GET", "/echo", X_Forwarded_Proto="https").json()["scheme"] == "http"


def test_the_peer_is_nginx_whatever_the_client_says(front: Front) -> None:
    with front.wire("127.0.0.9") as wire:
        told = wire.ask("GET", "/echo", X_Forwarded_For="192.0.2.1").json()
    assert told["headers"]["X_FORWARDED_FOR"] == "192.0.2.1, 127.0.0.9"
    assert told["peer"] == ("" if front.server.unix else "127.0.0.1")


def test_contradicting_schemes_are_refused(front: Front) -> None:
    with front.wire() as wire:
        answer = wire.ask("GET", "/as-sent/echo", X_Forwarded_Proto="https", X_Forwarded_Ssl="off")
        assert answer.status == 400
        front.server.provoked(r"Invalid request from ip=.*\[SCHEME_CONFLICT\]")
        assert wire.ask("GET", "/").body == b"here"


def test_an_untrusted_peer_does_not_choose_its_scheme(impl: Implementation, serve: Serve) -> None:
    with (
        serve(impl.name, "tcp", "--forwarded-allow-ips", "192.0.2.1") as server,
        Wire(server.address) as wire,
    ):
        assert wire.ask("GET", "/echo", X_Forwarded_Proto="https").json()["scheme"] == "http"
        assert wire.ask("GET", "/echo", X_Forwarded_Ssl="on").json()["scheme"] == "http"


def test_early_hints_do_not_shift_the_answers_of_others(front: Front) -> None:
    # nginx takes 103 since 1.29; older ones take it for the answer and end the connection.
    with front.wire() as wire:
        wire.send(request("GET", "/hints", Connection="close"))
        assert wire.head()[0] in (103, 200, 502)
    for _ in range(5):
        with front.wire() as wire:
            assert [wire.ask("GET", f"/echo?{n}").json()["target"] for n in range(5)] == [
                f"/echo?{n}" for n in range(5)
            ]


def test_a_reload_under_load_fails_no_request(front: Front) -> None:
    assert failures_of_reloads(front.server, front.address) == []


@pytest.mark.skipif(not STREAM_MODULE.exists(), reason="nginx has no stream module")
@pytest.mark.parametrize(("mode", "transport"), [("v1", "tcp"), ("auto", "unix")])
def test_the_stream_module_tells_the_clients_address_by_the_proxy_protocol(
    impl: Implementation, serve: Serve, mode: str, transport: str, tmp_path: Path
) -> None:
    with (
        serve(impl.name, transport, "--proxy-protocol", mode) as server,
        listening(lambda ports: start(tmp_path, STREAM, server, ports)) as (_, ports),
    ):
        for source in ("127.0.0.5", "127.0.0.6"):
            with Wire(("127.0.0.1", ports[0]), source) as wire:
                name, port = wire.sock.getsockname()
                for number in range(3):
                    told = wire.ask("POST", f"/echo?{number}", content(50_000)).json()
                    assert upload_is_whole(told, 50_000)
                    assert (told["peer"], told["port"]) == (name, str(port))
                    assert told["proxy"] == {
                        "PROXY_PROTOCOL": "TCP4",
                        "PROXY_ADDR": "127.0.0.1",
                        "PROXY_PORT": str(ports[0]),
                    }


@pytest.mark.skipif(not STREAM_MODULE.exists(), reason="nginx has no stream module")
def test_a_peer_that_may_not_speak_for_others_is_refused(
    impl: Implementation, serve: Serve, tmp_path: Path
) -> None:
    with (
        serve(impl.name, "tcp", "--proxy-protocol", "v1", "--proxy-allow-from", "192.0.2.1") as server,
        listening(lambda ports: start(tmp_path, STREAM, server, ports)) as (_, ports),
    ):
        with Wire(("127.0.0.1", ports[0])) as wire:
            answer = wire.answer()  # to the PROXY header, before there is a request
            assert (answer.status, answer.headers["Connection"]) == (403, "close")
            assert wire.at_end()
        server.provoked(r"Invalid request from ip=127.0.0.1: .*\[PROXY_PEER\]")
        with Wire(server.address) as wire:
            assert wire.ask("GET", "/").body == b"here"
