"""How a master starts, or says in one line why it does not."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.harness import APPLICATION, Server, title, until

Serve = Callable[..., Server]


def tracebacks(server: Server) -> int:
    return len(server.seen(r"^Traceback"))


def test_it_says_what_it_runs_and_where_it_listens(serve: Serve) -> None:
    server = serve(arguments=["-w", "2"]).ready(2)
    order = [
        r"\[INFO\] Starting cyhorn \d",
        rf"Listening at: http://127\.0\.0\.1:\d+ \({server.pid}\)",
        r"Using worker: \S+",
        r"Running (python|compiled): ",
        r"Booting worker with pid: \d+",
    ]
    places = [server.lines.index(server.wait_for(pattern)[0]) for pattern in order]
    assert places == sorted(places)
    assert server.get() == "one"
    assert server.stop() == 0
    server.wait_for("Handling signal: term")
    server.wait_for("Shutting down: Master")
    assert len(server.seen(r"Worker exiting \(pid: \d+\)")) == 2


def test_processes_carry_the_application_in_their_titles(serve: Serve) -> None:
    server = serve().ready()
    assert title(server.pid) == "cyhorn: master [app:app]"
    assert title(server.workers()[0]) == "cyhorn: worker [app:app]"


@pytest.mark.parametrize(
    ("source", "code", "line"),
    [
        ("raise RuntimeError('broken')", 3, "Worker failed to boot."),
        ("import no_such_module", 3, "Worker failed to boot."),
        ("def app(:", 3, "Worker failed to boot."),
        ("import sys; sys.exit(0)", 3, "Worker failed to boot."),
        ("application = None", 4, "App failed to load."),
        ("app = 3", 4, "App failed to load."),
    ],
)
@pytest.mark.rule(2, 7, 8)
@pytest.mark.provokes("Exception in worker process", "exited with code", "Reason: ", "Shutting down: ", "is not callable", "called sys.exit", "no attribute")
def test_a_boot_that_fails_ends_the_master_with_its_code(
    serve_any: Serve, tmp_path: Path, source: str, code: int, line: str
) -> None:
    (tmp_path / "app.py").write_text(source + "\n")
    server = serve_any("workers = 3\npidfile = 'pid'")
    assert server.wait_exit() == code
    server.wait_for(f"Reason: {line}")
    assert tracebacks(server) <= 3
    assert len(server.seen("Booting worker")) <= 3  # none again; one may have been told to stop before it said so
    assert not (tmp_path / "pid").exists()


@pytest.mark.rule(7, 8)
@pytest.mark.provokes("post_worker_init", "Exception in worker process", "exited with code", "Workers do not stay up")
def test_a_worker_that_was_added_too_early_and_fails_does_not_end_the_one_that_serves(serve_any: Serve) -> None:
    hook = """
import os, signal

def post_worker_init(worker):
    if worker.age == 1:
        os.kill(worker.ppid, signal.SIGTTIN)  # before the master can know that this one is ready
    else:
        raise RuntimeError("broken")
