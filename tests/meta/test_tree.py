"""The tree is what it says it is: nothing generated, no machine's traces, lists that agree."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from cyhorn import _impl
from tests.conftest import build_script

ROOT = Path(__file__).resolve().parents[2]


def tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def make_targets() -> set[str]:
    text = (ROOT / "Makefile").read_text()
    return {name for line in re.findall(r"^([\w./ -]+):(?!=)", text, re.M) for name in line.split()}


def test_nothing_generated_is_tracked() -> None:
    generated = re.compile(
        r"\.(so|o|pyc|egg-info|whl)$|(^|/)(build|dist|\.venv|__pycache__)/|^cyhorn/.*\.(c|html)$"
    )
    assert [name for name in tracked() if generated.search(name)] == []


def test_no_file_names_a_place_of_one_machine() -> None:
    # Spelled in pieces, so that this file does not find itself.
    places = re.compile(
        "|".join(["/" + "work/", "/" + "root/", "/" + r"home/(?!user/|app/|www/)\w+/", r"\.pyenv" + "/"])
    )
    found = [
        f"{name}: {match[0]}"
        for name in tracked()
        if (match := places.search((ROOT / name).read_text(errors="replace")))
    ]
    assert found == []


def test_no_file_is_an_attic() -> None:
    assert [
        name for name in tracked() if Path(name).stem in {"util", "utils", "misc", "helpers", "common"}
    ] == []


def test_the_build_list_the_switch_and_the_files_on_disk_agree() -> None:
    setup = build_script()
    on_disk = {file.stem for file in (ROOT / "cyhorn").rglob("*.pyx")}
    assert setup.MODULES == _impl.MODULES
    assert on_disk == set(_impl.MODULES)


@pytest.mark.parametrize("name", _impl.MODULES)
def test_every_extension_module_has_its_twin(name: str) -> None:
    assert (ROOT / "cyhorn" / f"{name}_py.py").exists()


def test_every_make_target_that_a_document_names_exists() -> None:
    documents = [name for name in tracked() if name.endswith(".md")]
    # In running text between backticks, in a block at the start of a line, in .ci/run as a step.
    named = {
        (document, target)
        for document in [*documents, ".ci/run"]
        for target in re.findall(
            r"(?:`|^ *(?:\$ )?|^step )make ([a-z]+)\b", (ROOT / document).read_text(), re.MULTILINE
        )
    }
    assert {(document, target) for document, target in named if target not in make_targets()} == set()
    assert {target for document, target in named if document == ".ci/run"} >= {"test", "lint", "regression"}


def test_the_readme_opens_with_the_two_commands() -> None:
    first_screen = "\n".join((ROOT / "README.md").read_text().splitlines()[:40])
    assert "make serve" in first_screen and "make test" in first_screen
