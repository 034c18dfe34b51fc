"""Writer, environ, access lines and loop have the same names, signatures and words on both sides."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from cyhorn import _access, _access_py, _environ, _environ_py, _loop, _loop_py, _writer, _writer_py
from cyhorn.errors import ApplicationError

PAIRS = {
    "OutputBuffer": (_writer.OutputBuffer, _writer_py.OutputBuffer),
    "ResponseWriter": (_writer.ResponseWriter, _writer_py.ResponseWriter),
    "EnvironBuilder": (_environ.EnvironBuilder, _environ_py.EnvironBuilder),
    "AccessLines": (_access.AccessLines, _access_py.AccessLines),
    "Loop": (_loop.Loop, _loop_py.Loop),
}
#: Builtins without a signature on the compiled side, where calling them is on every request's way.
BUILTINS = {("ResponseWriter", "start_response"), ("ResponseWriter", "write")}
#: The parts of an OutputBuffer: the compiled one keeps its bytes elsewhere.
OWN = {"OutputBuffer": {"parts"}}


def public(kind: Any) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


def methods(kind: Any) -> set[str]:
    return {name for name in public(kind) if callable(getattr(kind, name))}


@pytest.mark.parametrize("name", PAIRS)
def test_the_classes_have_the_same_methods(name):
    compiled, pure = PAIRS[name]
    assert methods(compiled) == methods(pure)


@pytest.mark.parametrize("name", ["OutputBuffer", "ResponseWriter"])
def test_the_instances_have_the_same_public_names(name):
    def made(module: Any) -> Any:
        out = module.OutputBuffer()
        return out if name == "OutputBuffer" else module.ResponseWriter(out)

    assert public(made(_writer)) == public(made(_writer_py)) - OWN.get(name, set())


@pytest.mark.parametrize(
    ("name", "method"),
    sorted((name, method) for name, (_, pure) in PAIRS.items() for method in methods(pure)),
)
def test_the_methods_have_the_same_parameters_and_words(name, method):
    compiled, pure = (getattr(kind, method) for kind in PAIRS[name])
    assert inspect.cleandoc(compiled.__doc__) == inspect.cleandoc(pure.__doc__)
    if (name, method) in BUILTINS:
        return
    described = [
        [(each.name, each.kind, each.default) for each in inspect.signature(function).parameters.values()]
        for function in (compiled, pure)
    ]
    assert described[0] == described[1]


@pytest.mark.parametrize("name", PAIRS)
def test_the_classes_are_described_in_the_same_words(name):
    compiled, pure = PAIRS[name]
    assert inspect.cleandoc(compiled.__doc__) == inspect.cleandoc(pure.__doc__)


def test_start_response_takes_what_pep_3333_says(impl):
    def writer() -> Any:
        made = impl.writer.ResponseWriter(impl.writer.OutputBuffer())
        made.begin(False, True, True)
        return made

    assert callable(writer().start_response("200 OK", []))
    assert callable(writer().start_response("200 OK", [], None))
    assert callable(writer().start_response("200 OK", [], exc_info=None))
    assert callable(writer().start_response(status="200 OK", headers=[]))
    for arguments in ((), ("200 OK",), ("200 OK", [], None, None)):
        with pytest.raises(TypeError):
            writer().start_response(*arguments)


def test_attributes_of_a_writer_have_the_same_types(impl):
    writer = impl.writer.ResponseWriter(impl.writer.OutputBuffer())
    writer.begin(False, True, True)

    def types() -> dict[str, type]:
        return {
            name: type(getattr(writer, name))
            for name in sorted(public(writer) - methods(type(writer)) - {"out"})
        }

    before = types()
    assert before == {
        "chunked": bool, "complete": bool, "dropped": list, "excess": bool, "flush": type(None), "full": bool,
        "headers": list, "headers_sent": bool, "keep_alive": bool, "response_length": type(None), "sent": int,
        "server_header": str, "status": type(None), "status_code": int,
    }  # fmt: skip
    writer.start_response("200 OK", [("Content-Length", "1")])
    writer.whole([b"x"])
    writer.finish()
    assert types() == {**before, "response_length": int, "status": str}
    with pytest.raises(ApplicationError):
        writer.write(b"x")
