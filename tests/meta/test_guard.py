"""The test run itself: it chooses sides, fails on a missing one, and stops over a stale build."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import BUILD_COMMAND, ROOT

# Test runs of their own, and builds, on a machine that may be busy with others.
pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A project with one module that was never built, and one test of each kind."""
    (tmp_path / "cyhorn").mkdir()
    (tmp_path / "cyhorn/__init__.py").write_text('__version__ = "0"\n')
    (tmp_path / "README.md").touch()
    (tmp_path / "cyhorn/_parser.pyx").write_text("answer = 42\n")
    (tmp_path / "cyhorn/_parser_py.py").write_text("answer = 42\n")
    (tmp_path / "tests").mkdir()
    shutil.copy(ROOT / "tests/conftest.py", tmp_path / "tests")
    for name in ("setup.py", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "tests/test_one.py").write_text(
        "def test_twin(impl):\n    assert impl.parser.answer == 42\n\ndef test_plain():\n    pass\n"
    )
    return tmp_path


def run(tree: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    env = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "PYTHONPATH"))}
    return subprocess.run(command, cwd=tree, env=env, capture_output=True, text=True)


@pytest.mark.parametrize("processes", [(), ("-n", "2")], ids=["one", "several"])
def test_the_header_tells_of_a_stale_build_and_compiled_code_does_not_run_over_it(
    tree: Path, processes: tuple[str, ...]
) -> None:
    done = run(tree, *processes)
    assert "testing compiled and python (build in the tree: stale: _parser)" in done.stdout
    assert done.returncode == 4
    assert f"stale build (_parser): run {BUILD_COMMAND}" in done.stdout + done.stderr
    assert "passed" not in done.stdout
    assert "INTERNALERROR" not in done.stdout


def test_a_run_without_compiled_code_needs_no_build(tree: Path) -> None:
    assert "2 passed" in run(tree, "--impl", "python").stdout
    assert "1 passed" in run(tree, "-k", "plain").stdout


def test_after_the_build_both_sides_run_and_an_edit_makes_it_stale_again(tree: Path) -> None:
    build = [sys.executable, *BUILD_COMMAND.split()[1:]]
    env = {key: value for key, value in os.environ.items() if not key.startswith("CYHORN_")}
    subprocess.run(build, cwd=tree, env=env, check=True, capture_output=True)
    assert "3 passed" in run(tree).stdout
    source = tree / "cyhorn/_parser.pyx"
    times = source.stat()
    source.write_text("answer = 43\n")
    os.utime(source, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert run(tree).returncode == 4
    subprocess.run(build, cwd=tree, env=env, check=True, capture_output=True)
    assert "1 failed, 2 passed" in run(tree).stdout


def test_a_side_that_was_asked_for_and_does_not_load_fails(tree: Path) -> None:
    (tree / "cyhorn/_parser.pyx").unlink()
    (tree / "cyhorn/_parser.py").write_text("raise ImportError('no such instruction')\n")
    done = run(tree, "--impl", "compiled", "-k", "twin")
    assert done.returncode == 1
    assert "ImportError: no such instruction" in done.stdout
    assert "skipped" not in done.stdout
