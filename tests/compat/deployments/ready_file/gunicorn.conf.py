"""Started by an init script, which waits for the file that says that the service is up."""

import os

bind = "unix:intranet.sock"
workers = 2
pidfile = "intranet.pid"
accesslog = "requests.log"
access_log_format = "%(r)s %(s)s %(p)s"

READY = "ready"


def when_ready(server):
    with open(READY, "w") as file:
        file.write(f"{server.pid} {server.num_workers} {len(server.LISTENERS)} {len(server.WORKERS)}\n")


def on_exit(server):
    if os.path.exists(READY):
        os.unlink(READY)
