"""Running servers for the corpus: one process for each group of settings, on TCP and on a unix socket."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from tests.integration.harness import ROOT, Server
from tests.wire.case import Case

_APPLICATION = "from tests.wire.applications import application as app\n"


class Servers:
    """Servers of one side, each started when a case first needs it."""

    def __init__(self, impl: str, folder: Path) -> None:
        self.impl = impl
        self.folder = folder
        self._started: dict[Any, tuple[Server, dict[str, Any]]] = {}

    def start(self, *cases: Case) -> None:
        """Start the servers that `cases` need, without waiting for them."""
        for case in cases:
            if case.group in self._started:
                continue
            folder = self.folder / str(len(self._started))
            folder.mkdir()
            (folder / "app.py").write_text(_APPLICATION)
            config = "".join(f"{name} = {value!r}\n" for name, value in case.settings.items())
            server = Server(
                folder,
                "sync",
                self.impl,
                config,
                ("-b", "unix:http.sock", "--no-control-socket"),
                {**case.variables, "PYTHONPATH": str(ROOT)},
            )
            self._started[case.group] = (server, {})

    def addresses(self, case: Case) -> dict[str, Any]:
        """Where the server of `case` listens: "tcp" and "unix"."""
        self.start(case)
        server, addresses = self._started[case.group]
        if not addresses:
            server.wait_for("Booting worker")
            line = server.wait_for("Listening at")[0]
            found = re.search(r"http://([\d.]+):(\d+)", line)
            assert found, line
            addresses["tcp"] = (found[1], int(found[2]))
            addresses["unix"] = str(server.folder / "http.sock")
        return addresses

    def tracebacks(self) -> list[str]:
        """The lines of all logs that begin a traceback or tell a mistake of the loop's own."""
        return [
            line
            for server, _ in self._started.values()
            for line in server.seen(r"Error while (serving|accepting)")
        ]

    def close(self) -> None:
        """End them all."""
        for server, _ in self._started.values():
            server.destroy()
