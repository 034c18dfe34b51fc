"""The requests that every measurement sends, as bytes.

One place, so that wrk, the micro-benchmarks, the instruction counts and the system
call gate speak of the same request. A ``{n}`` in a template is a number that differs
in every request.
"""

from __future__ import annotations

#: The least that HTTP/1.1 allows.
SMALL = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"

#: What a browser sends to open a page: 13 fields; path, cookie and id are numbered.
BROWSER_TEMPLATE = (
    "GET /shop/items/{n}?page=2&sort=name HTTP/1.1\r\n"
    "Host: www.example.com\r\n"
    "Connection: keep-alive\r\n"
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)"
    " Chrome/131.0.0.0 Safari/537.36\r\n"
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n"
    "Accept-Encoding: gzip, deflate, br, zstd\r\n"
    "Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\n"
    "Cookie: session=5f2b6c0e9a1d{n}; csrftoken=Zk3Jq8vXw2LrT9bYc5NfH7sPd4Mg6A1e;"
    " _ga=GA1.1.1290358467.1730000000; theme=dark; tz=Europe/Vienna\r\n"
    "Referer: https://www.example.com/shop/\r\n"
    "Sec-Fetch-Dest: document\r\n"
    "Sec-Fetch-Mode: navigate\r\n"
    "Sec-Fetch-Site: same-origin\r\n"
    "Upgrade-Insecure-Requests: 1\r\n"
    "X-Request-Id: 7d0c8a4e-{n}\r\n"
    "\r\n"
)


def browser(n: int) -> bytes:
    """The browser's head with the number `n`, padded to a constant length, at each varying place."""
    return BROWSER_TEMPLATE.format(n=f"{n:08d}").encode()


#: The same head every time.
BROWSER = browser(0)

PIPELINE_DEPTH = 16
PIPELINED = SMALL * PIPELINE_DEPTH

CLOSE = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"

POST_BODY = b"y" * 1024
POST = (
    b"POST /form HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/octet-stream\r\n"
    b"Content-Length: 1024\r\n\r\n" + POST_BODY
)


def get(path: str) -> bytes:
    """A small request for `path`."""
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()
