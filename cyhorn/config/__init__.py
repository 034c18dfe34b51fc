"""Settings: the table of rows, the `Config` that holds values, and where values come from.

``row`` says what a row is, ``rows_*`` are the rows, ``settings`` is the table,
``validators`` the kinds of value, ``config`` holds values and remembers where
each came from, ``arguments`` is the command line, ``load`` reads files and the
environment, ``classes`` finds worker and logger classes by name, ``document``
writes docs/settings.md.
"""

from typing import Any


def __getattr__(name: str) -> Any:
    """`Config`, which Gunicorn has here; imported when asked for, as its module needs the others here."""
    if name == "Config":
        from cyhorn.config.config import Config

        return Config
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
