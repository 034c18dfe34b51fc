"""The worker classes: how a short name in `worker_class` is spelled in full.

Strings, so that naming a class loads nothing: it is imported when it is used.
"""

from __future__ import annotations

SUPPORTED_WORKERS = {
    "sync": "cyhorn.workers.sync.SyncWorker",
    "gthread": "cyhorn.workers.gthread.ThreadWorker",
}
