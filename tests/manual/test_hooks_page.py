"""docs/hooks.md: every hook has its part, its example logs what stands there, its attributes exist."""

from __future__ import annotations

import os
import re
import signal
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cyhorn.config.rows_hooks import ROWS
from tests.conftest import Implementation
from tests.integration.harness import Server, until
from tests.manual.blocks import DOCS, blocks
from tests.manual.transcript import pattern_of

PAGE = DOCS / "hooks.md"
#: Hook → its part of the page.
PARTS = dict(re.findall(r"(?ms)^### (\w+)\n(.*?)(?=^##|\Z)", PAGE.read_text()))
EXAMPLES = [block.text for block in blocks(PAGE) if block.kind == "python"]
LINES = {
    hook: re.search(r"```text\n(.*?)```", part, re.S)[1].splitlines()  # type: ignore[index]
    for hook, part in PARTS.items()
    if "```text" in part
}
#: Attribute as the page has it, "req.path".
ATTRIBUTES = re.findall(r"`((?:server|worker|req|resp)\.\w+)`", PAGE.read_text().partition("## In the master")[0])

APPLICATION = """
import time

def app(environ, start_response):
    if environ["PATH_INFO"] == "/slow":
        time.sleep(0.2)
    if environ["PATH_INFO"] == "/stuck":
        time.sleep(60)
    start_response("200 OK", [("Content-Length", "14")])
    return [b"Hello, World!\\n"]
"""

#: Writes down which attributes of the page there are, where each object is at hand.
LOOK = """
def look(name, value):
    with open("attributes", "a") as file:
        file.writelines(f"{name}.{attribute}\\n" for attribute in dir(value))

examples = (post_worker_init, post_request)

def post_worker_init(worker):
    look("worker", worker)
    examples[0](worker)

def post_request(worker, req, environ, resp):
    look("req", req)
    look("resp", resp)
    examples[1](worker, req, environ, resp)

def post_fork(server, worker, example=post_fork):
    look("server", server)
    example(server, worker)
"""


def test_every_hook_of_the_table_has_its_part_and_no_other() -> None:
    assert sorted(PARTS) == sorted(row.name for row in ROWS)


def test_every_hook_stands_with_the_arguments_that_it_takes() -> None:
    for row in ROWS:
        signatures = re.findall(rf"`{row.name}\(([^)]*)\)`", PARTS[row.name])
        example = re.search(rf"(?m)^def {row.name}\((.*)\):$", PARTS[row.name])
        assert example and signatures == [example[1]], row.name


@pytest.fixture(scope="session")
def story(impl: Implementation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """What a server with all examples has logged in a life with a reload, an upgrade and a stuck worker."""
    folder = tmp_path_factory.mktemp("hooks")
    (folder / "app.py").write_text(APPLICATION)
    config = "\n".join(["workers = 2", "timeout = 2", *EXAMPLES, LOOK])
    server = Server(folder, "sync", impl.name, config)
    try:
        live(server)
        yield server
    finally:
        server.destroy()


def live(server: Server) -> None:
    """All that the page tells of."""
    server.wait_for("serves app", count=2)
    assert server.address
    with server.send("/slow") as slow:
        slow.recv(65536)
    server.signal(signal.SIGHUP)
    server.wait_for("Reload done")
    server.signal(signal.SIGTTIN)
    server.wait_for("workers: 2 -> 3")
    until(lambda: len(server.workers()) == 3, "three workers")
    mark = server.mark()
    server.signal(signal.SIGUSR2)
    server.wait_for(r"serves app", mark, count=2)
    new = int(server.wait_for(r"Started a new master \(pid: (\d+)\)")[0].rpartition(" ")[2].rstrip(")"))
    os.kill(new, signal.SIGTERM)
    server.wait_for(r"The new master .* has ended")
    with server.send("/stuck"):
        server.wait_for("was stuck")
        server.wait_for("aborted: True")
    server.signal(signal.SIGQUIT)
    assert server.wait_exit() == 0


@pytest.mark.parametrize("hook", LINES)
def test_the_example_of_a_hook_logs_what_the_page_shows(story: Server, hook: str) -> None:
    for line in LINES[hook]:
        level, _, message = line.partition(" ")
        expected = re.escape(level) + " " + pattern_of(message)
        story.wait_for(rf"{expected}$")


def test_no_hook_has_failed(story: Server) -> None:
    assert story.seen("The hook .* failed") == []


def test_the_attributes_that_the_page_lists_are_there(story: Server) -> None:
    there = set((story.folder / "attributes").read_text().split())
    assert len(ATTRIBUTES) > 30
    assert [name for name in ATTRIBUTES if name not in there] == []


def test_the_tls_hook_makes_the_context(tmp_path: Path) -> None:
    made = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    names = "-keyout server.key -out server.crt"
    subprocess.run(["openssl", *made.split(), *names.split()], cwd=tmp_path, check=True, capture_output=True)
    config = next(text for text in EXAMPLES if "ssl_context" in text)
    config += "\ncertfile = 'server.crt'\nkeyfile = 'server.key'\n"
    server = Server(tmp_path, "sync", "python", config)
    try:
        server.wait_for("Booting worker")
        context = ssl.create_default_context(cafile=str(tmp_path / "server.crt"))
        context.check_hostname = False
        with context.wrap_socket(server.connect()) as connection:
            assert connection.version() == "TLSv1.3"
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises((ssl.SSLError, ConnectionError)), server.connect() as plain:
            context.wrap_socket(plain)
    finally:
        server.destroy()
