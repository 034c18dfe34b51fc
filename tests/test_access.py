"""The lines of the access log: the same on both sides, whole, in order, and written once."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from cyhorn.log.access_format import MISSING, compile_format
from cyhorn.log.access_steps import Step, format_steps
from tests.loop.driver import Written

NOON = "[14/Jul/2025:12:00:00 +0200]"
DEFAULT = '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s"'


class Response:
    def __init__(self, status_code: Any = 200, sent: Any = 5, headers: Any = ()) -> None:
        self.status_code = status_code
        self.sent = sent
        self.headers = headers


ENVIRON = {
    "REQUEST_METHOD": "GET",
    "RAW_URI": "/shop?item=7",
    "PATH_INFO": "/shop",
    "QUERY_STRING": "item=7",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "REMOTE_ADDR": "192.0.2.7",
}


def lines_of(module: Any, text: str, log: Any = None, clock: Callable[[], str] = lambda: NOON) -> Any:
    return module.AccessLines(compile_format(text), format_steps(text), clock, log or Written())


def one_line(module: Any, text: str, environ: Any, response: Any = None, seconds: float = 0.0) -> bytes:
    log = Written()
    lines = lines_of(module, text, log)
    lines.record(response or Response(), environ, seconds)
    lines.flush()
    (line,) = log.times
    return line


# --- what a line says ---


def test_the_default_format_is_all_steps() -> None:
    steps = format_steps(DEFAULT)
    assert steps is not None
    assert [step.argument or step.kind for step in steps] == [
        "REMOTE_ADDR", " - ", "user", " ", "time", ' "', "REQUEST_METHOD", " ", "RAW_URI", " ",
        "SERVER_PROTOCOL", '" ', "status", " ", "sent", ' "', "HTTP_REFERER", '" "', "HTTP_USER_AGENT", '"',
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("", ()),
        ("%% %(nothing)s", (Step("text", f"% {MISSING}"),)),
        ("%({X-Id}i)s", (Step("variable", "HTTP_X_ID"),)),
        ("%({Content-Type}I)s", (Step("variable", "CONTENT_TYPE"),)),
        ("%({wsgi.url_scheme}e)s", (Step("exact", "WSGI.URL_SCHEME"),)),
        ("%(B)s%(T)s", (Step("sent"), Step("seconds"))),
        ("%({x}o)s", None),
        ("%(B)d", None),
        ("%(h)9s", None),
        ("%(h)r", None),
    ],
)
def test_a_format_is_steps_where_steps_can_say_it(text: str, steps: Any) -> None:
    assert format_steps(text) == steps


def test_a_line_of_the_default_format(impl: Any) -> None:
    environ = ENVIRON | {"HTTP_USER_AGENT": 'cu"rl/8.9', "HTTP_REFERER": "http://example.com/"}
    assert one_line(impl.access, DEFAULT, environ).decode() == (
        f'192.0.2.7 - - {NOON} "GET /shop?item=7 HTTP/1.1" 200 5 "http://example.com/" "cu\\"rl/8.9"\n'
    )


@pytest.mark.parametrize("length", [*range(20), 63, 64, 65, 5000, 70000])
def test_every_byte_is_copied_or_escaped_wherever_it_stands(impl: Any, length: int) -> None:
    plain = "x" * length
    assert one_line(impl.access, "%(U)s", {"PATH_INFO": plain}) == plain.encode() + b"\n"
    if not length:
        return
    places = range(length) if length < 20 else (0, length // 2, length - 1)
    for place in places:
        for special, shown in (("\n", "\\x0a"), ('"', '\\"'), ("\x7f", "\\x7f"), ("\x80", "\\x80"), ("é", "é")):
            value = plain[:place] + special + plain[place + 1 :]
            wanted = value.replace(special, shown).encode() + b"\n"
            assert one_line(impl.access, "%(U)s", {"PATH_INFO": value}) == wanted


def test_the_time_follows_the_clock(impl: Any) -> None:
    log = Written()
    lines = lines_of(impl.access, "%(t)s", log, lambda: time.strftime("%S"))
    shown = set()
    deadline = time.monotonic() + 10
    while len(shown) < 2 and time.monotonic() < deadline:
        lines.record(Response(), {}, 0.0)
        lines.flush()
        shown.add(log.times[-1])
        select.select([], [], [], 0.02)
    assert len(shown) == 2


@pytest.mark.parametrize(("text", "timed"), [(DEFAULT, False), *((f"%({a})s", True) for a in "TMDL"), ("%(h)9s", True)])
def test_durations_are_asked_for_where_a_line_may_show_them(impl: Any, text: str, timed: bool) -> None:
    assert lines_of(impl.access, text).timed is timed


def test_the_process_is_the_one_that_writes(impl: Any) -> None:
    assert one_line(impl.access, "%(p)s", {}) == f"<{os.getpid()}>\n".encode()


# --- when and how they are written ---


def test_nothing_is_written_before_flush_and_nothing_twice(impl: Any) -> None:
    log = Written()
    lines = lines_of(impl.access, "%(U)s", log)
    lines.flush()
    for name in ("/1", "/2"):
        lines.record(Response(), {"PATH_INFO": name}, 0.0)
    assert lines.pending and log.times == []
    lines.flush()
    lines.flush()
    assert not lines.pending and log.times == [b"/1\n/2\n"]


def test_many_long_lines_are_kept_and_written_whole(impl: Any) -> None:
    log = Written()
    lines = lines_of(impl.access, "%(U)s|%(f)s", log)
    wanted = []
    for number in range(300):
        environ = {"PATH_INFO": f"/{number}" * 900, "HTTP_REFERER": "é" * number}
        lines.record(Response(), environ, 0.0)
        wanted.append(f"{environ['PATH_INFO']}|{environ['HTTP_REFERER']}\n")
    lines.flush()
    assert b"".join(log.times).decode() == "".join(wanted)
    lines.record(Response(), {}, 0.0)
    lines.flush()
    assert log.times[-1] == b"-|-\n"


def test_a_flush_within_a_flush_leaves_the_lines_to_the_first(impl: Any) -> None:
    class Reentrant(Written):
        def write(self, written: bytes, begun: bool) -> None:
            lines.flush()
            super().write(written, begun)

    log = Reentrant()
    lines = lines_of(impl.access, "%(U)s", log)
    lines.record(Response(), {"PATH_INFO": "/1"}, 0.0)
    lines.flush()
    assert log.times == [b"/1\n"]


def test_lines_that_have_waited_are_written_when_asked_for_and_young_ones_are_not(impl: Any) -> None:
    log = Written()
    lines = lines_of(impl.access, "%(U)s", log)
    lines.flush_old()
    lines.record(Response(), {"PATH_INFO": "/1"}, 0.0)
    deadline = time.monotonic() + 10
    while lines.pending and time.monotonic() < deadline:
        time.sleep(0.005)
        lines.flush_old()
    assert log.times == [b"/1\n"]


def test_lines_of_other_threads_that_come_while_a_write_waits_are_written_next(impl: Any) -> None:
    class Pipe:
        """A full pipe, written as the log of a console is; `asked` is set before each write."""

        def __init__(self) -> None:
            self.reader, self.writer = os.pipe()
            self.asked = threading.Event()
            os.set_blocking(self.writer, False)
            self.ballast = 0
            with contextlib.suppress(BlockingIOError):
                while True:
                    self.ballast += os.write(self.writer, b"." * 4096)
            os.set_blocking(self.writer, True)

        def target(self) -> tuple[int, int]:
            self.asked.set()
            return self.writer, 4096

        def write(self, written: bytes, begun: bool) -> None:
            self.asked.set()
            assert not begun
            while written:
                written = written[os.write(self.writer, written) :]

    log = Pipe()
    lines = lines_of(impl.access, "%(U)s", log)
    names = ["/first", "/second", *(f"/{number}" * 500 for number in range(20))]
    wanted = "".join(f"{name}\n" for name in names).encode()
    lines.record(Response(), {"PATH_INFO": names[0]}, 0.0)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(60.0)  # the other thread goes on until it waits for the pipe
    try:
        writer = threading.Thread(target=lines.flush)
        writer.start()
        assert log.asked.wait(10)
        for name in names[1:]:
            lines.record(Response(), {"PATH_INFO": name}, 0.0)
    finally:
        sys.setswitchinterval(interval)
    with open(log.reader, "rb") as reader:
        assert len(reader.read(log.ballast)) == log.ballast
        written = reader.read(len(names[0]) + 1)
        flushed = threading.Thread(target=lambda: (writer.join(10), lines.flush(), os.close(log.writer)))
        flushed.start()
        written += reader.read()
        flushed.join(10)
    assert written == wanted
