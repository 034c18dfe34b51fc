"""Both sides write the same lines, byte by byte, whatever the format, the environ and the response are."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from cyhorn import _access, _access_py
from tests.test_access import ENVIRON, Response, one_line


def test_each_character_is_shown_alike_by_both_sides() -> None:
    for number in (*range(0x180), 0x2028, 0xDC80, 0xFFFF, 0x1F600):
        environ = {"PATH_INFO": f"before {chr(number)} after"}
        assert one_line(_access, "%(U)s", environ) == one_line(_access_py, "%(U)s", environ)


values = st.text(st.characters(max_codepoint=0x2FF), max_size=24) | st.text(
    st.sampled_from('abc"\\ \n\x7f\x80\xa0é'), max_size=40
)
names = st.sampled_from(["host", "x-id", "cookie", "content-type", "x_y", "wsgi.url_scheme", "app.object"])
atoms = st.sampled_from([*"hlutrmUqHsbBfaTMDLp", "?", "{"]) | st.builds(
    "{{{}}}{}".format, names, st.sampled_from("iIoeEx")
)
formats = st.lists(
    st.builds("%({}){}s".format, atoms, st.sampled_from(["", "", "", "", "", "12", ".3"]))
    | st.sampled_from(["%(B)d", "%(U)r", " ", '"', "%%", "\t", "é", "\udce9", "{}", "\\", "text"]),
    max_size=8,
).map("".join)
objects = st.none() | st.integers() | st.lists(values, max_size=2) | st.just(type("Text", (str,), {})("x"))
environs = st.dictionaries(
    st.sampled_from(
        [*ENVIRON, "HTTP_REFERER", "HTTP_USER_AGENT", "HTTP_X_ID", "CONTENT_TYPE", "Content-Type", "X_Y", "app.object"]
    ),
    values | values | values | objects,
).map(lambda given: ENVIRON | given)
credentials = st.none() | values | objects | st.sampled_from(["Basic YWRhOng=", "basic ???", "Bearer x", "BASIC"])


@settings(deadline=None, max_examples=400)  # a busy machine is no defect
@given(
    text=formats,
    environ=environs | st.just({}) | st.none(),
    user=credentials,
    status=st.integers(100, 599) | st.none() | st.text(max_size=3),
    sent=st.integers(0, 10**15) | st.none(),
    seconds=st.floats(0, 1e6) | st.sampled_from([5e-7, 1.5e-6, 0.9999995]),
)
def test_both_sides_write_the_same_lines(
    text: str, environ: Any, user: Any, status: Any, sent: Any, seconds: float
) -> None:
    if environ and user is not None:
        environ = environ | {"HTTP_AUTHORIZATION": user}
    response = Response(status, sent, [("Content-Type", "text/html")])
    written = [one_line(side, text, environ, response, seconds) for side in (_access, _access_py)]
    assert written[0] == written[1]
