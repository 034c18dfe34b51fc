"""The request as hooks and logger classes see it, with Gunicorn's attribute names."""

from __future__ import annotations

from typing import Any, Protocol


class _Head(Protocol):
    method: str
    target: str
    path: str
    query: str
    version: tuple[int, int]
    fields: list[tuple[str, str]]
    keep_alive: bool


class Request:
    """What pre_request, post_request and `Logger.access` are given.

    `method`, `uri` (as sent), `path` (not decoded), `query`, `version` (two ints),
    `headers` (list of (NAME, value)), `trailers`, `body` (wsgi.input), `scheme`,
    `remote_addr` and `peer_addr` ((address, port), or "" for a unix socket),
    `req_number` (counted on the connection from 1), `proxy_protocol_info` (dict or None).
    A hook may set attributes of its own.
    """

    __slots__ = (
        "__dict__",
        "_keep_alive",
        "body",
        "fragment",
        "headers",
        "method",
        "path",
        "peer_addr",
        "proxy_protocol_info",
        "query",
        "remote_addr",
        "req_number",
        "scheme",
        "trailers",
        "uri",
        "version",
    )

    def __init__(
        self,
        head: _Head,
        environ: dict[str, Any],
        number: int,
        trailers: list[tuple[str, str]],
        proxy: dict[str, Any] | None,
    ) -> None:
        self.method = head.method
        self.uri = head.target
        self.path = head.path
        self.query = head.query
        self.fragment = ""
        self.version = head.version
        self.headers = head.fields
        self.trailers = trailers
        self.body = environ["wsgi.input"]
        self.scheme = environ["wsgi.url_scheme"]
        port = environ.get("REMOTE_PORT")
        self.remote_addr = self.peer_addr = (environ["REMOTE_ADDR"], int(port)) if port else ""
        self.req_number = number
        self.proxy_protocol_info = proxy
        self._keep_alive = head.keep_alive

    def should_close(self) -> bool:
        """Whether the peer wants the connection closed after the answer."""
        return not self._keep_alive
