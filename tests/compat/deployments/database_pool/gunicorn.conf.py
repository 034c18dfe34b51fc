"""The application is loaded once, before the fork; connections may not be shared by processes."""

import orders

bind = "127.0.0.1:0"
workers = 2
max_requests = 4
accesslog = "-"
access_log_format = "%(r)s %(s)s"


def pre_fork(server, worker):
    orders.pool.close()


def post_fork(server, worker):
    orders.pool.open()
    server.log.info("Worker %s has its own connection", worker.age)


def worker_exit(server, worker):
    orders.pool.close()
    worker.log.info("Worker %s has closed its connection", worker.age)
