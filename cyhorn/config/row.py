"""What one row of the settings table says.

A row is data: it holds no value and does nothing. `Kind` is the type of a
setting: how a value is converted, and in words what is allowed, for errors and
for the manual.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Refused(ValueError):
    """A value is not allowed; the text says why, where `Kind.allowed` alone would not."""


class Kind(NamedTuple):
    """A type of value.

    `allowed` completes the sentence "use …". `convert` returns the value as the
    server uses it and raises TypeError, ValueError or `Refused`. `read` is applied
    to the text of a flag first, `read_variable` (else `read`) to that of an
    environment variable or of an ini file. `choices` are the only texts there are,
    for completion. `keeps_empty` says that an empty variable is a value, not its absence.
    """

    allowed: str
    convert: Callable[[Any], Any]
    read: Callable[[str], Any] = str
    read_variable: Callable[[str], Any] | None = None
    choices: tuple[str, ...] = ()
    keeps_empty: bool = False

    def __call__(self, value: Any) -> Any:
        return self.convert(value)

    def of_text(self, text: str) -> Any:
        """What stands for a value in the `text` of a variable or an ini file. Raises ValueError."""
        return (self.read_variable or self.read)(text)


class Row(NamedTuple):
    """One setting.

    ``scope`` is W (every worker), P (workers with threads or many connections),
    X (Gunicorn's settings for what cyhorn does not serve) or N (new in cyhorn).
    ``flags`` are the command line's spellings and ``no_flags`` those that store
    False. ``env`` is a variable that replaces the default beside CYHORN_<NAME>,
    ``read_env`` what makes a value of its text. ``default_text`` stands in the manual
    where the default depends on the machine. ``differs`` says in words what is
    another way than in Gunicorn, for a setting that both have. When the setting is
    used, ``pending`` is a warning at start, of what it asks for and does not get, and
    ``note`` an information, of what it asks for and has without it.
    """

    name: str
    section: str
    kind: Kind
    meaning: str
    default: Any = None
    scope: str = "W"
    flags: tuple[str, ...] = ()
    no_flags: tuple[str, ...] = ()
    metavar: str | None = None
    action: str = "store"
    nargs: str | None = None
    const: Any = None
    env: str | None = None
    read_env: Callable[[str], Any] | None = None
    default_text: str = ""
    pending: str = ""
    note: str = ""
    differs: str = ""

    @property
    def variable(self) -> str:
        """The environment variable of the setting."""
        return f"CYHORN_{self.name.upper()}"

    @property
    def short(self) -> str:
        """The first sentence of the meaning."""
        return self.meaning.split(". ")[0].rstrip(".") + "."
