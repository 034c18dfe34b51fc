def app(environ, start_response):
    body = environ["wsgi.input"].read() or b"nothing"
    start_response("201 Created", [("Content-Type", "text/plain"), ("Content-Length", str(len(body))), ("X-Own", "1")])
    return [body]
