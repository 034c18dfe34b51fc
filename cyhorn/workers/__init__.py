"""The worker classes: how a short name in `worker_class` is spelled in full.

Strings, so that naming a class loads nothing: it is imported when it is used.
"""

from __future__ import annotations

SUPPORTED_WORKERS = {
    "sync": "cyhorn.workers.sync.SyncWorker",
    "gthread": "cyhorn.workers.gthread.ThreadWorker",
    "gevent": "cyhorn.workers.ggevent.GeventWorker",
    # Gunicorn has a worker around gevent's own server under these names; here they are the one above.
    "gevent_wsgi": "cyhorn.workers.ggevent.GeventWorker",
    "gevent_pywsgi": "cyhorn.workers.ggevent.GeventWorker",
}
