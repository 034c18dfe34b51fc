"""What an operator may write for `bind`, how it is shown, and who is believed."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from cyhorn.errors import ConfigError
from cyhorn.net.addresses import TrustedPeers, address_url, is_ipv6, parse_address, peer_host


@pytest.mark.parametrize(
    ("netloc", "address"),
    [
        ("127.0.0.1", ("127.0.0.1", 8000)),
        ("127.0.0.1:9000", ("127.0.0.1", 9000)),
        ("LocalHost:9000", ("localhost", 9000)),
        ("app.internal", ("app.internal", 8000)),
        ("[::1]", ("::1", 8000)),
        ("[::1]:9000", ("::1", 9000)),
        ("[FE80::1%eth0]:9000", ("fe80::1%eth0", 9000)),
        ("[::]:0", ("::", 0)),
        (":9000", ("", 9000)),
        ("", ("0.0.0.0", 8000)),
        ("tcp://127.0.0.1:9000", ("127.0.0.1", 9000)),
        ("tcp://[::1]:9000", ("::1", 9000)),
        (" 127.0.0.1:9000 ", ("127.0.0.1", 9000)),
        ("unix:/run/app.sock", "/run/app.sock"),
        ("unix:///run/app.sock", "/run/app.sock"),
        ("unix:app.sock", "app.sock"),
        ("unix://app.sock", "app.sock"),
        ("unix:/run/With Space:1.sock", "/run/With Space:1.sock"),
        ("unix:\0name", "\0name"),
        ("fd://3", 3),
        ("fd://0", 0),
    ],
)
def test_an_address_has_these_forms(netloc, address):
    assert parse_address(netloc) == address


def test_the_default_port_is_the_callers():
    assert parse_address("localhost", "8125") == ("localhost", 8125)
    assert parse_address("[::1]", 8125) == ("::1", 8125)


@pytest.mark.parametrize(
    ("netloc", "says"),
    [
        ("localhost:", "'' is not a port"),
        ("localhost:http", "'http' is not a port"),
        ("localhost:65536", "'65536' is not a port"),
        ("localhost:-1", "'-1' is not a port"),
        ("localhost:٣", "is not a port"),
        ("localhost:80:90", "too many colons"),
        ("::1", r"\[ADDRESS\]:PORT"),
        ("[::1", r"\[ADDRESS\]:PORT"),
        ("[::1]9000", r"\[ADDRESS\]:PORT"),
        ("[localhost]:80", "not an IPv6 address"),
        ("[::1]:", "'' is not a port"),
        ("8000", "127.0.0.1:8000"),
        ("http://localhost:80", "HOST:PORT"),
        ("/run/app.sock", "unix:PATH"),
        ("unix:", "no path"),
        ("unix://", "no path"),
        ("fd://", "not a descriptor"),
        ("fd://x", "not a descriptor"),
        ("fd://-1", "not a descriptor"),
    ],
)
def test_a_wrong_address_is_refused_in_one_line_that_names_it(netloc, says):
    with pytest.raises(ConfigError, match=says) as caught:
        parse_address(netloc)
    text = str(caught.value)
    assert text.startswith("bind: ")
    assert repr(netloc) in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("address", "is_ssl", "url"),
    [
        (("127.0.0.1", 8000), False, "http://127.0.0.1:8000"),
        (("127.0.0.1", 8000), True, "https://127.0.0.1:8000"),
        (("::1", 8000, 0, 0), False, "http://[::1]:8000"),
        (("::1", 8000, 0, 0), True, "https://[::1]:8000"),
        (("", 8000), False, "http://0.0.0.0:8000"),
        ("/run/app.sock", True, "unix:/run/app.sock"),
        ("\0app", False, "unix:@app"),
        (b"\0app", False, "unix:@app"),
        (3, False, "fd://3"),
    ],
)
def test_an_address_is_shown_as_a_url(address, is_ssl, url):
    assert address_url(address, is_ssl=is_ssl) == url


def test_only_literals_are_ipv6():
    assert is_ipv6("::1")
    assert is_ipv6("fe80::1%lo")
    assert not is_ipv6("127.0.0.1")
    assert not is_ipv6("localhost")


def networks(*texts):
    return [ip_network(text) for text in texts]


def test_peers_inside_the_networks_are_trusted():
    trusted = TrustedPeers(networks("127.0.0.1", "10.0.0.0/8", "::1", "fd00::/8"))
    for host in ("127.0.0.1", "10.1.2.3", "::1", "fd12::1"):
        assert host in trusted
        assert host in trusted  # from memory too
    for host in ("127.0.0.2", "11.0.0.1", "::2", "fe80::1"):
        assert host not in trusted
        assert host not in trusted


def test_an_ipv4_peer_of_an_ipv6_socket_is_judged_as_ipv4():
    trusted = TrustedPeers(networks("10.0.0.0/8"))
    assert "::ffff:10.0.0.1" in trusted
    assert "::ffff:11.0.0.1" not in trusted
    assert "::ffff:10.0.0.1" in TrustedPeers(networks("::ffff:0:0/96"))


def test_a_zone_does_not_hide_a_peer():
    assert "fe80::1%eth0" in TrustedPeers(networks("fe80::/10"))


def test_unix_peers_are_always_trusted():
    assert "" in TrustedPeers([])
    assert "" in TrustedPeers(networks("10.0.0.0/8"))


def test_none_trusts_everybody():
    trusted = TrustedPeers(None)
    assert trusted.everybody
    assert "192.0.2.1" in trusted
    assert "" in trusted
    assert not TrustedPeers([]).everybody


def test_what_is_no_address_is_not_trusted():
    trusted = TrustedPeers(networks("0.0.0.0/0", "::/0"))
    assert "example.org" not in trusted
    assert "127.0.0.1 " not in trusted


def test_verdicts_are_remembered_in_bounded_memory():
    trusted = TrustedPeers(networks("10.0.0.0/8"))
    for number in range(3 * TrustedPeers.CACHE_SIZE):
        host = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
        assert host in trusted
        assert "" in trusted
    assert len(trusted._cache) <= TrustedPeers.CACHE_SIZE


def test_the_host_of_a_peer_is_empty_for_unix_sockets():
    assert peer_host(("127.0.0.1", 80)) == "127.0.0.1"
    assert peer_host(("::1", 80, 0, 0)) == "::1"
    for unix in ("", b"", "/run/client.sock", b"\0client", None):
        assert peer_host(unix) == ""
