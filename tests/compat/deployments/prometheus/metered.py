from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest, multiprocess

REQUESTS = Counter("requests", "Requests by path", ["path"])
ALIVE = Gauge("alive", "Workers that live", multiprocess_mode="livesum")


def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/metrics":
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)
        body = b"".join(sorted(generate_latest(registry).splitlines(keepends=True)))
    else:
        REQUESTS.labels(path).inc()
        body = b"counted"
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


ALIVE.set(1)
REQUESTS.labels("/").inc(0)
print("The application is loaded", flush=True)
