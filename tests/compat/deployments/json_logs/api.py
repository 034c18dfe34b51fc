import logging

log = logging.getLogger("api")


def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/broken":
        raise ValueError(path)
    if path == "/odd":
        log.warning("an odd request: %s", environ["QUERY_STRING"])
        print("and something for wsgi.errors", file=environ["wsgi.errors"])
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", "2")])
    return [b"{}"]


log.info("The application is loaded")
