"""The two servers: where Gunicorn comes from, and how a command runs under either name.

A deployment's command begins with the word ``gunicorn``. `Kind.environment` puts scripts of both
names in front of PATH, so that running it under cyhorn is what users do: replace the word.
"""

from __future__ import annotations

import fcntl
import importlib.metadata
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
#: The Gunicorn that cyhorn is compared with.
REQUIREMENT = "gunicorn>=27.0.1,<28"
CACHE = ROOT / ".cache" / "gunicorn-27"

SCRIPTS = {
    "gunicorn": "from gunicorn.app.wsgiapp import run\nrun()\n",
    "cyhorn": "from cyhorn.cli import main\nmain()\n",
}
#: As sitecustomize it hides the Gunicorn of the tests' environment, which a migrated host has not.
HIDE = """
import sys
from importlib.machinery import PathFinder

class WithoutGunicorn(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] == "gunicorn" else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = WithoutGunicorn
"""
#: What configures a server, and must not come from the shell that runs the tests.
FOREIGN = ("CYHORN", "GUNICORN", "PORT", "WEB_CONCURRENCY", "FORWARDED_ALLOW_IPS", "SENDFILE", "PWD", "PYTHON")


class Kind(NamedTuple):
    """A server: ``gunicorn``, or ``cyhorn`` with a side of its own."""

    name: str
    side: str = ""

    def __str__(self) -> str:
        return f"{self.name}-{self.side}" if self.side else self.name

    def environment(self, tools: Path, variables: Mapping[str, str]) -> dict[str, str]:
        """The environment of a command of this kind; `tools` is what `install_tools` has filled."""
        environ = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
        if self.name == "gunicorn":
            path = [] if is_importable() else [CACHE]
        else:
            path = [tools / "without_gunicorn", ROOT]
            environ["CYHORN_IMPL"] = self.side
        environ["PATH"] = os.pathsep.join([str(tools / "bin"), environ.get("PATH", os.defpath)])
        environ["PYTHONPATH"] = os.pathsep.join(map(str, path))
        environ["PYTHONDONTWRITEBYTECODE"] = "1"
        return environ | variables


def is_importable() -> bool:
    """Whether the environment of the tests holds a Gunicorn to compare with."""
    try:
        return importlib.metadata.version("gunicorn").startswith("27.")
    except importlib.metadata.PackageNotFoundError:
        return False


def install_gunicorn() -> None:
    """Install Gunicorn beside the tree, once, unless there is one. Fails where that is impossible."""
    if is_importable():
        return
    CACHE.parent.mkdir(exist_ok=True)
    with open(CACHE.parent / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (CACHE / "gunicorn").is_dir():
            draft = CACHE.with_name(f"{CACHE.name}.draft")
            command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(draft), REQUIREMENT]
            done = subprocess.run(command, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            draft.rename(CACHE)


def install_tools(folder: Path) -> Path:
    """Fill `folder` with the scripts of both names, ``python``, and with what hides Gunicorn. Returns it."""
    (folder / "bin").mkdir()
    for name, code in SCRIPTS.items():
        script = folder / "bin" / name
        script.write_text(f"#!{sys.executable}\n{code}")
        script.chmod(0o755)
    python = folder / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    (folder / "without_gunicorn").mkdir()
    (folder / "without_gunicorn" / "sitecustomize.py").write_text(HIDE)
    return folder
