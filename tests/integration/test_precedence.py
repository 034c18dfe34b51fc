"""Where values come from, seen on servers: command line, flags of a variable, file, variables, platform, default.

Each of these goes before those behind it. In one start several settings are given by several sources, and what the
server then does says which one counted.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.harness import Server, title, until

Serve = Callable[..., Server]

#: Its pages say in JSON what came of the request, and on standard output how far a file was read.
APPLICATION = "tests.effects.application:app"

#: What every kind of file says, as Python and as TOML read it.
FILE = 'proc_name = "file"\nserver_header = "file"\nlimit_request_line = 300\nlimit_request_body = 30\n'

#: kind of file → its name, and how it is named on the command line. TOML is found, as there is no other.
FILES = {
    "python": ("cyhorn.conf.py", []),
    "named": ("named.py", ["-c", "file:named.py"]),
    "module": ("site_settings.py", ["-c", "python:site_settings"]),
    "toml": ("cyhorn.toml", []),
    "gunicorns": ("gunicorn.conf.py", []),
}


@pytest.mark.parametrize("file", FILES)
def test_each_source_goes_before_those_below_it(serve_sync: Serve, tmp_path: Path, file: str) -> None:
    name, arguments = FILES[file]
    (tmp_path / name).write_text(FILE)
    server = serve_sync(
        None,
        application=APPLICATION,
        arguments=[*arguments, "--limit-request-body", "50"],
        environ={
            "WEB_CONCURRENCY": "3",
            "CYHORN_WORKERS": "2",
            "CYHORN_PROC_NAME": "variable",
            "CYHORN_SERVER_HEADER": "variable",
            "CYHORN_LIMIT_REQUEST_LINE": "200",
            "CYHORN_LIMIT_REQUEST_BODY": "20",
            "CYHORN_CMD_ARGS": "--limit-request-line 400 --limit-request-body 40",
            "GUNICORN_CMD_ARGS": "--limit-request-line 500",
        },
    ).ready(2)  # the setting's variable before the platform's
    assert server.ask("/").fields["server"] == "file"  # the file before the variable
    until(lambda: title(server.pid) == "cyhorn: master [file]", "the title of the file")
    assert server.ask("/" + "a" * 350).status == 200  # flags of CYHORN_CMD_ARGS before the file
    assert server.ask("/" + "a" * 450).status == 414  # and GUNICORN_CMD_ARGS does not count beside it
    for length, status in ((50, 200), (51, 413)):  # the command line before all
        assert server.ask("/", method="POST", body=b"x" * length).status == status


def test_the_variables_of_platforms_go_before_defaults_alone(serve_sync: Serve, tmp_path: Path) -> None:
    platform = {"PORT": "0", "WEB_CONCURRENCY": "2", "FORWARDED_ALLOW_IPS": "127.0.0.9", "SENDFILE": "0"}
    server = serve_sync(None, bind="", environ=platform, application=APPLICATION)
    server.wait_for(r"Listening at: http://0\.0\.0\.0:\d+")
    server.ready(2)
    secure = ("X-Forwarded-Proto: https",)
    assert server.ask("/", *secure, source="127.0.0.9").json["scheme"] == "https"
    assert server.ask("/", *secure, source="127.0.0.1").json["scheme"] == "http"
    server.ask("/file")
    server.wait_for("^MOVED [1-9]")  # not by sendfile
    assert server.stop() == 0

    (tmp_path / "cyhorn.conf.py").write_text(
        "bind, workers, forwarded_allow_ips, sendfile = '127.0.0.1:0', 1, '127.0.0.1', True\n"
    )
    server = serve_sync(None, bind="", environ=platform, application=APPLICATION)
    server.wait_for(r"Listening at: http://127\.0\.0\.1:\d+")
    server.ready(1)
    assert server.ask("/", *secure, source="127.0.0.1").json["scheme"] == "https"
    server.ask("/file")
    server.wait_for("^MOVED 0$")


def test_the_file_that_is_named_nearest_is_read(serve_sync: Serve, tmp_path: Path) -> None:
    for name in ("cyhorn.conf", "variable", "flags", "line"):
        (tmp_path / f"{name}.py").write_text(f"server_header = {name!r}\n")
    variables: dict[str, str] = {}
    arguments: list[str] = []
    for expected, more in (
        ("cyhorn.conf", {}),
        ("variable", {"CYHORN_CONFIG": "variable.py"}),
        ("flags", {"CYHORN_CMD_ARGS": "-c flags.py"}),
        ("line", {}),
    ):
        variables |= more
        arguments = ["-c", "line.py"] if expected == "line" else []
        server = serve_sync(None, environ=variables, arguments=arguments, application=APPLICATION)
        assert server.ask("/").fields["server"] == expected
        assert server.stop() == 0
