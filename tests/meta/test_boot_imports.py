"""What a plain server does not load: each of these modules costs every worker time and memory.

A start goes through most of the package, so that one import at the head of a module is enough to
bring a train of others into every process. Here a server is started as usual, answers a request,
and tells what is loaded in its worker, which has all that the master had when it forked.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.conftest import ROOT

APPLICATION = """\
import sys

def app(environ, start_response):
    body = " ".join(sys.modules).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
"""

#: Module → what it is for, and so when it may be loaded.
UNUSUAL = {
    "ast": "an application, config file or access log that is given as an expression",
    "base64": "nothing: binascii has it",
    "configparser": "logconfig, paste",
    "dataclasses": "nothing: it loads inspect",
    "datetime": "loggers of others",
    "difflib": "what is misspelled",
    "email": "nothing: grammar writes dates",
    "encodings.idna": "host names beyond ASCII",
    "glob": "patterns in reload_extra_files",
    "grp": "a group that is named",
    "http": "nothing",
    "importlib.metadata": "classes that are entry points",
    "inspect": "hooks",
    "json": "maps in variables, logconfig_json",
    "logging.config": "logconfig",
    "logging.handlers": "syslog",
    "multiprocessing": "nothing",
    "pathlib": "nothing",
    "pickle": "nothing",
    "queue": "nothing",
    "random": "max_requests_jitter",
    "shlex": "flags in the environment",
    "ssl": "TLS",
    "subprocess": "nothing",
    "tempfile": "bodies that are spooled, a pid file",
    "tomllib": "config files in TOML",
    "unicodedata": "host names beyond ASCII",
    "zipfile": "nothing",
    "cyhorn.app.check": "--check-config",
    "cyhorn.app.ctl": "nothing: it is a client",
    "cyhorn.app.gunicorn_compat": "--gunicorn-compat",
    "cyhorn.app.pasterapp": "paste",
    "cyhorn.config.document": "the manual",
    "cyhorn.config.python_file": "config files",
    "cyhorn.config.toml_file": "config files in TOML",
    "cyhorn.log.configuration": "logconfig",
    "cyhorn.log.statsd": "statsd_host",
    "cyhorn.log.syslog": "syslog",
    "cyhorn.master.commands": "servers that are asked something",
    "cyhorn.net.proxy_protocol": "proxy_protocol",
    "cyhorn.net.tls": "TLS",
    "cyhorn.process.daemon": "daemon",
    "cyhorn.process.reloader": "reload",
}

#: The compiled side needs none of these either.
PYTHON_SIDE = (
    "urllib.parse",
    "cyhorn._parser_py",
    "cyhorn._chunked_py",
    "cyhorn._environ_py",
    "cyhorn._writer_py",
    "cyhorn._pulse_py",
    "cyhorn._connection_py",
    "cyhorn._cycle_py",
    "cyhorn._access_py",
    "cyhorn._loop_py",
    "cyhorn._crew_py",
    "cyhorn._orphan_py",
)

#: What these bring in is theirs, and is not the same in all versions of Python.
ALWAYS_THERE = "argparse, contextlib, ipaddress, logging, re, selectors, socket, typing"


def loaded(code: str) -> set[str]:
    """The modules that are there after `code`, with what the environment's site loads."""
    code += "\nimport sys; print(*sys.modules)"
    return set(
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.split()
    )


@pytest.fixture(scope="module", params=("compiled", "python"))
def worker_modules(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[set[str]]:
    """The modules in a worker that has answered a request, without what is always there."""
    folder = tmp_path_factory.mktemp("boot")
    (folder / "plain.py").write_text(APPLICATION)
    keep = {
        name: value for name, value in os.environ.items() if not name.startswith(("CYHORN_", "GUNICORN_"))
    }
    with subprocess.Popen(
        [sys.executable, "-m", "cyhorn", "plain:app", "--bind", "127.0.0.1:0", "--workers", "1"],
        cwd=folder,
        env={**keep, "PYTHONPATH": str(ROOT), "CYHORN_IMPL": request.param},
        stderr=subprocess.PIPE,
        text=True,
    ) as master:
        try:
            assert master.stderr is not None
            line = next(line for line in master.stderr if "Listening at: http://127.0.0.1:" in line)
            port = int(line.partition("http://127.0.0.1:")[2].split()[0])
            with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
                client.sendall(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
                answer = b"".join(iter(lambda: client.recv(65536), b""))
        finally:
            master.terminate()
            master.communicate(timeout=20)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    names = set(body.decode().split())
    assert "cyhorn.workers.sync" in names and "plain" in names
    side = "cyhorn._loop" if request.param == "compiled" else "cyhorn._loop_py"
    assert side in names
    yield names - loaded(f"import {ALWAYS_THERE}")


@pytest.mark.parametrize("name", UNUSUAL)
def test_a_plain_worker_does_not_load_what_is_for_unusual_settings(
    worker_modules: set[str], name: str
) -> None:
    assert name not in worker_modules, f"{name} is for {UNUSUAL[name]}: import it where that is done"


def test_a_compiled_worker_does_not_load_the_python_side(worker_modules: set[str]) -> None:
    if "cyhorn._loop" not in worker_modules:
        pytest.skip("this is the Python side")
    assert not worker_modules.intersection(PYTHON_SIDE)


def test_the_list_names_modules_that_exist() -> None:
    import importlib.util

    missing = [name for name in UNUSUAL if importlib.util.find_spec(name) is None]
    assert set(missing) <= ({"tomllib"} if sys.version_info < (3, 11) else set())
