"""Scripts that embed the server, and workers and loggers of others, as real processes."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.app.command import distribution, python, serving

#: The custom application of Gunicorn's manual, in words of our own.
SCRIPT = """
import os
import sys
import cyhorn.app.base

def handler(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"served by {os.getpid()}".encode()]

class StandaloneApplication(cyhorn.app.base.BaseApplication):
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
    options = {"bind": "127.0.0.1:0", "workers": int(sys.argv[1])}
    StandaloneApplication(handler, options).run()
"""
#: A framework's own command: a flag of its own, settings from its file, its working directory.
COMMAND = """
import os
from cyhorn.app.base import Application

class Framework(Application):
    def init(self, parser, opts, args):
        self.site = args[0]
        return {"bind": "127.0.0.1:0", "workers": 2, "TIMEOUT": 17}

    def load(self):
        self.chdir()
        import site_module
        def app(environ, start_response):
            start_response("200 OK", [])
            return [repr((self.site, site_module.NAME, os.getcwd(), self.cfg.timeout, self.cfg.workers)).encode()]
        return app

if __name__ == "__main__":
    Framework("%(prog)s [OPTIONS] SITE", prog="framework").run()
"""
PLUGIN = """
import select, socket
from cyhorn.log.logger import Logger
from cyhorn.workers.base import Worker

class OneByOne(Worker):
    def run(self):
        while self.alive:
            self.notify()
            ready, _, _ = select.select([*self.sockets, self.wakeup_fd], [], [], self.timeout or 1)
            self.drain_wakeups()
            for listener in self.sockets:
                if listener in ready:
                    try:
                        connection, peer = listener.accept()
                    except BlockingIOError:
                        continue
                    with connection:
                        connection.settimeout(5)
                        while b"\\r\\n\\r\\n" not in connection.recv(4096):
                            pass
                        body = b"plugin " + b"".join(self.wsgi({}, lambda status, fields: None))
                        connection.sendall(b"HTTP/1.0 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n%s" % (len(body), body))

class Loud(Logger):
    def info(self, msg, *args, **kwargs):
        super().info("LOUD " + str(msg), *args, **kwargs)
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "app.py").write_text(
        "def app(environ, start_response):\n    start_response('200 OK', [])\n    return [b'here']\n"
    )
    return folder


def test_the_custom_application_of_the_manual_is_a_script(site: Path) -> None:
    (site / "script.py").write_text(SCRIPT)
    with serving(site, "script.py", "2") as server:
        body = server.get()[0]
        assert body.startswith("served by ") and int(body.split()[-1]) != server.process.pid
        mark = len(server.lines)
        server.process.send_signal(signal.SIGHUP)
        server.wait_for("Reload done: 2 new workers", mark)
        server.until(lambda: server.get()[0] != body)
        assert server.stop() == 0
    done = python(site, "-c", SCRIPT.replace('int(sys.argv[1])', '"many"'))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "Error: workers = 'many' (the application): use a whole number, 0 or more\n"


def test_a_framework_has_a_command_with_all_flags_files_and_variables(site: Path) -> None:
    (site / "command.py").write_text(COMMAND)
    (site / "inner").mkdir()
    (site / "inner" / "site_module.py").write_text("NAME = 'inner'\n")
    (site / "cyhorn.conf.py").write_text("chdir = 'inner'\n")
    with serving(site, "command.py", "-w", "1", "shop", variables={"CYHORN_TIMEOUT": "5"}) as server:
        assert server.get()[0] == repr(("shop", "inner", str(site / "inner"), 17, 1))
        assert server.stop() == 0


@pytest.mark.parametrize("worker", ["plugin.OneByOne", "plugin:OneByOne", "one-by-one", "egg:plugin-dist#one-by-one"])
def test_a_worker_of_others_is_found_by_path_and_entry_point(site: Path, tmp_path: Path, worker: str) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "plugin.py").write_text(PLUGIN)
    groups = {
        "cyhorn.workers": {"one-by-one": "plugin:OneByOne"},
        "cyhorn.loggers": {"loud": "plugin:Loud"},
    }
    installed = distribution(tmp_path / "lib" / "dist", "plugin-dist", groups)
    argv = ("-m", "cyhorn", "-b", "127.0.0.1:0", "-k", worker, "--logger-class", "loud", "app:app")
    with serving(site, *argv, path=[tmp_path / "lib", installed]) as server:
        assert server.get()[0] == "plugin here"
        assert "LOUD Using worker" in server.wait_for("Using worker")
        assert server.stop() == 0


def test_classes_may_stand_in_the_config_file(site: Path) -> None:
    (site / "cyhorn.conf.py").write_text(
        PLUGIN + "bind = '127.0.0.1:0'\nworker_class = OneByOne\ndef logger_class():\n    return Loud\n"
    )
    with serving(site, "-m", "cyhorn", "app:app") as server:
        assert server.get()[0] == "plugin here"
        assert "LOUD Using worker: OneByOne" in server.wait_for("Using worker")
        os.kill(server.process.pid, signal.SIGHUP)
        server.wait_for("Reload done")
        assert server.get()[0] == "plugin here"
        assert server.stop() == 0


def test_toml_and_variables_configure_a_real_server(site: Path) -> None:
    (site / "pyproject.toml").write_text(
        "[tool.cyhorn]\nbind = '127.0.0.1:0'\nserver_header = 'toml'\nwhen_ready = 'hooks:ready'\nwsgi_app = 'app:app'\n"
    )
    (site / "hooks.py").write_text("def ready(server):\n    server.log.info('READY %s', server.cfg.proc_name)\n")
    with serving(site, "-m", "cyhorn", variables={"CYHORN_PROC_NAME": "by variable", "CYHORN_WROKERS": "2"}) as server:
        assert server.get()[1]["Server"] == "toml"
        server.wait_for("READY by variable")
        server.wait_for("WARNING.*CYHORN_WROKERS is no setting of cyhorn; did you mean CYHORN_WORKERS")
        (site / "pyproject.toml").write_text((site / "pyproject.toml").read_text().replace("'toml'", "'again'"))
        server.process.send_signal(signal.SIGHUP)
        server.wait_for("Reload done")
        server.until(lambda: server.get()[1]["Server"] == "again")
        assert server.stop() == 0
