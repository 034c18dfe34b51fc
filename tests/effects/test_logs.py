"""Settings of logs and metrics: what is written, in which form, and where to."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.effects.conftest import Launch
from tests.effects.shows import shows
from tests.integration.harness import Server, listens, until

# -- files ------------------------------------------------------------------------------------------

FILES = """
bind = "unix:here.sock"
accesslog = "access.log"
access_log_format = '%(m)s %(U)s %(s)s %({x-colour}i)s'
errorlog = "error.log"
loglevel = "debug"
capture_output = True
"""


@pytest.fixture(scope="module")
def filed(launch: Launch, tmp_path_factory: pytest.TempPathFactory) -> Server:
    """A server that logs to files, after one request."""
    folder = tmp_path_factory.mktemp("server")
    server = launch(FILES, folder=folder, bind="", at=str(folder / "here.sock"))
    until(lambda: listens(folder / "here.sock"), "the socket")
    assert server.ask("/write", "X-Colour: red").json == "written"
    return server


def holds(server: Server, name: str, pattern: str) -> str:
    """Wait until the file `name` has a line that matches, and return it."""

    def line() -> str | None:
        found = re.search(pattern, (server.folder / name).read_text(), re.MULTILINE)
        return found and found[0]

    return str(until(line, f"{pattern!r} in {name}"))


@shows("accesslog", "the file has a line for each request")
def test_requests_are_logged_to_the_file(filed: Server) -> None:
    for number in range(3):
        filed.ask(f"/{number}")
    holds(filed, "access.log", "^GET /0 .*\nGET /1 .*\nGET /2 .*\n")


@shows("access_log_format", "lines have this form")
def test_lines_of_requests_have_the_form(filed: Server) -> None:
    assert holds(filed, "access.log", "^GET /write.*$") == "GET /write 200 red"


@shows("errorlog", "the file has what the server says, and standard error has nothing")
def test_the_server_speaks_to_the_file(filed: Server) -> None:
    holds(filed, "error.log", r"\[INFO\] Listening at: unix:here\.sock")
    assert filed.lines == []


@shows("loglevel", "debug shows more than info, error shows less")
def test_levels_are_shown_from_this_one_on(filed: Server, launch: Launch) -> None:
    holds(filed, "error.log", r"\[DEBUG\]")
    for level, hidden in (("error", "DEBUG|INFO|WARNING"), ("warn", "DEBUG|INFO")):
        quiet = launch(f"loglevel = {level!r}\nbind = 'unix:{level}.sock'", bind="")
        until(lambda path=quiet.folder / f"{level}.sock": listens(path), "the socket")
        until(lambda server=quiet: server.seen("^LOADED"), "the worker")
        assert quiet.stop() == 0
        assert not quiet.seen(rf"\[({hidden})\]")


@shows("capture_output", "what the application prints is in the error log's file")
def test_the_applications_output_is_in_the_file(filed: Server) -> None:
    for words in ("^LOADED in", "^on standard output$", "^on standard error$"):
        holds(filed, "error.log", words)


# -- other ways to configure logging ------------------------------------------------------------------

LOGGER = """
from cyhorn.log.logger import Logger

class Own(Logger):
    def setup(self, cfg):
        super().setup(cfg)
        self.error_log.addFilter(lambda record: "Booting" not in record.getMessage())
    def access(self, resp, req, environ, request_time):
        self.error_log.error("OWN %s %s", environ["PATH_INFO"], resp.status_code)
"""


@shows("logger_class", "the class filters what is said and writes the lines of requests")
def test_the_class_logs(launch: Launch, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(LOGGER)
    server = launch("logger_class, accesslog = 'own.Own', '-'", folder=tmp_path)
    server.ask("/here")
    server.wait_for(r"\[ERROR\] OWN /here 200")
    assert not server.seen("Booting worker")


INI = """
[loggers]
keys = root, cyhorn.error, cyhorn.access

[handlers]
keys = console

[formatters]
keys = own

[logger_root]
handlers = console

