"""The PROXY protocol: every header at every cut, and every way to get one wrong."""

from __future__ import annotations

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyhorn.errors import Code, HttpError
from cyhorn.net.proxy_protocol import V1_MAX, V2_MAX, V2_SIGNATURE, ProxyHeader, parse

REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
V4 = ProxyHeader("TCP4", "192.0.2.1", 56324, "198.51.100.2", 443)
V6 = ProxyHeader("TCP6", "2001:db8::1", 56324, "2001:db8::2", 443)


def v1(header: ProxyHeader) -> bytes:
    fields = (header.client_addr, header.proxy_addr, header.client_port, header.proxy_port)
    return f"PROXY {header.protocol} {' '.join(map(str, fields))}\r\n".encode()


def v2(block: bytes = b"", command: int = 0x21, transport: int = 0x00, length: int | None = None) -> bytes:
    return (
        V2_SIGNATURE
        + struct.pack(">BBH", command, transport, len(block) if length is None else length)
        + block
    )


def v2_of(header: ProxyHeader, tlvs: bytes = b"") -> bytes:
    family, transport = (socket.AF_INET, 0x11) if header.protocol == "TCP4" else (socket.AF_INET6, 0x21)
    block = b"".join(socket.inet_pton(family, host) for host in (header.client_addr, header.proxy_addr))
    return v2(block + struct.pack(">HH", header.client_port, header.proxy_port) + tlvs, transport=transport)


HEADERS = {
    "v1 TCP4": ("v1", v1(V4), V4),
    "v1 TCP6": ("v1", v1(V6), V6),
    "v1 UNKNOWN": ("v1", b"PROXY UNKNOWN\r\n", ProxyHeader("UNKNOWN")),
    "v1 UNKNOWN, the longest": (
        "v1",
        b"PROXY UNKNOWN " + b" ".join([b"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"] * 2) + b" 65535 65535\r\n",
        ProxyHeader("UNKNOWN"),
    ),
    "v2 TCP4": ("v2", v2_of(V4), V4),
    "v2 TCP6": ("v2", v2_of(V6), V6),
    "v2 TCP4 and TLVs": ("v2", v2_of(V4, b"\x03\x00\x04abcd\x04\x00\x01x"), V4),
    "v2 LOCAL": ("v2", v2(command=0x20), ProxyHeader("LOCAL")),
    "v2 LOCAL with addresses to ignore": ("v2", v2(b"x" * 12, 0x20, 0x11), ProxyHeader("LOCAL")),
    "v2 LOCAL of any family": ("v2", v2(b"", 0x20, 0xFF), ProxyHeader("LOCAL")),
    "v2 UNSPEC": ("v2", v2(b"tlv"), ProxyHeader("UNSPEC")),
    "v2 UNSPEC over a stream": ("v2", v2(b"", 0x21, 0x01), ProxyHeader("UNSPEC")),
    "v2 of the greatest length": ("v2", v2_of(V4, b"\0" * (V2_MAX - 12)), V4),
}


@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.parametrize("automatic", [False, True], ids=["own mode", "auto"])
def test_a_header_is_read_whole_and_asked_for_at_every_cut(name, automatic):
    mode, data, header = HEADERS[name]
    mode = "auto" if automatic else mode
    for size in range(len(data)):
        assert parse(data[:size], mode) is None, size
    for rest in (b"", REQUEST, b"\r\n", b"PROXY "):
        assert parse(data + rest, mode) == (len(data), header)
    assert parse(bytearray(data + REQUEST), mode) == (len(data), header)
    assert parse(memoryview(data + REQUEST), mode) == (len(data), header)


@pytest.mark.parametrize("name", HEADERS)
def test_a_mode_reads_only_its_own_version(name):
    mode, data, _ = HEADERS[name]
    other = "v1" if mode == "v2" else "v2"
    assert parse(data, other) == (0, None)
    assert parse(data, "off") == (0, None)


@pytest.mark.parametrize("mode", ["v1", "v2", "auto"])
@pytest.mark.parametrize(
    "data", [b"G", b"GET", REQUEST, b"POST / HTTP/1.1", b"\r\nGET / HTTP/1.1", b"\n", b"proxy "]
)
def test_http_is_recognised_as_soon_as_it_can_be(mode, data):
    if data == b"POST / HTTP/1.1" and mode != "v2":
        assert parse(b"P", mode) is None
        assert parse(b"PO", mode) == (0, None)
    assert parse(data, mode) == (0, None)


