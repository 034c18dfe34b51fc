"""A Flask application that notes when its requests end, where, and in which context: the value of a variable there."""

from __future__ import annotations

import contextvars
import gc
import hashlib
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from flask import (
    Blueprint,
    Flask,
    Response,
    has_app_context,
    jsonify,
    request,
    session,
    stream_with_context,
    url_for,
)

from tests.apps import noting

app = Flask(__name__)
app.secret_key = "of the tests"
app.config["MAX_CONTENT_LENGTH"] = 8 << 20

token: contextvars.ContextVar[str] = contextvars.ContextVar("token")


def note(event: str, of: str) -> None:
    """Note `event` with the value that the view's context variable has here."""
    noting.note(event, of, variable=token.get(""))


@app.get("/")
def hello() -> str:
    return "Hello, World!\n"


# --- sessions and blueprints ---------------------------------------------------------------

shop = Blueprint("shop", __name__, url_prefix="/shop")


@shop.before_request
def count_visit() -> None:
    session["visits"] = session.get("visits", 0) + 1


@shop.get("/<item>")
def show(item: str) -> Response:
    return jsonify(item=item, visits=session["visits"], url=url_for("shop.show", item=item, _external=True))


@shop.post("/<item>")
def add(item: str) -> Response:
    session["basket"] = [*session.get("basket", []), item]
    return jsonify(basket=session["basket"])


@shop.errorhandler(404)
def no_such_thing(error: Exception) -> tuple[str, int]:
    return "the shop has none\n", 404


@shop.get("/missing/<path:name>")
def missing(name: str) -> Response:
    from flask import abort

    abort(404)


app.register_blueprint(shop)


# --- uploads -------------------------------------------------------------------------------


@app.post("/upload")
def upload() -> Response:
    """What has come of a form with files."""
    told = {
        name: {
            "name": sent.filename,
            "type": sent.mimetype,
            "sha256": hashlib.sha256(sent.stream.read()).hexdigest(),
        }
        for name, sent in request.files.items()
    }
    return jsonify(files=told, fields=request.form.to_dict(flat=False))


@app.put("/raw")
def raw() -> Response:
    """A body as it is, read in pieces."""
    digest, size = hashlib.sha256(), 0
    while piece := request.stream.read(10_000):
        digest.update(piece)
        size += len(piece)
    return jsonify(size=size, sha256=digest.hexdigest())


# --- streams, and their end ----------------------------------------------------------------


class Notifying(Response):
    """A response that notes the call of its own `close`."""

    def close(self) -> None:
        note("close", self.headers["X-Token"])
        super().close()


@app.get("/stream/<name>", defaults={"with_context": True}, endpoint="stream")
@app.get("/plain-stream/<name>", defaults={"with_context": False}, endpoint="stream")
def stream(name: str, with_context: bool) -> Response:
    """Lines without end, or three of them with ``?lines=3``; made in the context of the request, or after it."""
    token.set(name)
    note("view", name)
    lines, path = request.args.get("lines", type=int), request.path

    def produce() -> Iterator[bytes]:
        number, until = 0, time.monotonic() + noting.PATIENCE
        try:
            while number != lines and time.monotonic() < until:
                yield f"{number} {request.path if with_context else path}\n".encode() * 100
                number += 1
                if lines is None:
                    time.sleep(0.005)
        finally:
            note("generator", name)

    items = stream_with_context(produce()) if with_context else produce()
    response = Notifying(items, mimetype="text/plain", headers={"X-Token": name})
    response.call_on_close(lambda: note("call_on_close", name))
    return response


@app.teardown_request
def torn_down(error: BaseException | None) -> None:
    if request.endpoint == "stream":
        assert request.view_args is not None
        note("teardown_request", request.view_args["name"])


@app.teardown_appcontext
def application_torn_down(error: BaseException | None) -> None:
    if name := token.get(""):
        note("teardown_appcontext", name)


# --- context variables ---------------------------------------------------------------------


class Held:
    """What a request puts into its context."""


held: contextvars.ContextVar[Held] = contextvars.ContextVar("held")
alive: weakref.WeakSet[Held] = weakref.WeakSet()
counts = {"requests": 0, "inherited": 0}
counting = threading.Lock()


@app.get("/hold")
def hold() -> Response:
    """Put an object into the context; half of these requests fail, or stream."""
    held.set(Held())
    alive.add(held.get())
    how = request.args.get("how")
    if how == "fail":
        raise ValueError("as asked for")
    if how == "stream":
        return Response(stream_with_context(iter([b"held ", str(held.get()).encode()])))
    return Response("held")


@app.errorhandler(ValueError)
def failed(error: ValueError) -> tuple[str, int]:
    return str(error), 500


@app.get("/left")
def left() -> Response:
    """What all requests of this process have left behind."""
    gc.collect()
    return jsonify(pid=os.getpid(), alive=len(alive), **counts)


def watched(application: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
    """`application`, with a count of requests whose context was not empty."""

    def watch(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        inherited = held.get(None) is not None or token.get(None) is not None or has_app_context()
        with counting:
            counts["requests"] += 1
            counts["inherited"] += inherited
        return application(environ, start_response)

    return watch


app.wsgi_app = watched(app.wsgi_app)  # type: ignore[method-assign, assignment]
