def app(environ, start_response):
    size = len(environ["wsgi.input"].read())
    body = f"{environ['wsgi.url_scheme']} {size} {environ.get('HTTPS', '-')}".encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Strict-Transport-Security", "max-age=60")])
    return [body, b"!" * 20000]


print("The application is loaded", flush=True)
