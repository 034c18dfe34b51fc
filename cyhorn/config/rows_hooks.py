"""Rows: server hooks. A hook that is not set is None and costs nothing."""

from __future__ import annotations

from cyhorn.config import validators as v
from cyhorn.config.row import Kind, Row

HOOKS = "Server Hooks"


def _hook(name: str, kind: Kind, meaning: str, differs: str = "") -> Row:
    return Row(name=name, section=HOOKS, kind=kind, meaning=meaning, differs=differs)


ROWS = (
    _hook("on_starting", v.hook("server"), "Called in the master before it opens sockets."),
    _hook(
        "on_reload",
        v.hook("server"),
        "Called in the master during a reload, before workers are forked.",
        "called only when the new configuration is good, and while the old workers serve",
    ),
    _hook("when_ready", v.hook("server"), "Called in the master when it listens, before the first fork."),
    _hook("pre_fork", v.hook("server", "worker"), "Called in the master before a worker is forked."),
    _hook("post_fork", v.hook("server", "worker"), "Called in a worker right after the fork."),
    _hook("post_worker_init", v.hook("worker"), "Called in a worker when it has loaded the application."),
    _hook("worker_int", v.hook("worker"), "Called in a worker that gets SIGINT or SIGQUIT."),
    _hook("worker_abort", v.hook("worker"), "Called in a worker that gets SIGABRT, as after timeout."),
    _hook("pre_exec", v.hook("server"), "Called in the master's child before it becomes a new master."),
    _hook("pre_request", v.hook("worker", "req"), "Called in a worker before the application."),
    _hook(
        "post_request",
        v.POST_REQUEST,
        "Called in a worker after a response. It takes two to four parameters.",
    ),
    _hook("child_exit", v.hook("server", "worker"), "Called in the master when a worker has ended."),
    _hook("worker_exit", v.hook("server", "worker"), "Called in a worker as it ends."),
    _hook(
        "nworkers_changed",
        v.hook("server", "new_value", "old_value"),
        "Called in the master when the number of workers changes. The old value is None the first time.",
    ),
    _hook("on_exit", v.hook("server"), "Called in the master as it ends."),
    _hook(
        "ssl_context",
        v.hook("config", "default_ssl_context_factory"),
        "Returns the ssl.SSLContext for TLS. The factory makes the one that cyhorn would use.",
        "called once in each worker, not for each connection",
    ),
)
