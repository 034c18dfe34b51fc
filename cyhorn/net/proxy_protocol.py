"""The PROXY protocol: who really connected, told by the load balancer in front.

Sans-IO: `parse` looks at the first bytes of a connection and says how many belong to
a header, and what it says. It keeps no state; the caller asks again with more bytes. Both
versions of the HAProxy specification (proxy-protocol.txt, sections 2.1 and 2.2) are
read, strictly: single spaces, canonical numbers, and a bound on every length.
Whether the peer may send a header at all is the caller's question (`proxy_allow_ips`).
"""

from __future__ import annotations

import socket
from typing import Final, NamedTuple

from cyhorn.errors import Code, http_error

#: "PROXY UNKNOWN" with two IPv6 addresses and ports, CRLF included (section 2.1).
V1_MAX: Final = 107
V1_SIGNATURE: Final = b"PROXY "
V1_PROTOCOLS: Final = (b"TCP4", b"TCP6", b"UNKNOWN")

V2_SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
V2_HEAD: Final = 16
#: The most that a v2 header may declare after its 16 bytes. The field could say 65535; addresses
#: take 36, and the extensions that load balancers add (TLS details, endpoint names) some hundreds.
V2_MAX: Final = 4096

_V2_LOCAL: Final = 0x20
_V2_PROXY: Final = 0x21
_V2_UNSPEC: Final = (0x00, 0x01)
#: family and transport → (name, family, length of the address block)
_V2_FAMILIES: Final = {
    0x11: ("TCP4", socket.AF_INET, 12),
    0x21: ("TCP6", socket.AF_INET6, 36),
}

#: The values of the setting `proxy_protocol`.
MODES: Final = ("off", "v1", "v2", "auto")


class ProxyHeader(NamedTuple):
    """What a header says. `protocol` is TCP4 or TCP6, or, without addresses, UNKNOWN, UNSPEC or LOCAL."""

    protocol: str
    client_addr: str | None = None
    client_port: int | None = None
    proxy_addr: str | None = None
    proxy_port: int | None = None

    @property
    def keeps_peer(self) -> bool:
        """Whether the peer of the socket is the client: a health check, or an unknown transport."""
        return self.client_addr is None


def parse(data: bytes | bytearray | memoryview, mode: str) -> tuple[int, ProxyHeader | None] | None:
    """Read the PROXY header at the start of a connection.

    `data` is all that the connection has received so far, `mode` one of `MODES`. Returns None
    when more bytes are needed to tell; ``(0, None)`` when this is no PROXY header of the mode
    and has to be read as HTTP; else how many bytes the header takes and what it says.
    Raises HttpError with `Code.PROXY_SYNTAX` as soon as a header is wrong.
    """
    if mode == "off":
        return 0, None
    start = bytes(data[: max(V1_MAX, V2_HEAD)])
    undecided = False
    if mode in ("v2", "auto"):
        if start.startswith(V2_SIGNATURE):
            return _parse_v2(data, start)
        undecided = V2_SIGNATURE.startswith(start)
    if mode in ("v1", "auto"):
        if start.startswith(V1_SIGNATURE):
            return _parse_v1(start)
        undecided = undecided or V1_SIGNATURE.startswith(start)
    return None if undecided else (0, None)


def _parse_v1(start: bytes) -> tuple[int, ProxyHeader] | None:
    """`start` is no longer than V1_MAX and begins with the signature."""
    end = start.find(b"\n")
    if end == -1:
        body = start[len(V1_SIGNATURE) :]
        if len(start) == V1_MAX or not _may_be_v1(body):
            raise http_error(Code.PROXY_SYNTAX)
        return None
    if start[end - 1 : end] != b"\r":
        raise http_error(Code.PROXY_SYNTAX)
    protocol, _, rest = start[len(V1_SIGNATURE) : end - 1].partition(b" ")
    if protocol == b"UNKNOWN":
        # "The receiver must ignore anything presented before the CRLF."
        return end + 1, ProxyHeader("UNKNOWN")
    if protocol not in V1_PROTOCOLS:
        raise http_error(Code.PROXY_SYNTAX)
    words = rest.split(b" ")
    if len(words) != 4:
        raise http_error(Code.PROXY_SYNTAX)
    family = socket.AF_INET if protocol == b"TCP4" else socket.AF_INET6
    header = ProxyHeader(
        protocol.decode("ascii"),
        _v1_address(words[0], family),
        _v1_port(words[2]),
        _v1_address(words[1], family),
        _v1_port(words[3]),
    )
    return end + 1, header


def _may_be_v1(body: bytes) -> bool:
    """Whether `body`, after "PROXY " and without a line end, can still become a header."""
    name, space, _ = body.partition(b" ")
    if space:
        return name in V1_PROTOCOLS
    # The last byte may be the CR of "PROXY UNKNOWN\r\n".
    return any(known.startswith(name) for known in V1_PROTOCOLS) or name == b"UNKNOWN\r"


def _v1_address(word: bytes, family: int) -> str:
    try:
        text = word.decode("ascii")
        address = socket.inet_ntop(family, socket.inet_pton(family, text))
    except (OSError, ValueError):
        raise http_error(Code.PROXY_SYNTAX) from None
    # Some C libraries take IPv4 with leading zeros, where octal and decimal part ways.
    if family == socket.AF_INET and address != text:
        raise http_error(Code.PROXY_SYNTAX)
    return address


def _v1_port(word: bytes) -> int:
    if not word.isdigit() or len(word) > 5 or (word[0] == 0x30 and len(word) > 1):
        raise http_error(Code.PROXY_SYNTAX)
    port = int(word)
    if port > 65535:
        raise http_error(Code.PROXY_SYNTAX)
    return port


def _parse_v2(data: bytes | bytearray | memoryview, start: bytes) -> tuple[int, ProxyHeader] | None:
    """`start` holds the first bytes of `data`, at least the signature."""
    size = len(start)
    if size > 12 and start[12] not in (_V2_LOCAL, _V2_PROXY):
        raise http_error(Code.PROXY_SYNTAX)
    if size > 13 and start[12] == _V2_PROXY and start[13] not in _V2_UNSPEC and start[13] not in _V2_FAMILIES:
        raise http_error(Code.PROXY_SYNTAX)
    if size < V2_HEAD:
        return None
    local, transport = start[12] == _V2_LOCAL, start[13]
    length = int.from_bytes(start[14:16], "big")
    name, family, needed = "UNSPEC", socket.AF_UNSPEC, 0
    if not local and transport in _V2_FAMILIES:
        name, family, needed = _V2_FAMILIES[transport]
    if not needed <= length <= V2_MAX:
        raise http_error(Code.PROXY_SYNTAX)
    total = V2_HEAD + length
    if len(data) < total:
        return None
    if not needed:
        return total, ProxyHeader("LOCAL" if local else name)
    block = bytes(data[V2_HEAD : V2_HEAD + needed])
    width = (needed - 4) // 2
    return total, ProxyHeader(
        name,
        socket.inet_ntop(family, block[:width]),
        int.from_bytes(block[-4:-2], "big"),
        socket.inet_ntop(family, block[width : 2 * width]),
        int.from_bytes(block[-2:], "big"),
    )
