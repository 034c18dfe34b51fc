"""HTTP clients of the Python world: pools, streamed uploads and downloads, many at once."""

from __future__ import annotations

import asyncio
import hashlib
import io
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tests.integration.harness import PATIENCE
from tests.neighbours.application import ETAG, content
from tests.neighbours.harness import Backend, http_client, sha256, upload_is_whole

WAYS = ("list", "length", "chunked", "write", "file")
SIZE = 3_000_000
STEP = 50_000


@pytest.fixture
def requests() -> Any:
    return pytest.importorskip("requests", reason="requests is not installed")


@pytest.fixture
def httpx() -> Any:
    return pytest.importorskip("httpx", reason="httpx is not installed")


@pytest.fixture
def aiohttp() -> Any:
    return pytest.importorskip("aiohttp", reason="aiohttp is not installed")


def pieces(size: int = SIZE) -> Iterator[bytes]:
    for start in range(0, size, STEP):
        yield content(size)[start : start + STEP]


async def pieces_from_a_coroutine() -> AsyncIterator[bytes]:
    for piece in pieces():
        yield piece


def test_http_client_keeps_one_connection_through_everything(tcp: Backend) -> None:
    seen = []
    with http_client(tcp.address[1]) as client:
        for how in WAYS:
            client.request("GET", f"/bytes/{how}?{SIZE}")
            response = client.getresponse()
            assert sha256(response.read()) == sha256(content(SIZE))
            seen.append(response.headers["X-Connection"])
        for body in (content(SIZE), iter(list(pieces())), b"", None):
            client.request("POST", "/echo", body, encode_chunked=not isinstance(body, bytes))
            response = client.getresponse()
            assert response.status == 200 and response.read()
            seen.append(response.headers["X-Connection"])
        client.request("HEAD", "/bytes/list?77")
        response = client.getresponse()
        assert (response.headers["Content-Length"], response.read()) == ("77", b"")
        client.request("GET", "/entity", headers={"If-None-Match": ETAG})
        response = client.getresponse()
        assert (response.status, response.read()) == (304, b"")
        seen.append(response.headers["X-Connection"])
    assert len(set(seen)) == 1


def test_requests_takes_its_connections_from_the_pool(tcp: Backend, requests: Any) -> None:
    seen = []
    with requests.Session() as session:
        for how in WAYS:
            response = session.get(f"{tcp.url}/bytes/{how}?{SIZE}", timeout=PATIENCE)
            assert (response.status_code, sha256(response.content)) == (200, sha256(content(SIZE)))
            seen.append(response.headers["X-Connection"])
        response = session.post(f"{tcp.url}/echo", data=content(SIZE), timeout=PATIENCE)
        assert upload_is_whole(response.json(), SIZE)
        seen.append(response.headers["X-Connection"])
        response = session.get(f"{tcp.url}/empty", timeout=PATIENCE)
        assert (response.status_code, response.content) == (204, b"")
        seen.append(response.headers["X-Connection"])
    assert len(set(seen)) == 1


def test_requests_streams_up_and_down(tcp: Backend, requests: Any) -> None:
    with requests.Session() as session:
        response = session.post(f"{tcp.url}/echo", data=pieces(), timeout=PATIENCE)
        assert upload_is_whole(response.json(), SIZE)
        assert response.json()["headers"]["TRANSFER_ENCODING"] == "chunked"
        for how in WAYS:
            seen = hashlib.sha256()
            with session.get(f"{tcp.url}/bytes/{how}?{SIZE}", stream=True, timeout=PATIENCE) as response:
                for piece in response.iter_content(10_000):
                    seen.update(piece)
            assert seen.hexdigest() == sha256(content(SIZE))


def test_requests_leaves_a_download_and_goes_on(tcp: Backend, requests: Any) -> None:
    before = tcp.state()
    with requests.Session() as session:
        with session.get(f"{tcp.url}/endless", stream=True, timeout=PATIENCE) as response:
            assert len(next(response.iter_content(100_000))) > 0
        assert session.get(tcp.url, timeout=PATIENCE).text == "here"
    after = tcp.state()
    assert (after["begun"], after["closed"]) == (before["begun"] + 1, before["closed"] + 1)


