"""Metrics to a real socket: their text, and that a daemon which is away costs nothing."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cyhorn.log import statsd
from cyhorn.log.statsd import Statsd


class Daemon:
    """A StatsD daemon; `take` gives the datagrams that have come, each a metric."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        sock.settimeout(10)

    @property
    def address(self) -> Any:
        return self.sock.getsockname()

    def take(self, count: int) -> list[str]:
        texts = [self.sock.recv(1000).decode() for _ in range(count)]
        self.sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            texts.append(self.sock.recv(1000).decode())
        self.sock.settimeout(10)
        return texts


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        yield Daemon(sock)


@pytest.fixture
def start(make_cfg: Callable[..., Any], tmp_path: Path) -> Iterator[Callable[..., Statsd]]:
    """A Statsd logger for an address, with its error log in a file."""
    made = []

    def make(address: Any, **settings: Any) -> Statsd:
        made.append(Statsd(make_cfg(errorlog=str(tmp_path / "error.log"), statsd_host=address, **settings)))
        return made[-1]

    yield make
    for logger in made:
        if logger.sock is not None:
            logger.sock.close()


def test_a_request_is_a_timer_a_counter_and_a_counter_of_its_status(
    start: Callable[..., Statsd], daemon: Daemon, make_response: Any
) -> None:
    logger = start(daemon.address)
    logger.access(make_response("404 Not Found"), None, {}, timedelta(seconds=1, microseconds=2500))
    assert daemon.take(3) == [
        "cyhorn.request.duration:1002.5|ms",
        "cyhorn.requests:1|c|@1.0",
        "cyhorn.request.status.404:1|c|@1.0",
    ]


def test_the_access_line_is_written_too(
    start: Callable[..., Statsd], daemon: Daemon, make_response: Any, tmp_path: Path
) -> None:
    logger = start(daemon.address, accesslog=str(tmp_path / "access.log"), access_log_format="%(s)s")
    logger.access(make_response(), None, {}, timedelta(0))
    assert len(daemon.take(3)) == 3
    assert (tmp_path / "access.log").read_text() == "200\n"


@pytest.mark.parametrize("status", ["200 OK", b"200 OK", 200])
def test_a_status_is_text_bytes_or_a_number(
    start: Callable[..., Statsd], daemon: Daemon, make_response: Any, status: Any
) -> None:
    response = make_response()
    response.status = status
    start(daemon.address).access(response, None, {}, timedelta(0))
    assert daemon.take(3)[2] == "cyhorn.request.status.200:1|c|@1.0"


@pytest.mark.parametrize("level", ["critical", "error", "warning", "exception"])
def test_complaints_are_logged_and_counted(
    start: Callable[..., Statsd], daemon: Daemon, tmp_path: Path, level: str
) -> None:
    getattr(start(daemon.address), level)("line")
    assert daemon.take(1) == [f"cyhorn.log.{level}:1|c|@1.0"]
    assert "] line\n" in (tmp_path / "error.log").read_text()


def test_other_lines_are_only_logged(start: Callable[..., Statsd], daemon: Daemon, tmp_path: Path) -> None:
    logger = start(daemon.address, loglevel="debug")
    logger.info("one")
    logger.debug("two")
    logger.log(logging.INFO, "three")
    assert daemon.take(0) == []
    assert len((tmp_path / "error.log").read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("gauge", "shop.items:3|g"),
        ("counter", "shop.items:3|c|@1.0"),
        ("histogram", "shop.items:3|h"),
        ("timer", "shop.items:3|ms"),
    ],
)
def test_a_message_can_carry_a_metric(
    start: Callable[..., Statsd], daemon: Daemon, tmp_path: Path, kind: str, text: str
) -> None:
    logger = start(daemon.address)
    logger.info("", extra={"metric": "shop.items", "value": 3, "mtype": kind})
    logger.info("said", extra={"metric": "shop.items", "value": 3, "mtype": kind})
    assert daemon.take(2) == [text, text]
    assert len((tmp_path / "error.log").read_text().splitlines()) == 1


@pytest.mark.parametrize(
    "extra",
    [
        None,
        {},
        {"metric": "m", "value": 1},
        {"metric": "m", "value": 1, "mtype": "other"},
        {"metric": "", "value": 1, "mtype": "gauge"},
        {"metric": "m", "value": None, "mtype": "gauge"},
    ],
)
def test_a_message_without_a_whole_metric_carries_none(
    start: Callable[..., Statsd], daemon: Daemon, extra: Any
) -> None:
    start(daemon.address).info("line", extra=extra)
    assert daemon.take(0) == []


