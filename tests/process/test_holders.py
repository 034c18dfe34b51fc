"""The way from a module's name to an object."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType

import pytest

from cyhorn.process.holders import find_holdings


class Target:
    """What is searched for."""


def module(name: str, **values: object) -> ModuleType:
    made = ModuleType(name)
    vars(made).update(values)
    return made


def test_the_shortest_way_is_told_from_the_name_to_the_object() -> None:
    target = Target()
    inner = [target]
    made = module("held", far={"a": {"b": inner}}, near=inner)
    (found,) = find_holdings([made], lambda thing: type(thing) is Target)
    assert (found.module, found.name) == ("held", "near")
    assert found.chain == (inner, target)


def test_each_object_is_told_once() -> None:
    first, second = Target(), Target()
    made = module("held", a=first, b=[first, second], c=second)
    assert [found.name for found in find_holdings([made], lambda thing: type(thing) is Target)] == ["a", "c"]


def test_what_another_module_holds_is_not_this_ones() -> None:
    other = module("other", target=Target())
    sys.modules["other"] = other
    try:
        function = eval("lambda: target", vars(other))
        made = module("held", other=other, function=function)
        assert list(find_holdings([made], lambda thing: type(thing) is Target)) == []
    finally:
        del sys.modules["other"]


def test_a_search_ends_at_its_limit() -> None:
    made = module("held", many=[object() for _ in range(1000)], last=[[[[Target()]]]])
    assert list(find_holdings([made], lambda thing: type(thing) is Target, limit=100)) == []


def test_a_module_that_loads_itself_when_asked_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.find_spec("this")
    assert spec is not None and spec.loader is not None
    monkeypatch.delitem(sys.modules, "this", raising=False)
    spec.loader = importlib.util.LazyLoader(spec.loader)
    lazy = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "this", lazy)
    spec.loader.exec_module(lazy)
    list(find_holdings([lazy], lambda thing: False))
    assert "zen" not in object.__getattribute__(lazy, "__dict__")
    assert type(lazy) is not ModuleType  # it would be one, had it been loaded
