"""Settings that say which requests are taken: limits, grammar, header policy, trusted peers."""

from __future__ import annotations

import struct

import pytest

from tests.effects.conftest import Launch
from tests.effects.shows import shows
from tests.integration.harness import Server, parse_answer

#: An address of this machine that no default trusts.
STRANGER = "127.0.0.3"

SMALL = """
limit_request_line = 200
limit_request_fields = 5
limit_request_field_size = 300
limit_request_body = 1000
header_map = "refuse"
forwarder_headers = "SCRIPT_NAME,REMOTE_USER"
forwarded_allow_ips = "127.0.0.0/31"
secure_scheme_headers = {"X-SECURE": "yes"}
server_header = "unnamed"
"""

LENIENT = """
permit_obsolete_folding = True
strip_header_spaces = True
permit_unconventional_http_method = True
permit_unconventional_http_version = True
casefold_http_method = True
header_map = "dangerous"
"""


@pytest.fixture(scope="module")
def small(launch: Launch, side: str) -> Server:
    return launch(SMALL, side)


@pytest.fixture(scope="module")
def lenient(launch: Launch, side: str) -> Server:
    return launch(LENIENT, side)


@pytest.fixture(scope="module")
def plain(launch: Launch, side: str) -> Server:
    return launch("", side)


# -- limits -----------------------------------------------------------------------------------------


@shows("limit_request_line", "a request line one byte longer is answered 414")
def test_a_longer_request_line_is_refused(small: Server) -> None:
    length = 200 - len("GET  HTTP/1.1")
    assert small.ask("/" + "a" * (length - 1)).status == 200
    assert small.ask("/" + "a" * length).status == 414


@shows("limit_request_fields", "a request with one field more is answered 431")
def test_more_fields_are_refused(small: Server) -> None:
    assert small.ask("/", "A: 1", "B: 2", "C: 3").status == 200
    assert small.ask("/", "A: 1", "B: 2", "C: 3", "D: 4").status == 431


@shows("limit_request_field_size", "a field one byte longer is answered 431")
def test_a_longer_field_is_refused(small: Server) -> None:
    length = 300 - len("A: \r\n")
    assert small.ask("/", "A: " + "b" * length).status == 200
    assert small.ask("/", "A: " + "b" * (length + 1)).status == 431


@shows("limit_request_body", "a body one byte longer is answered 413 and the application is not called")
def test_a_longer_body_is_refused(small: Server) -> None:
    mark = small.mark()
    assert small.ask("/body", method="POST", body=b"x" * 1000).json["length"] == 1000
    small.wait_for("CALLED", mark)
    mark = small.mark()
    assert small.ask("/body", method="POST", body=b"x" * 1001).status == 413
    assert not small.seen("CALLED", mark)


# -- grammar ----------------------------------------------------------------------------------------


@shows("permit_obsolete_folding", "a folded field reaches the application unfolded; without it the answer is 400")
def test_folded_fields_are_taken(lenient: Server, plain: Server) -> None:
    assert lenient.ask("/", "X-Long: one\r\n two").json["HTTP_X_LONG"].split() == ["one", "two"]
    assert plain.ask("/", "X-Long: one\r\n two").status == 400


@shows("strip_header_spaces", "a field with a space before the colon is taken; without it the answer is 400")
def test_spaces_before_the_colon_are_stripped(lenient: Server, plain: Server) -> None:
    assert lenient.ask("/", "X-Far : away").json["HTTP_X_FAR"] == "away"
    assert plain.ask("/", "X-Far : away").status == 400


@shows("permit_unconventional_http_method", "a method of two letters reaches the application; without it: 400")
def test_unconventional_methods_are_taken(lenient: Server, plain: Server) -> None:
    assert lenient.ask("/", method="GO").json["REQUEST_METHOD"] == "GO"
    assert plain.ask("/", method="GO").status == 400


@shows("permit_unconventional_http_version", "HTTP/2.7 in a request line is answered; without it: 505")
def test_unconventional_versions_are_taken(lenient: Server, plain: Server) -> None:
    assert lenient.ask("/", version="HTTP/2.7").json["SERVER_PROTOCOL"] == "HTTP/2.7"
    assert plain.ask("/", version="HTTP/2.7").status == 505


@shows("casefold_http_method", "get reaches the application as GET; without it the answer is 400")
def test_methods_are_turned_into_upper_case(lenient: Server, plain: Server) -> None:
    assert lenient.ask("/", method="get").json["REQUEST_METHOD"] == "GET"
    assert plain.ask("/", method="get").status == 400


