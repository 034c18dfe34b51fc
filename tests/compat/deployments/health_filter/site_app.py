def app(environ, start_response):
    body = environ["PATH_INFO"].encode()
    start_response("200 OK", [("Content-Length", str(len(body))), ("X-Cache", "MISS")])
    return [body]


print("The application is loaded", flush=True)
