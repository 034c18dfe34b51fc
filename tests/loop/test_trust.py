"""Whom the loop believes: TLS, unix sockets, PROXY headers, forwarders; and whom it tells: hooks and logs
(HTTP.md 36, 38, 39)."""

from __future__ import annotations

import os
import socket
import ssl
import time
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from cyhorn.net.tls import TLSChannel
from tests.loop.driver import (
    CLOSE,
    Client,
    Served,
    Written,
    access_lines,
    chunked,
    echo,
    get,
    hello,
    path,
    post,
    read_all,
)

TLS = Path(__file__).parents[1] / "data" / "tls"


# -- TLS ------------------------------------------------------------------------------------------------------------


def server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "server.pem", TLS / "server.key")
    return context


class Secure:
    """A TLS client over the memory of a plain `Client`."""

    def __init__(self, served: Served, newest: ssl.TLSVersion | None = None, **buffers: int) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        if newest is not None:
            context.maximum_version = newest
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing)
        self.client: Client = served.client(**buffers)
        self.run(self.tls.do_handshake)

    def run(self, act: Any) -> Any:
        while True:
            try:
                result = act()
            except ssl.SSLWantReadError:
                self.flush()
                self.client.wait(lambda: self.client.data or self.client.ended, "end")
                self.incoming.write(self.client.data)
                self.client.data = b""
                if self.client.ended:
                    self.incoming.write_eof()
            else:
                self.flush()
                return result

    def flush(self) -> None:
        self.client.send(self.outgoing.read())

    def send(self, data: bytes) -> Secure:
        self.run(lambda: self.tls.write(data))
        return self

    def until_end(self) -> bytes:
        """What comes until close_notify, which has to come."""
        data = b""
        while True:
            try:
                piece = self.run(lambda: self.tls.read(1 << 20))
            except ssl.SSLZeroReturnError:
                return data
            if not piece:
                return data
            data += piece


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_requests_over_tls_are_answered_and_end_with_close_notify(impl, newest):
    with Served(impl, path, ssl_context=server_context()) as served:
        client = Secure(served, newest)
        client.send(get("/1") + get("/2")).send(get("/3", CLOSE))
        assert [answer.body for answer in read_all(client.until_end())] == [b"/1", b"/2", b"/3"]
        assert served.log.lines == []


@pytest.mark.parametrize("why", ["idle", "silent", "stopping", "left"])
def test_a_connection_that_ends_between_two_requests_ends_with_close_notify(impl, why):
    """Without it the client could not tell the end from an attacker's (8446 6.1)."""
    times = {"keepalive": 0.05, "client_header_timeout": 0.05} if why in ("idle", "silent") else {}
    with Served(impl, hello, ssl_context=server_context(), **times) as served:
        client = Secure(served)
        if why != "silent":
            client.send(get())
            (answer,) = read_all(client.run(lambda: client.tls.read(1 << 16)))
            assert not answer.closes
        if why == "stopping":
            served.loop.stop()
        if why == "left":
            client.run(client.tls.unwrap)  # waits for the server's close_notify, and fails without it
            client.client.sock.shutdown(socket.SHUT_WR)
        else:
            assert client.until_end() == b""
        served.turn_until(lambda: served.loop.connections == 0)
        assert served.log.lines == []


def test_the_scheme_of_a_tls_connection_is_https(impl):
    def application(environ, start_response):
        start_response("200 OK", [])
        return [environ["wsgi.url_scheme"].encode()]

    with Served(impl, application, ssl_context=server_context()) as served:
        (answer,) = read_all(Secure(served).send(get("/", CLOSE)).until_end())
        assert answer.body == b"https"


@pytest.mark.parametrize("size", [1, 16384, 100_000, 3_000_000])
def test_large_bodies_pass_tls_both_ways_to_a_slow_reader(impl, size):
    body = os.urandom(size)
    with Served(impl, echo, ssl_context=server_context()) as served:
        for request in (post(body, CLOSE), chunked(body).replace(b"Host: a", b"Host: a\r\nConnection: close", 1)):
            client = Secure(served, send_buffer=8192).send(request)
            assert [answer.body for answer in read_all(client.until_end())] == [body]


def test_a_stream_passes_tls_item_by_item(impl):
    def application(environ, start_response):
        start_response("200 OK", [])
        yield from (b"a", b"b" * 40_000, b"c")

    with Served(impl, application, ssl_context=server_context()) as served:
        (answer,) = read_all(Secure(served).send(get("/", CLOSE)).until_end())
        assert answer.chunks == [b"a", b"b" * 40_000, b"c"]


