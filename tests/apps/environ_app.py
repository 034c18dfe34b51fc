"""An application that answers with its environ, as JSON in a field, so that HEAD tells it too."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from typing import Any


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """What is text, a number or a list as it is; the body by its digest; other objects by what they can do."""
    body = environ["wsgi.input"].read(*_length(environ))
    told = {key: value for key, value in environ.items() if isinstance(value, str | int | tuple)}
    told["wsgi.input"] = hashlib.sha256(body).hexdigest()
    errors = environ["wsgi.errors"]
    told["wsgi.errors"] = all(hasattr(errors, name) for name in ("write", "writelines", "flush"))
    start_response("200 OK", [("Content-Length", "2"), ("X-Environ", json.dumps(told))])
    return [b"ok"]


def _length(environ: dict[str, Any]) -> tuple[int, ...]:
    """How much may be read: a server whose input does not end by itself would wait for more."""
    if environ.get("wsgi.input_terminated"):
        return ()
    return (int(environ.get("CONTENT_LENGTH") or 0),)