[logger_cyhorn.error]
qualname = cyhorn.error
handlers = console
propagate = 0

[logger_cyhorn.access]
qualname = cyhorn.access
handlers = console
propagate = 0

[handler_console]
class = StreamHandler
args = (sys.stdout,)
formatter = own

[formatter_own]
format = INI %(name)s %(message)s
"""


def dictionary(mark: str) -> dict[str, Any]:
    """A configuration for dictConfig whose lines begin with `mark`."""
    logger = {"handlers": ["out"], "level": "INFO", "propagate": False}
    return {
        "version": 1,
        "formatters": {"own": {"format": f"{mark} %(name)s %(message)s"}},
        "root": {"handlers": ["out"]},
        "handlers": {"out": {"class": "logging.StreamHandler", "formatter": "own", "stream": "ext://sys.stdout"}},
        "loggers": {"cyhorn.error": logger, "cyhorn.access": logger},
    }


def speaks(server: Server, mark: str) -> None:
    """Both logs go where, and as, the configuration with this mark says."""
    server.ask("/here")
    server.wait_for(f'^{mark} cyhorn.access .*"GET /here HTTP/1.1" 200')
    server.wait_for(f"^{mark} cyhorn.error Booting worker")


@shows("logconfig", "both logs are as the ini file says")
def test_the_ini_file_configures_logging(launch: Launch, tmp_path: Path) -> None:
    (tmp_path / "log.ini").write_text(INI)
    speaks(launch("logconfig = 'log.ini'", folder=tmp_path), "INI")


@shows("logconfig_json", "both logs are as the JSON file says, though there is an ini file too")
def test_the_json_file_configures_logging(launch: Launch, tmp_path: Path) -> None:
    (tmp_path / "log.ini").write_text(INI)
    (tmp_path / "log.json").write_text(json.dumps(dictionary("JSON")))
    speaks(launch("logconfig, logconfig_json = 'log.ini', 'log.json'", folder=tmp_path), "JSON")


@shows("logconfig_dict", "both logs are as the dict says, though there is a JSON file too")
def test_the_dict_configures_logging(launch: Launch, tmp_path: Path) -> None:
    (tmp_path / "log.json").write_text(json.dumps(dictionary("JSON")))
    config = f"logconfig_json = 'log.json'\nlogconfig_dict = {dictionary('DICT')!r}\n"
    speaks(launch(config, folder=tmp_path), "DICT")


# -- datagrams --------------------------------------------------------------------------------------


class Daemon:
    """A daemon at a UDP address that keeps what it is sent."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(20)
        self.port = self.socket.getsockname()[1]
        self.texts: list[str] = []

    def wait_for(self, pattern: str) -> str:
        """The first datagram that matches."""
        seen = 0
        while True:
            for text in self.texts[seen:]:
                if re.search(pattern, text):
                    return text
            seen = len(self.texts)
            self.texts.append(self.socket.recv(65536).decode())

    def has(self, pattern: str) -> bool:
        """Whether one that came up to now matches."""
        return any(re.search(pattern, text) for text in self.texts)


@pytest.fixture(scope="module")
def daemon() -> Iterator[Callable[[], Daemon]]:
    daemons: list[Daemon] = []

    def make() -> Daemon:
        daemons.append(Daemon())
        return daemons[-1]

    yield make
    for each in daemons:
        each.socket.close()


SYSLOG = """
syslog = True
syslog_addr = "udp://127.0.0.1:{port}"
syslog_prefix = "shop"
syslog_facility = "local3"
accesslog = "-"
disable_redirect_access_to_syslog = {disabled}
"""
LOCAL3_INFO = 19 * 8 + 6


@pytest.fixture(scope="module")
def syslog(launch: Launch, daemon: Callable[[], Daemon]) -> Daemon:
    """A syslog daemon to which a server has sent what it has to, after one request."""
    made = daemon()
    server = launch(SYSLOG.format(port=made.port, disabled=False))
    server.ask("/here")
    made.wait_for('"GET /here HTTP/1.1" 200')
    return made


