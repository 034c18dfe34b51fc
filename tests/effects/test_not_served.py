"""Settings that are taken and not served: one line at start names each, and the server serves.

Those of one subject share a line. A setting that has nothing left to do is told as information, one that asks
for what is missing as a warning.
"""

from __future__ import annotations

import pytest

from tests.effects.conftest import Launch
from tests.effects.shows import shows_each
from tests.integration.harness import Server

#: Setting → a value that is not its default, and what the warning says.
ASKED = {
    "protocol": ("'uwsgi'", "uWSGI"),
    "uwsgi_allow_ips": ("'10.0.0.1'", "uWSGI"),
    "root_path": ("'/x'", "ASGI"),
    "http_protocols": ("'h1,h2'", "HTTP/2"),
    "http2_cleartext": ("'both'", "HTTP/2"),
    "http2_max_concurrent_streams": ("5", "HTTP/2"),
    "http2_initial_window_size": ("70000", "HTTP/2"),
    "http2_max_frame_size": ("20000", "HTTP/2"),
    "http2_max_header_list_size": ("5", "HTTP/2"),
    "asgi_loop": ("'uvloop'", "ASGI"),
    "asgi_lifespan": ("'on'", "ASGI"),
    "asgi_disconnect_grace_period": ("5", "ASGI"),
    "websocket_max_message_size": ("5", "ASGI"),
    "dirty_apps": ("['a:A']", "dirty"),
    "dirty_workers": ("2", "dirty"),
    "dirty_timeout": ("5", "dirty"),
    "dirty_threads": ("2", "dirty"),
    "dirty_graceful_timeout": ("5", "dirty"),
    "on_dirty_starting": ("lambda arbiter: None", "dirty"),
    "dirty_post_fork": ("lambda arbiter, worker: None", "dirty"),
    "dirty_worker_init": ("lambda worker: None", "dirty"),
    "dirty_worker_exit": ("lambda arbiter, worker: None", "dirty"),
}

NEEDLESS = {
    "worker_tmp_dir": ("'/nowhere'", "shared memory"),
    "http_parser": ("'python'", "CYHORN_IMPL"),
}


@pytest.fixture(scope="module")
def told(launch: Launch) -> Server:
    """A server that was asked for all of it, and serves."""
    config = "".join(f"{name} = {value}\n" for name, (value, _) in {**ASKED, **NEEDLESS}.items())
    server = launch(config)
    assert server.ask("/").status == 200
    return server


def lines_about(server: Server, setting: str) -> list[str]:
    """What the log says about `setting`, with its place in the config file."""
    return server.seen(rf"\] .*\b{setting} \(\./cyhorn\.conf\.py:\d+\)")


@shows_each({name: f"one warning at start names it and says what is not served: {subject}" for name, (_, subject) in ASKED.items()})
@pytest.mark.parametrize("setting", ASKED)
def test_what_is_not_served_is_told_once(told: Server, setting: str) -> None:
    (line,) = lines_about(told, setting)
    assert "[WARNING]" in line and ASKED[setting][1] in line and "not" in line


@shows_each({name: f"one line at start says that it is not needed: {why}" for name, (_, why) in NEEDLESS.items()})
@pytest.mark.parametrize("setting", NEEDLESS)
def test_what_is_needless_is_told_once(told: Server, setting: str) -> None:
    (line,) = lines_about(told, setting)
    assert "[INFO]" in line and NEEDLESS[setting][1] in line
