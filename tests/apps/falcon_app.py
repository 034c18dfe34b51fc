"""Hello, upload and stream in Falcon."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import falcon

from tests.apps.noting import note, wait_for_signal


class Hello:
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        resp.content_type = falcon.MEDIA_TEXT
        resp.text = "Hello, World!\n"

    on_head = on_get  # Falcon answers HEAD where it is told how


class Upload:
    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        told: dict[str, object] = {}
        for part in req.get_media():
            if part.name == "title":
                told["title"] = part.text
            else:
                digest, size = hashlib.sha256(), 0
                while piece := part.stream.read(10_000):
                    digest.update(piece)
                    size += len(piece)
                told |= {"size": size, "sha256": digest.hexdigest()}
        resp.media = told


class Stream:
    def on_get(self, req: falcon.Request, resp: falcon.Response, token: str) -> None:
        def lines() -> Iterator[bytes]:
            try:
                yield b"first\n"
                wait_for_signal(token)
                yield b"second\n"
            finally:
                note("ended", token)

        resp.content_type = falcon.MEDIA_TEXT
        resp.stream = lines()


app = falcon.App()
app.add_route("/", Hello())
app.add_route("/upload", Upload())
app.add_route("/stream/{token}", Stream())
