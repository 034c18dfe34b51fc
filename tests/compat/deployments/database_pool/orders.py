"""An application with a pool of one connection to its database."""

import os
import sqlite3


class Pool:
    def __init__(self, path):
        self.path = path
        self.connection = None
        self.owner = None

    def open(self):
        self.connection = sqlite3.connect(self.path)
        self.owner = os.getpid()

    def close(self):
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def execute(self, statement, *values):
        if self.owner != os.getpid():
            raise RuntimeError("this connection belongs to another process")
        with self.connection:
            return self.connection.execute(statement, values).fetchall()


pool = Pool("orders.db")
pool.open()
pool.execute("create table if not exists orders (what text)")


def app(environ, start_response):
    if environ["REQUEST_METHOD"] == "POST":
        what = environ["wsgi.input"].read().decode()
        pool.execute("insert into orders values (?)", what)
        start_response("201 Created", [("Content-Length", "0")])
        return []
    body = "\n".join(what for (what,) in pool.execute("select what from orders")).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


print("The orders are loaded", flush=True)
