"""What cannot wait until the configuration is complete: the patches of the gevent worker.

A config file may import what uses `ssl` or sockets, as `requests` does, in the very lines above the one that
asks for gevent. So it is read for that line before it is run. What a file computes is known only afterwards,
and is patched for then, at the latest before the application is loaded.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from cyhorn.config import classes
from cyhorn.errors import ConfigError

if TYPE_CHECKING:
    import ast

#: The setting, as Python files assign it.
NAME = "worker_class"


def patch_for(worker_class: Any) -> None:
    """Patch this process if `worker_class` is the gevent worker. That gevent is missing is told later."""
    if classes.is_gevent(worker_class):
        from cyhorn.workers import patching

        with contextlib.suppress(ConfigError):
            patching.patch()


def named_in(location: str) -> str | None:
    """The worker class that the Python file at `location` names in so many words; None where it does not.

    `location` is a config file as `cyhorn.config.load` takes it. The file is not run.
    """
    try:
        with open(_path_of(location), "rb") as stream:
            source = stream.read()
        if b"gevent" not in source:  # as in nearly all files
            return None
        import ast

        tree = ast.parse(source)
    except (ImportError, OSError, SyntaxError, ValueError):
        return None  # who runs it says what is wrong
    named: str | None = None
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                found, value = _assigned(target, node.value)
                if found:
                    named = value
    return named


def _path_of(location: str) -> str:
    if not location.startswith("python:"):
        return location.removeprefix("file:")
    from importlib.util import find_spec

    spec = find_spec(location.removeprefix("python:"))
    return spec.origin or "" if spec is not None else ""


def _assigned(target: ast.expr, value: ast.expr | None) -> tuple[bool, str | None]:
    """Whether `target` is the setting, or a tuple with it, and the text that it is given."""
    import ast

    if isinstance(target, ast.Name) and target.id == NAME:
        text = value.value if isinstance(value, ast.Constant) else None
        return True, text if isinstance(text, str) else None
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        for each, its in zip(target.elts, value.elts, strict=False):
            if isinstance(each, ast.Name) and each.id == NAME:
                return _assigned(each, its)
    return False, None
