"""Calling what users hang into the server.

A hook is None or a callable of theirs, so anything may come out of it. Once the server runs that is
logged with the hook's name and does no more; while it starts, or a worker boots, it ends that.
"""

from __future__ import annotations

from typing import Any

from cyhorn.errors import ConfigError


class HookFailed(ConfigError):
    """A hook without which a start makes no sense has raised; its traceback is in the log."""


def call_hook(cfg: Any, log: Any, name: str, *args: Any) -> None:
    """Call the hook `name` if it is set. What it raises is logged and ends nothing."""
    hook = getattr(cfg, name, None)
    if hook is None:
        return
    try:
        hook(*args)
    except (Exception, SystemExit):
        log.exception("The hook %s failed", name)


def require_hook(cfg: Any, log: Any, name: str, *args: Any) -> None:
    """Call the hook `name` if it is set. Raises HookFailed for what it raises."""
    hook = getattr(cfg, name, None)
    if hook is None:
        return
    try:
        hook(*args)
    except Exception as error:
        log.exception("Exception in the hook %s", name)
        raise HookFailed(f"The hook {name} failed: {error!r}") from error
