"""An application of a usual weight: what a framework imports, and tables that it keeps.

For the memory of a worker: the parts that workers forked from one master still share
depend on how much was loaded before the fork, and on who writes to it afterwards.
"""

from __future__ import annotations

# What it imports is the weight; little of it is used.
import asyncio  # noqa: F401
import concurrent.futures  # noqa: F401
import ctypes  # noqa: F401
import decimal  # noqa: F401
import difflib  # noqa: F401
import email.mime.multipart  # noqa: F401
import gc
import http.client
import http.cookies  # noqa: F401
import inspect  # noqa: F401
import json  # noqa: F401
import logging.config  # noqa: F401
import sqlite3  # noqa: F401
import ssl  # noqa: F401
import urllib.request  # noqa: F401
import uuid  # noqa: F401
import xml.etree.ElementTree  # noqa: F401
from collections.abc import Iterable

from perf import apps

#: Routes, models, translations ...: some 20 MB of small objects that the collector sees.
TABLE = {f"entry-{number}": [number, {"name": f"name-{number}"}] for number in range(40_000)}

#: Requests between two full collections.
OFTEN = 500
_count = 0


def hello(environ: apps.Environ, start_response: apps.StartResponse) -> Iterable[bytes]:
    """`apps.hello`, and once in a while a full collection, as any application has one in time.

    It writes to every object that it looks at: what it looks at is no longer shared.
    """
    global _count
    _count += 1
    if _count % OFTEN == 0:
        gc.collect()
    return apps.hello(environ, start_response)
