"""Hello, upload and stream in Pyramid."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from typing import Any

from pyramid.config import Configurator
from pyramid.response import Response

from tests.apps.noting import note, wait_for_signal


def hello(request: Any) -> Response:
    return Response("Hello, World!\n", content_type="text/plain")


def upload(request: Any) -> dict[str, Any]:
    data = request.POST["file"].file.read()
    return {"size": len(data), "sha256": hashlib.sha256(data).hexdigest(), "title": request.POST["title"]}


def stream(request: Any) -> Response:
    token = request.matchdict["token"]

    def lines() -> Iterator[bytes]:
        try:
            yield b"first\n"
            wait_for_signal(token)
            yield b"second\n"
        finally:
            note("ended", token)

    return Response(app_iter=lines(), content_type="text/plain")


def main(global_config: dict[str, str] | None = None, **settings: str) -> Any:
    """The application, as Paste Deploy asks for it."""
    with Configurator(settings=settings) as config:
        config.add_route("hello", "/")
        config.add_view(hello, route_name="hello")
        config.add_route("upload", "/upload")
        config.add_view(upload, route_name="upload", renderer="json", request_method="POST")
        config.add_route("stream", "/stream/{token}")
        config.add_view(stream, route_name="stream")
        return config.make_wsgi_app()


def paste_main(global_config: dict[str, str], **settings: str) -> Any:
    """The same, and it says in which process it is made."""
    application = main(global_config, **settings)
    os.write(1, b"LOADED in %d\n" % os.getpid())
    return application


app = main()
