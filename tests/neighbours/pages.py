"""A site for a browser: a page with many parts, forms, streams; each page says in its title how it went."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any

from tests.neighbours import application
from tests.neighbours.application import answer

Environ = dict[str, Any]
Start = Callable[..., Callable[[bytes], object]]

PARTS = 30

#: A page is done when its title is no longer "loading".
FRAME = "<!doctype html><meta charset=utf-8><title>loading</title><link rel=icon href=data:,>"

PAGE = FRAME + """
<script>window.ran = 0;</script>
<body>LINKS
<script>
addEventListener("load", () => {
  const images = [...document.images].filter((image) => image.naturalWidth === 7).length;
  document.title = JSON.stringify({images, scripts: window.ran});
});
</script>
"""

FORM = FRAME + """
<form method="post" action="/upload" enctype="multipart/form-data">
<input name="note"><input type="file" name="file"><button>send</button></form>
<script>document.title = "form"</script>
"""

#: Every way in which a page talks to its server, one after another.
SCRIPT = FRAME + """
<script>
const hex = async (data) =>
  [...new Uint8Array(await crypto.subtle.digest("SHA-256", data))].map((b) => b.toString(16).padStart(2, "0")).join("");

async function events() {
  const source = new EventSource("/events?20");
  return await new Promise((resolve) => {
    let sum = 0;
    source.onmessage = (event) => { sum += Number(event.data); };
    source.onerror = () => { source.close(); resolve(sum); };
  });
}

async function stream() {
  const response = await fetch("/bytes/chunked?SIZE");
  const parts = [];
  for (const reader = response.body.getReader(); ;) {
    const {done, value} = await reader.read();
    if (done) break;
    parts.push(value);
  }
  return await hex(await new Blob(parts).arrayBuffer());
}

async function upload() {
  const data = await (await fetch("/bytes/file?SIZE")).arrayBuffer();
  const response = await fetch("/echo", {method: "POST", body: data});
  return (await response.json()).sha256;
}

async function abort() {
  const control = new AbortController();
  const response = await fetch("/endless", {signal: control.signal});
  const reader = response.body.getReader();
  await reader.read();
  control.abort();
  try { await reader.read(); return "went on"; } catch (error) { return error.name; }
}

(async () => {
  const told = {};
  for (const check of [events, stream, upload, abort]) {
    try { told[check.name] = await check(); } catch (error) { told[check.name] = String(error); }
  }
  told.empty = (await fetch("/empty")).status;
  told.head = (await fetch("/bytes/list?77", {method: "HEAD"})).headers.get("content-length");
  told.hints = await (await fetch("/hints")).text();
  document.title = JSON.stringify(told);
})();
</script>
"""

#: A page that reads without end; the browser is sent elsewhere meanwhile.
READER = FRAME + """
<script>
(async () => {
  const reader = (await fetch("/endless")).body.getReader();
  for (let read = 0; ; read += (await reader.read()).value.length)
    if (read > 1000000) document.title = "reading";
})();
</script>
"""

IMAGE = b'<svg xmlns="http://www.w3.org/2000/svg" width="7" height="7"/>'


def page(environ: Environ, start_response: Start) -> Iterable[bytes]:
    query = environ["QUERY_STRING"]
    links = "".join(f'<img src="/part/{number}.svg?{query}">' for number in range(PARTS // 2))
    links += "".join(f'<script src="/part/{number}.js?{query}" defer></script>' for number in range(PARTS // 2))
    return answer(environ, start_response, PAGE.replace("LINKS", links).encode(), "text/html")


def part(environ: Environ, start_response: Start) -> Iterable[bytes]:
    if environ["PATH_INFO"].endswith(".svg"):
        return answer(environ, start_response, IMAGE, "image/svg+xml")
    return answer(environ, start_response, b"window.ran += 1;", "text/javascript")


def form(environ: Environ, start_response: Start) -> Iterable[bytes]:
    return answer(environ, start_response, FORM.encode(), "text/html")


def script(environ: Environ, start_response: Start) -> Iterable[bytes]:
    text = SCRIPT.replace("SIZE", environ["QUERY_STRING"])
    return answer(environ, start_response, text.encode(), "text/html")


def reader(environ: Environ, start_response: Start) -> Iterable[bytes]:
    return answer(environ, start_response, READER.encode(), "text/html")


def upload(environ: Environ, start_response: Start) -> Iterable[bytes]:
    """What came in the form, as the title of a page."""
    head = f"Content-Type: {environ['CONTENT_TYPE']}\r\n\r\n".encode()
    message = BytesParser(policy=HTTP).parsebytes(head + environ["wsgi.input"].read())
    told = {}
    for field in message.iter_parts():
        content = field.get_payload(decode=True)
        assert isinstance(content, bytes)
        told[field.get_param("name", header="content-disposition")] = hashlib.sha256(content).hexdigest()
    body = f"<!doctype html><title>{json.dumps(told)}</title>".encode()
    return answer(environ, start_response, body, "text/html")


ROUTES = {"page": page, "part": part, "form": form, "script": script, "reader": reader, "upload": upload}


def app(environ: Environ, start_response: Start) -> Iterable[bytes]:
    route = ROUTES.get(environ["PATH_INFO"].split("/")[1])
    if route is None:
        return application.app(environ, start_response)
    application.counts["requests"] += 1
    return route(environ, start_response)
