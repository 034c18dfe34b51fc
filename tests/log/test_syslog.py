"""Logs to a real syslog socket, and to one that is away."""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cyhorn.errors import ConfigError
from cyhorn.log import syslog
from cyhorn.log.access import fast_access_log
from cyhorn.log.logger import Logger
from cyhorn.log.syslog import parse_syslog_address


@pytest.fixture
def listen() -> Iterator[Callable[..., socket.socket]]:
    """A daemon's socket: datagrams or a stream, at a path or on loopback."""
    with ExitStack() as stack:

        def make(kind: socket.SocketKind, path: Path | None = None) -> socket.socket:
            family = socket.AF_UNIX if path else socket.AF_INET
            daemon = stack.enter_context(socket.socket(family, kind))
            daemon.settimeout(10)
            daemon.bind(str(path) if path else ("127.0.0.1", 0))
            if kind == socket.SOCK_STREAM:
                daemon.listen()
            return daemon

        yield make


def url(daemon: socket.socket, scheme: str) -> str:
    return f"{scheme}://127.0.0.1:{daemon.getsockname()[1]}"


ERROR_LINE = rf"<%d>cyhorn\.%s\.error: \[{os.getpid()}\] %s\0"


def test_records_go_to_a_datagram_socket_in_the_file_system(
    make_cfg: Callable[..., Any],
    tmp_path: Path,
    listen: Callable[..., socket.socket],
    make_response: Any,
    make_environ: Callable[..., Any],
) -> None:
    daemon = listen(socket.SOCK_DGRAM, tmp_path / "log")
    cfg = make_cfg(
        errorlog=None, syslog=True, syslog_addr=f"unix://{tmp_path}/log#dgram", access_log_format="%(U)s"
    )
    logger = Logger(cfg)
    logger.warning("line")
    assert re.fullmatch(ERROR_LINE % (8 + 4, "shop.app", "line"), daemon.recv(1000).decode())
    logger.access(make_response(), None, make_environ(PATH_INFO="/a\nb"), timedelta(0))
    assert daemon.recv(1000) == rb"<14>cyhorn.shop.app.access: [%d] /a\x0ab" % os.getpid() + b"\0"
    assert fast_access_log(logger, cfg) is None


def test_prefix_and_facility_are_the_user_s(
    make_cfg: Callable[..., Any], listen: Callable[..., socket.socket]
) -> None:
    daemon = listen(socket.SOCK_DGRAM)
    cfg = make_cfg(
        errorlog=None,
        syslog=True,
        syslog_addr=url(daemon, "udp"),
        syslog_prefix="web",
        syslog_facility="LOCAL3",
    )
    Logger(cfg).error("line")
    assert re.fullmatch(ERROR_LINE % (19 * 8 + 3, "web", "line"), daemon.recv(1000).decode())


def test_the_access_log_can_be_kept_out(
    make_cfg: Callable[..., Any],
    listen: Callable[..., socket.socket],
    make_response: Any,
    make_environ: Callable[..., Any],
) -> None:
    daemon = listen(socket.SOCK_DGRAM)
    logger = Logger(
        make_cfg(
            errorlog=None,
            accesslog=os.devnull,
            syslog=True,
            syslog_addr=url(daemon, "udp"),
            disable_redirect_access_to_syslog=True,
        )
    )
    logger.access(make_response(), None, make_environ(), timedelta(0))
    logger.error("only this")
    assert b"only this" in daemon.recv(1000)
    assert fast_access_log(logger, logger.cfg) is not None


def test_a_stream_daemon_that_was_restarted_gets_what_follows(
    make_cfg: Callable[..., Any], listen: Callable[..., socket.socket]
) -> None:
    daemon = listen(socket.SOCK_STREAM)
    logger = Logger(
        make_cfg(
            errorlog=None,
            syslog=True,
            syslog_addr=url(daemon, "tcp"),
            disable_redirect_access_to_syslog=True,
        )
    )
    connection, _ = daemon.accept()
    logger.error("one")
    assert connection.recv(1000).endswith(b"] one\0")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.close()  # a reset
    logger.error("two")
    connection, _ = daemon.accept()
    with connection:
        assert connection.recv(1000).endswith(b"] two\0")


