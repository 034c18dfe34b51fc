"""A database for the bookshop, with an administrator and a catalogue, and servers of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.apps.conftest import Serve
from tests.integration.harness import ROOT, Server

ADMIN, PASSWORD = "keeper", "of-the-test-only"
BOOKS = 200

FILL = f"""
from django.contrib.auth import get_user_model
from tests.apps.bookshop.models import Book
get_user_model().objects.create_superuser({ADMIN!r}, "keeper@example.org", {PASSWORD!r})
Book.objects.bulk_create(Book(title=f"book {{n}}") for n in range({BOOKS}))
"""


def make_database(folder: Path) -> Path:
    """A new database in `folder`."""
    file = folder / "db.sqlite3"
    env = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "DJANGO_SETTINGS_MODULE": "tests.apps.bookshop.settings",
        "SHOP_DB": str(file),
    }
    for command in (["migrate", "--run-syncdb", "--verbosity", "0"], ["shell", "--command", FILL]):
        subprocess.run([sys.executable, "-m", "django", *command], cwd=folder, env=env, check=True, capture_output=True)
    return file


def open_shop(serve: Serve, database: Path, folder: Path, conn_max_age: int = 600, **options: Any) -> Server:
    """A server of the bookshop with a copy of `database` in `folder`."""
    for file in database.parent.glob(database.name + "*"):
        shutil.copy(file, folder / file.name)
    environ = {"SHOP_DB": str(folder / database.name), "SHOP_CONN_MAX_AGE": str(conn_max_age)}
    return serve(module="tests.apps.bookshop.wsgi", environ=environ, **options)
