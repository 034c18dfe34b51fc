"""One pass through examples/django in headless Chromium, by the WebDriver protocol."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import BOOT_SECONDS, TRANSPORTS
from .test_django import ADMIN, PASSWORD, PROJECT, database
from .test_proxies import free_port

__all__ = ["database"]

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(180),
    pytest.mark.skipif(
        shutil.which("chromedriver") is None or shutil.which("chromium") is None,
        reason="chromium and chromedriver are not installed",
    ),
]
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--no-first-run",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


class DriverError(Exception):
    """The driver refused: no such element, or one of a page that is gone."""


class Browser:
    """A session of the driver that listens at `port`."""

    def __init__(self, port: int, profile: Path) -> None:
        self.port = port
        self.session = ""
        options = {"args": [*FLAGS, f"--user-data-dir={profile}"]}
        wanted = {
            "capabilities": {"alwaysMatch": {"goog:chromeOptions": options, "acceptInsecureCerts": True}}
        }
        self.session = "/session/" + self.call("POST", "/session", wanted)["sessionId"]

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(method, self.session + path, None if body is None else json.dumps(body))
        value = json.loads(connection.getresponse().read())["value"]
        connection.close()
        if isinstance(value, dict) and "error" in value:
            raise DriverError(f"{value['error']}: {value['message'].splitlines()[0]}")
        return value

    def go(self, url: str) -> None:
        self.call("POST", "/url", {"url": url})

    def find(self, css: str) -> str:
        path: str = self.call("POST", "/element", {"using": "css selector", "value": css})[ELEMENT]
        return "/element/" + path

    def type(self, css: str, text: str) -> None:
        self.call("POST", self.find(css) + "/value", {"text": text})

    def click(self, css: str) -> None:
        self.call("POST", self.find(css) + "/click", {})

    def text(self, having: str, css: str = "body") -> str:
        """The text of an element once it has `having` in it; the page may still be under way."""
        deadline = time.monotonic() + BOOT_SECONDS
        while True:
            try:
                text: str = self.call("GET", self.find(css) + "/text")
            except DriverError as error:
                text = str(error)
            if having in text:
                return text
            assert time.monotonic() < deadline, f"{having!r} is not in {text!r}"
            time.sleep(0.02)

    def close(self) -> None:
        self.call("DELETE", "")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    port = free_port()
    driver = subprocess.Popen(["chromedriver", f"--port={port}"], stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + BOOT_SECONDS
        while True:
            assert driver.poll() is None and time.monotonic() < deadline
            try:
                browser = Browser(port, tmp_path_factory.mktemp("profile"))
                break
            except ConnectionRefusedError:
                time.sleep(0.05)
        yield browser
        browser.close()
    finally:
        driver.terminate()
        driver.wait(BOOT_SECONDS)


@pytest.mark.parametrize("transport", [name for name in TRANSPORTS if name != "unix"])
def test_a_person_logs_in_writes_a_note_and_uploads_a_file(
    impl, transport: str, serve, database: Path, browser: Browser, content: bytes, tmp_path: Path
) -> None:
    (tmp_path / "sent.bin").write_bytes(content)
    with serve(impl.name, transport, PROJECT, "shelf.wsgi", SHELF_DB=str(database)) as server:
        # Cookies are a host's, not a port's: those of the run before are still there.
        browser.go(server.url + "/")
        browser.call("DELETE", "/cookie")
        browser.go(server.url + "/admin/")
        browser.type("#id_username", ADMIN)
        browser.type("#id_password", PASSWORD)
        browser.click("[type=submit]")
        browser.text("Site administration")

        title = f"by {impl.name} over {transport}"
        browser.go(server.url + "/")
        browser.type("#id_title", title)
        browser.click("form button")
        browser.text(title, "ul")

        browser.type("#id_file", str(tmp_path / "sent.bin"))
        browser.click("form[action='/upload'] button")
        answer = json.loads(browser.text("sha256"))
        assert (answer["size"], answer["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
        assert base64.b64decode(browser.call("GET", "/screenshot"))[:4] == b"\x89PNG"
        browser.go("about:blank")
