"""The shop runs behind nginx, which finds it by this socket."""

bind = "unix:shop.sock"
workers = 2
timeout = 60
graceful_timeout = 10
max_requests = 1000
max_requests_jitter = 50

proc_name = "shop"
pidfile = "shop.pid"
accesslog = "access.log"
errorlog = "error.log"
capture_output = True
access_log_format = '%(h)s %(l)s %(u)s "%(r)s" %(s)s %(b)s "%(f)s" "%({x-forwarded-for}i)s" %({content-type}o)s'

raw_env = ["DJANGO_SETTINGS_MODULE=shop.settings", "SHOP_CURRENCY=EUR"]


def when_ready(server):
    server.log.info("The shop is open: %d workers at %s", server.num_workers, server.address)


def on_exit(server):
    server.log.info("The shop is closed")
