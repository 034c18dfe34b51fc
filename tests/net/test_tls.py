"""The TLS context from the settings, and the channel against a real client."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from cyhorn.errors import ClientDisconnected, ConfigError
from cyhorn.net.tls import TLSChannel, TLSError, make_ssl_context

DATA = Path(__file__).resolve().parent.parent / "data" / "tls"
CA, CERT, KEY = (str(DATA / name) for name in ("ca.pem", "server.pem", "server.key"))
CLIENT_CERT, CLIENT_KEY = str(DATA / "client.pem"), str(DATA / "client.key")


def config(**settings):
    values = {
        "certfile": CERT,
        "keyfile": KEY,
        "ca_certs": None,
        "cert_reqs": 0,
        "ciphers": None,
        "ssl_context": None,
    }
    return SimpleNamespace(**{**values, **settings})


def client_context(*, certificate=False, protocols=("http/1.1",), newest=None):
    context = ssl.create_default_context(cafile=CA)
    context.set_alpn_protocols(protocols)
    if newest is not None:
        context.maximum_version = newest
    if certificate:
        context.load_cert_chain(CLIENT_CERT, CLIENT_KEY)
    return context


# --- the context


def test_the_context_has_sane_defaults():
    context = make_ssl_context(config())
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.verify_mode == ssl.CERT_NONE
    assert context.options & ssl.OP_NO_COMPRESSION
    assert context.options & ssl.OP_NO_RENEGOTIATION


def test_the_key_may_stand_in_the_certificate_file(tmp_path):
    both = tmp_path / "both.pem"
    both.write_text(Path(CERT).read_text() + Path(KEY).read_text())
    assert make_ssl_context(config(certfile=str(both), keyfile=None))


@pytest.mark.parametrize("cert_reqs", [0, 1, 2, ssl.CERT_REQUIRED])
def test_client_certificates_are_asked_for_as_set(cert_reqs):
    context = make_ssl_context(config(ca_certs=CA, cert_reqs=cert_reqs))
    assert context.verify_mode == cert_reqs
    assert [authority["subject"] for authority in context.get_ca_certs()]


def test_ciphers_are_as_set():
    context = make_ssl_context(config(ciphers="ECDHE-ECDSA-AES256-GCM-SHA384"))
    names = {cipher["name"] for cipher in context.get_ciphers() if cipher["protocol"] == "TLSv1.2"}
    assert names == {"ECDHE-ECDSA-AES256-GCM-SHA384"}


def test_the_hook_has_the_last_word_and_the_factory():
    cfg = config()
    seen = []

    def hook(config, default_ssl_context_factory):
        seen.append(config)
        context = default_ssl_context_factory()
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        return context

    cfg.ssl_context = hook
    assert make_ssl_context(cfg).minimum_version == ssl.TLSVersion.TLSv1_3
    assert seen == [cfg]


def test_the_hook_may_do_without_files():
    def hook(config, default_ssl_context_factory):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERT, KEY)
        return context

    assert make_ssl_context(config(certfile=None, keyfile=None, ssl_context=hook))


def test_the_hook_must_return_a_context():
    with pytest.raises(
        ConfigError, match=r"ssl_context: the hook must return an ssl\.SSLContext, not NoneType"
    ):
        make_ssl_context(config(ssl_context=lambda config, factory: None))


def write(path, text=""):
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"certfile": None}, "certfile: TLS needs a certificate"),
        ({"certfile": "/no/such.pem"}, "certfile: '/no/such.pem' does not exist"),
        ({"keyfile": "/no/such.key"}, "keyfile: '/no/such.key' does not exist"),
        ({"ca_certs": "/no/ca.pem"}, "ca_certs: '/no/ca.pem' does not exist"),
        ({"certfile": "EMPTY"}, "certfile: 'EMPTY' holds no PEM certificate"),
        ({"certfile": KEY}, f"certfile: '{KEY}' holds no PEM certificate"),
        ({"keyfile": "EMPTY"}, "keyfile: 'EMPTY' holds no usable PEM private key"),
        ({"keyfile": CERT}, f"keyfile: '{CERT}' holds no usable PEM private key"),
        ({"keyfile": None}, f"certfile: '{CERT}' holds no usable PEM private key, and keyfile is not set"),
        ({"keyfile": CLIENT_KEY}, f"keyfile: '{CLIENT_KEY}' is not the key of the certificate in '{CERT}'"),
        ({"keyfile": str(DATA / "server-encrypted.key")}, "is encrypted: decrypt it"),
        ({"ca_certs": "EMPTY"}, "ca_certs: 'EMPTY' holds no PEM certificate"),
        ({"ca_certs": KEY}, f"ca_certs: '{KEY}' holds no PEM certificate"),
        ({"cert_reqs": 3}, "cert_reqs: 3 is not 0"),
        ({"ciphers": "NONSENSE"}, "ciphers: 'NONSENSE' names no cipher"),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_it(settings, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "EMPTY")
    with pytest.raises(ConfigError) as caught:
        make_ssl_context(config(**settings))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


# --- the channel


class Wire:
    """A channel behind a socket pair, and the loop's part of the work, step by step."""

    def __init__(self, context, *, cut=65536, suppress_ragged_eofs=True):
        self.channel = TLSChannel(context, suppress_ragged_eofs=suppress_ragged_eofs)
        self.sock, self.far = socket.socketpair()
        self.sock.settimeout(10)
        self.far.settimeout(10)
        self.cut = cut

    def flush(self):
        while self.channel.has_output:
            output = self.channel.pending_output(self.cut)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the client has gone
                self.sock.sendall(output)

    def receive(self):
        """Feed once and read all there is."""
        self.channel.feed(self.sock.recv(self.cut))
        plaintext = bytearray()
        try:
            while chunk := self.channel.read():
                plaintext += chunk
        finally:
            self.flush()
        return bytes(plaintext)

    def receive_exactly(self, size):
        plaintext = b""
        while len(plaintext) < size:
            plaintext += self.receive()
        assert len(plaintext) == size
        return plaintext

    def send(self, plaintext):
        self.channel.write(plaintext)
        self.flush()

    def close(self):
        self.sock.close()
        self.far.close()


