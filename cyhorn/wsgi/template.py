"""The environ template: every key that does not depend on the request (PEP 3333).

One per listener, made at worker boot and copied for each request.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any, NamedTuple

from cyhorn import SERVER_SOFTWARE
from cyhorn.wsgi.file_wrapper import FileWrapper
from cyhorn.wsgi.input import EMPTY

if TYPE_CHECKING:
    import ssl

    from cyhorn.net.tls import TLSChannel


class ListenerInfo(NamedTuple):
    """A listening socket as the loop sees it; `ssl_context` is None for plain text."""

    sock: socket.socket
    ssl_context: ssl.SSLContext | None = None

    @property
    def is_unix(self) -> bool:
        """Whether peers have no address but are of this machine."""
        return self.sock.family == socket.AF_UNIX

    def tls_channel(self, suppress_ragged_eofs: bool) -> TLSChannel:
        """The TLS side of a new connection. Only for a listener that has an `ssl_context`."""
        # A server of plain text does not load OpenSSL.
        from cyhorn.net.tls import TLSChannel

        assert self.ssl_context is not None
        return TLSChannel(self.ssl_context, suppress_ragged_eofs=suppress_ragged_eofs)


def environ_template(
    listener: ListenerInfo, *, errors: Any, multithread: bool, multiprocess: bool
) -> dict[str, Any]:
    """The template for `listener`. `errors` is wsgi.errors.

    For a unix socket SERVER_NAME and SERVER_PORT are empty; the environ takes them from
    Host. Keys that every request sets stand here too, so that a copy needs no resize.
    """
    template: dict[str, Any] = {
        "REQUEST_METHOD": "",
        "SCRIPT_NAME": "",
        "PATH_INFO": "",
        "QUERY_STRING": "",
        "RAW_URI": "",
        "SERVER_PROTOCOL": "",
        "SERVER_NAME": "",
        "SERVER_PORT": "",
        "SERVER_SOFTWARE": SERVER_SOFTWARE,
        "REMOTE_ADDR": "",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "https" if listener.ssl_context is not None else "http",
        "wsgi.input": EMPTY,
        "wsgi.input_terminated": True,
        "wsgi.errors": errors,
        "wsgi.multithread": multithread,
        "wsgi.multiprocess": multiprocess,
        "wsgi.run_once": False,
        "wsgi.file_wrapper": FileWrapper,
        "wsgi.early_hints": None,
        "gunicorn.socket": None,
    }
    if not listener.is_unix:
        name, port = listener.sock.getsockname()[:2]
        template |= {"SERVER_NAME": name, "SERVER_PORT": str(port), "REMOTE_PORT": ""}
    return template


def process_script_name() -> str:
    """SCRIPT_NAME from the process environment, where the operator set a mount point."""
    return os.environ.get("SCRIPT_NAME", "")
