"""The path past logging prints what `Logger.access` prints, and is left as soon as someone could tell."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cyhorn.log import access_format
from cyhorn.log.access import AccessLog, access_wanted, fast_access_log
from cyhorn.log.logger import Logger
from cyhorn.log.statsd import Statsd

# --- both paths print the same ---

values = st.text(st.characters(max_codepoint=0x2FF, codec="utf-8"), max_size=20)
names = st.sampled_from(["host", "x-id", "cookie", "content-type", "x_y", "accept"])
atoms = st.sampled_from([*"hlutrmUqHsbBfaTMDLp", "?"]) | st.builds(
    "{{{}}}{}".format,
    names | st.sampled_from(["REMOTE_USER", "wsgi.url_scheme", "app.object"]),
    st.sampled_from("ioeE"),
)
flags = st.sampled_from(["", "", "", "12", "-9", ".3"])
conversions = st.sampled_from("sssra")
formats = st.lists(
    st.builds("%({}){}{}".format, atoms, flags, conversions)
    | st.sampled_from(["%(B)d", "%(D)08x", "%(T).2f", " ", '"', "%%", "\t", "é", "{}", "\\", "text"]),
    max_size=8,
).map("".join)
environs = st.fixed_dictionaries(
    {
        "REQUEST_METHOD": st.sampled_from(["GET", "PUT"]),
        "RAW_URI": values,
        "PATH_INFO": values,
        "QUERY_STRING": values,
        "SERVER_PROTOCOL": st.just("HTTP/1.1"),
        "REMOTE_ADDR": st.just("192.0.2.7") | values,
    },
    optional={
        "HTTP_REFERER": values,
        "HTTP_USER_AGENT": values,
        "HTTP_AUTHORIZATION": values | st.sampled_from(["Basic YWRhOng=", "Basic Cgo=", "basic ???"]),
        "HTTP_X_ID": values,
        "HTTP_COOKIE": values,
        "CONTENT_TYPE": values,
        "REMOTE_USER": values,
        "app.object": st.none() | st.integers() | st.lists(values, max_size=2),
        "wsgi.url_scheme": st.just("https"),
    },
)
environs = environs | st.just({}) | environs.map(lambda e: dict.fromkeys(e))
statuses = st.sampled_from(["200 OK", "404 Not Found", "500 X", "204 "])
headers = st.lists(st.tuples(names | names.map(str.title), values), max_size=4)
durations = st.floats(0, 100_000)


@pytest.fixture(scope="module")
def both(impl: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., tuple[str, str]]]:
    """Log one request on both paths and return what each wrote."""
    path = tmp_path_factory.mktemp("access") / "access.log"
    settings = dict.fromkeys(
        ("logconfig", "logconfig_dict", "logconfig_json", "syslog", "capture_output", "errorlog")
    )
    cfg = SimpleNamespace(
        **settings, accesslog=str(path), loglevel="info", uid=0, gid=0, access_log_format=""
    )
    noon = "[14/Jul/2025:12:00:00 +0200]"
    patch = pytest.MonkeyPatch()
    patch.setattr(access_format, "clf_now", lambda: noon)
    loggers: list[Logger] = []

    def run(text: str, response: Any, environ: dict[str, Any], seconds: float) -> tuple[str, str]:
        cfg.access_log_format = text
        if not loggers:
            loggers.append(Logger(cfg))
        logger = loggers[0]
        os.truncate(path, 0)
        logger.access(response, None, environ, timedelta(seconds=seconds))
        slow = path.read_text(encoding="utf-8")
        os.truncate(path, 0)
        plain = fast_access_log(logger, cfg)
        assert plain is not None
        fast = impl.access.AccessLines(plain.line, plain.steps, lambda: noon, plain)
        fast.record(response, environ, seconds)
        fast.flush()
        return slow, path.read_text(encoding="utf-8")

    yield run
    patch.undo()


@settings(deadline=None)  # a busy machine is no defect
@given(
    text=formats,
    environ=environs,
    status=statuses,
    sent=st.integers(0, 10**12),
    fields=headers,
    seconds=durations,
)
def test_both_paths_print_the_same_line(
    both: Callable[..., tuple[str, str]],
    make_response: Callable[..., Any],
    text: str,
    environ: dict[str, Any],
    status: str,
    sent: int,
    fields: list[tuple[str, str]],
    seconds: float,
) -> None:
    slow, fast = both(text, make_response(status, sent, fields), environ, seconds)
    assert fast == slow
    assert fast.count("\n") == 1


# --- when it is taken ---


def test_the_fast_path_is_taken_for_a_file_and_for_standard_output(cfg: Any) -> None:
    assert isinstance(fast_access_log(Logger(cfg), cfg), AccessLog)
    cfg.accesslog = "-"
    assert isinstance(fast_access_log(Logger(cfg), cfg), AccessLog)


def test_a_class_that_only_sets_up_keeps_the_fast_path(cfg: Any) -> None:
    class Own(Logger):
        def setup(self, cfg: Any) -> None:
            super().setup(cfg)

        def error(self, msg: object, *args: Any, **kwargs: Any) -> None:
            super().error(msg, *args, **kwargs)

    assert fast_access_log(Own(cfg), cfg) is not None


class OwnAccess(Logger):
    def access(self, *args: Any) -> None:
        super().access(*args)


class OwnAtoms(Logger):
    def atoms(self, *args: Any) -> dict[str, Any]:
        return super().atoms(*args)


class OwnWrapper(Logger):
    atoms_wrapper_class = dict


class OwnNow(Logger):
    def now(self) -> str:
        return "now"


@pytest.mark.parametrize("kind", [OwnAccess, OwnAtoms, OwnWrapper, OwnNow, Statsd])
def test_a_class_that_makes_its_own_lines_is_asked_for_each(cfg: Any, kind: type[Logger]) -> None:
    assert fast_access_log(kind(cfg), cfg) is None


def test_an_access_method_put_on_the_object_is_asked(cfg: Any) -> None:
    logger = Logger(cfg)
    logger.access = lambda *_: None  # type: ignore[method-assign]
    assert fast_access_log(logger, cfg) is None
    assert access_wanted(logger)


def veto(record: logging.LogRecord) -> bool:
    return False


@pytest.mark.parametrize(
    "change",
    [
        lambda log, h: log.addFilter(veto),
        lambda log, h: h.addFilter(veto),
        lambda log, h: h.setFormatter(logging.Formatter("%(asctime)s %(message)s")),
        lambda log, h: h.setFormatter(type("Json", (logging.Formatter,), {})("%(message)s")),
        lambda log, h: h.setLevel(logging.ERROR),
        lambda log, h: log.setLevel(logging.ERROR),
        lambda log, h: log.addHandler(logging.NullHandler()),
        lambda log, h: log.removeHandler(h) or h.close(),
        lambda log, h: setattr(log, "propagate", True),
        lambda log, h: setattr(log, "disabled", True),
        lambda log, h: setattr(h, "terminator", "\0"),
    ],
)
def test_what_the_user_put_on_the_logger_ends_the_fast_path(cfg: Any, change: Callable[..., Any]) -> None:
    logger = Logger(cfg)
    assert fast_access_log(logger, cfg) is not None
    change(logger.access_log, logger.access_log.handlers[0])
    assert fast_access_log(logger, cfg) is None


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [({"accesslog": None}, False), ({"logconfig_dict": {"version": 1}}, True)],
)
def test_without_a_plain_access_log_there_is_no_fast_path(
    cfg: Any, settings: dict[str, Any], wanted: bool
) -> None:
    for name, value in settings.items():
        setattr(cfg, name, value)
    logger = Logger(cfg)
    assert fast_access_log(logger, cfg) is None
    assert access_wanted(logger) is wanted


def test_a_class_with_its_own_access_is_asked_without_an_access_log(impl: Any, cfg: Any) -> None:
    cfg.accesslog = None
    assert access_wanted(Statsd(cfg))
    assert not access_wanted(Logger(cfg))


# --- what it does ---


def open_fast(impl: Any, cfg: Any) -> tuple[Any, Logger, Path]:
    cfg.access_log_format = "%(m)s %(U)s %(s)s"
    logger = Logger(cfg)
    plain = fast_access_log(logger, cfg)
    assert plain is not None
    lines = impl.access.AccessLines(plain.line, plain.steps, plain.clock, plain)
    return lines, logger, Path(cfg.accesslog)


def writes_of_this_process() -> int:
    """How many write(2) it has made, from whatever code."""
    return int(re.search(r"syscw: (\d+)", Path("/proc/self/io").read_text())[1])  # type: ignore[index]


def test_the_lines_of_a_turn_are_one_write(
    impl: Any,
    cfg: Any,
    make_environ: Callable[..., Any],
    make_response: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log, _, path = open_fast(impl, cfg)
    for number in range(500):
        log.record(make_response(), make_environ(PATH_INFO=f"/{number}"), 0.1)
    assert log.pending and not path.stat().st_size
    before = writes_of_this_process()
    log.flush()
    assert writes_of_this_process() - before == 1
    log.flush()
    assert not log.pending and path.read_text().splitlines() == [
        f"GET /{number} 200" for number in range(500)
    ]


def test_lines_follow_a_reopened_log(
    impl: Any, cfg: Any, make_environ: Callable[..., Any], make_response: Callable[..., Any]
) -> None:
    log, logger, path = open_fast(impl, cfg)
    for name in ("before", "after"):
        log.record(make_response(), make_environ(PATH_INFO=name), 0.1)
        log.flush()
        if name == "before":
            path.rename(path.with_suffix(".1"))
            logger.reopen_files()
    assert path.with_suffix(".1").read_text() == "GET before 200\n"
    assert path.read_text() == "GET after 200\n"


@pytest.mark.parametrize("where", ["logger", "handler"])
def test_a_filter_that_comes_later_is_obeyed(
    impl: Any,
    cfg: Any,
    make_environ: Callable[..., Any],
    make_response: Callable[..., Any],
    where: str,
) -> None:
    log, logger, path = open_fast(impl, cfg)
    target = logger.access_log if where == "logger" else logger.access_log.handlers[0]
    target.addFilter(lambda record: "/health" not in record.getMessage())
    for name in ("/health", "/shop"):
        log.record(make_response(), make_environ(PATH_INFO=name), 0.1)
    log.flush()
    assert path.read_text() == "GET /shop 200\n"


def test_a_handler_that_takes_the_place_later_gets_the_lines(
    impl: Any, cfg: Any, make_environ: Callable[..., Any], make_response: Callable[..., Any]
) -> None:
    log, logger, path = open_fast(impl, cfg)
    seen = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(record.getMessage())

    logger.access_log.handlers[0].close()
    logger.access_log.handlers[:] = [Collect()]
    log.record(make_response(), make_environ(), 0.1)
    log.flush()
    assert seen == ["GET /shop 200"]
    assert path.read_text() == ""
