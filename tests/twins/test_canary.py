"""Which side ran is proved, not believed."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import cyhorn.parser
from cyhorn import _impl
from tests.conftest import Implementation

PLAIN = b"GET / HTTP/1.1\r\nHost: a\r\nX:\ty\r\n\r\n"
CLASSES = {"RequestParser": "parser", "RequestHead": "parser", "ChunkedDecoder": "chunked"}


def frames_within(work) -> set[str]:
    """The file names of the Python code that `work` runs."""
    names = set()

    def note(frame, event, argument):
        if event == "call":
            names.add(Path(frame.f_code.co_filename).name)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(before)
    return names


def test_each_side_is_made_of_what_its_name_says(impl):
    for name, subject in CLASSES.items():
        module = getattr(impl, subject)
        endings = tuple(EXTENSION_SUFFIXES) if impl.name == "compiled" else ".py"
        assert module.__file__.endswith(endings)
        assert getattr(module, name).__module__ == module.__name__


def test_parsing_runs_python_code_on_the_python_side_alone(impl):
    def work():
        assert impl.parser.RequestParser().parse(PLAIN) is not None
        assert impl.chunked.ChunkedDecoder().feed(b"0;a\r\nX: y\r\n\r\n")[1] == 13

    ran = {"_parser_py.py", "_chunked_py.py"} & frames_within(work)
    assert len(ran) == (2 if impl.name == "python" else 0)


def test_the_face_shows_the_side_that_was_chosen():
    side = Implementation("compiled" if _impl.COMPILED else "python")
    for name, subject in CLASSES.items():
        assert getattr(cyhorn.parser, name) is getattr(getattr(side, subject), name)


def face_in_a_process(chosen: str, before: str = "") -> list[str]:
    """The module of the face's parser and whether the compiled one is loaded, under CYHORN_IMPL=`chosen`."""
    script = (
        f"import sys; {before}import cyhorn.parser as face; "
        "print(face.RequestParser.__module__, sys.modules.get('cyhorn._parser') is not None)"
    )
    told = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "CYHORN_IMPL": chosen},
        cwd=Path(cyhorn.parser.__file__).parent.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    return told.stdout.split()


def test_the_environment_chooses_the_side_of_the_face(impl):
    compiled = impl.name == "compiled"
    assert face_in_a_process(impl.name) == [impl.parser.__name__, str(compiled)]


def test_the_python_side_loads_without_the_compiled_one():
    hidden = "sys.modules['cyhorn._parser'] = None; "
    assert face_in_a_process("python", hidden) == ["cyhorn._parser_py", "False"]
