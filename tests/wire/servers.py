"""Running servers for the corpus: one for each group of settings, on TCP and on a unix socket.

`by_group` puts cases into the order in which each server is needed for one stretch. While it
serves, the next ones start; behind its last case it is ended.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.integration.harness import ROOT, Server
from tests.wire.case import Case

_APPLICATION = "from tests.wire.applications import application as app\n"


#: How many servers start ahead of their cases.
_AHEAD = 2


def by_group(cases: Iterable[Case]) -> list[Case]:
    """`cases`, those with the same settings together."""
    groups: dict[Any, list[Case]] = {}
    for case in cases:
        groups.setdefault(case.group, []).append(case)
    return [case for group in groups.values() for case in group]


class Servers:
    """The servers of one side for `cases`, which are in the order of `by_group`."""

    def __init__(self, impl: str, folder: Path, cases: Iterable[Case]) -> None:
        self.impl = impl
        self.folder = folder
        self._first = {case.group: case for case in reversed(list(cases))}  # group → its first case
        self._order = list(reversed(self._first))
        self._running: dict[Any, Server] = {}
        self._addresses: dict[Any, dict[str, Any]] = {}

    def _start(self, case: Case) -> None:
        """Start the server of `case`, without waiting for it."""
        folder = self.folder / str(self._order.index(case.group))
        folder.mkdir(exist_ok=True)
        (folder / "app.py").write_text(_APPLICATION)
        config = "".join(f"{name} = {value!r}\n" for name, value in case.settings.items())
        self._running[case.group] = Server(
            folder,
            "sync",
            self.impl,
            config,
            ("-b", "unix:http.sock", "--no-control-socket"),
            {**case.variables, "PYTHONPATH": str(ROOT)},
        )

    def _turn_to(self, case: Case) -> None:
        """Have the server of `case` and the next ones started, and no other running."""
        number = self._order.index(case.group)
        wanted = self._order[number : number + 1 + _AHEAD]
        for group in wanted:
            if group not in self._running:
                self._start(self._first[group])
        for group in [group for group in self._running if group not in wanted]:
            self._running.pop(group).destroy()
            self._addresses.pop(group, None)

    def addresses(self, case: Case) -> dict[str, Any]:
        """Where the server of `case` listens: "tcp" and "unix"."""
        if case.group not in self._addresses:
            self._turn_to(case)
            server = self._running[case.group]
            server.wait_for("Booting worker")
            line = server.wait_for("Listening at")[0]
            found = re.search(r"http://([\d.]+):(\d+)", line)
            assert found, line
            self._addresses[case.group] = {
                "tcp": (found[1], int(found[2])),
                "unix": str(server.folder / "http.sock"),
            }
        return self._addresses[case.group]

    def mistakes(self, case: Case) -> list[str]:
        """What the log of the server of `case` says of the loop's own mistakes."""
        return self._running[case.group].seen(r"Error while (serving|accepting)")

    def close(self) -> None:
        """End them all."""
        for server in self._running.values():
            server.destroy()
