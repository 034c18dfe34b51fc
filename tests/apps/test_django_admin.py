"""Django's admin in headless Chromium: log in, create, upload, look, log out."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from tests.apps.bookshop.prepared import ADMIN, PASSWORD, make_database, open_shop
from tests.apps.conftest import Serve, Variant
from tests.examples.test_browser import Browser, browser
from tests.integration.harness import Server

__all__ = ["browser"]

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.skipif(
        shutil.which("chromedriver") is None or shutil.which("chromium") is None,
        reason="chromium and chromedriver are not installed: make apps installs them",
    ),
]
#: Beyond Django's memory limit and the server's, so that the upload goes through files.
SCAN = random.Random(3).randbytes(3_000_000)


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_database(tmp_path_factory.mktemp("database"))


@pytest.fixture(scope="module")
def server(serve_shared: Serve, database: Path, tmp_path_factory: pytest.TempPathFactory) -> Server:
    return open_shop(serve_shared, database, tmp_path_factory.mktemp("shop"))


def test_a_person_logs_in_creates_uploads_and_logs_out(
    server: Server, variant: Variant, browser: Browser, tmp_path: Path
) -> None:
    (tmp_path / "scan.bin").write_bytes(SCAN)
    site = "http://{}:{}/admin/".format(*server.address)
    # Cookies are a host's, not a port's: those of the server before are still there.
    browser.go(site)
    browser.call("DELETE", "/cookie")
    browser.go(site)
    browser.type("#id_username", ADMIN)
    browser.type("#id_password", PASSWORD)
    browser.click("[type=submit]")
    browser.text("Site administration")

    browser.go(site + "bookshop/book/add/")
    browser.type("#id_title", f"Moby-Dick, {variant.name}")
    browser.click("[name=_save]")
    browser.text("was added successfully", ".messagelist")

    browser.go(site + "bookshop/scan/add/")
    browser.type("#id_title", "whale")
    browser.type("#id_file", str(tmp_path / "scan.bin"))
    browser.click("[name=_save]")
    browser.text(f"whale of {len(SCAN)} bytes", ".messagelist")
    (stored,) = (server.folder / "media/scans").iterdir()
    assert stored.read_bytes() == SCAN

    # The style sheet is there: the header has a colour of its own.
    header = browser.find("#header")
    assert browser.call("GET", f"{header}/css/background-color") not in ("rgba(0, 0, 0, 0)", "rgba(255, 255, 255, 1)")
    browser.click("#logout-form button")
    browser.text("Thanks for spending some quality time")
    browser.go(site)
    browser.find("#id_password")
    browser.go("about:blank")