def test_a_file_passes_tls(impl, tmp_path):
    (tmp_path / "file").write_bytes(b"x" * 100_000)

    def application(environ, start_response):
        start_response("200 OK", [])
        return environ["wsgi.file_wrapper"](open(tmp_path / "file", "rb"))

    with Served(impl, application, ssl_context=server_context()) as served:
        (answer,) = read_all(Secure(served).send(get("/", CLOSE)).until_end())
        assert answer.body == b"x" * 100_000


def test_a_streamed_body_passes_tls(impl):
    with Served(impl, echo, ssl_context=server_context(), buffer_request_body=False) as served:
        client = Secure(served)
        # One record holds all, so that the application need not wait for this thread.
        (answer,) = read_all(client.send(post(b"x" * 1000)).until_end())
        assert answer.body == b"x" * 1000 and answer.closes


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_plain_http_to_a_tls_port_is_told_so_in_plain_http(impl, method):
    with Served(impl, hello, ssl_context=server_context()) as served:
        client = served.client(get(method=method))
        (answer,) = client.answers_until_end(method)
        assert answer.status == 400 and answer.closes and bool(answer.body) is (method == "GET")
        assert served.log.tracebacks == [] and served.log.of("error") == []
        assert "[PLAIN_HTTP]" in served.log.of("info")[0] and served.loop.requests == 0
        client.close()
        served.turn_until(lambda: served.loop.connections == 0)


def test_a_large_answer_is_encrypted_piece_by_piece(impl, monkeypatch):
    sizes: list[int] = []
    write = TLSChannel.write
    monkeypatch.setattr(TLSChannel, "write", lambda self, data: (sizes.append(len(data)), write(self, data))[1])
    whole = b"x" * 3_000_000

    def application(environ, start_response):
        start_response("200 OK", [])
        return [b"begin ", whole, b" end"]

    with Served(impl, application, ssl_context=server_context()) as served:
        client = Secure(served, send_buffer=8192).send(get("/", CLOSE))
        (answer,) = read_all(client.until_end())
        assert answer.body == b"begin " + whole + b" end"
        assert max(sizes) <= 1 << 18


@pytest.mark.parametrize("garbage", [b"\x16\x03\x01\x00\x05hello", b"\0" * 100])
def test_what_is_no_handshake_is_closed_without_a_traceback(impl, garbage):
    with Served(impl, hello, ssl_context=server_context()) as served:
        client = served.client(garbage)
        client.until_end()
        assert served.log.tracebacks == [] and served.log.of("warning", "error") == []
        assert [line for line in served.log.of("debug") if "TLS from  failed: " in line]  # of a socket pair
        assert served.loop.connections == 0 and served.loop.requests == 0


@pytest.mark.parametrize("cut", [1, 7, 100])
def test_a_handshake_may_come_in_pieces_or_not_to_an_end(impl, cut):
    with Served(impl, hello, ssl_context=server_context(), client_header_timeout=0.3) as served:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        outgoing = ssl.MemoryBIO()
        with pytest.raises(ssl.SSLWantReadError):
            context.wrap_bio(ssl.MemoryBIO(), outgoing).do_handshake()
        hello_bytes = outgoing.read()
        assert served.client(hello_bytes[:cut]).until_end() == b""
        client = served.client()
        for byte in hello_bytes[:-1]:
            client.sock.send(bytes([byte]))
            served.turn(0)
        client.sock.send(hello_bytes[-1:])
        client.wait(lambda: client.data)
        client.until_end()  # nothing more came in time
        assert served.log.tracebacks == []


def test_a_handshake_that_does_not_fit_the_socket_goes_on(impl):
    with Served(impl, path, ssl_context=server_context()) as served:
        client = Secure(served, send_buffer=1)
        assert read_all(client.send(get("/x", CLOSE)).until_end())[0].body == b"/x"


def test_a_refusal_over_tls_reaches_a_client_that_still_sends(impl):
    with Served(impl, hello, ssl_context=server_context(), limit_request_body=10) as served:
        client = Secure(served)
        client.send(get("/", "Content-Length: 1000000", method="POST"))
        (answer,) = read_all(client.until_end())
        assert answer.status == 413
        client.client.sock.send(b"x" * 1000)
        assert served.loop.connections == 1
        client.client.close()
        served.turn_until(lambda: served.loop.connections == 0)


# -- unix sockets --------------------------------------------------------------------------------------------------------


