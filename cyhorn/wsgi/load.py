"""From the text "module:app" to the WSGI callable.

Forms:

``module``                     ``module:application``
``module:name``                an attribute
``module:name.attribute``      an attribute of it, to any depth
``module:factory("x", k=1)``   the result of a call whose arguments are literals

What the operator wrote wrongly is an AppImportError of one line. What fails
inside the named module, an ImportError of something else included, is the
application's own and is raised as it is, with its traceback.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterable
from keyword import iskeyword
from types import ModuleType
from typing import TYPE_CHECKING, Any

from cyhorn.errors import EXIT_BOOT, AppImportError

if TYPE_CHECKING:
    import ast

DEFAULT_NAME = "application"
#: What applications are called, most usual first; proposed where no name is close.
USUAL_NAMES = ("application", "app", "wsgi", "wsgi_app", "create_app", "make_app", "server", "api")


def load_application(spec: str) -> Callable[..., Any]:
    """Import what `spec` names. Returns a callable; raises AppImportError and what the module raises."""
    module_name, colon, expression = spec.partition(":")
    module = import_module(module_name, expression)
    if colon and not expression.strip():
        raise AppImportError(f"{spec!r} names no application after the colon: write {module_name}:NAME")
    application = evaluate(module, expression.strip() or DEFAULT_NAME)
    if application is None:
        raise AppImportError(f"{spec!r} is None, not an application")
    if not callable(application):
        raise AppImportError(
            f"{spec!r} is not callable: it is of type {type(application).__name__};"
            " an application is a function of (environ, start_response)"
        )
    result: Callable[..., Any] = application
    return result


def import_module(name: str, expression: str = "") -> ModuleType:
    """Import the module `name`, telling its absence from failures inside it."""
    if not name:
        raise AppImportError("the application has no module: write MODULE:NAME")
    if name.startswith(".") or "/" in name or not all(part.isidentifier() for part in name.split(".")):
        dotted = name.removeprefix("./").removesuffix(".py").strip("/").replace("/", ".")
        raise AppImportError(
            f"{name!r} is not the name of a module" + _hint([f"{dotted}:{expression or DEFAULT_NAME}"])
        )
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as cause:
        missing = cause.name or ""
        if name != missing and not name.startswith(missing + "."):
            raise
        if name.endswith(".py") and os.path.exists(name):
            near = [f"{name[:-3]}:{expression or DEFAULT_NAME}"]
        elif missing != name and missing in sys.modules:
            near = []
        else:
            near = _nearest(name, _modules_nearby(), 1)
        of_package = "" if missing == name else f" ({missing!r} is missing)"
        error = AppImportError(f"there is no module {name!r}{of_package}{_hint(near)}")
        error.exit_status = EXIT_BOOT
        raise error from None


def _modules_nearby() -> list[str]:
    """Modules and packages of the directories in sys.path that belong to the project: the first ones."""
    names = []
    for directory in sys.path[:2]:
        try:
            entries = list(os.scandir(directory or "."))
        except OSError:
            continue
        modules = (entry for entry in entries if entry.is_dir() or entry.name.endswith(".py"))
        names += [entry.name.removesuffix(".py") for entry in modules]
    return [name for name in names if name.isidentifier()]


def evaluate(module: ModuleType, expression: str) -> Any:
    """The attribute or factory result that `expression` names in `module`."""
    path = expression.split(".")
    if all(name.isascii() and name.isidentifier() and not iskeyword(name) for name in path):
        return _attribute(module, path)
    import ast  # only what is not simply a name needs Python's parser

    try:
        tree = ast.parse(expression, mode="eval").body
    except SyntaxError:
        raise AppImportError(f"{expression!r} is neither a name nor a call such as create_app()") from None
    if not isinstance(tree, ast.Call):
        return _attribute(module, _path(tree, expression))
    factory = _attribute(module, _path(tree.func, expression))
    try:
        positional = [ast.literal_eval(argument) for argument in tree.args]
        named = {keyword.arg: ast.literal_eval(keyword.value) for keyword in tree.keywords}
    except ValueError:
        named = {None: None}
    if None in named:  # ** has no name
        raise AppImportError(f"{expression!r}: the arguments must be literals, such as 1, 'text' or None")
    if not callable(factory):
        raise AppImportError(f"{expression!r}: {ast.unparse(tree.func)} cannot be called")
    try:
        return factory(*positional, **{str(name): value for name, value in named.items()})
    except TypeError as cause:
        # Raised by the call itself there is no frame below this one: the arguments do not fit.
        if cause.__traceback__ is not None and cause.__traceback__.tb_next is None:
            raise AppImportError(f"{expression!r}: {cause}") from None
        raise


def _path(node: ast.expr, expression: str) -> list[str]:
    """The names of a dotted name, as the parser found it in `expression`."""
    import ast

    if isinstance(node, ast.Name):
        return [node.id]
    if isinstance(node, ast.Attribute):
        return [*_path(node.value, expression), node.attr]
    raise AppImportError(f"{expression!r} is neither a name nor a call such as create_app()")


def _attribute(module: ModuleType, path: list[str]) -> Any:
    owner: Any = module
    for depth, name in enumerate(path):
        try:
            owner = getattr(owner, name)
        except AttributeError:
            where = f"{module.__name__}:{'.'.join(path[:depth])}" if depth else f"module {module.__name__!r}"
            public = [other for other in dir(owner) if not other.startswith("_")]
            near = _nearest(name, public, 2) or [usual for usual in USUAL_NAMES if usual in public]
            raise AppImportError(f"{where} has no attribute {name!r}{_hint(near[:2])}") from None
    return owner


def _nearest(word: str, known: Iterable[str], count: int) -> list[str]:
    import difflib  # an application is rarely misspelled

    return difflib.get_close_matches(word, list(known), n=count)


def _hint(names: list[str]) -> str:
    return f"; did you mean {' or '.join(names)}?" if names else ""