def test_urllib3_shares_few_connections_among_many_threads(tcp: Backend, requests: Any) -> None:
    import urllib3

    seen, failures = set(), []
    host, port = tcp.address
    with urllib3.HTTPConnectionPool(host, port, maxsize=3, block=True, timeout=PATIENCE) as pool:

        def ask(first: int) -> None:
            for number in range(first, first + 20):
                try:
                    body = content(number * 100)
                    response = pool.request("POST", f"/echo?{number}", body=body, retries=False)
                    told = response.json()
                    assert (told["target"], told["size"]) == (f"/echo?{number}", len(body))
                    seen.add(response.headers["X-Connection"])
                except Exception as error:
                    failures.append(repr(error))

        threads = [threading.Thread(target=ask, args=(first,)) for first in range(0, 200, 20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []
    assert len(seen) <= 3


def test_httpx_keeps_its_connection_and_streams(tcp: Backend, httpx: Any) -> None:
    seen = []
    with httpx.Client(base_url=tcp.url, timeout=PATIENCE, trust_env=False) as client:
        for how in WAYS:
            with client.stream("GET", f"/bytes/{how}?{SIZE}") as response:
                assert sha256(b"".join(response.iter_bytes())) == sha256(content(SIZE))
                seen.append(response.headers["X-Connection"])
        for body in (content(SIZE), pieces()):
            response = client.post("/echo", content=body)
            assert upload_is_whole(response.json(), SIZE)
            seen.append(response.headers["X-Connection"])
        assert client.head("/bytes/list?77").headers["Content-Length"] == "77"
        assert client.get("/entity", headers={"If-None-Match": ETAG}).status_code == 304
        assert client.get("/hints").text == "after the hints"
        assert client.get("/empty").status_code == 204
        seen.append(client.get("/").headers["X-Connection"])
    assert len(set(seen)) == 1


def test_aiohttp_sends_many_requests_at_once(tcp: Backend, aiohttp: Any) -> None:
    async def ask(session: Any, number: int) -> str:
        url = f"{tcp.url}/echo?{number}"
        async with session.post(url, data=content(number * 1000)) as response:
            told = await response.json()
            assert (told["target"], told["size"]) == (f"/echo?{number}", number * 1000)
            name: str = response.headers["X-Connection"]
            return name

    async def main() -> list[str]:
        connector = aiohttp.TCPConnector(limit=8)
        timeout = aiohttp.ClientTimeout(total=PATIENCE)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            return await asyncio.gather(*(ask(session, number) for number in range(200)))

    assert len(set(asyncio.run(main()))) <= 8


def test_aiohttp_streams_up_and_down_and_leaves(tcp: Backend, aiohttp: Any) -> None:
    async def main() -> None:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE)) as session:
            async with session.post(f"{tcp.url}/echo", data=pieces_from_a_coroutine()) as response:
                told = await response.json()
                assert upload_is_whole(told, SIZE)
                assert told["headers"]["TRANSFER_ENCODING"] == "chunked"
            file = io.BytesIO(content(SIZE))
            async with session.post(f"{tcp.url}/echo", data=file, expect100=True) as response:
                assert upload_is_whole(await response.json(), SIZE)
            for how in WAYS:
                seen = hashlib.sha256()
                async with session.get(f"{tcp.url}/bytes/{how}?{SIZE}") as response:
                    async for piece in response.content.iter_any():
                        seen.update(piece)
                assert seen.hexdigest() == sha256(content(SIZE))
            async with session.get(f"{tcp.url}/hints") as response:
                assert await response.text() == "after the hints"
            async with session.get(f"{tcp.url}/endless") as response:
                assert await response.content.readexactly(100_000)
            async with session.get(tcp.url) as response:
                assert await response.text() == "here"

    before = tcp.state()
    asyncio.run(main())
    after = tcp.state()
    assert after["begun"] - before["begun"] == after["closed"] - before["closed"] == len(WAYS) - 1
