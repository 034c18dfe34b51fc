"""Werkzeug's ProxyFix behind nginx and HAProxy: what a client says of itself changes nothing.

The proxies run with the files of examples/, and the lines that docs/flask.md adds for ProxyFix.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from tests.apps.conftest import Serve, Variant
from tests.examples.test_proxies import haproxy, nginx
from tests.integration.harness import PATIENCE, parse_answer, to_the_end
from tests.manual.blocks import DOCS, blocks

#: The client's own address: it is not the one by which proxy and server talk.
CLIENT = "127.0.0.9"

#: The lines that docs/flask.md shows for each of them.
LINES = {
    block.folder: block.text
    for block in blocks(DOCS / "flask.md")
    if block.kind == "text" and block.folder in ("nginx", "haproxy")
}

SPOOFED = [
    ["X-Forwarded-For: 6.6.6.6"],
    ["X-Forwarded-For: 6.6.6.6", "X-Forwarded-For: 7.7.7.7"],
    ["X-Forwarded-For: 6.6.6.6, 7.7.7.7"],
    ["X-Forwarded-For: 6.6.6.6,"],
    ["X-Forwarded-For:"],
    ["x-forwarded-for: 6.6.6.6"],
    ["X_Forwarded_For: 6.6.6.6"],
    ["X-Forwarded_For: 6.6.6.6"],
    ["X-Forwarded-Proto: https"],
    ["X-Forwarded-Proto: https", "X-Forwarded-Proto: https"],
    ["X_Forwarded_Proto: https"],
    ["X-Forwarded-Host: evil.example"],
    ["X-Forwarded-Host: evil.example, other.example"],
    ["X_Forwarded_Host: evil.example"],
    ["X-Forwarded-Port: 666"],
    ["X-Forwarded-Prefix: /evil"],
    ["X_Forwarded_Prefix: /evil"],
    ["X-Forwarded-Server: evil.example"],
    ["X-Real-IP: 6.6.6.6"],
    ["Forwarded: for=6.6.6.6;proto=https;host=evil.example"],
    ["SCRIPT_NAME: /deep"],
    ["Script-Name: /deep"],
    ["PATH_INFO: /evil"],
    ["REMOTE_ADDR: 6.6.6.6"],
    ["Remote-Addr: 6.6.6.6"],
    ["REMOTE_USER: root"],
    ["Connection: close, X-Forwarded-For, X-Forwarded-Proto"],
    ["X-Forwarded-For: 6.6.6.6", "X-Forwarded-Proto: https", "X-Forwarded-Host: evil.example", "X-Forwarded-Port: 666"],
]
#: What contradicts the scheme that the proxy tells: cyhorn believes neither (secure_scheme_headers).
CONTRADICTING = [["X-Forwarded-Protocol: ssl"], ["X-Forwarded-Ssl: on"]]
#: What no proxy is to pass on as something else: a field whose name has a space, or a line that is folded.
MALFORMED = [
    ["X-Forwarded-For : 6.6.6.6"],
    ["X-A: a", " X-Forwarded-For: 6.6.6.6"],
    ["X-A: a\rX-Forwarded-For: 6.6.6.6"],
]


class Site(NamedTuple):
    """A proxy's port, with a server behind it."""

    port: int

    def ask(self, fields: list[str]) -> tuple[int, Any]:
        """Status and what the application has seen of a request with these `fields`."""
        lines = ["GET /deep/path?q HTTP/1.1", f"Host: shop.example:{self.port}", *fields]
        if not any(field.startswith("Connection:") for field in fields):
            lines.append("Connection: close")
        with socket.create_connection(
            ("127.0.0.1", self.port), timeout=PATIENCE, source_address=(CLIENT, 0)
        ) as connection:
            connection.sendall("\r\n".join([*lines, "", ""]).encode())
            answer = parse_answer(to_the_end(connection))
        return answer.status, answer.json if answer.status == 200 else None


@pytest.fixture(scope="module", params=["nginx", "haproxy"])
def site(
    request: pytest.FixtureRequest,
    variant: Variant,
    serve_shared: Serve,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Site]:
    server = serve_shared(module="tests.apps.proxied_app")
    where = tmp_path_factory.mktemp(request.param)
    address = "{}:{}".format(*server.address)
    front = (
        nginx(where, address, LINES["nginx"])
        if request.param == "nginx"
        else haproxy(where, address, LINES["haproxy"], proxy_protocol=False)
    )
    with front as connection:
        yield Site(connection.port)


def test_what_a_client_says_of_itself_changes_nothing(site: Site) -> None:
    expected = {
        "remote": CLIENT,
        "scheme": "http",
        "host": f"shop.example:{site.port}",
        "root": "",
        "path": "/deep/path",
        "url": f"http://shop.example:{site.port}/deep/path?q",
        "script_name": "",
    }
    assert site.ask([]) == (200, expected)
    believed = {tuple(fields): told for fields in SPOOFED if (told := site.ask(fields)) != (200, expected)}
    assert believed == {}
    assert [site.ask(fields) for fields in CONTRADICTING] == [(400, None)] * len(CONTRADICTING)
    for fields in MALFORMED:
        status, told = site.ask(fields)
        assert status == 400 or told == expected, fields


def test_both_proxies_have_their_lines_in_the_manual() -> None:
    assert set(LINES) == {"nginx", "haproxy"}
    for name, text in LINES.items():
        assert re.search("X-Forwarded-Host", text), name
