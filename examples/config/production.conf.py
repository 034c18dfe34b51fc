"""A service behind nginx or HAProxy: cyhorn -c production.conf.py app:app

Every name is a setting; docs/settings.md says what each does.
"""

import multiprocessing

wsgi_app = "app:app"
bind = "unix:/run/app/cyhorn.sock"
umask = 0o007
workers = multiprocessing.cpu_count()

# A worker that does not report for so long is replaced; a stop or reload waits so long.
timeout = 60
graceful_timeout = 30

# Recycle workers, each at its own time.
max_requests = 20_000
max_requests_jitter = 2_000

# What a client may send, in bytes. A body is complete before the application is called.
limit_request_body = 64 << 20
body_buffer_size = 1 << 20

# Only the proxy's word about scheme and address is taken. Over a unix socket the peer
# has no address, so it is trusted as a whole.
forwarded_allow_ips = "127.0.0.1,::1"

accesslog = "-"
errorlog = "-"
loglevel = "info"
