"""Reports that may take too long."""

import time


def app(environ, start_response):
    if environ["PATH_INFO"] == "/yearly":
        time.sleep(30)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "6")])
    return [b"report"]


print("The application is loaded", flush=True)
