"""The logger's contract: lines, files, classes derived from it, re-opening."""

from __future__ import annotations

import logging
import logging.handlers
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cyhorn.errors import ConfigError
from cyhorn.log.handlers import LogFileHandler
from cyhorn.log.logger import Logger

ROOT = Path(__file__).resolve().parents[2]
STAMP = r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}\]"


def read(path: str | Path) -> list[str]:
    return Path(path).read_text(encoding="utf-8").splitlines()


# --- lines and where they go ---


def test_an_error_line_has_time_process_and_level(cfg: Any) -> None:
    Logger(cfg).info("Listening at: %s (%d)", "http://127.0.0.1:8000", 7)
    (line,) = read(cfg.errorlog)
    assert re.fullmatch(
        rf"{STAMP} \[{os.getpid()}\] \[INFO\] Listening at: http://127.0.0.1:8000 \(7\)", line
    )


def test_each_method_logs_at_its_level(cfg: Any) -> None:
    cfg.loglevel = "DEBUG"
    logger = Logger(cfg)
    for name in ("debug", "info", "warning", "error", "critical"):
        getattr(logger, name)("%s line", name)
    logger.log(logging.WARNING, "by number")
    logger.log("error", "by name")
    logger.log("no such", "by unknown name")
    try:
        raise KeyError("k")
    except KeyError:
        logger.exception("failed")
    lines = [line.split("] [")[-1] for line in read(cfg.errorlog)]
    assert lines[:9] == [
        "DEBUG] debug line",
        "INFO] info line",
        "WARNING] warning line",
        "ERROR] error line",
        "CRITICAL] critical line",
        "WARNING] by number",
        "ERROR] by name",
        "INFO] by unknown name",
        "ERROR] failed",
    ]
    assert lines[9] == "Traceback (most recent call last):"
    assert lines[-1] == "KeyError: 'k'"


def test_what_is_below_loglevel_is_left_out(cfg: Any) -> None:
    cfg.loglevel = "warning"
    logger = Logger(cfg)
    logger.info("quiet")
    logger.warning("loud")
    assert logger.loglevel == logging.WARNING
    assert len(read(cfg.errorlog)) == 1


def test_a_dash_is_standard_error_and_standard_output(
    make_cfg: Callable[..., Any],
    make_response: Any,
    make_environ: Callable[..., Any],
    capfd: pytest.CaptureFixture[str],
) -> None:
    logger = Logger(make_cfg(errorlog="-", accesslog="-", access_log_format="%(s)s %(U)s"))
    logger.info("hello")
    logger.access(make_response(), None, make_environ(), timedelta(0))
    out, err = capfd.readouterr()
    assert out == "200 /shop\n"
    assert err.endswith("[INFO] hello\n")


def test_the_loggers_are_cyhorn_s_and_do_not_propagate(cfg: Any) -> None:
    logger = Logger(cfg)
    assert (logger.error_log.name, logger.access_log.name) == ("cyhorn.error", "cyhorn.access")
    assert not logger.error_log.propagate
    assert not logger.access_log.propagate
    assert logger.cfg is cfg


@pytest.mark.parametrize(
    ("settings", "enabled"),
    [
        ({}, False),
        ({"accesslog": "-"}, True),
        ({"syslog": True, "syslog_addr": "udp://127.0.0.1:9"}, True),
        (
            {"syslog": True, "syslog_addr": "udp://127.0.0.1:9", "disable_redirect_access_to_syslog": True},
            False,
        ),
        ({"logconfig_dict": {"version": 1}}, True),
    ],
)
def test_the_access_log_is_off_unless_asked_for(
    make_cfg: Callable[..., Any], settings: dict[str, Any], enabled: bool
) -> None:
    assert Logger(make_cfg(**settings)).access_log_enabled is enabled


def test_no_error_log_at_all_is_possible(make_cfg: Callable[..., Any]) -> None:
    assert Logger(make_cfg(errorlog=None)).error_log.handlers == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
@pytest.mark.rule(42)
def test_files_belong_to_the_workers_also_after_reopening(cfg: Any) -> None:
    cfg.uid, cfg.gid = 65534, 65533
    logger = Logger(cfg)
    for path in (cfg.errorlog, cfg.accesslog):
        assert (os.stat(path).st_uid, os.stat(path).st_gid) == (65534, 65533)
        os.rename(path, f"{path}.1")
    logger.reopen_files()
    for path in (cfg.errorlog, cfg.accesslog):
        assert (os.stat(path).st_uid, os.stat(path).st_gid) == (65534, 65533)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_devices_are_not_given_away(make_cfg: Callable[..., Any]) -> None:
    before = os.stat("/dev/null").st_uid
    Logger(make_cfg(errorlog="/dev/null", uid=65534, gid=65534))
    assert os.stat("/dev/null").st_uid == before


