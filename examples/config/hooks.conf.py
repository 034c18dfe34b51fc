"""Server hooks: cyhorn -c hooks.conf.py app:app

A hook that is not set costs nothing; pre_request and post_request run for every request.
"""

import time

workers = 2
preload_app = True


def when_ready(server):
    server.log.info("ready with %d workers", server.num_workers)


def post_fork(server, worker):
    # Connections made before the fork must not be shared: open them here.
    server.log.info("worker %s forked", worker.pid)


def pre_request(worker, req):
    req.started = time.monotonic()


def post_request(worker, req, environ, resp):
    worker.log.debug("%s took %.3f s", req.path, time.monotonic() - req.started)


def worker_abort(worker):
    worker.log.warning("worker %s timed out", worker.pid)


def worker_exit(server, worker):
    server.log.info("worker %s left", worker.pid)
