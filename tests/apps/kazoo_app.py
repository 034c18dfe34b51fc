"""An application whose workers are members of a group in ZooKeeper. ZOOKEEPER says where it is.

`join` makes this process a member, `leave` ends that; hooks call them. With JOIN_AT_IMPORT whoever imports this is
one, as it must not be done in a master that preloads.

    /session       process id, session and state of the client
    /members       who is in the group, as ZooKeeper tells it
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from kazoo.client import KazooClient

client: KazooClient = KazooClient(hosts=os.environ["ZOOKEEPER"], timeout=3.0)


def join() -> None:
    """Become a member for as long as the session lasts."""
    client.start()
    client.create(f"{os.environ['GROUP']}/{os.getpid()}", ephemeral=True, makepath=True)


def leave() -> None:
    """End the session."""
    client.stop()
    client.close()


if "JOIN_AT_IMPORT" in os.environ:
    join()


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    """The application."""
    path, body = environ["PATH_INFO"], "ok"
    if path == "/session":
        number, _ = client.client_id
        body = f"{os.getpid()} {number:x} {client.state}"
    elif path == "/members":
        body = " ".join(sorted(client.get_children(os.environ["GROUP"])))
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body.encode()]