@shows("header_map", "a field with an underscore is dropped, refused (400) or, with dangerous, passed on")
def test_fields_with_underscores_are_treated_as_told(small: Server, lenient: Server, plain: Server) -> None:
    fields = ("X_Under: score", "X-Hyphen: kept")
    assert small.ask("/", *fields).status == 400
    assert lenient.ask("/", *fields).json["HTTP_X_UNDER"] == "score"
    taken = plain.ask("/", *fields).json
    assert "HTTP_X_UNDER" not in taken and taken["HTTP_X_HYPHEN"] == "kept"


# -- trusted peers ----------------------------------------------------------------------------------


@shows("forwarder_headers", "REMOTE_USER, which it names, is taken from a trusted proxy only")
def test_named_fields_are_taken_from_trusted_proxies(small: Server) -> None:
    assert small.ask("/", "REMOTE_USER: ada").json["HTTP_REMOTE_USER"] == "ada"
    assert small.ask("/", "REMOTE_USER: ada", source=STRANGER).status == 400  # header_map is refuse
    assert small.ask("/", "OTHER_NAME: x").status == 400


@shows("forwarded_allow_ips", "only peers of the named network say what the scheme is")
def test_named_networks_are_trusted(small: Server) -> None:
    assert small.ask("/", "X-Secure: yes").json["scheme"] == "https"
    assert small.ask("/", "X-Secure: yes", source=STRANGER).json["scheme"] == "http"


@shows("secure_scheme_headers", "the named field with the named value makes the scheme https")
def test_named_fields_say_https(small: Server) -> None:
    assert small.ask("/", "X-Secure: yes").json["scheme"] == "https"
    assert small.ask("/", "X-Secure: no").json["scheme"] == "http"
    assert small.ask("/", "X-Forwarded-Proto: https").json["scheme"] == "http"


PROXY = """
proxy_protocol = "{mode}"
proxy_allow_ips = "127.0.0.1,127.0.0.9"
forwarded_allow_ips = ""
"""
V1 = b"PROXY TCP4 192.0.2.7 192.0.2.1 1234 80\r\n"
V2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11" + struct.pack(">H4s4sHH", 12, bytes([192, 0, 2, 8]), bytes(4), 1234, 80)
GET = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def proxied(launch: Launch, side: str) -> Server:
    return launch(PROXY.format(mode="v1"), side)


@shows("proxy_protocol", "the PROXY header of the named version says who the client is; the other one is 400")
def test_the_proxy_header_names_the_client(proxied: Server, plain: Server) -> None:
    assert parse_answer(proxied.exchange(V1 + GET)).json["REMOTE_ADDR"] == "192.0.2.7"
    assert parse_answer(proxied.exchange(V2 + GET)).status == 400
    assert parse_answer(plain.exchange(V1 + GET)).status == 400


@shows("proxy_allow_ips", "a PROXY header from a peer that it does not name is answered 403")
def test_a_proxy_header_of_a_stranger_is_refused(proxied: Server) -> None:
    assert parse_answer(proxied.exchange(V1 + GET, source="127.0.0.9")).json["REMOTE_ADDR"] == "192.0.2.7"
    assert parse_answer(proxied.exchange(V1 + GET, source=STRANGER)).status == 403


# -- what the answers say -----------------------------------------------------------------------------


@shows("server_header", "the Server field of answers and of error pages says this")
def test_the_server_field_is_as_configured(small: Server, plain: Server) -> None:
    assert small.ask("/").fields["server"] == "unnamed"
    assert small.ask("/", "bad header").fields["server"] == "unnamed"
    assert plain.ask("/").fields["server"] == "cyhorn"


@shows("context_isolation", "a context variable that one request sets is not seen by the next; turned off, it is")
def test_each_request_has_its_own_context(plain: Server, launch: Launch, side: str) -> None:
    assert [plain.ask("/context").json for _ in range(2)] == ["nobody", "nobody"]
    shared = launch("context_isolation = False", side)
    assert [shared.ask("/context").json for _ in range(2)] == ["nobody", "somebody"]


@shows("sendfile", "a file of wsgi.file_wrapper leaves without being read; turned off, it is read")
def test_files_are_sent_without_being_read(plain: Server, launch: Launch, side: str) -> None:
    off = launch("sendfile = False", side)
    for server, moved in ((plain, "MOVED 0$"), (off, "MOVED [1-9]")):
        assert b"def file_page" in server.ask("/file").body
        server.wait_for(moved)