# --- mistakes are one line ---


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"loglevel": "verbose"}, ["loglevel", "'verbose'", "critical, error, warning, warn, info, debug"]),
        (
            {"errorlog": "/no/such/folder/log"},
            ["errorlog", "/no/such/folder/log", "No such file or directory"],
        ),
        ({"accesslog": "/no/such/folder/log"}, ["accesslog", "No such file or directory"]),
        ({"errorlog": "/"}, ["errorlog", "'/'", "Is a directory"]),
        ({"accesslog": "-", "access_log_format": "%h %l %u"}, ["access_log_format", "'%h'", "%(h)s"]),
        ({"syslog": True, "syslog_facility": "cooking"}, ["syslog_facility", "'cooking'"]),
        ({"syslog": True, "syslog_addr": "localhost"}, ["syslog_addr", "'localhost'"]),
        ({"syslog": True, "syslog_addr": "udp://h:x"}, ["syslog_addr", "'x'"]),
    ],
)
def test_a_wrong_setting_is_one_line_with_its_name_and_value(
    make_cfg: Callable[..., Any], settings: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(ConfigError) as caught:
        Logger(make_cfg(**settings))
    text = str(caught.value)
    assert "\n" not in text
    for word in words:
        assert word in text


def test_a_format_for_a_class_of_ones_own_is_not_judged(make_cfg: Callable[..., Any]) -> None:
    class Json(Logger):
        def access(self, *args: Any) -> None:
            pass

    Json(make_cfg(accesslog="-", access_log_format="%h"))


# --- setting up again ---


def test_setting_up_again_replaces_our_handlers_and_keeps_others(cfg: Any, tmp_path: Path) -> None:
    logger = Logger(cfg)
    other = logging.NullHandler()
    logger.error_log.addHandler(other)
    first = cfg.errorlog
    cfg.errorlog = str(tmp_path / "second.log")
    cfg.accesslog = None
    logger.setup(cfg)
    logger.info("again")
    assert other in logger.error_log.handlers
    assert len(logger.error_log.handlers) == 2
    assert logger.access_log.handlers == []
    assert read(first) == []
    assert len(read(cfg.errorlog)) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"loglevel": "verbose"},
        {"errorlog": "/no/such/folder/log"},
        {"accesslog": "/no/such/folder/log"},
        {"syslog": True, "syslog_addr": "tcp://127.0.0.1:1"},
        {"logconfig_dict": {"version": 1, "handlers": {"h": {"class": "no.such.Class"}}}},
    ],
)
def test_a_setup_that_fails_changes_nothing(
    make_cfg: Callable[..., Any], cfg: Any, wrong: dict[str, Any]
) -> None:
    logger = Logger(cfg)
    handlers = list(logger.error_log.handlers)
    with pytest.raises(ConfigError):
        logger.setup(make_cfg(**{**vars(cfg), **wrong}))
    logger.info("still here")
    assert logger.cfg is cfg
    assert logger.error_log.handlers == handlers
    assert read(cfg.errorlog)[-1].endswith("still here")


def test_setting_up_again_leaks_no_descriptor(cfg: Any) -> None:
    logger = Logger(cfg)
    logger.setup(cfg)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        logger.setup(cfg)
    assert len(os.listdir("/proc/self/fd")) == before


# --- the access log by atoms ---


class Request:
    def __init__(self, headers: Any) -> None:
        self.headers = headers


