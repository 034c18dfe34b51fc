"""A program that brings its own server: its options become settings, nothing is read from files or flags.

    python serve.py --port 8000 --workers 2
"""

import argparse
import json
import os

from cyhorn.app.base import BaseApplication


class Inventory:
    """The WSGI application: things and how many there are of each."""

    def __init__(self, things):
        self.things = things

    def __call__(self, environ, start_response):
        name = environ["PATH_INFO"].strip("/")
        if name and name not in self.things:
            start_response("404 Not Found", [("Content-Type", "text/plain"), ("Content-Length", "0")])
            return []
        told = self.things if not name else self.things[name]
        body = json.dumps(told, sort_keys=True).encode()
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        return [body]


class InventoryServer(BaseApplication):
    """Serves an `Inventory`; `settings` are the server's, by their names in a config file."""

    def __init__(self, stock, settings):
        self.stock = stock
        self.settings = settings
        super().__init__()

    def load_config(self):
        for name, value in self.settings.items():
            self.cfg.set(name, value)

    def load(self):
        with open(self.stock) as file:
            things = json.load(file)
        print("The application is loaded", flush=True)
        return Inventory(things)


def when_ready(server):
    server.log.info("%d workers will tell what there is", server.num_workers)


def post_fork(server, worker):
    worker.log.info("Worker %s has come", worker.age)


def main():
    parser = argparse.ArgumentParser(description="Serve an inventory.")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--stock", default="stock.json", help="a JSON object: thing and number")
    options = parser.parse_args()
    settings = {
        "bind": f"127.0.0.1:{options.port}",
        "workers": options.workers,
        "accesslog": "-",
        "access_log_format": '"%(r)s" %(s)s %(b)s',
        "proc_name": f"inventory of {os.path.basename(options.stock)}",
        "when_ready": when_ready,
        "post_fork": post_fork,
    }
    InventoryServer(options.stock, settings).run()


if __name__ == "__main__":
    main()