@contextlib.contextmanager
def connected(client, server_context=None, **options):
    """A wire whose far end is driven by `client(far)` in a thread; its failure is the test's."""
    wire = Wire(server_context or make_ssl_context(config()), **options)
    result = SimpleNamespace(value=None, error=None)

    def run():
        try:
            result.value = client(wire.far)
        except Exception as error:
            result.error = error

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield wire, result
        thread.join(10)
        assert not thread.is_alive()
    finally:
        wire.close()
        thread.join(10)


def exchange(far, context=None, request=b"ping", expected=b"pong", **options):
    with (context or client_context()).wrap_socket(far, server_hostname="localhost", **options) as tls:
        tls.sendall(request)
        answer = b""
        while len(answer) < len(expected) and (chunk := tls.recv(65536)):
            answer += chunk
        return SimpleNamespace(answer=answer, version=tls.version(), alpn=tls.selected_alpn_protocol())


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("cut", [1, 7, 65536])
def test_request_and_answer_pass_however_the_bytes_are_cut(newest, cut):
    with connected(lambda far: exchange(far, client_context(newest=newest)), cut=cut) as (wire, result):
        assert not wire.channel.handshake_done
        assert wire.channel.version is None
        assert wire.receive_exactly(4) == b"ping"
        assert wire.channel.handshake_done
        assert wire.channel.version == newest.name.replace("v1_", "v1.")
        assert wire.channel.cipher is not None
        assert wire.channel.alpn_protocol == "http/1.1"
        wire.send(b"pong")
    assert result.error is None
    assert result.value.answer == b"pong"
    assert result.value.alpn == "http/1.1"


