"""Loading an application anew in the same process, and going back."""

from __future__ import annotations

import gc
import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cyhorn.process.preload import Interrupted, OwnCode, Preloader

Write = Callable[[str, str], None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes modules named ``preloaded…`` that can be imported during the test."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(name: str, text: str) -> None:
        file = tmp_path / (name.replace(".", "/") + ".py")
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)

    yield write
    for name in [name for name in sys.modules if name.startswith("preloaded")]:
        del sys.modules[name]


def value() -> object:
    return importlib.import_module("preloaded_app").VALUE


def test_new_code_is_loaded_with_what_it_imports(write: Write) -> None:
    write("preloaded_part/__init__", "")
    write("preloaded_part/inner", "VALUE = 'old'\n")
    write("preloaded_app", "from preloaded_part.inner import VALUE\n")
    preloader = Preloader()
    preloader.load(value)
    assert value() == "old"
    write("preloaded_part/inner", "VALUE = 'newer'\n")
    preloader.load(value)
    assert value() == "newer"


@pytest.mark.parametrize(
    "broken", ["raise ValueError\n", "import preloaded_nothing\n", "VALUE = (\n", "raise SystemExit\n"]
)
def test_what_fails_to_load_leaves_the_old_modules(write: Write, broken: str) -> None:
    write("preloaded_part", "")
    write("preloaded_app", "import preloaded_part\nVALUE = 'old'\n")
    preloader = Preloader()
    preloader.load(value)
    old = sys.modules["preloaded_app"], sys.modules["preloaded_part"]
    write("preloaded_extra", "")
    write("preloaded_app", "import preloaded_part, preloaded_extra\n" + broken)
    with pytest.raises(BaseException):  # noqa: B017
        preloader.load(value)
    assert (sys.modules["preloaded_app"], sys.modules["preloaded_part"]) == old
    assert "preloaded_extra" not in sys.modules
    write("preloaded_app", "VALUE = 'mended now'\n")
    preloader.load(value)
    assert value() == "mended now"


def test_a_load_can_be_undone_later(write: Write) -> None:
    write("preloaded_app", "VALUE = 'old'\n")
    preloader = Preloader()
    preloader.load(value)
    write("preloaded_app", "import preloaded_extra\nVALUE = 'newer'\n")
    write("preloaded_extra", "")
    preloader.load(value)
    preloader.undo()
    preloader.undo()
    assert value() == "old"
    assert "preloaded_extra" not in sys.modules


def test_nothing_to_load_forgets_what_was(write: Write) -> None:
    write("preloaded_app", "VALUE = 'old'\n")
    preloader = Preloader()
    preloader.load(value)
    preloader.load(None)
    assert "preloaded_app" not in sys.modules


def test_the_standard_library_stays(write: Write) -> None:
    for name in ("colorsys", "this"):
        sys.modules.pop(name, None)
    write("preloaded_app", "import colorsys\nVALUE = colorsys\n")
    preloader = Preloader()
    preloader.load(value)
    first = sys.modules["colorsys"]
    preloader.load(value)
    assert sys.modules["colorsys"] is first


def test_packages_with_an_extension_module_stay_whole(write: Write) -> None:
    import _json  # an extension module, or built in

    if getattr(_json.__spec__, "origin", "built-in") == "built-in":
        pytest.skip("this Python has its extension modules built in")
    write("preloaded_part/__init__", "")
    write(
        "preloaded_part/fast",
        "import _json, importlib.util, sys\n"
        "spec = importlib.util.spec_from_file_location('_json', _json.__spec__.origin)\n"
        "sys.modules['preloaded_part._json'] = importlib.util.module_from_spec(spec)\n",
    )
    write("preloaded_app", "import preloaded_part.fast\nVALUE = 1\n")
    preloader = Preloader()
    preloader.load(value)
    kept, app = sys.modules["preloaded_part.fast"], sys.modules["preloaded_app"]
    preloader.load(value)
    assert sys.modules["preloaded_part.fast"] is kept
    assert sys.modules["preloaded_app"] is not app


def test_only_a_load_can_be_interrupted(write: Write) -> None:
    preloader = Preloader()
    preloader.interrupt()
    with pytest.raises(Interrupted):
        preloader.load(preloader.interrupt)
    preloader.interrupt()


def test_frozen_objects_are_thawed_by_the_next_load() -> None:
    before = gc.get_freeze_count()
    preloader = Preloader()
    preloader.load(list, freeze=True)
    assert gc.get_freeze_count() > before
    preloader.load(None)
    assert gc.get_freeze_count() == 0


def test_where_nothing_is_loaded_what_is_there_is_frozen_for_the_workers() -> None:
    preloader = Preloader()
    try:
        preloader.load(None, freeze=True)
        assert gc.get_freeze_count() > 0
    finally:
        preloader.load(None)
    assert gc.get_freeze_count() == 0


def test_own_code_is_loaded_anew_and_what_was_installed_is_not(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = tmp_path / "lib" / "site-packages"
    installed.mkdir(parents=True)
    monkeypatch.syspath_prepend(str(installed))
    (installed / "preloaded_agent.py").write_text("")
    write("preloaded_app", "import preloaded_agent\nVALUE = 'old'\n")
    own = OwnCode()
    own.load(value)
    agent = sys.modules["preloaded_agent"]
    write("preloaded_app", "import preloaded_agent\nVALUE = 'newer'\n")
    own.load(value)
    assert value() == "newer" and sys.modules["preloaded_agent"] is agent
    own.undo()
    assert value() == "old" and sys.modules["preloaded_agent"] is agent


def test_a_part_of_a_package_that_was_imported_after_the_load_is_found_in_the_new_package(write: Write) -> None:
    """As logging.config finds the classes that it is given by name: ``getattr`` on what ``import`` returned."""
    write("preloaded_package/__init__", "")
    write("preloaded_package/server", "VALUE = 'old'\n")
    write("preloaded_package/formats", "Json = 'old'\n")

    def load() -> object:
        return importlib.import_module("preloaded_package.server")

    own = OwnCode()
    own.load(load)
    old = importlib.import_module("preloaded_package.formats")
    own.load(load)
    __import__("preloaded_package.formats")
    assert sys.modules["preloaded_package"].formats is not old
    own.undo()
    assert sys.modules["preloaded_package"].formats is old is sys.modules["preloaded_package.formats"]