def test_a_datagram_daemon_that_was_restarted_gets_what_follows(
    make_cfg: Callable[..., Any], tmp_path: Path, listen: Callable[..., socket.socket]
) -> None:
    path = tmp_path / "log"
    daemon = listen(socket.SOCK_DGRAM, path)
    logger = Logger(make_cfg(errorlog=None, syslog=True, syslog_addr=f"unix://{path}"))
    daemon.close()
    path.unlink()
    daemon = listen(socket.SOCK_DGRAM, path)
    logger.error("two")
    assert daemon.recv(1000).endswith(b"] two\0")


def test_a_daemon_that_is_away_is_said_once_and_tried_again(
    make_cfg: Callable[..., Any],
    tmp_path: Path,
    listen: Callable[..., socket.socket],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    now = time.monotonic()
    monkeypatch.setattr(syslog.time, "monotonic", lambda: now)
    path = tmp_path / "log"
    logger = Logger(make_cfg(errorlog=None, syslog=True, syslog_addr=f"unix://{path}"))
    for _ in range(3):
        logger.error("lost")
    daemon = listen(socket.SOCK_DGRAM, path)
    logger.error("too soon")
    now += syslog.RETRY
    logger.error("kept")
    assert daemon.recv(1000).endswith(b"] kept\0")
    said = capfd.readouterr().err.splitlines()
    assert len(said) == 2
    assert "cannot write to syslog" in said[0] and str(path) in said[0]
    assert "4 records were lost" in said[1]


def test_nobody_at_a_udp_address_is_silence(
    make_cfg: Callable[..., Any], listen: Callable[..., socket.socket], capfd: pytest.CaptureFixture[str]
) -> None:
    daemon = listen(socket.SOCK_DGRAM)
    address = url(daemon, "udp")
    daemon.close()
    logger = Logger(make_cfg(errorlog=None, syslog=True, syslog_addr=address))
    for _ in range(5):
        logger.error("lost")
    assert capfd.readouterr().err == ""


def test_a_daemon_that_does_not_read_holds_nobody_up_for_long(
    make_cfg: Callable[..., Any],
    tmp_path: Path,
    listen: Callable[..., socket.socket],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(syslog, "SEND_TIMEOUT", 0.05)
    listen(socket.SOCK_DGRAM, tmp_path / "log")
    logger = Logger(make_cfg(errorlog=None, syslog=True, syslog_addr=f"unix://{tmp_path}/log"))
    begin = time.monotonic()
    for _ in range(3000):  # more than a socket's queue
        logger.error("line")
    assert time.monotonic() - begin < 5
    assert len(capfd.readouterr().err.splitlines()) == 1


def test_a_message_that_cannot_be_formatted_stops_nothing(
    make_cfg: Callable[..., Any], listen: Callable[..., socket.socket], capfd: pytest.CaptureFixture[str]
) -> None:
    daemon = listen(socket.SOCK_DGRAM)
    logger = Logger(make_cfg(errorlog=None, syslog=True, syslog_addr=url(daemon, "udp")))
    logger.error("%d items", "many")
    logger.error("\udce9")
    assert daemon.recv(1000).endswith(b"] \\udce9\0")
    assert "many" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("text", "kind", "address"),
    [
        ("unix:///dev/log", None, "/dev/log"),
        ("unix:///dev/log#dgram", socket.SOCK_DGRAM, "/dev/log"),
        ("unix:///dev/log#stream", socket.SOCK_STREAM, "/dev/log"),
        ("udp://", socket.SOCK_DGRAM, ("localhost", 514)),
        ("udp://Logs.Example", socket.SOCK_DGRAM, ("logs.example", 514)),
        ("udp://h:1514", socket.SOCK_DGRAM, ("h", 1514)),
        ("tcp://[2001:DB8::1]:601", socket.SOCK_STREAM, ("2001:db8::1", 601)),
        ("tcp://[::1]", socket.SOCK_STREAM, ("::1", 514)),
    ],
)
def test_addresses_have_a_scheme(text: str, kind: Any, address: Any) -> None:
    assert parse_syslog_address(text) == (kind, address)


@pytest.mark.parametrize(
    "text", ["", "localhost:514", "http://h", "udp://h:port", "tcp://h:99999", "udp://h:²"]
)
def test_other_addresses_are_refused_by_name(text: str) -> None:
    with pytest.raises(ConfigError, match="syslog_addr"):
        parse_syslog_address(text)
