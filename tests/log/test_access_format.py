"""The access-log format: what each atom shows, and that nobody can write lines of their own."""

from __future__ import annotations

import base64
import locale
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cyhorn.log import access_format
from cyhorn.log.access import compile_format
from cyhorn.log.access_format import SafeAtoms, clf_clock, clf_time, escape

NOON = "[14/Jul/2025:12:00:00 +0200]"


def noon() -> str:
    return NOON


@pytest.fixture
def line(
    make_environ: Callable[..., dict[str, Any]], make_response: Callable[..., Any]
) -> Callable[..., str]:
    """The line of a request: format, environ variables, response fields, duration."""

    def make(text: str, seconds: float = 0.25, headers: Any = (), **variables: Any) -> str:
        return compile_format(text)(make_response(headers=headers), make_environ(**variables), seconds, noon)

    return make


def basic(credentials: str) -> str:
    return "Basic " + base64.b64encode(credentials.encode()).decode()


@pytest.mark.parametrize(
    ("atom", "text"),
    [
        ("h", "192.0.2.7"),
        ("l", "-"),
        ("u", "-"),
        ("t", NOON),
        ("r", "GET /shop?item=7 HTTP/1.1"),
        ("m", "GET"),
        ("U", "/shop"),
        ("q", "item=7"),
        ("H", "HTTP/1.1"),
        ("s", "200"),
        ("B", "1234"),
        ("b", "1234"),
        ("f", "-"),
        ("a", "-"),
        ("T", "61"),
        ("L", "61.002003"),
        ("M", "61002"),
        ("D", "61002003"),
        pytest.param("p", f"<{os.getpid()}>", id="p-this process"),
        ("{host}i", "-"),
        ("{x}o", "-"),
        ("{x}e", "-"),
        ("{x}x", "-"),
        ("{}i", "-"),
        ("{", "-"),
        ("no such atom", "-"),
    ],
)
def test_each_atom_shows_its_part_of_the_request(line: Callable[..., str], atom: str, text: str) -> None:
    assert line(f"%({atom})s", seconds=61.002003) == text


def test_the_default_format_is_the_combined_log_format(line: Callable[..., str]) -> None:
    text = '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s"'
    variables = {
        "HTTP_REFERER": "http://example.com/",
        "HTTP_USER_AGENT": "curl/8.9",
        "HTTP_AUTHORIZATION": basic("ada:secret"),
    }
    assert line(text, **variables) == (
        f'192.0.2.7 - ada {NOON} "GET /shop?item=7 HTTP/1.1" 200 1234 "http://example.com/" "curl/8.9"'
    )


@pytest.mark.parametrize(
    ("field", "user"),
    [
        (basic("ada:secret"), "ada"),
        (basic("ada:").replace("Basic", "bAsIc"), "ada"),
        (basic("ada"), "ada"),
        (basic(":secret"), "-"),
        (basic("jürgen:x"), "jürgen"),
        ("Basic", "-"),
        ("Basic !", "-"),
        ("Basic /w==", "-"),  # not UTF-8
        ("Bearer " + base64.b64encode(b"ada:x").decode(), "-"),
        ("", "-"),
        (None, "-"),
    ],
)
def test_the_user_is_that_of_basic_credentials(line: Callable[..., str], field: Any, user: str) -> None:
    assert line("%(u)s", HTTP_AUTHORIZATION=field) == user


