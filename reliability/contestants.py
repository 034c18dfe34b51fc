"""Who is measured: cyhorn compiled and pure, and Gunicorn's sync and gthread workers beside it.

Gunicorn stands in the environment that `perf.compare` installs for it. It reads the same configuration file
and runs the same application.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perf.compare import servers
from tests.integration.harness import Server

#: app.py: the application of `tests.integration.workload`, and a version that a reload changes.
APPLICATION = """import os
{before}
from tests.integration import workload
VERSION = {version!r}
def app(environ, start_response):
    if environ["PATH_INFO"] == "/version":
        start_response("200 OK", [("Content-Length", str(len(VERSION)))])
        return [VERSION.encode()]
    return workload.app(environ, start_response)
os.write(1, b"LOADED in %d\\n" % os.getpid())
"""


@dataclass(frozen=True)
class Contestant:
    """One column of the table. `impl` is empty for a peer."""

    name: str
    worker_class: str
    impl: str = ""

    @property
    def ours(self) -> bool:
        return bool(self.impl)

    def prepare(self) -> None:
        """Install it. Raises servers.Unavailable."""
        if not self.ours:
            servers.BY_NAME["gunicorn"].prepare()

    def version(self) -> str:
        return "" if self.ours else servers.BY_NAME["gunicorn"].version()

    def start(self, folder: Path, config: str = "", **options: Any) -> Server:
        """Start it in `folder`, with the application above unless there is an app.py."""
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "app.py").exists():
            write(folder, "one")
        if self.worker_class == "gthread":
            config += "\nthreads = 4\n"
        if self.ours:
            return Server(folder, self.worker_class, self.impl, config, **options)
        python = str(servers.BY_NAME["gunicorn"].python)
        command = f"[{python!r}, '-m', 'gunicorn', '-c', 'cyhorn.conf.py', '--no-control-socket', *sys.argv[3:]]"
        wrapper = f"import os, sys\nos.execv({python!r}, {command})"
        return Server(folder, self.worker_class, "", config, wrapper=wrapper, **options)


def write(folder: Path, version: str, before: str = "") -> None:
    """Replace app.py by code of this version, which executes `before` while it is loaded."""
    draft = folder / "app.draft"
    draft.write_text(APPLICATION.format(version=version, before=before))
    draft.replace(folder / "app.py")


COMPILED = Contestant("cyhorn", "sync", "compiled")
PURE = Contestant("cyhorn pure", "sync", "python")
PEERS = (Contestant("Gunicorn sync", "sync"), Contestant("Gunicorn gthread", "gthread"))
EVERYBODY = (COMPILED, PURE, *PEERS)
