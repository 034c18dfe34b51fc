"""Settings of TLS, seen by a client."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import pytest

from tests.effects.conftest import Launch
from tests.effects.shows import shows
from tests.integration.harness import Server, parse_answer

DATA = Path(__file__).resolve().parents[1] / "data" / "tls"
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"

CERTIFICATE = f"certfile, keyfile = {str(DATA / 'server.pem')!r}, {str(DATA / 'server.key')!r}\n"
PLAIN = (
    CERTIFICATE
    + """
do_handshake_on_connect = True
ssl_version = 5
ciphers = "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES256-GCM-SHA384"
"""
)
STRICT = (
    CERTIFICATE
    + f"""
cert_reqs = 2
ca_certs = {str(DATA / "ca.pem")!r}
suppress_ragged_eofs = False
loglevel = "debug"
def ssl_context(config, default_ssl_context_factory):
    import ssl
    context = default_ssl_context_factory()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context
"""
)


def trusting(certificate: bool = False) -> ssl.SSLContext:
    """A client that trusts the tests' authority, with the certificate of a client or without."""
    context = ssl.create_default_context(cafile=str(DATA / "ca.pem"))
    if certificate:
        context.load_cert_chain(DATA / "client.pem", DATA / "client.key")
    return context


def handshake(server: Server, context: ssl.SSLContext) -> ssl.SSLSocket:
    return context.wrap_socket(server.connect(), server_hostname="localhost")


def get(server: Server, context: ssl.SSLContext) -> dict[str, str]:
    """What the application saw of a request over TLS. Raises ssl.SSLError."""
    with handshake(server, context) as connection:
        connection.sendall(GET)
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
    found: dict[str, str] = parse_answer(received).json
    return found


@pytest.fixture(scope="module")
def plain(launch: Launch, side: str) -> Server:
    return launch(PLAIN, side)


@pytest.fixture(scope="module")
def strict(launch: Launch, side: str) -> Server:
    return launch(STRICT, side)


@shows("certfile", "a client that trusts its authority is answered over https")
@shows("keyfile", "the handshake is signed with this key, which is not in certfile")
def test_clients_are_answered_over_tls(plain: Server) -> None:
    assert b"PRIVATE KEY" not in (DATA / "server.pem").read_bytes()
    assert get(plain, trusting())["scheme"] == "https"


@shows("ciphers", "TLS 1.2 uses one of these ciphers; a client that has none of them is refused")
def test_only_named_ciphers_are_used(plain: Server) -> None:
    context = trusting()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with handshake(plain, context) as connection:
        found = connection.cipher()
    assert found is not None and found[0].endswith("AES256-GCM-SHA384")
    context.set_ciphers("ECDHE+AES128")
    with pytest.raises(ssl.SSLError):
        get(plain, context)


@shows("ssl_version", "one warning at start says that it is ignored; TLS 1.3 is spoken all the same")
def test_a_version_is_ignored_and_warned_about(plain: Server) -> None:
    with handshake(plain, trusting()) as connection:
        assert connection.version() == "TLSv1.3"
    assert len(plain.seen("ssl_version")) == 1
    plain.wait_for(r"\[WARNING\] ssl_version \(\./cyhorn\.conf\.py:\d+\): it is ignored")


@shows("do_handshake_on_connect", "one line at start says that handshakes block nobody; others are answered during one")
def test_handshakes_block_nobody(plain: Server) -> None:
    assert len(plain.seen(r"do_handshake_on_connect \(\./cyhorn\.conf\.py:\d+\): handshakes block nobody")) == 1
    with plain.connect() as silent:
        silent.sendall(b"\x16\x03\x01")
        assert get(plain, trusting())["scheme"] == "https"


@shows("cert_reqs", "with 2 a client without a certificate is refused")
@shows("ca_certs", "a client whose certificate this authority has signed is answered")
def test_clients_need_a_certificate_of_the_authority(strict: Server) -> None:
    assert get(strict, trusting(certificate=True))["scheme"] == "https"
    with pytest.raises(ssl.SSLError):
        get(strict, trusting())


@shows("ssl_context", "the context that the hook returns is used: its highest version is negotiated")
def test_the_hooks_context_is_used(strict: Server) -> None:
    with handshake(strict, trusting(certificate=True)) as connection:
        assert connection.version() == "TLSv1.2"


@shows("suppress_ragged_eofs", "turned off, a client that leaves without the closing message is told in the log")
def test_an_end_without_the_closing_message_is_told(strict: Server, launch: Launch, side: str) -> None:
    lenient = launch(CERTIFICATE + "loglevel = 'debug'", side)
    for server, told in ((lenient, False), (strict, True)):
        mark = server.mark()
        connection = handshake(server, trusting(certificate=True))
        connection.sendall(GET.replace(b"Connection: close\r\n", b""))
        assert connection.recv(65536)
        socket.socket(fileno=connection.detach()).close()  # below TLS, without a word of it
        get(server, trusting(certificate=True))  # the server's turn has come since
        if told:
            server.wait_for("the peer left without close_notify", mark)
        else:
            assert not server.seen("close_notify", mark)