def test_fields_and_variables_are_named_in_any_case(line: Callable[..., str]) -> None:
    headers = [("content-TYPE", "text/html"), ("X-Trace", "one"), ("x-trace", "two")]
    variables = {"HTTP_X_REQUEST_ID": "r1", "CONTENT_TYPE": "text/plain", "Mixed.Key": 5}
    text = (
        "%({X-Request-Id}i)s %({content-type}I)s %({Content-Type}o)s %({X-TRACE}o)s"
        " %({WSGI.url_scheme}e)s %({wsgi.multiprocess}e)s %({mixed.KEY}e)s"
    )
    assert line(text, headers=headers, **variables) == "r1 text/plain text/html two http True 5"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("%(h)12s|", "   192.0.2.7|"),
        ("%(h)-12s|", "192.0.2.7   |"),
        ("%(U).3s|", "/sh|"),
        ("%(D)08d|", "00250000|"),
        ("%(B)x", "4d2"),
        ("%(T)5.2f|", " 0.00|"),
        ("%(U)r", "'/shop'"),
        ("%(r)28s|", "   GET /shop?item=7 HTTP/1.1|"),
        ("%(U)ls", "/shop"),
        ("100%% {of} it", "100% {of} it"),
        ("%(no (such) atom)s", "-"),
        ("", ""),
        ("%(h)s\t%(s)s", "192.0.2.7\t200"),
        ("größe=%(B)s", "größe=1234"),
        ("gr\udcf6\udcdfe=%(B)s", "gr\udcf6\udcdfe=1234"),  # of a command line that is not UTF-8
        ('{"path": "%(U)s"}\\n', '{"path": "/shop"}\\n'),
    ],
)
def test_a_format_is_percent_formatting(line: Callable[..., str], text: str, shown: str) -> None:
    assert line(text) == shown


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("%h %l", "'%h' at 0"),
        ("%(h)s 100%", "'%' at 9"),
        ("x %(h", "'%(h' at 2"),
        ("%(h)", "'%(h)' at 0"),
        ("%(h)!", "'%(h)' at 0"),
        ("%(h)*d", "'%(h)' at 0"),
        ("%(h)d", "%(h)s"),
        ("%(U)05d", "%(U)05s"),
    ],
)
def test_what_is_not_a_format_is_refused_with_its_place(text: str, place: str) -> None:
    with pytest.raises(ValueError) as caught:
        compile_format(text)
    assert place in str(caught.value)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.0, "0 0 0 0.000000"),
        (0.0000005, "0 0 0 0.000000"),  # half to even, as timedelta
        (0.0000015, "0 0 2 0.000002"),
        (0.999999999, "1 1000 1000000 1.000000"),
        (90_000.5, "90000 90000500 90000500000 90000.500000"),  # days count
    ],
)
def test_durations_are_whole_microseconds(line: Callable[..., str], seconds: float, shown: str) -> None:
    assert line("%(T)s %(M)s %(D)s %(L)s", seconds=seconds) == shown


# --- injection and hostile environs ---


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ('a"b', r"a\"b"),
        ("/a\n127.0.0.1 - - GET", r"/a\x0a127.0.0.1 - - GET"),
        ("\r\n", r"\x0d\x0a"),
        ("\x1b[2J", r"\x1b[2J"),
        ("\x9b31m", r"\x9b31m"),
        ("\x85\x00\x7f\t", r"\x85\x00\x7f\x09"),
        ("Ã©\xa0", "Ã©\xa0"),
        ("back\\slash %(h)s {0}", "back\\slash %(h)s {0}"),
    ],
)
@pytest.mark.parametrize("text", ["%(U)s", "x\t%(U)s", "é %(U)s", "%(U)-1s"])
def test_quotes_and_controls_are_escaped(line: Callable[..., str], text: str, value: str, shown: str) -> None:
    expected = text.replace("%(U)s", shown).replace("%(U)-1s", shown)
    assert line(text, PATH_INFO=value) == expected


@settings(deadline=None)  # a busy machine is no defect
@given(st.text(), st.text(), st.text())
def test_no_value_ends_a_line_or_a_quoted_part(path: str, agent: str, field: str) -> None:
    make = compile_format('"%(U)s" "%(a)s" "%({x}o)s" "%({x}e)s"')

    class Response:
        status_code, sent = 200, 0
        headers = (("X", field),)

    text = make(Response(), {"PATH_INFO": path, "HTTP_USER_AGENT": agent, "X": field}, 0.0, noon)
    assert not any(c in text for c in map(chr, access_format.CONTROLS))
    # Every quote but the format's own eight has a backslash before it.
    assert text.count('"') - text.count('\\"') <= 8
    assert text == f'"{escape(path)}" "{escape(agent)}" "{escape(field)}" "{escape(field)}"'