"""
    server = serve_any(f"workers = 1\n{hook}")
    server.wait_for("exited with code 3", 2)
    assert server.get() == "one"
    assert server.process.poll() is None
    assert server.stop() == 0


@pytest.mark.parametrize("source", ["raise RuntimeError('broken')", "app = 3"])
@pytest.mark.rule(7)
@pytest.mark.provokes("cannot be preloaded")
def test_a_preload_that_fails_ends_the_start_with_1(serve_any: Serve, tmp_path: Path, source: str) -> None:
    (tmp_path / "app.py").write_text(source + "\n")
    assert serve_any(arguments=["--preload"]).wait_exit() == 1


@pytest.mark.provokes("exited with code", "Reason: ", "Shutting down: ", "called sys.exit")
def test_an_application_that_exits_while_it_loads_is_named_as_the_cause(
    serve_any: Serve, tmp_path: Path
) -> None:
    (tmp_path / "app.py").write_text("import sys; sys.exit(7)\n")
    server = serve_any()
    assert server.wait_exit() == 3
    server.wait_for(r"The application called sys\.exit\(7\)")


@pytest.mark.rule(2, 4, 5)
@pytest.mark.provokes("Connection in use|connection to .* failed", "http-no")
def test_an_address_in_use_ends_the_start_with_1_and_leaves_nothing(serve_any: Serve, tmp_path: Path) -> None:
    path = tmp_path / "taken"
    with socket.socket(socket.AF_UNIX) as taken:
        taken.bind(str(path))
        taken.listen()
        server = serve_any("pidfile = 'pid'", bind=f"unix:{path}")
        server.wait_for("Connection in use")
        server.signal(signal.SIGTERM)
        assert server.wait_exit() == 0  # asked to stop while it was trying again
        assert path.exists()
        assert not (tmp_path / "pid").exists()
        server = serve_any("pidfile = 'pid'", bind="127.0.0.1:http-no")
        assert server.wait_exit() == 1
        assert tracebacks(server) == 0


# --- the pid file ------------------------------------------------------------------------


@pytest.mark.rule(2)
def test_the_pid_file_names_the_master_while_it_runs(serve_any: Serve, tmp_path: Path) -> None:
    server = serve_any("pidfile = 'pid'").ready()
    file = tmp_path / "pid"
    assert file.read_text() == f"{server.pid}\n"
    assert file.stat().st_mode & 0o777 == 0o644
    assert server.stop() == 0
    assert not file.exists()


@pytest.mark.parametrize("content", ["", "garbage\n", "999999999\n", "-1\n", "0\n"])
@pytest.mark.rule(3)
def test_a_stale_pid_file_is_taken_over(serve_any: Serve, tmp_path: Path, content: str) -> None:
    (tmp_path / "pid").write_text(content)
    server = serve_any("pidfile = 'pid'").ready()
    assert (tmp_path / "pid").read_text() == f"{server.pid}\n"


@pytest.mark.rule(2, 3)
@pytest.mark.provokes("Already running on PID")
def test_a_live_pid_file_is_refused_and_left(serve_any: Serve, tmp_path: Path) -> None:
    (tmp_path / "pid").write_text(f"{os.getpid()}\n")
    server = serve_any("pidfile = 'pid'")
    assert server.wait_exit() == 1
    server.wait_for(f"Already running on PID {os.getpid()}")
    assert not server.seen("Listening at")
    assert tracebacks(server) == 0
    assert (tmp_path / "pid").read_text() == f"{os.getpid()}\n"


@pytest.mark.rule(7)
@pytest.mark.provokes("cannot write 'nowhere/pid'")
def test_a_pid_file_that_cannot_be_written_is_one_line_and_1(serve_any: Serve, tmp_path: Path) -> None:
    server = serve_any("pidfile = 'nowhere/pid'")
    assert server.wait_exit() == 1
    server.wait_for(r"pidfile \(\./cyhorn\.conf\.py:1\): cannot write 'nowhere/pid'")
    assert tracebacks(server) == 0


# --- development -------------------------------------------------------------------------


@pytest.mark.provokes("The application does not load", "Reloader is on")
def test_with_reload_a_broken_application_is_a_page_until_it_is_mended(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("def app(:\n")
    server = serve("reload = True\nreload_engine = 'poll'")
    server.wait_for("Listening at")

    def page() -> str:
        with server.send("/") as connection:
            connection.settimeout(5)
            received = b""
            while chunk := connection.recv(65536):
                received += chunk
        return received.decode()

    shown = page()
    assert shown.startswith("HTTP/1.1 500 ") and "SyntaxError" in shown and "def app(:" in shown
    server.write_application("mended")
    server.wait_for("Worker reloading: .*app.py modified")
    until(lambda: "mended" in page(), "the mended application")


@pytest.mark.provokes("Reloader is on")
@pytest.mark.parametrize("engine", ["poll", "inotify"])
def test_with_reload_what_is_saved_again_while_the_application_loads_is_served(
    serve_sync: Serve, tmp_path: Path, engine: str
) -> None:
    part = tmp_path / "part.py"
    part.write_text('VERSION = "first"\n')
    # As an editor does that formats a file a moment after it was saved: here, the moment that it was imported.
    saved = "import part\nif part.VERSION == 'first':\n    open('part.py', 'w').write('VERSION = \"again\"\\n')\n"
    (tmp_path / "app.py").write_text(saved + APPLICATION.format(version="") + "\nVERSION = part.VERSION\n")
    server = serve_sync(f"reload = True\nreload_engine = '{engine}'")
    server.wait_for("Listening at")
    server.serves("again")


def test_raw_env_is_in_the_environment_of_the_workers(serve_any: Serve) -> None:
    server = serve_any("raw_env = ['COLOUR=green', 'EMPTY=']").ready()
    assert server.get("/env?COLOUR") == "green"
    assert server.get("/env?SERVER_SOFTWARE").startswith("cyhorn/")


DEBUGGED = "\nfrom werkzeug.debug import DebuggedApplication\napp = DebuggedApplication(app, evalex=True)\n"


@pytest.mark.parametrize("preload", [False, True])
def test_werkzeugs_debugger_is_warned_of_once_with_more_than_one_worker(serve_sync: Serve, preload: bool, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APPLICATION.format(version="one") + DEBUGGED)
    server = serve_sync(f"preload_app = {preload}\nworkers = 2").ready(2)
    assert len(server.wait_for(r"\[WARNING\] Werkzeug's debugger is on with 2 workers")) == 1
    server.signal(signal.SIGHUP)
    server.wait_for("Reload done")
    assert len(server.seen("Werkzeug's debugger")) == 2  # once for each time that the code was loaded


def test_werkzeugs_debugger_is_not_warned_of_with_one_worker(serve_sync: Serve, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APPLICATION.format(version="one") + DEBUGGED)
    server = serve_sync("workers = 1").ready()
    assert server.seen("debugger") == []
