"""``--check-config``: all that would keep a server from starting, told at once.

Nothing is left behind: no socket listens, no file is made, no server that runs is
disturbed. An address or pid file that a running cyhorn has is no mistake, since a
configuration is checked before a reload; anybody else who has it is one.
"""

from __future__ import annotations

import logging
import os
import traceback
from typing import TYPE_CHECKING

from cyhorn.errors import AppImportError, ConfigError, ListenError
from cyhorn.log import check as log_check
from cyhorn.net import probe
from cyhorn.net.tls import make_ssl_context
from cyhorn.process.pidfile import Pidfile
from cyhorn.process.privileges import check_writable

if TYPE_CHECKING:
    from cyhorn.app.base import Application

#: How the processes of a running server are called.
TITLE = "cyhorn: "


class Report:
    """What a check has found: `problems` forbid a start, `remarks` do not."""

    def __init__(self, app: Application) -> None:
        self.app = app
        self.cfg = app.cfg
        self.problems: list[str] = list(self.cfg.found or ())
        self.remarks: list[str] = []

    def run(self) -> Report:
        """Check everything, each thing whatever the others are."""
        self._classes()
        self._application()
        self._addresses()
        self._tls()
        self._user()
        self.problems += log_check.problems(self.cfg, self._logger_class, check_writable)
        self._files()
        self.problems = list(dict.fromkeys(self.problems))
        return self

    def _named(self, name: str) -> str:
        setting = self.cfg.settings[name]
        return f"{name} = {setting.value!r} ({setting.source})"

    def _classes(self) -> None:
        self._logger_class = None
        try:
            self._logger_class = self.cfg.logger_class
        except ConfigError as problem:
            self._add(problem, "logger_class")
        try:
            worker_class = self.cfg.worker_class
        except ConfigError as problem:
            self._add(problem, "worker_class")
            return
        if hasattr(worker_class, "check_config"):
            log = logging.Logger("cyhorn.check")
            log.addHandler(logging.NullHandler())
            try:
                worker_class.check_config(self.cfg, log)
            except Exception as problem:
                self.problems.append(f"{self._named('worker_class')}: {problem}")

    def _add(self, problem: ConfigError, setting: str) -> None:
        """A class that `cfg.problems` has not refused already, with its source."""
        if not any(line.startswith(str(problem)) for line in self.problems):
            self.problems.append(f"{problem} ({self.cfg.settings[setting].source})")

    def _application(self) -> None:
        os.environ.update(self.cfg.env)
        try:
            self.app.load()
        except (AppImportError, ConfigError) as problem:
            self.problems.append(str(problem))
        except Exception:
            traceback.print_exc()
            self.problems.append("the application does not load")
        except SystemExit as leaving:
            self.problems.append(f"the application does not load: it calls sys.exit({leaving.code!r})")

    def _addresses(self) -> None:
        try:
            addresses = self.cfg.address
        except ConfigError:
            return  # told already
        source = self.cfg.settings["bind"].source
        for address in dict.fromkeys(addresses):
            try:
                probe.probe(address, self.cfg)
            except probe.AddressInUse as taken:
                titles = {pid: probe.process_title(pid) for pid in taken.pids}
                own = [pid for pid, title in titles.items() if title.startswith(TITLE)]
                if own:
                    self.remarks.append(f"bind ({source}): {taken}: a running cyhorn, pid {own[0]}")
                else:
                    who = [f"{title.split(' ')[0]}, pid {pid}" for pid, title in titles.items()]
                    self.problems.append(f"bind ({source}): {'; '.join([str(taken), *who])}")
            except ListenError as problem:
                self.problems.append(f"bind ({source}): {problem}")

    def _tls(self) -> None:
        cfg = self.cfg
        # A file that is missing, or a key without certificate, was told with the settings.
        named = [value for value in (cfg.certfile, cfg.keyfile, cfg.ca_certs) if value]
        if not cfg.is_ssl or not cfg.certfile or not all(map(os.path.isfile, named)):
            return
        try:
            make_ssl_context(cfg)
        except ConfigError as problem:
            self.problems.append(str(problem))
        except Exception as cause:
            self.problems.append(f"ssl_context: the hook raised {cause!r}")

    def _user(self) -> None:
        if os.geteuid() == 0:
            return
        for name, wanted, own in (
            ("user", self.cfg.uid, os.geteuid()),
            ("group", self.cfg.gid, os.getegid()),
        ):
            if wanted != own:
                self.problems.append(f"{self._named(name)}: only root may switch to another {name}")

    def _files(self) -> None:
        if path := self.cfg.pidfile:
            running = Pidfile(path).validate()
            if running and probe.process_title(running).startswith(TITLE):
                self.remarks.append(f"{self._named('pidfile')}: a server is running, pid {running}")
            elif running:
                self.problems.append(f"{self._named('pidfile')}: it names a living process, pid {running}")
            try:
                check_writable(path, "pidfile")
            except ConfigError as problem:
                self.problems.append(str(problem))
        if path := self.cfg.tmp_upload_dir:
            may = os.access in os.supports_effective_ids
            if not os.path.isdir(path):
                self.problems.append(f"{self._named('tmp_upload_dir')}: there is no such directory")
            elif not os.access(path, os.W_OK | os.X_OK, effective_ids=may):
                self.problems.append(f"{self._named('tmp_upload_dir')}: it is not writable")
