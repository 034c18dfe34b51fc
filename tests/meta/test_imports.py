"""Who may import whom: the layers of DESIGN.md section 3, read off the syntax trees.

``errors, grammar <- parser, writer <- wsgi, environ <- loop <- workers <- master <- arbiter
<- app <- cli``; net, process and log are leaf services; config holds values. Imports
inside functions count, those under ``if TYPE_CHECKING`` do not: they make nothing run.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "cyhorn"

#: Room → rank. A room imports only rooms of a lower rank, or itself.
LAYERS = {
    "cyhorn": 0,
    "errors": 0,
    "grammar": 0,
    "native": 0,
    "_scan": 0,
    "_system": 0,
    "pulse": 1,
    "orphan": 1,
    "parser": 1,
    "writer": 1,
    "access": 1,
    "environ": 2,
    "wsgi": 2,
    "connection": 3,
    "cycle": 4,
    "loop": 5,
    "crew": 6,
    "workers": 7,
    "master": 8,
    "arbiter": 9,
    "app": 10,
    "cli": 11,
    "__main__": 12,
}
#: Twins that stand in a room with others: the chunked decoder reads its trailers as the parser does fields.
ROOMMATES = {"chunked": "parser"}
#: Leaf services use nothing of the house but what is listed.
LEAVES = {
    "net": {"cyhorn", "errors", "native"},
    "process": {"cyhorn", "errors", "native"},
    "log": {"cyhorn", "errors", "grammar", "native"},
    "config": {"cyhorn", "errors", "grammar", "net", "process", "log"},
    "_impl": {"cyhorn"},
    # Gunicorn's names for modules of the log, which nothing of the house imports.
    "glogging": {"cyhorn", "log"},
    "instrument": {"cyhorn", "log"},
}
#: Rooms of the request's way know no configuration, logger or process management.
REQUEST_WAY_BANS = {"config", "log", "process"}
#: Twins without a face: only other twins use them.
INNER_TWINS = ("chunked", "pulse", "connection", "cycle")
FACES = ("parser", "environ", "writer", "access", "loop", "crew", "orphan")
#: Who may ask which side runs, and why: the boot line and ``--version`` say it.
TELLS_THE_SIDE = {*FACES, "cli", "arbiter", "config", "app"}

MODULES = sorted(PACKAGE.rglob("*.py"))
PYX = sorted([*PACKAGE.glob("*.pyx"), *PACKAGE.glob("*.pxd")])


def dotted(file: Path) -> str:
    parts = list(file.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room(module: str) -> str:
    """The room of a dotted name: ``cyhorn.wsgi.load`` → ``wsgi``, ``cyhorn._parser_py`` → ``parser``."""
    parts = module.split(".")
    if len(parts) == 1:
        return "cyhorn"
    twin = re.fullmatch(r"_(\w+?)(_py)?", parts[1])
    name = twin[1] if twin and twin[1] in {*LAYERS, *ROOMMATES} else parts[1]
    return ROOMMATES.get(name, name)


def is_type_checking(test: ast.expr) -> bool:
    return any(getattr(node, "id", getattr(node, "attr", "")) == "TYPE_CHECKING" for node in ast.walk(test))


def imports(node: ast.AST, module: str, is_package: bool) -> Iterator[str]:
    """Dotted names of this package that `node` imports when it runs."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and is_type_checking(child.test):
            for other in child.orelse:
                yield from imports(other, module, is_package)
                yield from imports_of(other, module, is_package)
        else:
            yield from imports_of(child, module, is_package)
            yield from imports(child, module, is_package)


