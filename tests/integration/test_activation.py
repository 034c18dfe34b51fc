"""Started by somebody else's hand: sockets from systemd-socket-activate, an interpreter that is exchanged."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.harness import APPLICATION, Server, is_alive, until
from tests.integration.test_upgrade import upgrade

Serve = Callable[..., Server]

#: Lets systemd's own tool listen at the paths, and start the command when somebody connects.
ACTIVATE = """
import os, sys
passed = [f"--setenv={name}" for name in os.environ]
listen = [f"--listen={path}" for path in PATHS]
tool = "systemd-socket-activate"
os.execvp(tool, [tool, *listen, *passed, sys.executable, *sys.argv[1:]])
"""


@pytest.mark.skipif(shutil.which("systemd-socket-activate") is None, reason="systemd is not installed")
def test_a_server_is_started_by_its_first_client_and_upgraded_on_the_same_sockets(
    serve: Serve, tmp_path: Path
) -> None:
    paths = [str(tmp_path / "first"), str(tmp_path / "second")]
    server = serve(
        "bind = '127.0.0.1:1'\nworkers = 2",  # what the supervisor passes is what counts
        bind="",
        wrapper=f"PATHS = {paths!r}\n{ACTIVATE}",
        at=paths[0],
    )
    server.wait_for("Listening on .* as 4")  # the tool; a socket's file is there a moment before it listens
    assert server.get() == "one"  # the first client has waited for the start
    (line,) = server.wait_for("Listening at")
    assert all(f"unix:{path}" in line for path in paths)
    until(lambda: server.answering(2), "two workers")
    server.write_application("two")
    new = upgrade(server)
    assert server.stop() == 0
    server.wait_for(rf"\[{new}\] .*Master has been promoted\.")
    server.serves("two")
    os.kill(new, signal.SIGTERM)
    until(lambda: not is_alive(new), "its end")
    assert all(os.path.exists(path) for path in paths)  # they are systemd's


def test_an_upgrade_takes_the_interpreter_that_stands_at_its_path_now(serve_any: Serve, tmp_path: Path) -> None:
    """A release brings its virtual environment; the link that the command goes through is turned over."""
    for release in ("old", "new"):
        venv.create(tmp_path / release, symlinks=True)
        lib = next((tmp_path / release / "lib").glob("python*")) / "site-packages"
        lib.joinpath("inherited.pth").write_text("\n".join(path for path in sys.path if "site-packages" in path))
        lib.joinpath("release.py").write_text(f"NAME = {release!r}\n")
    current = tmp_path / "current"
    current.symlink_to("old")
    told = "import release\nprint('RELEASE', release.NAME, flush=True)\n"
    (tmp_path / "app.py").write_text(told + APPLICATION.format(version="one"))
    python = str(current / "bin" / "python")
    wrapper = f"import os, sys; os.execv({python!r}, [{python!r}, *sys.argv[1:]])"
    server = serve_any(wrapper=wrapper).ready()
    server.wait_for("RELEASE old")
    current.unlink()
    current.symlink_to("new")
    upgrade(server)
    server.wait_for("RELEASE new")
    assert server.stop() == 0