def test_zero_is_a_value(start: Callable[..., Statsd], daemon: Daemon) -> None:
    start(daemon.address).info("", extra={"metric": "cyhorn.workers", "value": 0, "mtype": "gauge"})
    assert daemon.take(1) == ["cyhorn.workers:0|g"]


@pytest.mark.parametrize("prefix", ["site.web", "site.web.", "site.web..."])
def test_prefix_namespace_and_tags_are_the_user_s(
    start: Callable[..., Statsd], daemon: Daemon, prefix: str
) -> None:
    logger = start(
        daemon.address, statsd_prefix=prefix, statsd_metric_namespace="gunicorn", dogstatsd_tags="a:1,b"
    )
    logger.error("line")
    logger.info("", extra={"metric": "cyhorn.workers", "value": 2, "mtype": "gauge"})
    logger.gauge("cyhorny", 1)
    assert daemon.take(3) == [
        "site.web.gunicorn.log.error:1|c|@1.0|#a:1,b",
        "site.web.gunicorn.workers:2|g|#a:1,b",
        "site.web.cyhorny:1|g|#a:1,b",
    ]


def test_metrics_can_be_sent_directly(start: Callable[..., Statsd], daemon: Daemon) -> None:
    logger = start(daemon.address)
    logger.gauge("g", 1)
    logger.increment("c", 2, sampling_rate=0.5)
    logger.decrement("c", 3)
    logger.timer("t", 4.5)
    logger.histogram("h", 6)
    logger.increment("é", "\udce9")
    assert daemon.take(6) == ["g:1|g", "c:2|c|@0.5", "c:-3|c|@1.0", "t:4.5|ms", "h:6|h", "é:\\udce9|c|@1.0"]


def test_ipv6_is_an_address_too(start: Callable[..., Statsd]) -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.bind(("::1", 0))
        start(sock.getsockname()[:2]).gauge("g", 1)
        assert Daemon(sock).take(1) == ["g:1|g"]


# --- a daemon that is away ---


def unix_daemon(path: Path) -> Daemon:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.bind(str(path))
    return Daemon(sock)


def complaints(tmp_path: Path) -> int:
    return (tmp_path / "error.log").read_text().count("Cannot send metrics to statsd")


def test_a_unix_socket_may_come_later_and_come_back(
    start: Callable[..., Statsd], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.monotonic()
    monkeypatch.setattr(statsd.time, "monotonic", lambda: now)
    path = tmp_path / "statsd"
    logger = start(str(path))
    logger.gauge("lost", 1)
    daemon = unix_daemon(path)
    logger.gauge("too soon", 1)
    now += statsd.RETRY
    logger.gauge("g", 1)
    assert daemon.take(1) == ["g:1|g"]
    daemon.sock.close()
    path.unlink()
    logger.gauge("lost", 2)
    daemon = unix_daemon(path)
    now += statsd.RETRY
    logger.gauge("g", 2)
    assert daemon.take(1) == ["g:2|g"]
    daemon.sock.close()
    assert complaints(tmp_path) == 1


def test_nobody_at_a_udp_address_is_said_once(
    start: Callable[..., Statsd], daemon: Daemon, tmp_path: Path
) -> None:
    logger = start(daemon.address)
    daemon.sock.close()
    for _ in range(20):
        logger.error("line")
    assert complaints(tmp_path) == 1


def test_a_daemon_that_does_not_read_holds_nobody_up(start: Callable[..., Statsd], tmp_path: Path) -> None:
    daemon = unix_daemon(tmp_path / "statsd")
    logger = start(str(tmp_path / "statsd"))
    for _ in range(3000):  # more than a socket's queue
        logger.gauge("g", 1)
    assert complaints(tmp_path) == 0
    daemon.sock.close()


@pytest.mark.parametrize("address", [None, ("..", 8125), ("127.0.0.1", "x"), "/no/such/socket", 5])
def test_an_address_that_cannot_be_used_raises_nothing(
    start: Callable[..., Statsd], tmp_path: Path, address: Any
) -> None:
    logger = start(address)
    logger.error("line")
    assert logger.sock is None
    assert complaints(tmp_path) == (address is not None)


def test_a_new_configuration_changes_the_address(
    start: Callable[..., Statsd], daemon: Daemon, make_cfg: Callable[..., Any], tmp_path: Path
) -> None:
    second = unix_daemon(tmp_path / "statsd")
    logger = start(daemon.address)
    logger.gauge("g", 1)
    logger.setup(make_cfg(errorlog=os.devnull, statsd_host=str(tmp_path / "statsd"), statsd_prefix="p"))
    logger.gauge("g", 2)
    assert daemon.take(1) == ["g:1|g"]
    assert second.take(1) == ["p.g:2|g"]
    second.sock.close()
