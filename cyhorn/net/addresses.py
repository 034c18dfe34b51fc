"""Addresses as the operator writes them, and the peers that are believed.

An address is one of three shapes everywhere in cyhorn:

``(host, port)``   a TCP address; the host is a name, a literal, or "" for all interfaces
``str``            the path of a unix socket; a leading NUL is Linux's abstract namespace
``int``            a descriptor that somebody else opened

This module parses, prints and compares; it opens nothing and resolves no name.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

from cyhorn.errors import ConfigError

Address = tuple[str, int] | str | int
Network = IPv4Network | IPv6Network

DEFAULT_PORT: Final = 8000
MAX_PORT: Final = 65535


def is_ipv6(host: str) -> bool:
    """Whether `host` is an IPv6 literal, with or without a zone ("fe80::1%eth0")."""
    try:
        return isinstance(ip_address(host), IPv6Address)
    except ValueError:
        return False


def parse_address(netloc: str, default_port: int | str = DEFAULT_PORT) -> Address:
    """The address that `netloc`, one value of `bind`, stands for.

    Forms: ``HOST``, ``HOST:PORT``, ``:PORT``, ``[V6]``, ``[V6]:PORT``, each also
    after ``tcp://``; ``unix:PATH`` and ``unix://PATH``; ``fd://N``. An empty
    string is every IPv4 interface at `default_port`. Raises ConfigError.
    """
    if netloc.startswith("unix:"):
        path = netloc[len("unix:") :].removeprefix("//")
        if not path or path == "\0":
            raise ConfigError(f"bind: {netloc!r} has no path: write unix:PATH")
        return path

    text = netloc.strip()
    if text.startswith("fd://"):
        number = text[len("fd://") :]
        if not _is_number(number):
            raise ConfigError(f"bind: {netloc!r}: {number!r} is not a descriptor: write fd://N")
        return int(number)

    text = text.removeprefix("tcp://")
    if "/" in text:
        raise ConfigError(f"bind: {netloc!r} is not an address: write HOST:PORT, unix:PATH or fd://N")
    if not text:
        return "0.0.0.0", _port(str(default_port), netloc)
    if _is_number(text):
        # Taken as a host it would be the IPv4 address 0.0.x.y, which nobody means.
        raise ConfigError(
            f"bind: {netloc!r} is a port without a host: write :{text} for all interfaces"
            f" or 127.0.0.1:{text} for this machine only"
        )
    if text.startswith("["):
        host, closed, rest = text[1:].partition("]")
        if not closed or not is_ipv6(host) or (rest and not rest.startswith(":")):
            raise ConfigError(f"bind: {netloc!r} is not an IPv6 address: write [ADDRESS]:PORT")
        return host.lower(), _port(rest[1:] if rest else str(default_port), netloc)
    if text.count(":") > 1:
        raise ConfigError(f"bind: {netloc!r} has too many colons: write an IPv6 address as [ADDRESS]:PORT")
    host, colon, port = text.partition(":")
    return host.lower(), _port(port if colon else str(default_port), netloc)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _port(text: str, netloc: str) -> int:
    if not _is_number(text) or int(text) > MAX_PORT:
        raise ConfigError(f"bind: {netloc!r}: {text!r} is not a port: use 0 to {MAX_PORT}")
    return int(text)


def address_url(address: Address | bytes, *, is_ssl: bool = False) -> str:
    """How `address` is shown to people: "http://127.0.0.1:8000", "unix:/run/app.sock", "fd://3".

    Also takes what `getsockname()` returns: tuples of four for IPv6 and bytes
    for abstract unix sockets, whose leading NUL is shown as "@".
    """
    if isinstance(address, int):
        return f"fd://{address}"
    if isinstance(address, bytes):
        address = address.decode("utf-8", "surrogateescape")
    if isinstance(address, str):
        return "unix:@" + address[1:] if address.startswith("\0") else "unix:" + address
    host, port = address[0], address[1]
    scheme = "https" if is_ssl else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host or '0.0.0.0'}:{port}"


class TrustedPeers:
    """The peers that are believed: ``host in trusted`` is one look-up in the usual case.

    `networks` are the trusted ones; None is everybody. A peer of a unix socket is
    always trusted and has the host "". An IPv4 peer of an IPv6 socket
    ("::ffff:10.0.0.1") is judged as the IPv4 address it is. Anything that is no
    address is not trusted. Verdicts are remembered for the last hosts seen, in
    bounded memory.
    """

    __slots__ = ("_cache", "_networks")

    CACHE_SIZE: Final = 1024

    def __init__(self, networks: Sequence[Network] | None) -> None:
        self._networks = None if networks is None else tuple(networks)
        self._cache: dict[str, bool] = {"": True}

    @property
    def everybody(self) -> bool:
        """Whether no peer can be refused."""
        return self._networks is None

    def __contains__(self, host: str) -> bool:
        if self._networks is None:
            return True
        verdict = self._cache.get(host)
        if verdict is None:
            if len(self._cache) >= self.CACHE_SIZE:
                self._cache.clear()
                self._cache[""] = True
            verdict = self._cache[host] = self._judge(host)
        return verdict

    def _judge(self, host: str) -> bool:
        try:
            address = ip_address(host)
        except ValueError:
            return False
        faces = [address]
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            faces.append(address.ipv4_mapped)
        return any(face in network for network in self._networks or () for face in faces)


def peer_host(address: object) -> str:
    """The host of a socket's peer address as `TrustedPeers` takes it: "" for a unix peer.

    `address` is what `accept()` or `getpeername()` returned.
    """
    if isinstance(address, tuple) and address and isinstance(address[0], str):
        return address[0]
    return ""