def test_a_unix_socket_serves_and_its_peers_are_trusted(impl, tmp_path):
    seen: list[dict[str, Any]] = []

    def application(environ, start_response):
        seen.append(environ)
        return hello(environ, start_response)

    options = {"secure_scheme_headers": {"X-FORWARDED-PROTO": "https"}, "forwarder_headers": ("SCRIPT_NAME",)}
    with Served(impl, application, unix=str(tmp_path / "s"), **options) as served:
        client = served.connect(get("/m/p", "X-Forwarded-Proto: https", "SCRIPT_NAME: /m"))
        assert client.answer().status == 200
        environ = seen[0]
        assert (environ["REMOTE_ADDR"], environ.get("REMOTE_PORT")) == ("", None)
        assert (environ["SERVER_NAME"], environ["SERVER_PORT"], environ["wsgi.url_scheme"]) == ("a", "443", "https")
        assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == ("/m", "/p")


# -- forwarders -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("allowed", "scheme"),
    [((), "http"), (("10.0.0.0/8",), "http"), (("127.0.0.0/8",), "https"), (None, "https")],
)
def test_forwarded_fields_count_from_allowed_addresses_only(impl, allowed, scheme):
    def application(environ, start_response):
        start_response("200 OK", [])
        return [f"{environ['wsgi.url_scheme']} {environ['REMOTE_ADDR']}".encode()]

    networks = None if allowed is None else [ip_network(network) for network in allowed]
    options = {"forwarded_allow_ips": networks, "secure_scheme_headers": {"X-FORWARDED-PROTO": "https"}}
    with Served(impl, application, **options) as served:
        client = served.connect(get("/", "X-Forwarded-Proto: https", "X-Forwarded-For: 1.2.3.4"))
        assert client.answer().body == f"{scheme} 127.0.0.1".encode()


def test_contradicting_forwarded_fields_are_400_from_allowed_addresses(impl):
    options = {"forwarded_allow_ips": None, "secure_scheme_headers": {"X-FORWARDED-PROTO": "https", "X-SSL": "on"}}
    with Served(impl, hello, **options) as served:
        (answer,) = served.exchange(get("/", "X-Forwarded-Proto: https", "X-Ssl: off"))
        assert answer.status == 400


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_wrong_mount_point_is_the_operators_500(impl, method):
    with Served(impl, hello, script_name="/m") as served:
        (answer,) = served.exchange(get("/other", method=method), method)
        assert answer.status == 500 and bool(answer.body) is (method == "GET")
        assert served.log.of("error")[0].endswith("[SCRIPT_NAME]")
        assert served.ask(get("/m/x")).status == 200


# -- the PROXY protocol ---------------------------------------------------------------------------------------------------------

V1 = b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 80\r\n"
V2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes([192, 0, 2, 7, 192, 0, 2, 1, 0x12, 0x67, 0, 80])
LOCAL = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"


def peer(environ: Any, start_response: Any) -> Any:
    start_response("200 OK", [])
    names = ("REMOTE_ADDR", "REMOTE_PORT", "PROXY_PROTOCOL", "PROXY_ADDR", "PROXY_PORT")
    return [" ".join(str(environ.get(name)) for name in names).encode()]


@pytest.mark.parametrize(("mode", "header"), [("v1", V1), ("v2", V2), ("auto", V1), ("auto", V2)])
@pytest.mark.parametrize("cut", [0, 1, 5])
def test_a_proxy_header_names_the_client_of_every_request_on_its_connection(impl, mode, header, cut):
    with Served(impl, peer, proxy_protocol=mode, proxy_allow_ips=None) as served:
        data = header + get("/1") + get("/2")
        client = served.connect()
        for at in range(0, len(data), cut or len(data)):
            client.send(data[at : at + (cut or len(data))])
            served.turn(0)
        expected = b"192.0.2.7 4711 TCP4 192.0.2.1 80"
        assert [client.answer().body, client.answer().body] == [expected, expected]


@pytest.mark.parametrize("header", [LOCAL, b"PROXY UNKNOWN\r\n", b""])
def test_a_proxy_header_without_addresses_keeps_the_peer(impl, header):
    with Served(impl, peer, proxy_protocol="auto", proxy_allow_ips=None) as served:
        client = served.connect(header + get())
        host, port = client.sock.getsockname()
        assert client.answer().body == f"{host} {port} None None None".encode()


def test_a_proxy_header_from_another_peer_is_403(impl):
    with Served(impl, peer, proxy_protocol="auto", proxy_allow_ips=[ip_network("10.0.0.0/8")]) as served:
        for header in (V1, V2, LOCAL):
            (answer,) = served.connect(header + get()).answers_until_end()
            assert answer.status == 403
        assert served.connect(get()).answer().status == 200


