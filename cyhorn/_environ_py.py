"""The WSGI environ (PEP 3333, RFC 3875), in Python: the readable specification of its twin.

An `EnvironBuilder` belongs to one listener. It copies the listener's template and sets
what the request says. Whatever a peer sends lands under HTTP_*, CONTENT_TYPE or
CONTENT_LENGTH and can set no other key; what only a trusted peer may say (the scheme,
SCRIPT_NAME, names with "_") is believed only when the caller says that it is trusted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import unquote_to_bytes

from cyhorn._parser_py import RequestParser, refusal
from cyhorn.errors import Code
from cyhorn.grammar import DEFAULT_PORTS, LOCAL_NAME

#: NAME as the parser gives it → environ key, for names without "_". Bounded: emptied when full, since
#: peers choose names.
_KEYS: dict[str, str] = {}
_KEYS_MAX = 1024


def _key(name: str) -> str:
    """The environ key of field `name` (3875 4.1.18)."""
    key = name.replace("-", "_")
    if name not in ("CONTENT-TYPE", "CONTENT-LENGTH"):
        key = "HTTP_" + key
    if "_" not in name:
        if len(_KEYS) >= _KEYS_MAX:
            _KEYS.clear()
        _KEYS[name] = key
    return key


class EnvironBuilder:
    """Makes the environs of one listener's requests.

    `template` holds the constant keys. `header_map` is what to do with names that have
    an underscore ("drop", "refuse", "dangerous"); `forwarder_headers` those of them (upper
    case, "*" for all) that a trusted peer may send; `secure_scheme_headers` maps a field
    name (upper case) to the value that means https; `script_name` is the operator's mount
    point.
    """

    __slots__ = (
        "_forwarder",
        "_header_map",
        "_scheme_fields",
        "_script_name",
        "_server_from_host",
        "_template",
    )

    def __init__(
        self,
        template: Mapping[str, Any],
        *,
        header_map: str = "drop",
        forwarder_headers: Iterable[str] = (),
        secure_scheme_headers: Mapping[str, str] | None = None,
        script_name: str = "",
    ) -> None:
        self._template = dict(template)
        self._header_map = header_map
        self._forwarder = frozenset(name.upper() for name in forwarder_headers)
        self._scheme_fields = {name.upper(): value for name, value in (secure_scheme_headers or {}).items()}
        self._script_name = script_name
        self._server_from_host = not self._template["SERVER_NAME"]

    def build(
        self,
        parser: RequestParser,
        data: bytes | bytearray | memoryview,
        start: int,
        remote_addr: str,
        remote_port: str | None,
        trusted: bool,
    ) -> dict[str, Any]:
        """The environ of the head that `parser` has just found in `data` at `start`.

        `remote_addr` and `remote_port` are the peer's (port None for a unix socket);
        `trusted` whether it may speak for others. Raises HttpError where the fields
        contradict what the listener allows.
        """
        head = parser._head
        environ = self._template.copy()
        environ["REQUEST_METHOD"] = head.method
        environ["RAW_URI"] = head.target
        environ["QUERY_STRING"] = head.query
        major, minor = head.version
        environ["SERVER_PROTOCOL"] = f"HTTP/{major}.{minor}"
        environ["REMOTE_ADDR"] = remote_addr
        if remote_port is not None:
            environ["REMOTE_PORT"] = remote_port
        path = head.path
        script_name = self._script_name
        scheme: str | None = None
        schemes = self._scheme_fields if trusted else {}
        mounted = False

        for name, value in head.fields:
            key = _KEYS.get(name)
            if key is None and "_" in name:
                if trusted and (name in self._forwarder or "*" in self._forwarder):
                    if name == "SCRIPT_NAME":
                        if mounted:
                            raise refusal(Code.SCRIPT_NAME_REPEATED, head.fields)
                        mounted = True
                        script_name = value
                elif self._header_map == "refuse":
                    raise refusal(Code.FIELD_UNDERSCORE, head.fields)
                elif self._header_map != "dangerous":
                    continue
            elif name in schemes:
                told = "https" if value == self._scheme_fields[name] else "http"
                if scheme is not None and scheme != told:
                    raise refusal(Code.SCHEME_CONFLICT, head.fields)
                scheme = told
            if key is None:
                key = _key(name)
            if key in environ:
                separator = "; " if key == "HTTP_COOKIE" else ","
                environ[key] = f"{environ[key]}{separator}{value}"
            else:
                environ[key] = value

        if head.authority is not None:
            environ["HTTP_HOST"] = head.authority
        if scheme is not None:
            environ["wsgi.url_scheme"] = scheme
        script_name = script_name.rstrip("/")
        if script_name:
            # They part at a segment border.
            if path != script_name and not path.startswith(script_name + "/"):
                raise refusal(Code.SCRIPT_NAME, head.fields)
            path = path[len(script_name) :]
            environ["SCRIPT_NAME"] = script_name
        if "%" in path:
            path = unquote_to_bytes(path.encode("latin-1")).decode("latin-1")
        environ["PATH_INFO"] = path
        if self._server_from_host:
            self._name_server(environ)
        return environ

    @staticmethod
    def _name_server(environ: dict[str, Any]) -> None:
        """SERVER_NAME and SERVER_PORT from Host: a unix socket has neither, and PEP 3333 wants both."""
        host, port = split_host(environ.get("HTTP_HOST", ""))
        environ["SERVER_NAME"] = host or LOCAL_NAME
        environ["SERVER_PORT"] = port or DEFAULT_PORTS[environ["wsgi.url_scheme"]]


def split_host(host: str) -> tuple[str, str]:
    """Split a Host value (9110 7.2) into name and port, "" where there is none."""
    if host.startswith("["):
        name, _, port = host.partition("]")
        return name + "]", port.removeprefix(":")
    name, _, port = host.partition(":")
    return name, port
