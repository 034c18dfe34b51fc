"""Headless Chromium: a page of many parts, a form, streams, leaving inside one; in the clear and in TLS."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Implementation
from tests.examples.test_browser import Browser
from tests.integration.harness import PATIENCE, until
from tests.neighbours.application import content
from tests.neighbours.conftest import Serve
from tests.neighbours.harness import Backend, Program, listening, sha256
from tests.neighbours.pages import PARTS

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(180),
    pytest.mark.skipif(
        shutil.which("chromedriver") is None or shutil.which("chromium") is None,
        reason="chromium and chromedriver are not installed",
    ),
]

SIZE = 3_000_000


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    folder = tmp_path_factory.mktemp("chromium")
    with listening(lambda ports: Program(["chromedriver", f"--port={ports[0]}"], folder)) as (_, ports):
        browser = Browser(ports[0], folder / "profile")
        try:
            yield browser
        finally:
            browser.close()


@pytest.fixture(scope="module", params=["tcp", "tls"])
def server(
    request: pytest.FixtureRequest, impl: Implementation, serve: Serve, browser: Browser
) -> Iterator[Backend]:
    # The browser holds on to what it has opened, used or not: these end it.
    short = ("--keep-alive", "1", "--client-header-timeout", "2", "--send-timeout", "3")
    with serve(impl.name, request.param, *short, application="tests.neighbours.pages") as server:
        yield server
        browser.go("about:blank")


def title(browser: Browser) -> str:
    """The page's title once it says how it went."""
    name = until(
        lambda: (name := browser.call("GET", "/title")) not in ("loading", "") and name, "the page", PATIENCE
    )
    return str(name)


def test_a_page_with_many_parts_comes_whole_again_and_again(server: Backend, browser: Browser) -> None:
    for number in range(5):
        browser.go(f"{server.url}/page?{number}")
        assert json.loads(title(browser)) == {"images": PARTS // 2, "scripts": PARTS // 2}


def test_a_form_with_a_file_arrives_whole(server: Backend, browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "sent.bin").write_bytes(content(SIZE))
    browser.go(f"{server.url}/form")
    browser.type("[name=note]", "what is said")
    browser.type("[name=file]", str(tmp_path / "sent.bin"))
    browser.click("button")
    until(lambda: title(browser) != "form", "the answer to the form")
    assert json.loads(title(browser)) == {"note": sha256(b"what is said"), "file": sha256(content(SIZE))}


def test_scripts_stream_up_and_down_and_leave(server: Backend, browser: Browser) -> None:
    browser.go(f"{server.url}/script?{SIZE}")
    assert json.loads(title(browser)) == {
        "events": sum(range(20)),
        "stream": sha256(content(SIZE)),
        "upload": sha256(content(SIZE)),
        "abort": "AbortError",
        "empty": 204,
        "head": "77",
        "hints": "after the hints",
    }


def test_a_reader_that_goes_to_another_page_ends_its_download(server: Backend, browser: Browser) -> None:
    before = json.loads(browser_text(browser, f"{server.url}/state"))
    browser.go(f"{server.url}/reader")
    assert title(browser) == "reading"
    # Not to a page of the same server: its one worker is in the application until the reader has left.
    browser.go("about:blank")
    after = json.loads(browser_text(browser, f"{server.url}/state"))
    assert after["begun"] - before["begun"] == after["closed"] - before["closed"] == 1


def browser_text(browser: Browser, url: str) -> str:
    browser.go(url)
    return browser.text("{")
