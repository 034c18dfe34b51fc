"""What is done to each deployment: the same requests and signals, whatever serves it."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.compat.deployment import Deployment
from tests.compat.servers import ROOT
from tests.neighbours.harness import Program, listening, self_signed

FORM = "Content-Type: application/x-www-form-urlencoded"
MULTIPART = (
    b'--mark\r\nContent-Disposition: form-data; name="file"; filename="torn.bin"\r\n'
    b"Content-Type: application/octet-stream\r\n\r\n" + b"torn " * 40000 + b"\r\n--mark--\r\n"
)


@contextmanager
def behind_nginx(site: Deployment) -> Iterator[None]:
    """With nginx, configured by the deployment's own file, in front of `site`."""
    folder = site.folder.with_name(f"{site.folder.name}.nginx")
    folder.mkdir()
    text = (site.folder / "nginx.conf").read_text().replace("SOCKET", str(site.folder / "shop.sock"))

    def start(ports: list[int]) -> Program:
        (folder / "nginx.conf").write_text(text.replace("PORT", str(ports[0])))
        # As root it would otherwise serve as a user who may not enter the tests' directory.
        user = ["-g", "user root;"] if os.geteuid() == 0 else []
        return Program(["nginx", "-p", f"{folder}/", "-c", "nginx.conf", *user], folder)

    with listening(start) as (_, ports):
        site.front = ("127.0.0.1", ports[0])
        yield
        site.front = None


def django_shop(site: Deployment) -> None:
    site.start(workers=2)
    with behind_nginx(site):
        site.get("/")
        answer = site.get("/cart/", FORM, method="POST", body=b"product=tea")
        cookie = re.search(r"sessionid=[^;]+", "\n".join(answer.fields))
        assert cookie is not None
        site.get("/cart/", f"Cookie: {cookie[0]}")
        site.get("/cart/", FORM, f"Cookie: {cookie[0]}", method="POST", body=b"product=K%C3%A4se")
        site.get("/prices.csv")
        site.get("/leaflet.pdf")
        site.get("/leaflet.pdf", method="HEAD")
        site.get("/complaint/", "Content-Type: multipart/form-data; boundary=mark", method="POST", body=MULTIPART)
        site.get("/complaint/")
        site.get("/nowhere/")
        site.get("/broken/")
        site.signal("HUP", workers=2, replaced=2)
        site.get("/")
        site.rotate("access.log", "error.log")
        site.get("/prices.csv", "User-Agent: after the rotation")
    site.get("/")  # straight from the unix socket
    site.signal_worker("KILL", workers=2)
    site.signal("TTIN", workers=3)
    site.signal("WINCH", workers=3)
    site.stop("TERM")


