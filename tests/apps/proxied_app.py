"""A Werkzeug application behind one proxy, which says who it thinks asks, and by which address."""

from __future__ import annotations

import json

from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.wrappers import Request, Response


@Request.application
def seen(request: Request) -> Response:
    told = {
        "remote": request.remote_addr,
        "scheme": request.scheme,
        "host": request.host,
        "root": request.root_path,
        "path": request.path,
        "url": request.url,
        "script_name": request.environ["SCRIPT_NAME"],
    }
    return Response(json.dumps(told), mimetype="application/json")


app = ProxyFix(seen, x_for=1, x_proto=1, x_host=1, x_port=1, x_prefix=1)
