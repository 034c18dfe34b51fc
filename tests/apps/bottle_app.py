"""Hello, upload and stream in Bottle."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from bottle import Bottle, request, response

from tests.apps.noting import note, wait_for_signal

app = Bottle()


@app.get("/")
def hello() -> str:
    response.content_type = "text/plain"
    return "Hello, World!\n"


@app.post("/upload")
def upload() -> dict[str, Any]:
    data = request.files.file.file.read()
    return {"size": len(data), "sha256": hashlib.sha256(data).hexdigest(), "title": request.forms.title}


@app.get("/stream/<token>")
def stream(token: str) -> Iterator[str]:
    response.content_type = "text/plain"
    try:
        yield "first\n"
        wait_for_signal(token)
        yield "second\n"
    finally:
        note("ended", token)
