"""An application that publishes tasks: one when it is imported, and one for each request, with its query. RUN names it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from tests.apps.celery_tasks import note

RUN = os.environ["RUN"]

note.delay(RUN, f"import-{os.getpid()}")


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    """The application."""
    body = b"ok"
    if environ["QUERY_STRING"]:
        note.delay(RUN, environ["QUERY_STRING"])
        body = str(os.getpid()).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
