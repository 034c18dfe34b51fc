"""`gunicorn_compat`: what imports gunicorn runs on cyhorn where Gunicorn is not installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.app.command import ROOT, cyhorn, python, serving

#: Put into PYTHONPATH, it makes Python not find Gunicorn, which the tests' own environment has.
HIDE = """
import sys
from importlib.machinery import PathFinder

class WithoutGunicorn(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] == "gunicorn" else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = WithoutGunicorn
"""
CONFIG = """
import logging
from copy import deepcopy

import gunicorn
from gunicorn import util
from gunicorn.glogging import CONFIG_DEFAULTS, Logger
from gunicorn.workers.sync import SyncWorker

bind = "127.0.0.1:0"
gunicorn.SERVER = "undisclosed"

class Quiet(Logger):
    def setup(self, cfg):
        super().setup(cfg)
        self.error_log.addFilter(lambda record: "Booting" not in record.getMessage())
        self.error("QUIET %s %s", util.http_date(0), gunicorn.version_info >= (20, 1))

class Own(SyncWorker):
    def handle_quit(self, sig, frame):
        super().handle_quit(sig, frame)

logger_class = Quiet
worker_class = Own
_logging = deepcopy(CONFIG_DEFAULTS)
_logging["loggers"]["gunicorn.error"]["level"] = "INFO"

def on_starting(server):
    from gunicorn.arbiter import Arbiter
    assert isinstance(server, Arbiter)

def post_worker_init(worker):
    from gunicorn.workers.base import Worker
    assert isinstance(worker, Worker) and util.load_class("sync") is SyncWorker
    worker.log.error("INIT DONE")
"""
SCRIPT = """
import gunicorn.app.base

def handler(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"Works fine"]

class StandaloneApplication(gunicorn.app.base.BaseApplication):
    def __init__(self, app, options=None):
        self.options = options or {}
        self.application = app
        super().__init__()

    def load_config(self):
        for key, value in self.options.items():
            if key in self.cfg.settings and value is not None:
                self.cfg.set(key.lower(), value)

    def load(self):
        return self.application

if __name__ == "__main__":
    import sys
    StandaloneApplication(handler, {"bind": "127.0.0.1:0", "proc_name": " ".join(sys.argv[1:])}).run()
"""
APP = "def app(environ, start_response):\n    start_response('200 OK', [])\n    return [b'here']\n"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "gunicorn.conf.py").write_text(CONFIG)
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "sitecustomize.py").write_text(HIDE)
    return tmp_path


def without_gunicorn(site: Path) -> dict[str, str]:
    return {"PYTHONPATH": f"{site / 'hidden'}:{ROOT}"}


@pytest.mark.parametrize("how", ["flag", "variable", "arguments"])
def test_a_config_file_that_imports_gunicorn_runs(site: Path, how: str) -> None:
    argv = ["-m", "cyhorn", *(["--gunicorn-compat"] if how == "flag" else []), "app:app"]
    variables = {"variable": {"CYHORN_GUNICORN_COMPAT": "1"}, "arguments": {"CYHORN_CMD_ARGS": "--gunicorn-compat"}}
    with serving(site, *argv, variables=variables.get(how, {}), path=[site / "hidden"]) as server:
        server.wait_for("QUIET Thu, 01 Jan 1970 00:00:00 GMT True")
        body, fields = server.get()
        assert (body, fields["Server"]) == ("here", "undisclosed")
        server.wait_for("INIT DONE")
        assert server.stop() == 0
        assert not [line for line in server.lines if "Booting" in line]


def test_without_the_switch_the_line_says_what_would_help(site: Path) -> None:
    done = cyhorn(site, "app:app", **without_gunicorn(site))
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "gunicorn.conf.py:5: ModuleNotFoundError" in line and "--gunicorn-compat" in line


def test_where_gunicorn_is_installed_its_own_modules_are_imported_and_this_is_said(site: Path) -> None:
    (site / "gunicorn").mkdir()
    (site / "gunicorn" / "__init__.py").write_text("own = True\n")
    (site / "gunicorn.conf.py").write_text("import gunicorn\nproc_name = str(gunicorn.own)\nbind = '127.0.0.1:0'\n")
    with serving(site, "-m", "cyhorn", "--gunicorn-compat", "app:app") as server:
        server.wait_for("Listening at")
        assert len([line for line in server.lines if "Gunicorn itself is installed" in line]) == 1
        assert server.stop() == 0


def test_an_application_module_that_imports_gunicorn_runs_and_a_file_may_ask_for_it(site: Path) -> None:
    (site / "app.py").write_text("from gunicorn.http.errors import ConfigError\n" + APP)
    (site / "gunicorn.conf.py").unlink()
    (site / "cyhorn.toml").write_text("gunicorn_compat = true\nbind = '127.0.0.1:0'\n")
    with serving(site, "-m", "cyhorn", "app:app", path=[site / "hidden"]) as server:
        assert server.get()[0] == "here"
        assert server.stop() == 0


def test_what_is_logged_by_the_names_of_gunicorns_loggers_is_in_the_logs(site: Path) -> None:
    """The idioms of applications: log to the server's error log, and take its handlers over."""
    (site / "gunicorn.conf.py").unlink()
    (site / "app.py").write_text(
        "import logging\n"
        "server = logging.getLogger('gunicorn.error')\n"
        "server.info('TOLD BY NAME')\n"
        "own = logging.getLogger('own')\n"
        "own.handlers, own.level = server.handlers, server.level\n"
        "own.info('TOLD BY HANDLER')\n" + APP
    )
    with serving(site, "-m", "cyhorn", "--gunicorn-compat", "-b", "127.0.0.1:0", "app:app", path=[site / "hidden"]) as server:
        assert r"[INFO] TOLD BY NAME" in server.wait_for("TOLD BY NAME")
        server.wait_for("TOLD BY HANDLER")
        assert server.stop() == 0