def test_atoms_are_there_by_name(cfg: Any, make_response: Any, make_environ: Callable[..., Any]) -> None:
    atoms = Logger(cfg).atoms(
        make_response("404 Not Found", 12, [("X-A", "1"), ("x-a", "2")]),
        Request([("HOST", "example.com"), ("X-FORWARDED-FOR", "a"), ("X-FORWARDED-FOR", "b")]),
        make_environ(HTTP_HOST="example.org"),
        timedelta(seconds=2, microseconds=34_567),
    )
    wanted = {
        "h": "192.0.2.7", "l": "-", "u": "-", "r": "GET /shop?item=7 HTTP/1.1", "s": "404", "m": "GET",
        "U": "/shop", "q": "item=7", "H": "HTTP/1.1", "b": "12", "B": 12, "f": "-", "a": "-", "T": 2,
        "D": 2_034_567, "M": 2034, "L": "2.034567", "p": f"<{os.getpid()}>", "{x-a}o": "2",
        "{host}i": "example.org", "{x-forwarded-for}i": "a,b", "{wsgi.url_scheme}e": "http",
        "{request_method}e": "GET",
    }  # fmt: skip
    assert {key: atoms[key] for key in wanted} == wanted
    assert re.fullmatch(r"\[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\]", atoms["t"])


@pytest.mark.parametrize("headers", [None, {}, [], {"HOST": "h"}])
def test_request_fields_may_be_a_mapping_pairs_or_nothing(
    cfg: Any, make_response: Any, make_environ: Callable[..., Any], headers: Any
) -> None:
    atoms = Logger(cfg).atoms(make_response(), headers, make_environ(), timedelta(0))
    assert atoms.get("{host}i") == ("h" if headers else None)


def test_an_access_line_of_a_broken_request_does_not_raise(cfg: Any) -> None:
    class Response:
        status = b"200 OK"

        @property
        def headers(self) -> Any:
            raise RuntimeError("the application's own")

    Logger(cfg).access(Response(), None, {}, timedelta(0))
    assert "RuntimeError: the application's own" in read(cfg.errorlog)


def test_a_filter_sees_the_atoms_of_a_line(
    cfg: Any, make_response: Any, make_environ: Callable[..., Any]
) -> None:
    logger = Logger(cfg)
    logger.access_log.addFilter(lambda record: record.args["U"] != "/health")
    for path in ("/health", "/shop"):
        logger.access(make_response(), None, make_environ(PATH_INFO=path), timedelta(0))
    assert len(read(cfg.accesslog)) == 1


def test_a_derived_class_may_change_formats_handlers_and_atoms(
    cfg: Any, make_response: Any, make_environ: Callable[..., Any]
) -> None:
    class Upper(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            return super().format(record).upper()

    class Own(Logger):
        error_fmt = "own %(message)s"

        def setup(self, cfg: Any) -> None:
            super().setup(cfg)
            self._set_handler(self.access_log, cfg.accesslog, Upper("%(message)s"))

        def atoms(self, resp: Any, req: Any, environ: Any, request_time: timedelta) -> dict[str, Any]:
            return {**super().atoms(resp, req, environ, request_time), "z": "zone"}

        def now(self) -> str:
            return "soon"

    cfg.access_log_format = "%(z)s %(U)s %(t)s"
    logger = Own(cfg)
    logger.info("line")
    logger.access(make_response(), None, make_environ(), timedelta(0))
    assert read(cfg.errorlog) == ["own line"]
    assert read(cfg.accesslog) == ["ZONE /SHOP SOON"]
    assert len(logger.access_log.handlers) == 1


# --- re-opening ---


def test_every_file_of_every_logger_is_reopened(cfg: Any, tmp_path: Path) -> None:
    logger = Logger(cfg)
    plain = logging.FileHandler(tmp_path / "plain.log")
    rotating = logging.handlers.RotatingFileHandler(tmp_path / "rotating.log")
    watched = logging.handlers.WatchedFileHandler(tmp_path / "watched.log")
    delayed = logging.FileHandler(tmp_path / "delayed.log", delay=True)
    shop, root = logging.getLogger("tests.log.shop"), logging.getLogger()
    for log, handler in ((shop, plain), (shop, rotating), (root, watched), (shop, delayed)):
        log.addHandler(handler)
    try:
        files = [
            cfg.errorlog,
            cfg.accesslog,
            *(str(tmp_path / f"{n}.log") for n in ("plain", "rotating", "watched")),
        ]
        for file in files:
            os.rename(file, f"{file}.1")
        logger.reopen_files()
        assert all(os.path.exists(file) for file in files)
        assert not (tmp_path / "delayed.log").exists()
        shop.error("new")
        logger.info("new")
        for name in ("plain.log", "rotating.log", "watched.log", "error.log"):
            assert "new" in (tmp_path / name).read_text()
            assert (tmp_path / f"{name}.1").read_text() == ""
    finally:
        shop.handlers.clear()
        root.removeHandler(watched)
        for handler in (plain, rotating, watched, delayed):
            handler.close()


@pytest.mark.rule(40)
def test_a_folder_that_is_gone_at_usr1_is_said_once_and_the_old_files_stay(
    make_cfg: Callable[..., Any], tmp_path: Path
) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    logger = Logger(make_cfg(errorlog=str(folder / "error.log"), accesslog=str(folder / "access.log")))
    foreign = logging.FileHandler(folder / "foreign.log")
    logging.getLogger("tests.log.shop").addHandler(foreign)
    try:
        folder.rename(tmp_path / "moved")
        logger.reopen_files()
        logging.getLogger("tests.log.shop").error("still written")
        lines = read(tmp_path / "moved" / "error.log")
        assert sorted(re.search(r"log (\S+) \(", line)[1] for line in lines) == [  # type: ignore[index]
            str(folder / name) for name in ("access.log", "error.log", "foreign.log")
        ]
        assert all("still writing to the old file" in line for line in lines)
        assert read(tmp_path / "moved" / "foreign.log") == ["still written"]
        folder.mkdir()
        logger.reopen_files()
        logger.info("back")
        assert read(folder / "error.log")[-1].endswith("back")
    finally:
        logging.getLogger("tests.log.shop").handlers.clear()
        foreign.close()


def test_log_files_are_not_inherited(cfg: Any) -> None:
    logger = Logger(cfg)
    handlers = [h for log in (logger.error_log, logger.access_log) for h in log.handlers]
    for handler in handlers:
        assert isinstance(handler, LogFileHandler)
        os.set_inheritable(handler.stream.fileno(), True)
    handlers[0].close()
    logger.close_on_exec()
    assert not os.get_inheritable(handlers[1].stream.fileno())  # type: ignore[attr-defined]


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program), *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
    )


