"""Distributions: what they hold, and that they install and run in an empty environment.

Deselect with ``-m "not packaging"``: building takes its time and asks the package index.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from cyhorn import _impl

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.packaging, pytest.mark.timeout(1200)]


def run(*command: str | Path, **environ: str) -> str:
    """The output of `command`, run outside the tree with `environ` added."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("CYHORN_", "PYTHON"))}
    done = subprocess.run(
        [str(part) for part in command], cwd="/", env=env | environ, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(where: Path, what: str, source: Path = ROOT, *, isolated: bool = False, **environ: str) -> Path:
    """What the build made; `isolated` in an environment of what pyproject.toml asks for, else in this one."""
    options = [f"--{what}", *([] if isolated else ["--no-isolation"])]
    run(sys.executable, "-m", "build", *options, "--outdir", where, source, **environ)
    (made,) = where.iterdir()
    return made


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("sdist"), "sdist")


@pytest.fixture(scope="module")
def unpacked(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist's tree: wheels are built from it, so that what it lacks is noticed."""
    where = tmp_path_factory.mktemp("unpacked")
    run("tar", "-xzf", sdist, "-C", where)
    (tree,) = where.iterdir()
    return tree


def installed(wheel: Path, where: Path) -> Path:
    """The scripts directory of a new environment that holds `wheel` and what it needs."""
    venv.create(where, with_pip=True)
    run(where / "bin/python", "-m", "pip", "install", "--quiet", wheel)
    return where / "bin"


def test_the_sdist_holds_the_cython_sources_and_no_generated_c(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    sources = {
        str(file.relative_to(ROOT)) for end in ("pyx", "pxd", "h") for file in ROOT.glob(f"cyhorn/*.{end}")
    }
    assert sources <= names
    assert {"pyproject.toml", "setup.py", "README.md", "LICENSE", "cyhorn/py.typed"} <= names
    assert [name for name in names if name.endswith((".c", ".so", ".pyc"))] == []
    assert [name for name in names if name.startswith("tests/")] == []


# One test for each wheel, for it takes its time to make, and processes of a test run share nothing.
@pytest.mark.parametrize(("kind", "side"), [("require", "compiled"), ("pure", "python")])
def test_a_wheel_holds_the_package_and_runs_in_an_empty_environment(
    kind: str, side: str, unpacked: Path, tmp_path: Path
) -> None:
    (tmp_path / "made").mkdir()
    wheel = build(tmp_path / "made", "wheel", unpacked, isolated=kind == "require", CYHORN_BUILD=kind)

    assert wheel.name.endswith("-py3-none-any.whl") == (kind == "pure")
    names = zipfile.ZipFile(wheel).namelist()
    python = {str(file.relative_to(ROOT)) for file in ROOT.glob("cyhorn/**/*.py")}
    ours = {name for name in names if ".dist-info/" not in name}
    extensions = {name for name in ours if name.endswith(".so")}
    assert ours - extensions == python | {"cyhorn/py.typed"}
    built = {Path(name).name.split(".")[0] for name in extensions}
    assert built == (set(_impl.MODULES) if kind == "require" else set())

    scripts = installed(wheel, tmp_path / "venv")
    code = "import cyhorn, cyhorn.loop, cyhorn._impl as impl; print(cyhorn.__version__, impl.NAME)"
    version, name = run(scripts / "python", "-c", code).split()
    assert name == side
    told = run(scripts / "cyhorn", "--version")
    assert version in told and side in told
    again = run(scripts / "python", "-m", "cyhorn", "--version")
    assert again == told


def test_a_build_without_a_compiler_fails_and_says_how_to_do_without(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "setup.py", "build_ext", "--force", "--build-temp", tmp_path, "--build-lib", tmp_path],
        cwd=ROOT,
        env=os.environ | {"CC": "no-such-compiler", "CYHORN_BUILD": "require"},
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    assert "CYHORN_BUILD=pure" in done.stderr


def test_an_unknown_kind_of_build_is_refused_by_name() -> None:
    done = subprocess.run(
        [sys.executable, "setup.py", "--name"],
        cwd=ROOT,
        env=os.environ | {"CYHORN_BUILD": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "CYHORN_BUILD='1': use one of require, pure" in done.stderr
