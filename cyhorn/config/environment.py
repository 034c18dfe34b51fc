"""Values from environment variables: ``CYHORN_<SETTING>`` for every setting, and a few old names.

``CYHORN_WORKERS=4`` sets workers. The variables that platforms set (PORT,
WEB_CONCURRENCY, FORWARDED_ALLOW_IPS, SENDFILE) replace a default too; where both
are there, CYHORN_<SETTING> counts. A variable that begins with ``CYHORN_`` and is
neither a setting's nor one of `RESERVED` is warned about, but for those that
Kubernetes makes for a service called cyhorn.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator, Mapping

from cyhorn.config.config import ARGUMENT_VARIABLES, VARIABLE, Config
from cyhorn.config.row import Row
from cyhorn.config.settings import SETTINGS, nearest

PREFIX = "CYHORN_"

#: Variables that are no settings: the choice of implementation, builds, upgrades, flags.
RESERVED = frozenset(
    {
        "CYHORN_IMPL",
        "CYHORN_BUILD",
        "CYHORN_DEBUG",
        "CYHORN_SANITIZE",
        "CYHORN_PID",
        "CYHORN_FD",
        ARGUMENT_VARIABLES[0],
    }
)

#: What Kubernetes tells containers about services whose names begin with "cyhorn".
SERVICE_LINK = re.compile(r"CYHORN_(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)|PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?)")

HOOKS = [name for name, row in SETTINGS.items() if "Hooks" in row.section]


def apply_environment(cfg: Config, environ: Mapping[str, str]) -> None:
    """Take what the variables say. An empty one counts only where empty means something.

    Raises ConfigError that names the variable.
    """
    for row in SETTINGS.values():
        if row.name not in HOOKS:
            _apply(cfg, row, environ)
    # Hooks are imported, from where other settings say.
    with importable(cfg):
        for name in HOOKS:
            _apply(cfg, SETTINGS[name], environ)
    for name in unknown_variables(environ):
        near = nearest(name, [row.variable for row in SETTINGS.values()])
        hint = f"; did you mean {near[0]}?" if near else ""
        cfg.warn(f"{VARIABLE} {name} is no setting of cyhorn{hint}")


def _apply(cfg: Config, row: Row, environ: Mapping[str, str]) -> None:
    for variable in (row.env, row.variable):
        text = environ.get(variable) if variable else None
        if text is None or not (text.strip() or row.kind.keeps_empty):
            continue
        source = f"{VARIABLE} {variable}"
        if variable == row.env and row.read_env is not None:
            cfg.set(row.name, row.read_env(text), source)
        else:
            cfg.set_text(row.name, text, source)


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """The variables that look like settings and are none."""
    known = RESERVED | {row.variable for row in SETTINGS.values()}
    return sorted(
        name
        for name, value in environ.items()
        if name.startswith(PREFIX) and name not in known and not _is_service_link(name, value)
    )


def _is_service_link(name: str, value: str) -> bool:
    if not SERVICE_LINK.fullmatch(name):
        return False
    # CYHORN_PORT=5000 is a slip of an operator, CYHORN_PORT=tcp://10.0.0.1:80 is not.
    return not name.endswith("_PORT") or "SERVICE" in name or "://" in value


@contextlib.contextmanager
def importable(cfg: Config) -> Iterator[None]:
    """Let modules of the project be imported, from chdir and pythonpath, for hooks that are named as texts.

    The application puts these directories in sys.path for good later, when all sources are read.
    """
    before = list(sys.path)
    parts = [part.strip() for part in (cfg.pythonpath or "").split(",")]
    sys.path[:0] = [cfg.chdir, *(os.path.abspath(part) for part in parts if part)]
    try:
        yield
    finally:
        sys.path[:] = before