def test_a_script_that_embeds_gunicorn_is_run_on_cyhorn(site: Path) -> None:
    (site / "script.py").write_text(SCRIPT)
    argv = ("-m", "cyhorn.app.gunicorn_compat", "script.py", "an", "argument")
    with serving(site, *argv, path=[site / "hidden"]) as server:
        assert server.get()[0] == "Works fine"
        assert server.stop() == 0
    done = python(site, "-m", "cyhorn.app.gunicorn_compat")
    assert done.returncode == 2 and done.stderr.startswith("usage:")


IMPORTS = """
import importlib, sys
from cyhorn.app import gunicorn_compat as compat
assert compat.install() is None and compat.install() is None
assert sum(isinstance(finder, compat.StandIn) for finder in sys.meta_path) == 1
missing = []
for name, source in compat.MODULES.items():
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing.append(name)
        assert "no such worker" in str(error), error
    else:
        assert module.__name__ == name and module.__spec__.loader is not None
        if source:
            original = importlib.import_module(source)
            assert original.__name__ == source and original.__spec__.name == source
for name in missing:
    assert name.startswith("gunicorn.workers.g"), name
"""
USES = """
from cyhorn.app import gunicorn_compat as compat
compat.install()
from gunicorn import util, SERVER_SOFTWARE, __version__
from gunicorn.app.base import Application, BaseApplication
from gunicorn.app.wsgiapp import WSGIApplication, run
from gunicorn.app.pasterapp import serve
from gunicorn.arbiter import Arbiter
from gunicorn.config import Config
from gunicorn.errors import AppImportError, ConfigError, HaltServer
from gunicorn.glogging import Logger, SafeAtoms
from gunicorn.instrument.statsd import Statsd
from gunicorn.pidfile import Pidfile
from gunicorn.systemd import listen_fds, sd_notify
from gunicorn.workers import SUPPORTED_WORKERS
from gunicorn.workers.base import Worker
from gunicorn.workers.sync import SyncWorker
import os, socket, tempfile
assert util.parse_address("[::1]:80") == ("::1", 80) and util.parse_address("a", "81") == ("a", 81)
assert util.to_bytestring("\\xe9") == b"\\xc3\\xa9" and util.bytes_to_str(b"\\xe9") == "\\xe9"
assert util.is_ipv6("::1") and util.import_app("gunicorn.app.wsgiapp:run") is run
assert util.load_class(None) is SyncWorker and util.getcwd() == os.getcwd()
assert util.load_class("gunicorn.glogging.Logger", "", "gunicorn.loggers") is Logger
with tempfile.TemporaryFile() as file, socket.socket() as sock:
    assert util.is_fileobject(file) and not util.is_fileobject(sock) and not util.is_fileobject(3)
    util.close_on_exec(sock)
    util.set_non_blocking(sock)
    assert not sock.getblocking() or not os.get_blocking(sock.fileno())
    util.close(sock)
util.unlink("no such file")
util.seed()
try:
    util.check_is_writable("/no/such/place")
except RuntimeError:
    pass
else:
    raise SystemExit("writable?")
util.warn("careful")
try:
    import gunicorn.http.wsgi
except ModuleNotFoundError as error:
    assert "no counterpart in cyhorn" in str(error)
else:
    raise SystemExit("imported?")
"""


@pytest.mark.parametrize("code", [IMPORTS, USES], ids=["modules", "names"])
def test_the_modules_and_names_that_are_used_in_practice_import(site: Path, code: str) -> None:
    done = python(site, "-W", "error", "-c", code, **without_gunicorn(site))
    assert done.returncode == 0, done.stderr