SETTINGS = """
    import os, sys, logging
    from types import SimpleNamespace
    from cyhorn.log.logger import Logger
    settings = dict.fromkeys(("logconfig", "logconfig_dict", "logconfig_json", "syslog", "accesslog"))
    cfg = SimpleNamespace(**settings, loglevel="info", uid=os.getuid(), gid=os.getgid(), capture_output=False,
                          errorlog="-", access_log_format="%(h)s")
"""


def test_captured_output_goes_to_the_error_log_and_follows_it(tmp_path: Path) -> None:
    path = tmp_path / "error.log"
    program = (
        SETTINGS
        + """
    cfg.errorlog, cfg.capture_output = sys.argv[1], True
    log = Logger(cfg)
    print("printed")
    os.system("echo child")
    os.write(2, b"raw\\n")
    os.rename(sys.argv[1], sys.argv[1] + ".1")
    log.reopen_files()
    print("printed after")
    log.info("logged after")
    os.rename(os.path.dirname(sys.argv[1]), os.path.dirname(sys.argv[1]) + ".moved")
    log.reopen_files()
    print("printed at last")
    """
    )
    done = run(program, str(path))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    moved = tmp_path.with_name(tmp_path.name + ".moved")
    assert read(moved / "error.log.1") == ["printed", "child", "raw"]
    after = read(moved / "error.log")
    assert after[0] == "printed after"
    assert after[1].endswith("logged after")
    assert "Cannot re-open" in after[2]
    assert after[3:] == ["printed at last"]


def test_output_is_not_captured_onto_standard_error(tmp_path: Path) -> None:
    program = (
        SETTINGS
        + """
    cfg.capture_output = True
    Logger(cfg).info("x")
    print("out")
    """
    )
    done = run(program)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "out\n"
    assert done.stderr.endswith("[INFO] x\n")


def test_logging_in_a_signal_handler_amid_logging_works(tmp_path: Path) -> None:
    program = (
        SETTINGS
        + """
    import signal
    cfg.errorlog = sys.argv[1]
    log = Logger(cfg)
    seen = 0
    def handle(*_):
        global seen
        seen += 1
        log.info("signal")
        log.reopen_files()
    signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    lines = 0
    while seen < 100:
        log.info("line")
        lines += 1
    signal.setitimer(signal.ITIMER_REAL, 0)
    print(lines, seen)
    """
    )
    done = run(program, str(tmp_path / "error.log"))
    assert (done.returncode, done.stderr) == (0, "")
    lines, seen = map(int, done.stdout.split())
    texts = [line.split("[INFO] ")[1] for line in read(tmp_path / "error.log")]
    assert (texts.count("line"), texts.count("signal")) == (lines, seen)