@pytest.mark.parametrize("header", [b"PROXY TCP4 x y z\r\n", b"PROXY " + b"x" * 120, V2[:13] + b"\x99" + V2[14:]])
def test_a_malformed_proxy_header_is_400(impl, header):
    with Served(impl, peer, proxy_protocol="auto", proxy_allow_ips=None) as served:
        (answer,) = served.connect(header + get()).answers_until_end()
        assert answer.status == 400 and served.loop.requests == 0


def test_a_proxy_header_counts_only_where_it_is_expected_and_first(impl):
    with Served(impl, peer) as served:
        assert served.exchange(V1 + get())[0].status == 400
    with Served(impl, peer, proxy_protocol="v2", proxy_allow_ips=None) as served:
        assert served.exchange(V1 + get())[0].status == 400
        answers = served.exchange(V2 + get() + V2 + get())
        assert [answer.status for answer in answers] == [200, 400]


def test_half_a_proxy_header_is_408_in_time(impl):
    with Served(impl, peer, proxy_protocol="auto", proxy_allow_ips=None, client_header_timeout=0.03) as served:
        assert served.exchange(V1[:10])[0].status == 408


def test_a_proxy_header_comes_before_tls_never_within(impl):
    with Served(impl, peer, proxy_protocol="v1", proxy_allow_ips=None, ssl_context=server_context()) as served:
        client = served.connect(V1)
        client.until_end()
        assert served.loop.requests == 0 and served.log.tracebacks == []


# -- hooks and logs ---------------------------------------------------------------------------------------------------------------


def test_hooks_see_request_environ_and_response_in_order(impl):
    calls: list[Any] = []

    def pre_request(request):
        calls.append(("pre", request.method, request.uri, request.path, request.query, request.version))
        calls.append((request.headers, request.scheme, request.req_number, request.remote_addr, request.trailers))
        calls.append((request.should_close(), request.proxy_protocol_info))

    def post_request(request, environ, response):
        calls.append(("post", request.uri, environ["PATH_INFO"], response.status, response.status_code))
        calls.append((response.sent, response.headers, response.response_length, response.headers_sent))

    def application(environ, start_response):
        calls.append("application")
        start_response("200 Fine", [("X", "y")])
        return [b"abc"]

    with Served(impl, application, pre_request=pre_request, post_request=post_request) as served:
        client = served.connect(chunked(b"x", last=b"0\r\nT: u\r\n\r\n").replace(b"POST / ", b"POST /a%20b?c "))
        client.answer()
        address = client.sock.getsockname()
    assert calls == [
        ("pre", "POST", "/a%20b?c", "/a%20b", "c", (1, 1)),
        ([("HOST", "a"), ("TRANSFER-ENCODING", "chunked")], "http", 1, address, [("T", "u")]),
        (False, None),
        "application",
        ("post", "/a%20b?c", "/a b", "200 Fine", 200),
        (3, [("X", "y")], 3, True),
    ]


def test_hooks_count_the_requests_of_a_connection_and_are_told_of_the_proxy(impl):
    seen: list[Any] = []

    def pre_request(request):
        seen.append((request.req_number, request.remote_addr, request.proxy_protocol_info))

    with Served(impl, hello, pre_request=pre_request, proxy_protocol="v1", proxy_allow_ips=None) as served:
        client = served.connect(V1 + get() + get())
        client.answer(), client.answer()
    told = {"protocol": "TCP4", "client_addr": "192.0.2.7", "client_port": 4711, "proxy_addr": "192.0.2.1", "proxy_port": 80}
    assert seen == [(1, ("192.0.2.7", 4711), told), (2, ("192.0.2.7", 4711), told)]


def test_an_access_line_has_the_response_and_the_time_and_those_of_a_turn_are_written_together(impl):
    log = Written()

    def access(response, environ, seconds):
        assert 0 <= seconds < 5
        return f"{response.status_code} {response.sent} {environ['PATH_INFO']}"

    def application(environ, start_response):
        if environ["PATH_INFO"] == "/raise":
            raise ValueError
        return path(environ, start_response)

    with Served(impl, application, access_lines=access_lines(impl, access, log)) as served:
        client = served.client()
        client.send(get("/1") + get("/22", method="HEAD") + get("/raise"))
        served.turn()
        assert b"".join(log.times) == b"200 2 /1\n200 0 /22\n500 0 /raise\n"
        client.until_end()


