"""Run one of the peers that have no command line, or none that fits: NAME APP PORT THREADS.

perf/compare runs this file with the Python of the peer's own environment. Every peer runs
as its documentation shows it, at its best: keep-alive on, Nagle's algorithm off, where it can be told.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

HOST = "127.0.0.1"


def bjoern(app: Any, port: int, threads: int) -> None:
    import bjoern

    bjoern.run(app, HOST, port)


def fastwsgi(app: Any, port: int, threads: int) -> None:
    import fastwsgi

    fastwsgi.server.tcp_nodelay = 1
    fastwsgi.run(wsgi_app=app, host=HOST, port=port)


def fastpysgi(app: Any, port: int, threads: int) -> None:
    import fastpysgi

    fastpysgi.server.tcp_nodelay = 1
    fastpysgi.run(app, HOST, port)


def meinheld(app: Any, port: int, threads: int) -> None:
    from meinheld import server

    server.set_access_logger(None)
    server.set_keepalive(75)
    server.listen((HOST, port))
    server.run(app)


def waitress(app: Any, port: int, threads: int) -> None:
    import waitress

    waitress.serve(app, host=HOST, port=port, threads=threads, connection_limit=20000)


def cheroot(app: Any, port: int, threads: int) -> None:
    from cheroot import wsgi

    wsgi.Server((HOST, port), app, numthreads=threads, request_queue_size=1024).safe_start()


LAUNCHERS: dict[str, Callable[[Any, int, int], None]] = {
    launcher.__name__: launcher for launcher in (bjoern, fastwsgi, fastpysgi, meinheld, waitress, cheroot)
}


def main() -> None:
    name, target, port, threads = sys.argv[1:]
    module, _, attribute = target.partition(":")
    # Run as a file, Python put perf/ in front: names in it must not hide the peer's modules.
    sys.path[0] = ""
    LAUNCHERS[name](getattr(importlib.import_module(module), attribute), int(port), int(threads))


if __name__ == "__main__":
    main()
