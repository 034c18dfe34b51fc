"""Werkzeug's debugger is seen wherever an application is usually wrapped in it, and nowhere else."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from flask import Flask
from werkzeug.debug import DebuggedApplication
from werkzeug.local import LocalProxy
from werkzeug.middleware.proxy_fix import ProxyFix

from cyhorn.wsgi.debugger import has_debugger
from tests.conftest import ROOT


def plain(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    return []


def flask(*middlewares: Callable[[Any], Any]) -> Flask:
    """A Flask application with these around it, the first one innermost."""
    app = Flask("shop")
    for middleware in middlewares:
        app.wsgi_app = middleware(app.wsgi_app)  # type: ignore[method-assign]
    return app


def decorated(application: Any) -> Any:
    @functools.wraps(application)
    def application_with_more(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        return application(environ, start_response)

    return application_with_more


def circle() -> ProxyFix:
    first = ProxyFix(plain)
    first.app = ProxyFix(first)
    return first


class Proxy:
    """What does anything but tell what it is."""

    @property
    def __dict__(self) -> Any:  # type: ignore[override]
        raise RuntimeError("working outside of a context")


class OwnDebugger(DebuggedApplication):
    pass


@pytest.mark.parametrize(
    ("application", "expected"),
    [
        (DebuggedApplication(plain), True),
        (OwnDebugger(plain), True),
        (ProxyFix(ProxyFix(DebuggedApplication(plain))), True),
        (flask(DebuggedApplication), True),
        (flask(ProxyFix, DebuggedApplication, ProxyFix), True),
        (flask(DebuggedApplication).__call__, True),
        (decorated(DebuggedApplication(plain)), True),
        (plain, False),
        (len, False),
        (flask(), False),
        (flask(ProxyFix), False),
        (flask().wsgi_app, False),
        (circle(), False),
        (LocalProxy(lambda: 1 / 0), False),
        (Proxy(), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_debugger_is_found_behind_what_wraps_it(application: Any, expected: bool) -> None:
    assert has_debugger(application) is expected


def test_looking_for_it_does_not_import_werkzeug() -> None:
    program = (
        "import sys; from cyhorn.wsgi.debugger import has_debugger; "
        "print(has_debugger(len), [name for name in sys.modules if 'werkzeug' in name])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "False []\n", done.stderr