def imports_of(node: ast.AST, module: str, is_package: bool) -> Iterator[str]:
    """Dotted names of this package that the one statement `node` imports."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "cyhorn")
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            above = module.split(".")
            above = above[: len(above) - node.level + is_package]
            base = ".".join([*above, *filter(None, [base])])
        if base.split(".")[0] == "cyhorn":
            for alias in node.names:
                name = f"{base}.{alias.name}"
                file = ROOT / Path(*name.split("."))
                known = file.is_dir() or any(file.with_suffix(end).exists() for end in (".py", ".pyx"))
                yield name if known else base


def pyx_imports(file: Path) -> Iterator[str]:
    """The same for Cython: ``cimport`` and ``import`` lines at any depth."""
    for line in file.read_text().splitlines():
        found = re.match(r"\s*from\s+([\w.]+)\s+c?import\s+(.+)", line)
        if found and found[1] == "cyhorn":
            yield from (f"cyhorn.{name.split()[0].strip('(),')}" for name in found[2].split(","))
        elif found and found[1].startswith((".", "cyhorn.")):
            yield "cyhorn." + found[1].lstrip(".").removeprefix("cyhorn.")
        elif found := re.match(r"\s*c?import\s+(cyhorn[\w.]*)", line):
            yield found[1]


def imported(file: Path) -> set[str]:
    if file.suffix != ".py":
        return set(pyx_imports(file))
    return set(imports(ast.parse(file.read_text()), dotted(file), file.name == "__init__.py"))


def ident(file: Path) -> str:
    return str(file.relative_to(ROOT))


@pytest.mark.parametrize("file", [*MODULES, *PYX], ids=ident)
def test_a_module_imports_only_what_lies_below_it(file: Path) -> None:
    own = room(dotted(file))
    assert own in LAYERS or own in LEAVES, (
        f"{own} has no place in the layers: give it one here and in DESIGN.md"
    )
    for name in imported(file):
        other = room(name)
        if other == own or other == "_impl":
            continue
        if own in LEAVES:
            assert other in LEAVES[own], f"{own} may not import {name}"
        elif other in LEAVES:
            assert not (LAYERS[own] <= LAYERS["crew"] and other in REQUEST_WAY_BANS), (
                f"{own} may not know {name}"
            )
            assert LAYERS[own] > LAYERS["parser"], f"{own} may not import {name}"
        else:
            assert LAYERS[other] < LAYERS[own], f"{own} may not import {name}: it lies above or beside"


@pytest.mark.parametrize("file", [*MODULES, *PYX], ids=ident)
def test_a_twin_uses_its_own_side_and_only_faces_are_used_by_others(file: Path) -> None:
    stem = file.stem
    twins = {
        name for name in imported(file) if re.fullmatch(r"_\w+", name.split(".")[1] if "." in name else "")
    }
    twins.discard("cyhorn._impl")
    python = {name for name in twins if name.endswith("_py")}
    if stem.startswith("_") and stem.strip("_").removesuffix("_py") in (*FACES, *INNER_TWINS):
        assert twins == (python if stem.endswith("_py") else twins - python), "a twin of the other side"
        assert not {f"cyhorn.{face}" for face in FACES} & imported(file), "a twin may not import a face"
    elif stem not in FACES or file.parent != PACKAGE:
        # Constants beside a Cython module (``_scan.pxd``) belong to the compiled side.
        assert not twins or file.suffix != ".py", "only the faces import twins"


@pytest.mark.parametrize("file", MODULES, ids=ident)
def test_only_the_faces_ask_which_side_runs(file: Path) -> None:
    if "cyhorn._impl" in imported(file):
        assert room(dotted(file)) in TELLS_THE_SIDE
    tree = ast.parse(file.read_text())
    asks = any(isinstance(node, ast.Attribute) and node.attr == "COMPILED" for node in ast.walk(tree))
    assert not asks or (file.parent == PACKAGE and file.stem in FACES)


@pytest.mark.parametrize("face", FACES)
def test_a_face_holds_no_logic(face: str) -> None:
    tree = ast.parse((PACKAGE / f"{face}.py").read_text())
    allowed = (ast.Expr, ast.Import, ast.ImportFrom, ast.If, ast.Assign)
    assert all(isinstance(node, allowed) for node in tree.body)
    assert not any(isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.Lambda)) for node in ast.walk(tree))


@pytest.mark.parametrize("file", [file for file in MODULES if file.name != "__main__.py"], ids=ident)
def test_each_module_imports_alone(file: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"import {dotted(file)}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "" and done.stderr == ""


def test_importing_the_package_loads_nothing_of_it() -> None:
    code = "import sys, cyhorn; print([name for name in sys.modules if name.startswith('cyhorn.')])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
