import logging


def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "8")])
    return [b"intranet"]


logging.getLogger("gunicorn.error").info("The application is loaded")
