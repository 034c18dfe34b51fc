"""Metrics go to the agent on this host."""

import os

bind = "127.0.0.1:0"
workers = 2
statsd_host = "127.0.0.1:" + os.environ["STATSD_PORT"]
statsd_prefix = "shop"
dogstatsd_tags = "env:production,region:eu"
accesslog = "-"
access_log_format = "%(m)s %(U)s %(s)s"


def post_request(worker, req, environ, resp):
    metric = {"metric": "shop.bytes", "value": resp.sent, "mtype": "histogram"}
    worker.log.info("%s %s: %s", req.method, req.path, resp.status_code, extra=metric)
    if resp.status_code == 404:
        worker.log.warning("There is no %s", req.uri)
