"""What a process costs, as the kernel accounts for it: memory, processor time, threads, descriptors."""

from __future__ import annotations

import os
import re
from pathlib import Path


def _status(pid: int, field: str) -> int:
    found = re.search(rf"^{field}:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(), re.M)
    assert found is not None, f"the kernel does not tell {field}"
    return int(found[1])


def resident(pid: int) -> int:
    """Bytes of memory that `pid` has now."""
    return _status(pid, "VmRSS") << 10


def peak(pid: int) -> int:
    """The most bytes of memory that `pid` has had, since `forget_peak` if that was called."""
    return _status(pid, "VmHWM") << 10


def forget_peak(pid: int) -> None:
    """Have `peak` begin from what there is now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def threads(pid: int) -> int:
    return _status(pid, "Threads")


def processor_seconds(pid: int) -> float:
    """User and system time that `pid` has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def open_files(pid: int) -> list[str]:
    """What each descriptor of `pid` is, numbers of sockets and pipes left out."""
    names = []
    for entry in os.listdir(f"/proc/{pid}/fd"):
        try:
            names.append(re.sub(r":\[\d+\]$", "", os.readlink(f"/proc/{pid}/fd/{entry}")))
        except FileNotFoundError:
            continue
    return sorted(names)
