"""Other trees of the project beside this one: a commit before it, or a variant of it, built here.

What depends on the machine is compared only with what was built and measured on it, in the
same job: perf/regression times a base commit, perf/icount counts one where no figures are
committed for the toolchain, perf/variant counts what an edit changes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def git(*arguments: str) -> str:
    """What a git command prints; raises CalledProcessError."""
    return subprocess.run(
        ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()


def last_change(path: Path) -> str:
    """The commit that last changed this file of the tree. Exits where the history does not tell."""
    try:
        if git("rev-parse", "--is-shallow-repository") == "true":
            sys.exit("the history is cut off (a shallow clone): fetch all of it (git fetch --unshallow)")
        revision = git("log", "-1", "--format=%H", "--", str(path.relative_to(ROOT)))
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"git does not tell who changed {path.name} last: {error}")
    if not revision:
        sys.exit(f"{path.name} is not committed")
    return revision


def _measure_alike(where: Path) -> None:
    """Give the tree in `where` the cases and test settings of this one."""
    shutil.rmtree(where / "perf", ignore_errors=True)
    shutil.copytree(
        ROOT / "perf", where / "perf", ignore=shutil.ignore_patterns("results", ".venv", "__pycache__")
    )
    shutil.copy(ROOT / "pyproject.toml", where)


def unpack(revision: str, where: Path) -> None:
    """Put the tree of `revision` into `where`, with the cases and test settings of this one."""
    archive = subprocess.run(["git", "archive", revision], cwd=ROOT, capture_output=True, check=True).stdout
    subprocess.run(["tar", "-xf", "-"], cwd=where, input=archive, check=True)
    _measure_alike(where)


def copy(where: Path, *, built: bool = False) -> None:
    """Put this tree into `where`, with what is not committed; with `built` its extension modules, too."""
    for name in git("ls-files", "-z", "--cached").split("\0"):
        if name and (ROOT / name).is_file():
            (where / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, where / name)
    if built:
        for path in (*ROOT.glob("cyhorn/*.c"), *ROOT.glob("cyhorn/*.so")):
            shutil.copy2(path, where / path.relative_to(ROOT))
        shutil.copytree(ROOT / "build", where / "build")
    _measure_alike(where)


def build(where: Path, environment: Mapping[str, str] | None = None) -> None:
    """Build the extension modules of the tree in `where`; raises CalledProcessError."""
    command = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"]
    subprocess.run(command, cwd=where, env={**os.environ, **(environment or {})}, check=True)
