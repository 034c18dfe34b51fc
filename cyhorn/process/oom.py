"""Whether the kernel has killed for want of memory.

"Out of memory" is only said where a counter of the kernel moved: that of the cgroup this
process lives in, else that of the machine.
"""

from __future__ import annotations

import os


class OomCounter:
    """The kernel's out-of-memory kills as this process can see them."""

    def __init__(self) -> None:
        self._path = _counter_file()
        self._seen = self._read()

    def moved(self) -> bool:
        """Whether there was a kill since this was asked last."""
        now = self._read()
        moved = now is not None and self._seen is not None and now > self._seen
        self._seen = now
        return moved

    def _read(self) -> int | None:
        if self._path is None:
            return None
        try:
            with open(self._path, encoding="ascii", errors="replace") as file:
                for line in file:
                    name, _, value = line.partition(" ")
                    if name == "oom_kill":
                        return int(value)
        except (OSError, ValueError):
            pass
        return None


def _counter_file() -> str | None:
    """memory.events of cgroup 2, memory.oom_control of cgroup 1, or the machine's vmstat."""
    try:
        with open("/proc/self/cgroup", encoding="ascii", errors="replace") as file:
            groups = [line.rstrip("\n").split(":", 2) for line in file]
    except OSError:
        groups = []
    paths = []
    for group in groups:
        if len(group) != 3:
            continue
        hierarchy, controllers, path = group
        if hierarchy == "0":
            paths.append(f"/sys/fs/cgroup{path}/memory.events")
            paths.append("/sys/fs/cgroup/memory.events")
        elif "memory" in controllers.split(","):
            paths.append(f"/sys/fs/cgroup/memory{path}/memory.oom_control")
            paths.append("/sys/fs/cgroup/memory/memory.oom_control")
    paths.append("/proc/vmstat")
    for path in paths:
        path = os.path.normpath(path)
        try:
            with open(path, encoding="ascii", errors="replace") as file:
                if any(line.startswith("oom_kill ") for line in file):
                    return path
        except OSError:
            continue
    return None
