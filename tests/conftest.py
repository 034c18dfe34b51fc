"""Which side the tests run, and the guard against a stale build.

``--impl`` chooses the sides (both unless told otherwise). A test that takes the
`impl` fixture runs once per side, with that side's own modules, whatever
``CYHORN_IMPL`` says for the process. A side that was asked for and is missing is a
failure, never a skip.
"""

from __future__ import annotations

import gc
import importlib
import importlib.util
import os
import re
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
SIDES = ("compiled", "python")
BUILD_COMMAND = "python setup.py build_ext --inplace"


class Implementation:
    """One side: its modules are loaded when they are first asked for."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"<Implementation {self.name}>"

    def _module(self, subject: str) -> ModuleType:
        suffix = "" if self.name == "compiled" else "_py"
        return importlib.import_module(f"cyhorn._{subject}{suffix}")

    parser = property(lambda self: self._module("parser"))
    chunked = property(lambda self: self._module("chunked"))
    environ = property(lambda self: self._module("environ"))
    writer = property(lambda self: self._module("writer"))
    access = property(lambda self: self._module("access"))
    loop = property(lambda self: self._module("loop"))
    crew = property(lambda self: self._module("crew"))
    orphan = property(lambda self: self._module("orphan"))


def build_script() -> Any:
    """setup.py as a module: the build list, and what a build is made of."""
    spec = importlib.util.spec_from_file_location("cyhorn_setup", ROOT / "setup.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def stale_modules(setup: Any) -> list[str]:
    """The modules whose source is not what the build in the tree was made of."""
    made = setup.read_record()["modules"]
    suffix = setup.sysconfig.get_config_var("EXT_SUFFIX")
    return [
        name
        for name in setup.sources()
        if made.get(name) != setup.digest(name) or not (ROOT / "cyhorn" / f"{name}{suffix}").exists()
    ]


def sides(config: pytest.Config) -> tuple[str, ...]:
    chosen: str = config.getoption("--impl")
    return SIDES if chosen == "both" else (chosen,)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--impl", choices=(*SIDES, "both"), default="both", help="the side(s) to test")
    parser.addoption(
        "--thorough", action="store_true", help="deliver the cases of tests/data/wire in every way there is"
    )


def pytest_configure(config: pytest.Config) -> None:
    # Servers have their control sockets there, and not where the user's own have theirs.
    os.environ["XDG_RUNTIME_DIR"] = tempfile.mkdtemp(prefix="cyhorn-run-")


def pytest_unconfigure(config: pytest.Config) -> None:
    shutil.rmtree(os.environ.pop("XDG_RUNTIME_DIR"), ignore_errors=True)


def pytest_report_header(config: pytest.Config) -> str:
    setup = build_script()
    stale = stale_modules(setup)
    state = f"stale: {', '.join(stale)}" if stale else str(setup.read_record()["variant"])
    return f"cyhorn: testing {' and '.join(sides(config))} (build in the tree: {state})"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    own = any(
        "impl" in str(mark.args[0]).split(",") for mark in metafunc.definition.iter_markers("parametrize")
    )
    if "impl" in metafunc.fixturenames and not own:
        metafunc.parametrize("impl", sides(metafunc.config), indirect=True, scope="session")


def runs_compiled(node: str) -> bool:
    """Whether a test runs compiled code: its parameters say so, or where it lies."""
    return "compiled" in re.split(r"[\[\]-]", node) or node.startswith(("tests/twins/", "tests/effects/"))


def refuse_stale_build(config: pytest.Config, nodes: Iterable[str]) -> None:
    """Tests that are to run compiled code do not start over a stale build."""
    compiled = "compiled" in sides(config) and any(map(runs_compiled, nodes))
    if compiled and (stale := stale_modules(build_script())):
        pytest.exit(f"stale build ({', '.join(stale)}): run {BUILD_COMMAND}", returncode=4)


def pytest_collection_finish(session: pytest.Session) -> None:
    # Thousands of tests and cases are there to stay: no collection of garbage need walk them again.
    gc.collect()
    gc.freeze()
    if not session.config.option.collectonly and not hasattr(session.config, "workerinput"):
        refuse_stale_build(session.config, (item.nodeid for item in session.items))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(node: Any, ids: list[str]) -> None:
    """With ``-n`` it is the process that gives tests out that looks, before it gives out any."""
    refuse_stale_build(node.config, ids)


@pytest.fixture(scope="session")
def impl(request: pytest.FixtureRequest) -> Implementation:
    """The side under test: ``.name``, and its modules ``.parser .chunked .environ .writer .access .loop``."""
    return Implementation(request.param)
