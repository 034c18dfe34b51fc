"""Which side ran is proved, not believed."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import cyhorn.parser
from cyhorn import _impl, _parser_py

PLAIN = b"GET / HTTP/1.1\r\nHost: a\r\nX:\ty\r\n\r\n"
CLASSES = ("RequestParser", "RequestHead", "ChunkedDecoder")


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
    file = impl.parser.__file__
    if impl.name == "compiled":
        assert file.endswith(tuple(EXTENSION_SUFFIXES))
    else:
        assert file.endswith(".py")
    for name in CLASSES:
        assert getattr(impl.parser, name).__module__ == impl.parser.__name__


def test_parsing_runs_python_code_on_the_python_side_alone(impl):
    def work():
        assert impl.parser.RequestParser().parse(PLAIN) is not None
        assert impl.parser.ChunkedDecoder().feed(b"0;a\r\nX: y\r\n\r\n")[1] == 13

    ran = "_parser_py.py" in frames_within(work)
    assert ran is (impl.name == "python")


def test_the_face_shows_the_side_that_was_chosen():
    if _impl.COMPILED:
        from cyhorn import _parser as side
    else:
        side = _parser_py
    for name in CLASSES:
        assert getattr(cyhorn.parser, name) is getattr(side, name)


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
