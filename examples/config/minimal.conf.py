"""A few workers behind a proxy on the same machine: cyhorn -c minimal.conf.py app:app"""

bind = "127.0.0.1:8000"
workers = 3
accesslog = "-"