@shows("syslog", "the daemon gets what the error log and the access log say")
def test_logs_go_to_syslog(syslog: Daemon) -> None:
    syslog.wait_for("Booting worker")


@shows("syslog_addr", "the daemon at this address gets it")
def test_logs_go_to_the_daemon_at_the_address(launch: Launch, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(tmp_path / "log.sock"))
        other.settimeout(20)
        launch("syslog, syslog_addr = True, 'unix://log.sock#dgram'", folder=tmp_path)
        assert b"cyhorn." in other.recv(65536)


@shows("syslog_prefix", "the program is called cyhorn, this, and the log's name")
def test_the_program_has_the_prefix(syslog: Daemon) -> None:
    assert syslog.has(r"^<\d+>cyhorn\.shop\.error: ") and syslog.has(r"^<\d+>cyhorn\.shop\.access: ")


@shows("syslog_facility", "messages carry its number")
def test_messages_have_the_facility(syslog: Daemon) -> None:
    assert syslog.has(f"^<{LOCAL3_INFO}>.*Booting worker")


@shows("disable_redirect_access_to_syslog", "the daemon gets no line of a request")
def test_requests_are_kept_out_of_syslog(launch: Launch, daemon: Callable[[], Daemon]) -> None:
    made = daemon()
    server = launch(SYSLOG.format(port=made.port, disabled=True))
    server.ask("/here")
    server.wait_for("GET /here")
    assert server.stop() == 0
    made.wait_for("Shutting down")  # the last it says
    assert not made.has("GET /here")


STATSD = """
statsd_host = "127.0.0.1:{port}"
statsd_prefix = "site"
dogstatsd_tags = "env:test,zone:one"
enable_backlog_metric = True
"""
TAGGED = r"\|#env:test,zone:one$"


@pytest.fixture(scope="module")
def statsd(launch: Launch, daemon: Callable[[], Daemon]) -> Daemon:
    """A statsd that a server told of one request."""
    made = daemon()
    server = launch(STATSD.format(port=made.port))
    server.ask("/here")
    made.wait_for("request.status")
    return made


@shows("statsd_host", "the daemon there counts and times requests and is told how many workers there are")
def test_metrics_go_to_the_daemon(statsd: Daemon) -> None:
    for words in (r"requests:1\|c", r"request\.duration:[\d.]+\|ms", r"request\.status\.200:1\|c", r"workers:1\|g"):
        statsd.wait_for(words)


@shows("statsd_prefix", "names of metrics begin with it and a dot")
def test_names_of_metrics_have_the_prefix(statsd: Daemon) -> None:
    statsd.wait_for(r"^site\.cyhorn\.requests:1\|")


@shows("dogstatsd_tags", "every metric ends with the tags")
def test_metrics_have_tags(statsd: Daemon) -> None:
    statsd.wait_for("requests")
    assert all(re.search(TAGGED, text) for text in statsd.texts)


@shows("enable_backlog_metric", "the daemon is told how many connections wait, as a histogram")
def test_the_backlog_is_told(statsd: Daemon, launch: Launch, daemon: Callable[[], Daemon]) -> None:
    statsd.wait_for(r"cyhorn\.backlog:\d+\|h")
    other = daemon()
    server = launch(f"statsd_host = '127.0.0.1:{other.port}'\nstatsd_metric_namespace = 'gunicorn'")
    server.ask("/")
    other.wait_for(r"^gunicorn\.workers:1\|g")
    other.wait_for("request.status")
    assert not other.has("backlog")


@shows("statsd_metric_namespace", "names of metrics begin with it instead of cyhorn")
def test_names_of_metrics_are_in_the_namespace(launch: Launch, daemon: Callable[[], Daemon]) -> None:
    made = daemon()
    server = launch(f"statsd_host = '127.0.0.1:{made.port}'\nstatsd_metric_namespace = 'gunicorn'")
    server.ask("/")
    made.wait_for(r"^gunicorn\.requests:1\|c")
    assert not made.has("cyhorn")
