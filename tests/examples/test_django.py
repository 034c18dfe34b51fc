"""examples/django under a real server: each side, over TCP, a unix socket and TLS."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import EXAMPLES, TRANSPORTS, Client, Server

pytestmark = pytest.mark.timeout(120)
PROJECT = EXAMPLES / "django"
ADMIN, PASSWORD = "keeper", "of-the-test-only"


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database with an administrator."""
    file = tmp_path_factory.mktemp("django") / "db.sqlite3"
    env = {**os.environ, "SHELF_DB": str(file), "DJANGO_SUPERUSER_PASSWORD": PASSWORD}
    for command in (
        ["migrate", "--verbosity", "0"],
        ["createsuperuser", "--noinput", "--username", ADMIN, "--email", "keeper@example.org"],
    ):
        subprocess.run(
            [sys.executable, "manage.py", *command], cwd=PROJECT, env=env, check=True, capture_output=True
        )
    return file


@pytest.fixture(scope="module", params=TRANSPORTS)
def server(impl, request, serve, database: Path) -> Iterator[Server]:
    with serve(impl.name, request.param, PROJECT, "shelf.wsgi", SHELF_DB=str(database)) as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    client = server.client()
    yield client
    client.connection.close()


def token(page: bytes) -> str:
    found = re.search(rb'name="csrfmiddlewaretoken" value="(\w+)"', page)
    assert found is not None
    return found[1].decode()


def test_the_migrations_match_the_models() -> None:
    subprocess.run(
        [sys.executable, "manage.py", "makemigrations", "--check", "--dry-run"],
        cwd=PROJECT,
        env={**os.environ, "SHELF_DB": ":memory:"},
        check=True,
        capture_output=True,
    )


def test_a_note_is_written_by_form_and_shown(client: Client) -> None:
    title = f"note {random.random()}"
    form = {"title": title, "text": "ümlaut & <tag>", "csrfmiddlewaretoken": token(client.get("/")[1])}
    assert client.post("/", form)[0] == 302
    page = client.get("/")[1].decode()
    assert f"<b>{title}</b> ümlaut &amp; &lt;tag&gt;" in page


def test_a_form_without_its_token_is_refused(client: Client) -> None:
    client.get("/")
    assert client.post("/", {"title": "no token"})[0] == 403


def test_the_administrator_logs_in_and_changes_a_note(client: Client) -> None:
    status, page = client.get("/admin/login/?next=/admin/")
    assert status == 200
    wrong = {"username": ADMIN, "password": "wrong", "csrfmiddlewaretoken": token(page)}
    assert client.post("/admin/login/?next=/admin/", wrong)[0] == 200
    right = wrong | {"password": PASSWORD}
    assert client.post("/admin/login/?next=/admin/", right)[0] == 302
    status, page = client.get("/admin/")
    assert status == 200 and b"Site administration" in page
    page = client.get("/admin/notes/note/add/")[1]
    added = {"title": "by the admin", "text": "x", "csrfmiddlewaretoken": token(page)}
    assert client.post("/admin/notes/note/add/", added)[0] == 302
    assert b"by the admin" in client.get("/admin/notes/note/")[1]


def test_the_admin_has_its_style_sheet(client: Client) -> None:
    response = client.open("GET", "/static/admin/css/base.css")
    assert response.status == 200
    assert len(response.read()) == int(response.headers["Content-Length"])


def test_an_upload_of_50_mb_is_hashed(client: Client, content: bytes) -> None:
    fields = {"csrfmiddlewaretoken": token(client.get("/")[1])}
    status, answer = client.upload("/upload", content, fields)
    assert status == 200, answer
    assert json.loads(answer) == {
        "name": "sent.bin",
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def test_a_streamed_download_arrives_whole(client: Client) -> None:
    response = client.open("GET", "/download/8")
    source = random.Random(8)
    for _ in range(16 * 8):
        assert response.read(1 << 16) == source.randbytes(1 << 16)
    assert response.read() == b""
