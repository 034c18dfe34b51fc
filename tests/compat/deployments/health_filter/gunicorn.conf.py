"""The load balancer asks for /health every second: that is not worth a line."""

import logging

from gunicorn.glogging import Logger


class NoHealth(logging.Filter):
    def filter(self, record):
        return "GET /health" not in record.getMessage()


class QuietLogger(Logger):
    """Without health checks in the access log, and with the service's name in the error log."""

    error_fmt = "%(asctime)s [%(process)d] [%(levelname)s] site: %(message)s"

    def setup(self, cfg):
        super().setup(cfg)
        self.access_log.addFilter(NoHealth())

    def access(self, resp, req, environ, request_time):
        if environ["PATH_INFO"] == "/ping":
            return
        super().access(resp, req, environ, request_time)

    def atoms(self, resp, req, environ, request_time):
        atoms = super().atoms(resp, req, environ, request_time)
        atoms["tenant"] = environ.get("HTTP_X_TENANT", "nobody")
        return atoms


bind = "127.0.0.1:0"
workers = 1
logger_class = QuietLogger
accesslog = "-"
access_log_format = '%(tenant)s %(h)s "%(r)s" %(s)s %(b)s %({x-cache}o)s %({wsgi.url_scheme}e)s'
