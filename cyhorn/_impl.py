"""The switch between the compiled and the pure-Python side.

One choice is made per process, at the first import of this module, from the
environment variable ``CYHORN_IMPL``:

``auto`` (the default)
    all modules compiled or, when any of them fails to import, all of them
    Python, with the cause in `REASON`;
``compiled``
    the compiled side, or the ImportError that kept it from loading;
``python``
    the Python side, without trying.

The faces (``parser.py``, ``writer.py``, ``environ.py``, ``loop.py``) ask
`COMPILED` which side to re-export. Nothing else in the package may.
"""

from __future__ import annotations

import importlib
import os

#: The extension modules. All of them are used, or none.
MODULES = (
    "_parser",
    "_chunked",
    "_environ",
    "_writer",
    "_access",
    "_pulse",
    "_connection",
    "_cycle",
    "_loop",
    "_crew",
    "_orphan",
)
CHOICES = ("auto", "compiled", "python")
VARIABLE = "CYHORN_IMPL"


def choose(wanted: str) -> tuple[bool, str]:
    """Decide which side this process runs.

    `wanted` is one of `CHOICES`. Returns whether the compiled side is used and,
    in words, why. Raises ValueError for any other value, and ImportError when
    ``compiled`` was asked for and cannot be had.
    """
    if wanted not in CHOICES:
        raise ValueError(f"{VARIABLE}={wanted!r}: use one of {', '.join(CHOICES)}")
    if wanted == "python":
        return False, f"{VARIABLE}=python asks for it"
    try:
        for name in MODULES:
            importlib.import_module(f"cyhorn.{name}")
    except ImportError as cause:
        if wanted == "compiled":
            raise ImportError(
                f"{VARIABLE}=compiled, but the extension modules do not load: {cause}"
                " (build them with: python setup.py build_ext --inplace)"
            ) from cause
        return False, f"the extension modules do not load: {cause}"
    return True, "the extension modules load"


COMPILED, REASON = choose(os.environ.get(VARIABLE) or "auto")
NAME = "compiled" if COMPILED else "python"