def shown(response: Any, environ: Any, seconds: float) -> str:
    return f"{response.status_code} {environ['PATH_INFO']}"


def test_no_access_line_waits_for_more_than_one_slow_call(impl):
    log = Written()
    seen: list[bytes] = []

    def application(environ, start_response):
        seen.append(b"".join(log.times))
        time.sleep(0.02)
        return path(environ, start_response)

    with Served(impl, application, access_lines=access_lines(impl, shown, log)) as served:
        client = served.client()
        client.send(get("/1") + get("/2") + get("/3") + get("/4"))
        served.turn()
        assert seen[2].startswith(b"200 /1\n") and seen[3].startswith(b"200 /1\n200 /2\n")


def test_a_loop_with_nothing_to_do_has_written_all_access_lines(impl):
    log = Written()
    with Served(impl, path, access_lines=access_lines(impl, shown, log)) as served:
        clients = [served.client() for _ in range(3)]
        for number, client in enumerate(clients):
            client.sock.sendall(get(f"/{number}"))
        served.turn()
        served.turn()  # there is nothing
        assert sorted(b"".join(log.times).split(b"\n")) == [b"", b"200 /0", b"200 /1", b"200 /2"]


@pytest.mark.parametrize("pipelined", [True, False])
def test_a_worker_that_leaves_from_within_the_application_writes_the_lines_of_all_it_answered(impl, pipelined):
    log = Written()

    def application(environ, start_response):
        if environ["PATH_INFO"] == "/leave":
            raise SystemExit(1)
        return path(environ, start_response)

    with Served(impl, application, access_lines=access_lines(impl, shown, log)) as served:
        if pipelined:
            served.client().send(get("/1") + get("/leave"))
        else:
            first, second = served.client(), served.client()
            first.sock.sendall(get("/1"))
            second.sock.sendall(get("/leave"))
        with pytest.raises(SystemExit):
            served.loop.run()
        # Which of two connections comes first is the kernel's choice.
        assert b"".join(log.times) in (b"200 /1\n500 /leave\n", b"500 /leave\n")[: 1 if pipelined else 2]


def test_the_access_callback_of_a_logger_has_the_request_too(impl):
    lines: list[Any] = []

    def access(request, response, environ, seconds):
        lines.append((request.uri, response.status, environ["REQUEST_METHOD"], seconds >= 0))

    with Served(impl, hello, access_with_request=access) as served:
        served.ask(get("/x"))
        assert lines == [("/x", "200 OK", "GET", True)]


def test_a_client_that_is_gone_is_logged_as_499(impl):
    lines: list[int] = []

    def application(environ, start_response):
        client.sock.close()
        yield b"x" * 10
        yield b"y" * 10

    application_started = application

    def started(environ, start_response):
        start_response("200 OK", [])
        environ["gunicorn.socket"].shutdown(socket.SHUT_RDWR)
        return application_started(environ, start_response)

    lines_told = access_lines(impl, lambda response, environ, seconds: lines.append(response.status_code))
    with Served(impl, started, access_lines=lines_told) as served:
        client = served.client()
        client.send(get())
        served.turn()
        assert lines in ([200], [499]) and served.loop.connections == 0


def test_a_request_in_which_the_worker_is_told_to_leave_is_accounted_for(impl):
    told: list[tuple[str, int]] = []

    def application(environ, start_response):
        raise SystemExit(1)

    def access(request, response, environ, seconds):
        told.append(("access", response.status_code))

    def post_request(request, environ, response):
        told.append((request.path, response.status_code))

    with Served(impl, application, access_with_request=access, post_request=post_request) as served:
        client = served.client()
        client.send(get("/slow"))
        with pytest.raises(SystemExit):
            served.turn()
        assert client.answer().status == 500
    assert told == [("access", 500), ("/slow", 500)]


def test_a_response_that_a_hook_keeps_stays_what_it_was(impl):
    kept: list[Any] = []
    with Served(impl, path, post_request=lambda request, environ, response: kept.append(response)) as served:
        client = served.client(get("/1") + get("/22") + get("/333"))
        client.answer(), client.answer(), client.answer()
        assert [response.sent for response in kept] == [2, 3, 4]


def test_a_hook_that_raises_costs_its_connection_only(impl):
    def post_request(request, environ, response):
        if environ["PATH_INFO"] == "/bad":
            raise ValueError("of the hook")

    with Served(impl, path, post_request=post_request) as served:
        served.client(get("/bad")).until_end()
        assert served.ask(get("/good")).body == b"/good"
        assert served.log.tracebacks == ["ValueError"]