def test_great_messages_pass_whole():
    request, answer = b"q" * 300_000, b"a" * 500_000
    with connected(lambda far: exchange(far, request=request, expected=answer)) as (wire, result):
        assert wire.receive_exactly(len(request)) == request
        wire.send(memoryview(answer))
    assert result.error is None
    assert result.value.answer == answer


def test_a_read_returns_no_more_than_its_limit_and_keeps_the_rest():
    with connected(lambda far: exchange(far, request=b"x" * 40_000, expected=b"pong")) as (wire, _):
        channel = wire.channel
        got = 0
        while got < 40_000:
            channel.feed(wire.sock.recv(65536))
            while chunk := channel.read(1000):
                assert len(chunk) <= 1000
                got += len(chunk)
            wire.flush()
        assert got == 40_000
        assert channel.read(1000) == b""
        wire.send(b"pong")


def test_what_is_written_before_the_handshake_waits_for_it():
    with connected(exchange) as (wire, result):
        wire.channel.write(b"po")
        wire.channel.write(b"ng")
        assert wire.receive_exactly(4) == b"ping"
    assert result.error is None
    assert result.value.answer == b"pong"


def test_nothing_is_read_before_something_was_fed():
    channel = TLSChannel(make_ssl_context(config()))
    assert channel.read() == b""
    assert not channel.eof
    assert not channel.has_output
    assert channel.pending_output() == b""


class MemoryClient:
    """A client without a socket, for tests in which the order of bytes matters."""

    def __init__(self, channel):
        self.channel = channel
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = client_context().wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")
        while not channel.handshake_done:
            with contextlib.suppress(ssl.SSLWantReadError):
                self.tls.do_handshake()
            channel.feed(self.outgoing.read())
            assert channel.read() == b""
            self.incoming.write(channel.pending_output())


def test_a_close_notify_is_the_end_and_the_answer_may_follow():
    channel = TLSChannel(make_ssl_context(config()))
    client = MemoryClient(channel)
    client.tls.write(b"ping")
    with pytest.raises(ssl.SSLWantReadError):
        client.tls.unwrap()
    channel.feed(client.outgoing.read())
    assert channel.read() == b"ping"
    assert channel.read() == b""
    assert channel.eof
    channel.feed(b"ignored")
    assert channel.read() == b""
    channel.write(b"pong")
    client.incoming.write(channel.pending_output())
    assert client.tls.read(10) == b"pong"


def test_shutdown_tells_the_client_that_the_end_is_meant():
    def client(far):
        with client_context().wrap_socket(
            far, server_hostname="localhost", suppress_ragged_eofs=False
        ) as tls:
            tls.sendall(b"ping")
            return tls.recv(10), tls.recv(10)

    with connected(client) as (wire, result):
        wire.receive_exactly(4)
        wire.channel.write(b"pong")
        wire.channel.shutdown()
        wire.channel.shutdown()
        wire.flush()
        wire.sock.shutdown(socket.SHUT_WR)
    assert result.error is None
    assert result.value == (b"pong", b"")


def test_shutdown_before_the_handshake_says_nothing():
    channel = TLSChannel(make_ssl_context(config()))
    channel.shutdown()
    assert not channel.has_output


def leave_without_a_word(far):
    tls = client_context().wrap_socket(far, server_hostname="localhost")
    tls.sendall(b"ping")
    with socket.socket(fileno=tls.detach()) as raw:
        raw.settimeout(10)
        raw.shutdown(socket.SHUT_WR)
        while raw.recv(65536):
            pass


def test_an_end_without_close_notify_is_an_end_by_default():
    with connected(leave_without_a_word) as (wire, _):
        plaintext = b""
        while not wire.channel.eof:
            plaintext += wire.receive()
        assert plaintext == b"ping"
        wire.sock.shutdown(socket.SHUT_WR)


def test_an_end_without_close_notify_is_an_error_where_asked():
    with connected(leave_without_a_word, suppress_ragged_eofs=False) as (wire, _):
        with pytest.raises(TLSError, match="the peer left without close_notify"):
            while True:
                wire.receive()
        assert not wire.channel.eof
        wire.sock.shutdown(socket.SHUT_WR)


