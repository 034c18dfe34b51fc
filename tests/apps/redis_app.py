"""An application around redis-py: a client of the module, connected while it is imported. REDIS_PORT says where.

    /pair?NAME     sets NAME, gets it, and tells its value behind the worker's process id
    /blpop?NAME    waits a second for something in the list NAME, in vain
    /id            the number by which Redis knows the connection of this moment
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import redis

client = redis.Redis(port=int(os.environ["REDIS_PORT"]), decode_responses=True, max_connections=500)
os.write(1, b"CONNECTED %d in %d\n" % (client.client_id(), os.getpid()))
client.echo("the last command of whoever has imported this")


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    """The application."""
    path, name = environ["PATH_INFO"], environ["QUERY_STRING"]
    body = "ok"
    if path == "/pair":
        client.set(name, f"the value of {name}")
        body = f"{os.getpid()} {client.get(name)}"
    elif path == "/blpop":
        body = str(client.blpop([name], timeout=1))
    elif path == "/id":
        body = str(client.client_id())
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body.encode()]