def test_nothing_received_decides_nothing_unless_off():
    assert parse(b"", "off") == (0, None)
    for mode in ("v1", "v2", "auto"):
        assert parse(b"", mode) is None


def test_headers_without_addresses_keep_the_real_peer():
    assert not V4.keeps_peer
    for protocol in ("UNKNOWN", "UNSPEC", "LOCAL"):
        assert ProxyHeader(protocol).keeps_peer


WRONG = {
    "v1 protocol": b"PROXY UDP4 1.1.1.1 2.2.2.2 1 2\r\n",
    "v1 protocol in small letters": b"PROXY tcp4 1.1.1.1 2.2.2.2 1 2\r\n",
    "v1 two spaces": b"PROXY  TCP4 1.1.1.1 2.2.2.2 1 2\r\n",
    "v1 two spaces inside": b"PROXY TCP4 1.1.1.1  2.2.2.2 1 2\r\n",
    "v1 tab": b"PROXY TCP4\t1.1.1.1 2.2.2.2 1 2\r\n",
    "v1 trailing space": b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2 \r\n",
    "v1 too few fields": b"PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n",
    "v1 no fields": b"PROXY TCP4\r\n",
    "v1 nothing": b"PROXY \r\n",
    "v1 too many fields": b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2 3\r\n",
    "v1 bare LF": b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\n",
    "v1 UNKNOWN, bare LF": b"PROXY UNKNOWN\n",
    "v1 UNKNOWN glued": b"PROXY UNKNOWNX\r\n",
    "v1 CR inside": b"PROXY TCP4 1.1.1.1\r 2.2.2.2 1 2\r\n",
    "v1 IPv4 with leading zero": b"PROXY TCP4 01.1.1.1 2.2.2.2 1 2\r\n",
    "v1 IPv4 too short": b"PROXY TCP4 1.1.1 2.2.2.2 1 2\r\n",
    "v1 IPv4 too great": b"PROXY TCP4 1.1.1.256 2.2.2.2 1 2\r\n",
    "v1 IPv6 as TCP4": b"PROXY TCP4 ::1 ::2 1 2\r\n",
    "v1 IPv4 as TCP6": b"PROXY TCP6 1.1.1.1 2.2.2.2 1 2\r\n",
    "v1 zone": b"PROXY TCP6 fe80::1%lo ::2 1 2\r\n",
    "v1 name": b"PROXY TCP4 localhost 2.2.2.2 1 2\r\n",
    "v1 NUL": b"PROXY TCP4 1.1.1.1\0 2.2.2.2 1 2\r\n",
    "v1 not ASCII": b"PROXY TCP4 1.1.1.\xb9 2.2.2.2 1 2\r\n",
    "v1 port too great": b"PROXY TCP4 1.1.1.1 2.2.2.2 65536 2\r\n",
    "v1 port with leading zero": b"PROXY TCP4 1.1.1.1 2.2.2.2 01 2\r\n",
    "v1 port with sign": b"PROXY TCP4 1.1.1.1 2.2.2.2 +1 2\r\n",
    "v1 port negative": b"PROXY TCP4 1.1.1.1 2.2.2.2 -1 2\r\n",
    "v1 port of many digits": b"PROXY TCP4 1.1.1.1 2.2.2.2 000001 2\r\n",
    "v1 port empty": b"PROXY TCP4 1.1.1.1 2.2.2.2  2\r\n",
    "v1 HTTP with the method PROXY": b"PROXY / HTTP/1.1\r\n",
    "v2 version 1": v2(b"x" * 12, 0x11, 0x11),
    "v2 version 3": v2(b"x" * 12, 0x31, 0x11),
    "v2 command 2": v2(b"x" * 12, 0x22, 0x11),
    "v2 UDP over IPv4": v2(b"x" * 12, 0x21, 0x12),
    "v2 UDP over IPv6": v2(b"x" * 36, 0x21, 0x22),
    "v2 unix": v2(b"x" * 216, 0x21, 0x31),
    "v2 family 4": v2(b"x" * 36, 0x21, 0x41),
    "v2 datagram without family": v2(b"", 0x21, 0x02),
    "v2 IPv4 block too short": v2(b"x" * 11, 0x21, 0x11),
    "v2 IPv6 block too short": v2(b"x" * 35, 0x21, 0x21),
    "v2 too long": v2(b"", 0x21, 0x11, length=V2_MAX + 1),
    "v2 LOCAL too long": v2(b"", 0x20, 0x00, length=65535),
}