def test_data_before_a_broken_end_is_still_read():
    channel = TLSChannel(make_ssl_context(config()), suppress_ragged_eofs=False)
    client = MemoryClient(channel)
    client.tls.write(b"ping")
    channel.feed(client.outgoing.read())
    channel.feed(b"")
    assert channel.read() == b"ping"
    with pytest.raises(TLSError):
        channel.read()
    with pytest.raises(TLSError):
        channel.write(b"pong")


@pytest.mark.parametrize("start", [b"G", b"GET / HTTP/1.1\r\n\r\n", b"post / HTTP/1.1\r\n"])
def test_plain_http_is_recognised_by_its_first_byte(start):
    channel = TLSChannel(make_ssl_context(config()))
    channel.feed(start)
    for _ in range(2):
        with pytest.raises(TLSError, match="plain HTTP") as caught:
            channel.read()
        assert caught.value.plain_http
        assert isinstance(caught.value, ClientDisconnected)
    assert not channel.has_output


def test_garbage_fails_the_handshake_with_a_reason():
    channel = TLSChannel(make_ssl_context(config()))
    channel.feed(b"\x00\x01garbage garbage garbage")
    with pytest.raises(TLSError, match=r"the TLS handshake failed: [a-z ]+$") as caught:
        channel.read()
    assert not caught.value.plain_http
    assert caught.value.reason == str(caught.value)


def test_a_peer_that_leaves_during_the_handshake_is_named_so():
    channel = TLSChannel(make_ssl_context(config()))
    channel.feed(b"\x16\x03\x01")
    assert channel.read() == b""
    channel.feed(b"")
    with pytest.raises(TLSError, match="left during the handshake"):
        channel.read()


def test_an_altered_record_fails_the_stream():
    def client(far):
        tls = client_context().wrap_socket(far, server_hostname="localhost")
        tls.sendall(b"ping")
        raw = socket.socket(fileno=tls.detach())
        raw.sendall(b"\x17\x03\x03\x00\x20" + b"x" * 32)
        return raw

    with connected(client) as (wire, result), pytest.raises(TLSError, match="the TLS stream broke"):
        while True:
            wire.receive()
    result.value.close()


def test_a_client_that_speaks_too_old_a_version_gets_an_alert():
    old = client_context()
    with pytest.warns(DeprecationWarning):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    with connected(lambda far: exchange(far, old)) as (wire, result):
        with pytest.raises(TLSError, match="handshake failed"):
            while True:
                wire.receive()
        wire.sock.shutdown(socket.SHUT_WR)
    assert isinstance(result.error, ssl.SSLError)
    assert "ALERT" in result.error.reason


def test_the_clients_certificate_can_be_read():
    context = make_ssl_context(config(ca_certs=CA, cert_reqs=2))
    with connected(lambda far: exchange(far, client_context(certificate=True)), context) as (wire, result):
        assert wire.channel.peer_certificate() is None
        assert wire.channel.peer_certificate_der() is None
        wire.receive_exactly(4)
        subject = dict(part[0] for part in wire.channel.peer_certificate()["subject"])
        assert subject["commonName"] == "cyhorn test client"
        assert ssl.DER_cert_to_PEM_cert(wire.channel.peer_certificate_der()) in Path(CLIENT_CERT).read_text()
        wire.send(b"pong")
    assert result.error is None


def test_a_client_without_the_required_certificate_is_refused():
    context = make_ssl_context(config(ca_certs=CA, cert_reqs=2))
    with connected(exchange, context) as (wire, _):
        with pytest.raises(TLSError, match="peer did not return a certificate"):
            while True:
                wire.receive()
        wire.sock.shutdown(socket.SHUT_WR)


def test_many_channels_share_a_context():
    context = make_ssl_context(config())
    for _ in range(3):
        with connected(exchange, context) as (wire, result):
            wire.receive_exactly(4)
            wire.send(b"pong")
        assert result.value.answer == b"pong"
