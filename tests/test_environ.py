"""The environ (HTTP.md 4, 5, 10 to 13, 36, 37, 39): what a head becomes."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from cyhorn.errors import Code, HttpError
from cyhorn.wsgi.input import EMPTY
from cyhorn.wsgi.template import ListenerInfo, environ_template

TEMPLATE = {"SERVER_NAME": "s", "SERVER_PORT": "80", "SCRIPT_NAME": "", "wsgi.url_scheme": "http", "QUERY_STRING": ""}
UNIX = {**TEMPLATE, "SERVER_NAME": "", "SERVER_PORT": ""}
FORWARDED = {"secure_scheme_headers": {"X-FORWARDED-PROTO": "https", "X-FORWARDED-SSL": "on", "X-OWN": "yes"}}


def build(
    impl: Any,
    head: str,
    *,
    template: dict[str, Any] = TEMPLATE,
    trusted: bool = False,
    parser: dict[str, Any] | None = None,
    port: str | None = "5",
    **options: Any,
) -> dict[str, Any]:
    """The environ of `head`, lines without their ends, which stands in the middle of other bytes."""
    data = "\r\n".join([*head.split("\n"), "", ""]).encode("latin-1")
    reader = impl.parser.RequestParser(**(parser or {}))
    buffer = bytearray(b"before" + data + b"after")
    assert reader.parse(buffer, 6) is not None
    builder = impl.environ.EnvironBuilder(template, **options)
    environ: dict[str, Any] = builder.build(reader, buffer, 6, "192.0.2.1", port, trusted)
    return environ


def test_a_request_line_becomes_its_variables(impl):
    environ = build(impl, "GET /a%20b/%E4?x=%20&y HTTP/1.1\nHost: h")
    assert {name: environ[name] for name in (
        "REQUEST_METHOD", "PATH_INFO", "QUERY_STRING", "RAW_URI", "SERVER_PROTOCOL", "SCRIPT_NAME",
        "REMOTE_ADDR", "REMOTE_PORT", "HTTP_HOST", "SERVER_NAME", "SERVER_PORT",
    )} == {
        "REQUEST_METHOD": "GET", "PATH_INFO": "/a b/\xe4", "QUERY_STRING": "x=%20&y",
        "RAW_URI": "/a%20b/%E4?x=%20&y", "SERVER_PROTOCOL": "HTTP/1.1", "SCRIPT_NAME": "",
        "REMOTE_ADDR": "192.0.2.1", "REMOTE_PORT": "5", "HTTP_HOST": "h", "SERVER_NAME": "s", "SERVER_PORT": "80",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/", "/"), ("//a//", "//a//"), ("/a/../b/./", "/a/../b/./"), ("/%2F%2e%00", "/%2F%2e%00"[:1] + "/.\0"),
        ("/%", "/%"), ("/%4", "/%4"), ("/%zz%4g%", "/%zz%4g%"), ("/%25%32%35", "/%25"), ("/%c3%a4%ff", "/\xc3\xa4\xff"),
        ("/%41%4a%4A%6f", "/AJJo"), ("/a+b;c=d", "/a+b;c=d"), ("/%%41", "/%A"), ("/%4%41", "/%4A"),
    ],
)  # fmt: skip
def test_the_path_is_decoded_once_and_as_latin_1(impl, target, path):
    environ = build(impl, f"GET {target} HTTP/1.1\nHost: h")
    assert (environ["PATH_INFO"], environ["RAW_URI"], environ["QUERY_STRING"]) == (path, target, "")


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [("/?", "/", ""), ("/??a", "/", "?a"), ("/a?%41?", "/a", "%41?"), ("/?/..", "/", "/.."), ("/%41?%42", "/A", "%42")],
)
def test_the_query_is_all_after_the_first_question_mark_and_not_decoded(impl, target, path, query):
    environ = build(impl, f"GET {target} HTTP/1.1\nHost: h")
    assert (environ["PATH_INFO"], environ["QUERY_STRING"]) == (path, query)


@pytest.mark.parametrize(
    ("target", "path", "query", "host"),
    [
        ("http://other:81/a?b", "/a", "b", "other:81"),
        ("HTTPS://other", "/", "", "other"),
        ("http://other?q", "/", "q", "other"),
        ("http://[::1]:1/%41", "/A", "", "[::1]:1"),
    ],
)
def test_an_absolute_target_names_the_host_whatever_host_says(impl, target, path, query, host):
    environ = build(impl, f"GET {target} HTTP/1.1\nHost: h")
    assert (environ["PATH_INFO"], environ["QUERY_STRING"], environ["HTTP_HOST"], environ["RAW_URI"]) == (
        path, query, host, target,
    )  # fmt: skip
    assert environ["wsgi.url_scheme"] == "http"


def test_an_absolute_target_of_1_0_makes_a_host_where_there_was_none(impl):
    assert build(impl, "GET http://other/ HTTP/1.0")["HTTP_HOST"] == "other"
    assert "HTTP_HOST" not in build(impl, "GET / HTTP/1.0")


def test_options_of_the_whole_server_has_the_path_star(impl):
    assert build(impl, "OPTIONS * HTTP/1.1\nHost: h")["PATH_INFO"] == "*"


@pytest.mark.parametrize("method", ["GET", "PUT", "POST", "HEAD", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "GE-T", "POSX"])
def test_methods_are_kept_as_sent(impl, method):
    assert build(impl, f"{method} / HTTP/1.1\nHost: h")["REQUEST_METHOD"] == method


def test_a_method_is_folded_to_upper_case_where_the_setting_says_so(impl):
    for method in ("get", "Post", "heAD", "frob"):
        environ = build(impl, f"{method} / HTTP/1.1\nHost: h", parser={"casefold_http_method": True})
        assert environ["REQUEST_METHOD"] == method.upper()


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.7"])
def test_the_protocol_is_the_version_as_sent(impl, version):
    assert build(impl, f"GET / HTTP/{version}\nHost: h")["SERVER_PROTOCOL"] == f"HTTP/{version}"


def test_fields_become_http_variables_and_two_have_no_prefix(impl):
    environ = build(impl, "POST / HTTP/1.1\nHost: h\nContent-Length: 7\ncontent-type: a/b\nX-Odd-1!: v\nUSER-agent: me")
    assert environ["CONTENT_LENGTH"] == "7" and environ["CONTENT_TYPE"] == "a/b"
    assert environ["HTTP_X_ODD_1!"] == "v" and environ["HTTP_USER_AGENT"] == "me"
    assert "HTTP_CONTENT_LENGTH" not in environ and "HTTP_CONTENT_TYPE" not in environ


def test_no_field_can_set_another_key(impl):
    head = "GET / HTTP/1.1\nHost: h\nREMOTE-ADDR: x\nwsgi.input: x\nServer-Name: x\nPATH-INFO: x\nHTTP-Host: x\nProxy: x"
    environ = build(impl, head)
    assert (environ["REMOTE_ADDR"], environ["SERVER_NAME"], environ["PATH_INFO"]) == ("192.0.2.1", "s", "/")
    assert environ["HTTP_HOST"] == "h" and environ["HTTP_HTTP_HOST"] == "x" and environ["HTTP_WSGI.INPUT"] == "x"


def test_repeated_fields_are_joined_in_order(impl):
    environ = build(
        impl, "GET / HTTP/1.1\nHost: h\nA: 1\nAccept: x\na: 2\nCookie: a=1\nAccept: y\nCOOKIE: b=2\nA: \nCookie: c"
    )
    assert environ["HTTP_A"] == "1,2,"
    assert environ["HTTP_ACCEPT"] == "x,y"
    assert environ["HTTP_COOKIE"] == "a=1; b=2; c"


@pytest.mark.parametrize("value", ["", "x", "\xff", "keep-alive", "*/*", "longer value"])
@pytest.mark.parametrize("name", ["X-Strange", "Accept", "Via"])
def test_repeated_fields_of_one_value_are_joined_all_the_same(impl, name, value):
    environ = build(impl, f"GET / HTTP/1.1\nHost: h\n{name}: {value}\n{name}: {value}\n{name}: {value}")
    assert environ["HTTP_" + name.upper().replace("-", "_")] == ",".join([value] * 3)


def test_values_are_latin_1_and_trimmed_outside_only(impl):
    environ = build(impl, "GET / HTTP/1.1\nHost: h\nA: \t \xe4\xff b\t c \t\nB:\nC: keep-alive\nD: */*\nE: x")
    assert [environ[f"HTTP_{name}"] for name in "ABCDE"] == ["\xe4\xff b\t c", "", "keep-alive", "*/*", "x"]


def test_a_folded_value_has_one_space_for_each_fold(impl):
    environ = build(
        impl, "GET / HTTP/1.1\nHost: h\nA: 1\n \t 2\n\t3\nReferer: x\n y", parser={"permit_obsolete_folding": True}
    )
    assert (environ["HTTP_A"], environ["HTTP_REFERER"]) == ("1 2 3", "x y")


def test_an_environ_is_a_dict_of_its_own(impl):
    reader = impl.parser.RequestParser()
    builder = impl.environ.EnvironBuilder(TEMPLATE)
    data = b"GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n\r\n"
    reader.parse(data)
    first = builder.build(reader, data, 0, "", None, False)
    first["x"] = 1
    first.clear()
    second = builder.build(reader, data, 0, "", None, False)
    assert type(second) is dict and second["HTTP_A"] == "b" and "x" not in second
    assert "x" not in TEMPLATE and second["SERVER_NAME"] == "s"


# -- names with "_" ---------------------------------------------------------------------------------------

UNDERSCORES = "GET / HTTP/1.1\nHost: h\nX_A: 1\nX-A: 2\nContent_Length: 5\nSCRIPT_NAME: /m"


def test_names_with_an_underscore_are_dropped(impl):
    for trusted in (False, True):
        environ = build(impl, UNDERSCORES, trusted=trusted)
        assert environ["HTTP_X_A"] == "2" and environ["SCRIPT_NAME"] == ""
        assert not {"HTTP_CONTENT_LENGTH", "CONTENT_LENGTH", "HTTP_SCRIPT_NAME"} & set(environ)


def test_names_with_an_underscore_are_refused_where_the_setting_says_so(impl):
    with pytest.raises(HttpError) as caught:
        build(impl, UNDERSCORES, header_map="refuse")
    assert caught.value.code is Code.FIELD_UNDERSCORE


def test_names_with_an_underscore_are_merged_where_the_setting_says_so(impl):
    environ = build(impl, UNDERSCORES, header_map="dangerous")
    assert environ["HTTP_X_A"] == "1,2" and environ["HTTP_CONTENT_LENGTH"] == "5"
    assert "CONTENT_LENGTH" not in environ and environ["SCRIPT_NAME"] == ""


def test_forwarder_names_count_from_trusted_peers_only(impl):
    head = "GET /m/a HTTP/1.1\nHost: h\nscript_name: /m\nRemote_User: u\nX_Other: o"
    options = {"forwarder_headers": ("Script_Name", "REMOTE_USER")}
    environ = build(impl, head, trusted=True, **options)
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == ("/m", "/a")
    assert environ["HTTP_REMOTE_USER"] == "u" and "HTTP_X_OTHER" not in environ
    environ = build(impl, head, trusted=False, **options)
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == ("", "/m/a")
    assert "HTTP_REMOTE_USER" not in environ
    assert build(impl, head, trusted=True, header_map="refuse", forwarder_headers=("*",))["HTTP_X_OTHER"] == "o"
    with pytest.raises(HttpError):
        build(impl, head, trusted=True, header_map="refuse", **options)


# -- SCRIPT_NAME ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mount", "target", "script", "path"),
    [
        ("/m", "/m/a", "/m", "/a"), ("/m", "/m", "/m", ""), ("/m/", "/m/a", "/m", "/a"), ("/", "/a", "", "/a"),
        ("", "/a", "", "/a"), ("/m/n", "/m/n/%41?q", "/m/n", "/A"), ("/m", "http://h/m/x", "/m", "/x"),
        ("/m", "/m/", "/m", "/"),
    ],
)  # fmt: skip
def test_a_mount_point_is_taken_off_the_path(impl, mount, target, script, path):
    environ = build(impl, f"GET {target} HTTP/1.1\nHost: h", script_name=mount)
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"], environ["RAW_URI"]) == (script, path, target)


@pytest.mark.parametrize("target", ["/", "/mm", "/n/m", "/M/a", "//m", "/%6d/a"])
def test_a_mount_point_that_does_not_prefix_the_path_is_500(impl, target):
    with pytest.raises(HttpError) as caught:
        build(impl, f"GET {target} HTTP/1.1\nHost: h", script_name="/m")
    assert (caught.value.code, caught.value.status) == (Code.SCRIPT_NAME, 500)


# -- the scheme -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "scheme"),
    [
        ("X-Forwarded-Proto: https", "https"), ("x-forwarded-proto: http", "http"), ("X-Forwarded-Ssl: on", "https"),
        ("X-Forwarded-Proto: HTTPS", "http"), ("X-Own: yes", "https"), ("X-Own: no", "http"), ("X-Other: https", "http"),
        ("X-Forwarded-Proto: https\nX-Own: yes", "https"), ("X-Forwarded-Proto: https\nX-Forwarded-Proto: https", "https"),
    ],
)  # fmt: skip
def test_a_trusted_peer_tells_the_scheme(impl, fields, scheme):
    head = f"GET / HTTP/1.1\nHost: h\n{fields}"
    assert build(impl, head, trusted=True, **FORWARDED)["wsgi.url_scheme"] == scheme
    assert build(impl, head, trusted=False, **FORWARDED)["wsgi.url_scheme"] == "http"


@pytest.mark.parametrize(
    "fields",
    ["X-Forwarded-Proto: https\nX-Forwarded-Ssl: off", "X-Own: no\nX-Forwarded-Proto: https", "X-Own: yes\nX-Own: no"],
)
def test_schemes_that_contradict_are_refused_from_trusted_peers_only(impl, fields):
    head = f"GET / HTTP/1.1\nHost: h\n{fields}"
    with pytest.raises(HttpError) as caught:
        build(impl, head, trusted=True, **FORWARDED)
    assert caught.value.code is Code.SCHEME_CONFLICT
    assert build(impl, head, trusted=False, **FORWARDED)["wsgi.url_scheme"] == "http"


def test_the_remote_address_is_never_taken_from_a_field(impl):
    environ = build(impl, "GET / HTTP/1.1\nHost: h\nX-Forwarded-For: 10.0.0.1", trusted=True, **FORWARDED)
    assert environ["REMOTE_ADDR"] == "192.0.2.1" and environ["HTTP_X_FORWARDED_FOR"] == "10.0.0.1"


# -- unix sockets ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "name", "port"),
    [("h", "h", "80"), ("h:81", "h", "81"), ("[::1]", "[::1]", "80"), ("[::1]:8", "[::1]", "8"), ("", "localhost", "80"), ("h:", "h", "80")],
)
def test_behind_a_unix_socket_host_names_the_server(impl, host, name, port):
    environ = build(impl, f"GET / HTTP/1.1\nHost: {host}", template=UNIX, port=None)
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == (name, port)
    assert "REMOTE_PORT" not in environ


def test_behind_a_unix_socket_the_scheme_decides_the_port(impl):
    environ = build(
        impl, "GET / HTTP/1.1\nHost: h\nX-Forwarded-Proto: https", template=UNIX, trusted=True, **FORWARDED
    )
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == ("h", "443")
    environ = build(impl, "GET / HTTP/1.0", template=UNIX)
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"]) == ("localhost", "80")


@pytest.mark.parametrize(
    ("host", "name", "port"),
    [
        ("a", "a", ""), ("a:1", "a", "1"), ("", "", ""), (":", "", ""), ("[::1]", "[::1]", ""), ("a:", "a", ""),
        ("[::1]:80", "[::1]", "80"), ("[::1]:", "[::1]", ""), ("a.example:8000", "a.example", "8000"),
    ],
)  # fmt: skip
def test_a_host_is_split_into_name_and_port(impl, host, name, port):
    assert impl.environ.split_host(host) == (name, port)


# -- the template -----------------------------------------------------------------------------------------------


def test_the_template_holds_every_key_of_pep_3333_and_keeps_room_for_the_request():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        errors = object()
        template = environ_template(ListenerInfo(sock), errors=errors, multithread=True, multiprocess=False)
        assert template["SERVER_PORT"] == str(sock.getsockname()[1])
    assert template["wsgi.errors"] is errors and template["wsgi.input"] is EMPTY
    assert (template["wsgi.version"], template["wsgi.url_scheme"]) == ((1, 0), "http")
    assert (template["wsgi.multithread"], template["wsgi.multiprocess"], template["wsgi.run_once"]) == (True, False, False)
    assert template["wsgi.input_terminated"] is True and template["SERVER_NAME"] == "127.0.0.1"
    assert len(template) >= 22  # PyDict_Copy then has room for 42 keys without a resize
