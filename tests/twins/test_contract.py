"""The sides are indistinguishable from outside: names, signatures, values, exceptions."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from cyhorn import _chunked, _chunked_py, _parser, _parser_py, errors
from tests.conftest import SIDES

#: class → the modules it stands in
CLASSES: dict[str, tuple[Any, Any]] = {
    "RequestParser": (_parser, _parser_py),
    "RequestHead": (_parser, _parser_py),
    "ChunkedDecoder": (_chunked, _chunked_py),
}
HEAD = b"GET /a?b HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n"

#: class → its keyword arguments with their defaults
ARGUMENTS: dict[str, dict[str, Any]] = {
    "RequestParser": {
        "limit_request_line": 8190,
        "limit_request_fields": 100,
        "limit_request_field_size": 8190,
        "permit_obsolete_folding": False,
        "strip_header_spaces": False,
        "permit_unconventional_http_method": False,
        "permit_unconventional_http_version": False,
        "casefold_http_method": False,
    },
    "ChunkedDecoder": {
        "limit_request_body": 0,
        "limit_request_fields": 100,
        "limit_request_field_size": 8190,
        "strip_header_spaces": False,
        "permit_obsolete_folding": False,
    },
}


def public(thing: Any) -> set[str]:
    return {name for name in dir(thing) if not name.startswith("_")}


def parameters(function: Any) -> list[tuple[str, Any, Any]]:
    return [(each.name, each.kind, each.default) for each in inspect.signature(function).parameters.values()]


@pytest.mark.parametrize("name", CLASSES)
def test_the_classes_have_the_same_public_names(name):
    compiled, pure = (getattr(side, name) for side in CLASSES[name])
    if name in ARGUMENTS:
        compiled, pure = compiled(), pure()
    assert public(compiled) == public(pure)


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("RequestParser", "parse"),
        ("RequestParser", "reset"),
        ("ChunkedDecoder", "feed"),
        ("ChunkedDecoder", "reset"),
    ],
)
def test_the_methods_have_the_same_signatures(name, method):
    compiled, pure = (getattr(getattr(side, name), method) for side in CLASSES[name])
    assert parameters(compiled) == parameters(pure)
    assert inspect.cleandoc(compiled.__doc__) == inspect.cleandoc(pure.__doc__)


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments_go_by_keyword_and_can_be_read_back(impl, name):
    kind = getattr(CLASSES[name][SIDES.index(impl.name)], name)
    for argument, default in ARGUMENTS[name].items():
        assert getattr(kind(), argument) == default
        assert type(getattr(kind(), argument)) is type(default)
        other = True if default is False else 7
        assert getattr(kind(**{argument: other}), argument) == other
    with pytest.raises(TypeError):
        kind(8190)
    with pytest.raises(TypeError):
        kind(limit=1)


def test_the_arguments_are_those_of_the_python_side():
    for name, arguments in ARGUMENTS.items():
        signature = inspect.signature(getattr(CLASSES[name][1], name))
        assert {each.name: each.default for each in signature.parameters.values()} == arguments


def test_attributes_of_a_head_have_the_same_types(impl):
    head = impl.parser.RequestParser().parse(HEAD)
    types = {name: type(getattr(head, name)) for name in public(head)}
    assert types == {
        "size": int, "method": str, "target": str, "path": str, "query": str, "authority": type(None),
        "version": tuple,
        "fields": list, "content_length": int, "chunked": bool, "keep_alive": bool, "expect_continue": bool,
        "host": str,
    }  # fmt: skip
    assert all(type(pair) is tuple for pair in head.fields)
    assert repr(head) == f"<RequestHead GET /a?b {len(HEAD)} bytes>"
    head.fields = []
    assert head.fields == []


def test_attributes_of_a_decoder_have_the_same_types(impl):
    decoder = impl.chunked.ChunkedDecoder()
    pieces, offset = decoder.feed(b"1\r\nx\r\n0\r\nA: b\r\n\r\n")
    assert (type(pieces), type(pieces[0]), type(offset)) == (list, bytes, int)
    assert (type(decoder.done), type(decoder.size), type(decoder.trailers)) == (bool, int, list)
    for name in ("done", "size", "trailers"):
        with pytest.raises(AttributeError):
            setattr(decoder, name, None)
    decoder.trailers.clear()
    assert decoder.trailers == [("A", "b")]


def test_refusals_are_the_one_exception_of_errors(impl):
    for refuse in (impl.parser.RequestParser().parse, impl.chunked.ChunkedDecoder().feed):
        with pytest.raises(errors.HttpError) as caught:
            refuse(b"\n")
        assert type(caught.value) is errors.HttpError
        assert type(caught.value.code) is errors.Code
        assert (caught.value.status, caught.value.detail) == errors.HTTP_ERRORS[caught.value.code]


@pytest.mark.parametrize("data", ["text", None, 3, [b"a"]])
def test_what_is_no_buffer_is_a_type_error(impl, data):
    for read in (impl.parser.RequestParser().parse, impl.chunked.ChunkedDecoder().feed):
        with pytest.raises(TypeError):
            read(data)
