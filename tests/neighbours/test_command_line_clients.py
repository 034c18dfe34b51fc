"""curl and wrk, as people use them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.integration.harness import PATIENCE
from tests.neighbours.application import content
from tests.neighbours.harness import Backend, sha256, upload_is_whole

SIZE = 5_000_000

with_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
with_wrk = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")


def curl(*arguments: str, status: int = 0) -> subprocess.CompletedProcess[bytes]:
    """Run curl; `status` is what it has to exit with."""
    command = ["curl", "--silent", "--show-error", "--noproxy", "*", "--max-time", str(PATIENCE), *arguments]
    done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == status, done.stderr.decode()
    return done


@pytest.fixture
def sent(tmp_path: Path) -> Path:
    """A file of SIZE bytes."""
    path = tmp_path / "sent.bin"
    path.write_bytes(content(SIZE))
    return path


@with_curl
def test_curl_fetches_several_pages_by_one_connection(tcp: Backend) -> None:
    targets = ["/", "/bytes/chunked?100000", "/empty", "/bytes/file?100000", "/entity", "/hints", "/missing"]
    done = curl(
        "--write-out", "\n%{http_code} %{num_connects}\n", *(f"{tcp.url}{target}" for target in targets)
    )
    told = re.findall(rb"^(\d{3}) (\d)$", done.stdout, re.MULTILINE)
    assert told == list(
        zip([b"200", b"200", b"204", b"200", b"200", b"200", b"404"], [b"1", *[b"0"] * 6], strict=True)
    )


@with_curl
@pytest.mark.parametrize("version", ["--http1.1", "--http1.0"])
def test_curl_uploads_after_it_is_told_to_continue(tcp: Backend, sent: Path, version: str) -> None:
    patience = "15" if version == "--http1.1" else "0.1"  # 1.0 is not told, and does not wait for it
    done = curl(
        *(version, "--verbose", "--header", "Expect: 100-continue", "--expect100-timeout", patience),
        *("--data-binary", f"@{sent}", f"{tcp.url}/echo"),
    )
    assert upload_is_whole(json.loads(done.stdout), SIZE)
    told = done.stderr.count(b"< HTTP/1.1 100 Continue")
    assert told == (1 if version == "--http1.1" else 0)


@with_curl
def test_curl_uploads_in_chunks_from_its_input(tcp: Backend, sent: Path) -> None:
    command = ["curl", "--silent", "--show-error", "--noproxy", "*", "-T", "-", f"{tcp.url}/echo"]
    with sent.open("rb") as source:
        done = subprocess.run(command, stdin=source, capture_output=True, check=True)
    told = json.loads(done.stdout)
    assert upload_is_whole(told, SIZE)
    assert (told["method"], told["headers"]["TRANSFER_ENCODING"]) == ("PUT", "chunked")


@with_curl
def test_curl_asks_for_the_head_alone(tcp: Backend) -> None:
    pages = [f"{tcp.url}/bytes/{how}?100000" for how in ("list", "chunked", "file", "list")]
    done = curl("--head", "--write-out", "%{num_connects}\n", *pages)
    assert re.findall(rb"^\d$", done.stdout, re.MULTILINE) == [b"1", b"0", b"0", b"0"]
    assert done.stdout.count(b"HTTP/1.1 200 OK\r\n") == 4


@with_curl
@pytest.mark.parametrize("how", ["list", "length", "chunked", "write", "file"])
def test_curl_of_version_1_0_gets_the_whole_body(tcp: Backend, how: str) -> None:
    done = curl("--http1.0", "--include", f"{tcp.url}/bytes/{how}?{SIZE}")
    head, _, body = done.stdout.partition(b"\r\n\r\n")
    assert sha256(body) == sha256(content(SIZE))
    assert b"chunked" not in head and b"\r\nConnection: close" in head


@with_curl
def test_curl_of_version_1_0_keeps_its_connection_where_it_asks_for_it(tcp: Backend) -> None:
    page = f"{tcp.url}/bytes/list?1000"
    wish = ("--http1.0", "--header", "Connection: keep-alive")
    away = ("--output", "/dev/null")
    done = curl(*wish, "--write-out", "%{num_connects}\n", *away, page, *away, page)
    assert re.findall(rb"^\d$", done.stdout, re.MULTILINE) == [b"1", b"0"]


@with_curl
def test_curl_downloads_ranges_of_a_file_at_once(tcp: Backend, tmp_path: Path) -> None:
    done = curl("--range", "1000000-1999999", "--include", f"{tcp.url}/bytes/file?{SIZE}")
    head, _, body = done.stdout.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 206 ") and body == content(SIZE)[1_000_000:2_000_000]
    half = tmp_path / "half.bin"
    half.write_bytes(content(2_000_000))
    curl("--continue-at", "-", "--output", str(half), f"{tcp.url}/bytes/file?{SIZE}")
    assert sha256(half.read_bytes()) == sha256(content(SIZE))


@with_curl
@pytest.mark.parametrize("how", ["chunked", "file"])
def test_curl_reads_slowly_and_nobody_waits_for_it(tcp: Backend, how: str, tmp_path: Path) -> None:
    # A little over a second for the slow one, in which others are served.
    page = f"{tcp.url}/bytes/{how}?{SIZE}"
    slow = subprocess.Popen(
        ["curl", "--silent", "--noproxy", "*", "--limit-rate", "4M", "--output", str(tmp_path / "got"), page]
    )
    try:
        served = 0
        while slow.poll() is None:
            assert tcp.get("/") == "here"
            served += 1
    finally:
        slow.kill()
        slow.wait()
    assert slow.returncode == 0 and served > 20
    assert sha256((tmp_path / "got").read_bytes()) == sha256(content(SIZE))


@with_curl
def test_curl_leaves_when_it_has_enough(tcp: Backend) -> None:
    before = tcp.state()
    curl("--max-time", "0.2", "--output", "/dev/null", f"{tcp.url}/endless", status=28)
    assert tcp.get("/") == "here"
    after = tcp.state()
    assert (after["begun"], after["closed"]) == (before["begun"] + 1, before["closed"] + 1)


#: Each request asks for another page than the one before.
ROUND = """
local pages = {"/", "/bytes/list?30000", "/bytes/chunked?30000", "/bytes/file?30000", "/entity", "/empty"}
local number = 0
request = function()
   number = number + 1
   return wrk.format("GET", pages[number % #pages + 1])
end
"""


@with_wrk
def test_wrk_meets_no_error(tcp: Backend, tmp_path: Path) -> None:
    (tmp_path / "round.lua").write_text(ROUND)
    command = ["wrk", "-t1", "-c16", "-d1", "-s", str(tmp_path / "round.lua"), tcp.url]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE).stdout
    assert "Socket errors" not in told and "Non-2xx" not in told, told
    found = re.search(r"(\d+) requests in", told)
    assert found is not None and int(found[1]) > 100, told