class Unshowable:
    def __str__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    "environ",
    [{}, dict.fromkeys(("REMOTE_ADDR", "RAW_URI", "HTTP_REFERER", "HTTP_AUTHORIZATION"), None), None],
)
def test_an_environ_that_the_application_emptied_still_makes_a_line(
    make_response: Callable[..., Any], environ: Any
) -> None:
    make = compile_format('%(h)s "%(r)s" %(u)s %(s)s "%(f)s" %({x}i)s %({x}e)s %({x}o)s')
    text = make(make_response(), environ, 0.1, noon)
    assert " 200 " in text
    assert text.endswith(" - - -")


def test_a_value_that_cannot_be_shown_is_a_dash(line: Callable[..., str]) -> None:
    assert line("%(U)s %(m)s", PATH_INFO=Unshowable()) == "- GET"
    assert line("%(U)s", PATH_INFO=["\n"]) == r"['\n']"


def test_a_format_touches_only_its_atoms(make_response: Callable[..., Any]) -> None:
    touched = []

    class Environ(dict[str, str]):
        def __getitem__(self, key: str) -> str:
            touched.append(key)
            return "x"

        def get(self, key: str, default: Any = None) -> Any:
            touched.append(key)
            return default

    compile_format("%(h)s %(f)s %({x-id}i)s")(make_response(), Environ(), 0.0, noon)
    assert touched == ["REMOTE_ADDR", "HTTP_REFERER", "HTTP_X_ID"]


def test_safe_atoms_answer_in_any_case_and_escape() -> None:
    atoms = SafeAtoms({"U": 'a"\n', "{x-id}i": "v", "B": 7, "{o}e": Unshowable(), "{l}e": ["\n"]})
    text = "%(U)s %({X-Id}i)s %(B)04d %(nothing)s %({no}o)s %({o}e)s"
    assert text % atoms == r"a\"\x0a v 0007 - - -"
    assert dict(atoms)["U"] == r"a\"\x0a"


# --- time ---


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    def use(name: str) -> None:
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield use
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("UTC0", "[09/Feb/2009:23:31:30 +0000]"),
        ("IST-5:30", "[10/Feb/2009:05:01:30 +0530]"),
        ("NST+3:30", "[09/Feb/2009:20:01:30 -0330]"),
    ],
)
def test_the_time_is_local_with_its_offset(zone: Callable[[str], None], name: str, shown: str) -> None:
    zone(name)
    assert clf_time(1234222290.0) == shown
    assert time.strftime("[%d/%b/%Y:%H:%M:%S %z]", time.localtime(1234222290)) == shown


def test_months_are_english_in_every_locale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "strftime", lambda *_: pytest.fail("strftime follows the locale"))
    assert locale.getlocale() is not None
    assert "/Dec/" in clf_time(1765000000.0)


def test_the_clock_is_made_anew_each_second_and_when_set_back(
    zone: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    zone("UTC0")
    made = []
    moments = iter([100.1, 100.9, 101.0, 101.5, 40.2])
    monkeypatch.setattr(time, "time", lambda: next(moments))
    real = access_format.clf_time
    monkeypatch.setattr(access_format, "clf_time", lambda s: made.append(s) or real(s))
    clock = clf_clock()
    assert [clock()[-15:-7] for _ in range(5)] == [
        "00:01:40", "00:01:40", "00:01:41", "00:01:41", "00:00:40",
    ]  # fmt: skip
    assert made == [100.0, 101.0, 40.0]


def test_a_forked_process_shows_its_own_id(make_response: Callable[..., Any]) -> None:
    make = compile_format("%(p)s")
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(write, make(make_response(), {}, 0.0, noon).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as stream:
        assert stream.read() == f"<{child}>"
    os.waitpid(child, 0)