def container(site: Deployment) -> None:
    site.start(workers=3)
    site.get("/a%20b/?q=1&r=%20", "Accept: */*", "X-Extra: one", "X-Extra: two", "Cookie: a=b")
    site.get("/form", "Content-Type: text/plain", method="POST", body=b"some text")
    chunks = b"4\r\nsome\r\n6;x=y\r\n chunk\r\n0\r\nX-Sum: 9\r\n\r\n"
    head = b"POST /chunks HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    site.send(head + chunks)
    site.get("/stream")
    site.get("/stream", method="HEAD")
    site.get("/nothing")
    site.get("/writes")
    site.get("/fails")
    site.get("/fails-late")
    site.get("/mounted/secure", "X-Forwarded-Proto: https", "X-Forwarded-For: 192.0.2.1", "Script_Name: /mounted")
    site.send(b"GET /old HTTP/1.0\r\n\r\n")
    site.send(b"GET /stream HTTP/1.0\r\n\r\n")
    site.get("/expects", "Expect: 100-continue", method="PUT", body=b"sent at once")
    site.send(b"GET /kept HTTP/1.1\r\nHost: a\r\n\r\nGET /second HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    site.send(b"get / HTTP/1.1\r\nHost: a\r\n\r\n", logged=0)
    site.send(b"GET / HTTP/1.1\r\nHost: a\r\nBad Name: x\r\n\r\n", logged=0)
    site.send(b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", logged=0)
    site.signal("TTOU", workers=2, replaced=1)
    site.signal("TTOU", workers=1, replaced=1)
    site.signal("TTOU", workers=1)
    site.signal("TTIN", workers=2)
    site.signal("HUP", workers=3, replaced=2)
    site.get("/again")
    site.stop("INT")


def statsd_user(site: Deployment) -> None:
    site.start(workers=2)
    site.get("/")
    site.get("/missing?a=b")
    site.signal("TTIN", workers=3)
    site.signal("TTOU", workers=2, replaced=1)
    site.stop("QUIT")
    site.note("metrics", site.metrics())


def health_filter(site: Deployment) -> None:
    site.start(workers=1)
    site.get("/page", "X-Tenant: me")
    site.get("/health", logged=0)
    site.get("/ping", logged=0)
    site.get("/other")
    site.signal("HUP", workers=1, replaced=1)
    site.get("/health", logged=0)
    site.get("/page")
    site.signal("USR1", workers=1)
    site.stop("TERM")


def database_pool(site: Deployment) -> None:
    site.start(workers=2)
    for what in (b"tea", b"bread"):
        site.get("/", method="POST", body=what)
    site.get("/")
    site.signal("HUP", workers=2, replaced=2)
    site.get("/")
    site.signal_worker("KILL", workers=2)
    site.get("/")
    site.stop("TERM")


def shm_heartbeat(site: Deployment) -> None:
    site.start(workers=1, pidfile="app.pid")
    site.get("/monthly")
    (slow,) = site.workers()
    site.get("/yearly", logged=0)
    site.settle(workers=1, gone=[slow])
    site.get("/monthly")
    site.signal_worker("TERM", workers=1)
    site.signal_worker("SEGV", workers=1)
    site.get("/monthly")
    site.stop("QUIT")


def tls_site(site: Deployment) -> None:
    site.start(workers=1)
    site.trust = ssl.create_default_context(cafile=str(site.folder / "server.crt"))
    site.get("/")
    site.get("/upload", method="POST", body=b"x" * 100000)
    site.get("/", "X-Forwarded-Proto: http")
    site.signal("HUP", workers=1, replaced=1)
    site.get("/")
    site.trust.maximum_version = ssl.TLSVersion.TLSv1_2
    try:
        site.connect().close()
    except ssl.SSLError as error:
        site.note("TLS 1.2", error.reason)
    site.stop("TERM")


def json_logs(site: Deployment) -> None:
    site.start(workers=2)
    site.get("/", "X-Request-Id: 17", 'User-Agent: "quoted"')
    site.get("/odd?a=b")
    site.get("/broken", logged=0)
    site.signal("HUP", workers=2, replaced=2)
    site.get("/")
    site.signal("USR1", workers=2)
    site.signal_worker("KILL", workers=2)
    site.stop("INT")


def ready_file(site: Deployment) -> None:
    site.start(workers=2, pidfile="intranet.pid")
    site.note("the ready file", (site.folder / "ready").read_text())
    site.get("/")
    site.signal("WINCH", workers=0, replaced=2)
    site.signal("HUP", workers=2)
    site.get("/")
    site.upgrade("intranet.pid", workers=2)
    site.get("/")
    site.stop("TERM")


def prometheus(site: Deployment) -> None:
    site.start(workers=2)
    for path in ("/a", "/b", "/a"):
        site.get(path)
    site.get("/metrics")
    site.signal_worker("KILL", workers=2)
    site.signal("TTIN", workers=3)
    site.get("/metrics")
    site.signal("TTOU", workers=2, replaced=1)
    site.signal("HUP", workers=2, replaced=2)
    site.get("/a")
    site.get("/metrics")
    site.stop("TERM")


def every_hook(site: Deployment) -> None:
    site.start(workers=1, pidfile="watched.pid")
    site.get("/a/b%20c?x=y", "X-One: 1", "x-one: 2", "User-Agent: u", logged=0)
    site.get("/form", method="POST", body=b"posted", logged=0)
    site.signal("TTIN", workers=2)
    site.signal("TTOU", workers=1, replaced=1)
    site.signal("HUP", workers=1, replaced=1)
    site.get("/again", logged=0)
    for name in ("KILL", "ABRT", "INT"):
        site.signal_worker(name, workers=1)
    site.upgrade("watched.pid", workers=1)
    site.get("/upgraded", logged=0)
    site.stop("TERM")


def embedded(site: Deployment) -> None:
    site.start(workers=2)
    site.get("/")
    site.get("/rope")
    site.get("/no/such/thing")
    site.signal("TTIN", workers=3)
    site.signal_worker("KILL", workers=3)
    (site.folder / "stock.json").write_text('{"rope": 11}')
    site.signal("HUP", workers=2, replaced=3)
    site.get("/")
    site.stop("TERM")


def example(folder: Path, server: str) -> None:
    """The example of embedding, with the name of `server` in its import."""
    for file in (ROOT / "examples" / "embedding").iterdir():
        (folder / file.name).write_text(file.read_text().replace("cyhorn.app", f"{server}.app"))


#: What is to be there before the start beside what is under version control, for the server of this name.
PREPARE: dict[str, Callable[[Path, str], object]] = {
    "tls_site": lambda folder, server: self_signed(folder),
    "prometheus": lambda folder, server: (folder / "metrics").mkdir(),
    "embedded": example,
}
#: Those that import gunicorn, or log by its loggers' names.
IMPORTS_GUNICORN = {"health_filter", "ready_file"}

SCRIPTS: dict[str, Callable[[Deployment], None]] = {
    script.__name__: script
    for script in (
        django_shop,
        container,
        statsd_user,
        health_filter,
        database_pool,
        shm_heartbeat,
        tls_site,
        json_logs,
        ready_file,
        prometheus,
        every_hook,
        embedded,
    )
}
