"""A service in a container: it says what it was asked, as a framework would see it."""

import json
import sys
import time

SEEN = (
    "CONTENT_LENGTH CONTENT_TYPE HTTP_ACCEPT HTTP_COOKIE HTTP_HOST HTTP_TRANSFER_ENCODING HTTP_X_EXTRA PATH_INFO "
    "QUERY_STRING RAW_URI REMOTE_ADDR REQUEST_METHOD SCRIPT_NAME SERVER_PROTOCOL "
    "wsgi.input_terminated wsgi.multiprocess wsgi.multithread wsgi.run_once wsgi.url_scheme wsgi.version"
).split()


def application(environ, start_response):
    return ROUTES.get(environ["PATH_INFO"], echo)(environ, start_response)


def echo(environ, start_response):
    told = {name: environ[name] for name in SEEN if name in environ}
    told["body"] = environ["wsgi.input"].read().decode("latin-1")
    fields = [("Content-Type", "application/json"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")]
    start_response("200 OK", fields)
    return iter([json.dumps(told, sort_keys=True).encode(), b"\n"])


def stream(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return (f"line {number}\n".encode() for number in range(5))


def nothing(environ, start_response):
    start_response("204 No Content", [])
    return []


def fails(environ, start_response):
    raise RuntimeError("the database is away")


def fails_late(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"begun"
    raise RuntimeError("half way")


def writes(environ, start_response):
    write = start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "9")])
    write(b"written, ")
    return [b"", b"and more than announced"[:0]]


def slow(environ, start_response):
    time.sleep(0.5)
    return nothing(environ, start_response)


ROUTES = {
    "/stream": stream,
    "/nothing": nothing,
    "/fails": fails,
    "/fails-late": fails_late,
    "/writes": writes,
    "/slow": slow,
}

print("The application is loaded", file=sys.stderr, flush=True)