def refused(data, mode="auto"):
    with pytest.raises(HttpError) as caught:
        parse(data, mode)
    assert caught.value.code is Code.PROXY_SYNTAX
    assert caught.value.status == 400
    return True


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_header_is_refused_and_stays_refused(name):
    data = WRONG[name]
    mode = name[:2]
    assert refused(data, mode)
    assert refused(data + REQUEST, mode)
    assert refused(data, "auto")
    # Once a prefix is refused, no more bytes can heal it; until then more are asked for.
    decided = False
    for size in range(len(data) + 1):
        try:
            result = parse(data[:size], mode)
        except HttpError:
            decided = True
        else:
            assert not decided
            assert result is None


@pytest.mark.parametrize(
    ("prefix", "mode"),
    [
        (b"PROXY U", "v1"),
        (b"PROXY UNKNOWN\r", "v1"),
        (b"PROXY TCP", "v1"),
        (b"PROXY TCP6 ", "v1"),
        (V2_SIGNATURE + b"\x21\x11\x10\x00", "v2"),
    ],
)
def test_a_prefix_that_can_become_a_header_waits(prefix, mode):
    assert parse(prefix, mode) is None


@pytest.mark.parametrize(
    "prefix",
    [
        b"PROXY X",
        b"PROXY TCP5",
        b"PROXY TCP4\r",
        b"PROXY UNKNOWNX",
        b"PROXY UNKNOWN\rX",
        V2_SIGNATURE + b"\x10",
        V2_SIGNATURE + b"\x21\x99",
        V2_SIGNATURE + b"\x21\x11\x00\x0b",
        V2_SIGNATURE + b"\x21\x11\xff\xff",
    ],
)
def test_a_prefix_that_cannot_become_a_header_is_refused_at_once(prefix):
    assert refused(prefix)


def test_a_v1_line_has_at_most_107_bytes():
    line = b"PROXY UNKNOWN ".ljust(V1_MAX - 2, b"x") + b"\r\n"
    assert parse(line, "v1") == (V1_MAX, ProxyHeader("UNKNOWN"))
    assert parse(line[:-1], "v1") is None
    too_long = b"PROXY UNKNOWN ".ljust(V1_MAX - 1, b"x") + b"\r\n"
    assert refused(too_long, "v1")
    assert refused(too_long[:V1_MAX], "v1")
    assert parse(too_long[: V1_MAX - 1], "v1") is None


@given(
    addresses=st.one_of(
        st.tuples(st.just("TCP4"), st.ip_addresses(v=4), st.ip_addresses(v=4)),
        st.tuples(st.just("TCP6"), st.ip_addresses(v=6), st.ip_addresses(v=6)),
    ),
    ports=st.tuples(*[st.integers(0, 65535)] * 2),
    tlvs=st.binary(max_size=200),
    version=st.sampled_from(["v1", "v2"]),
    rest=st.binary(max_size=40),
    data=st.data(),
)
def test_what_is_written_is_read(addresses, ports, tlvs, version, rest, data):
    protocol, client, proxy = addresses
    family = socket.AF_INET if protocol == "TCP4" else socket.AF_INET6
    client, proxy = (socket.inet_ntop(family, address.packed) for address in (client, proxy))
    header = ProxyHeader(protocol, client, ports[0], proxy, ports[1])
    written = v1(header) if version == "v1" else v2_of(header, tlvs)
    for mode in (version, "auto"):
        assert parse(written + rest, mode) == (len(written), header)
        cut = data.draw(st.integers(0, len(written) - 1))
        assert parse(written[:cut], mode) is None


@given(
    start=st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", V2_SIGNATURE, V2_SIGNATURE + b"\x21"]),
    junk=st.binary(),
)
def test_no_input_does_more_than_decide_or_refuse(start, junk):
    data = start + junk
    try:
        result = parse(data, "auto")
    except HttpError as error:
        assert error.code is Code.PROXY_SYNTAX
        return
    assert result is None or 0 <= result[0] <= len(data)
    assert result is None or (result[0] == 0) == (result[1] is None)
