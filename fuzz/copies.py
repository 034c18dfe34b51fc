"""Copies of the tree, built in other ways than the tree itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def copy_tree(where: Path) -> None:
    """Make `where` hold the files of the tree as they are, committed or not, beside what was built there."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True, check=True
    )
    names = [name for name in os.fsdecode(listed.stdout).split("\0") if name and (ROOT / name).is_file()]
    wanted = {where / name for name in names}
    for folder in ("cyhorn", "tests"):
        for path in (where / folder).rglob("*"):
            if path.suffix in (".py", ".pyx", ".pxd", ".case") and path not in wanted:
                path.unlink()
    for name in names:
        (where / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, where / name)


def build(where: Path, environ: Mapping[str, str] | None = None) -> None:
    """Bring the copy `where` up to date and build its extension modules, with `environ` beside our own."""
    copy_tree(where)
    command = [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"]
    subprocess.run(command, cwd=where, env={**os.environ, **(environ or {})}, check=True)
