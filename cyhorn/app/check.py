"""``--check-config``: all that would keep a server from starting, told at once.

Nothing is left behind: no socket listens, no file is made, no server that runs is
disturbed. An address or pid file that a running cyhorn has is no mistake, since a
configuration is checked before a reload; anybody else who has it is one.

The check may be run by another user than the one who starts the server: this is known where `user` or `group`
asks for a switch that only root can make, or where the server that runs is another's. What
this user merely may not do is told as a warning then.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
import traceback
from collections.abc import Iterator
from typing import TYPE_CHECKING

import cyhorn
from cyhorn.config.config import is_missing
from cyhorn.errors import AppImportError, ConfigError, ListenError
from cyhorn.log import check as log_check
from cyhorn.net import probe
from cyhorn.net.tls import make_ssl_context
from cyhorn.process.pidfile import Pidfile
from cyhorn.process.privileges import check_writable
from cyhorn.process.systemd import listen_fds
from cyhorn.process.title import PREFIX, is_cyhorn, process_title
from cyhorn.wsgi.debugger import debugger_warning

if TYPE_CHECKING:
    from cyhorn.app.base import Application


_NOT_THE_APPLICATIONS = (
    os.path.dirname(cyhorn.__file__) + os.sep,
    os.path.dirname(importlib.__file__) + os.sep,
    "<frozen importlib",
)


class Report:
    """What a check has found: `problems` forbid a start, `remarks` do not."""

    def __init__(self, app: Application) -> None:
        self.app = app
        self.cfg = app.cfg
        self.problems: list[str] = list(self.cfg.found or ())
        self.remarks: list[str] = []
        #: What this user is not permitted to do.
        self._denied: list[str] = []
        #: In words, how it is known that another user starts the server; empty when it is not.
        self._starter = ""

    def run(self) -> Report:
        """Check everything, each thing whatever the others are."""
        self._classes()
        self._application()
        self._addresses()
        self._tls()
        self._user()
        for problem in log_check.problems(self.cfg, self._logger_class, check_writable):
            self._refuse(problem)
        self._files()
        if self._starter:
            because = f"this is checked as {_me()}, and {self._starter}"
            self.remarks += [f"{line}; {because}" for line in self._denied]
        else:
            self.problems += self._denied
        self.problems = list(dict.fromkeys(self.problems))
        return self

    def _refuse(self, problem: Exception, line: str = "") -> None:
        """Keep a problem, in its own words or those of `line`."""
        cause: BaseException | None = problem
        while cause is not None and not isinstance(cause, PermissionError):
            cause = cause.__cause__
        found = self.cfg.located(line or str(problem))
        (self.problems if cause is None else self._denied).append(found)

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
            if line := debugger_warning(self.app.load(), self.cfg.workers):
                self.remarks.append(line)
        except (AppImportError, ConfigError) as problem:
            self._refuse(problem)
        except Exception as problem:
            print(_from_the_application_on(problem), end="", file=sys.stderr)
            self._refuse(problem, "the application does not load")
        except SystemExit as leaving:
            self.problems.append(f"the application does not load: it calls sys.exit({leaving.code!r})")

    def _addresses(self) -> None:
        try:
            addresses = self.cfg.address
        except ConfigError:
            return  # told already
        source = self.cfg.settings["bind"].source
        if not addresses and not listen_fds(unset_environment=False):
            self.problems.append(self.cfg.located("bind: there is no address to listen at"))
        for address in dict.fromkeys(addresses):
            try:
                probe.probe(address, self.cfg)
            except probe.AddressInUse as taken:
                self._taken(taken, f"bind ({source}): {taken}")
            except ListenError as problem:
                self._refuse(problem, f"bind ({source}): {problem}")

    def _taken(self, taken: probe.AddressInUse, line: str) -> None:
        """Somebody has an address. Where descriptors are not to be seen, the socket's owner tells who."""
        own = [pid for pid in taken.pids if is_cyhorn(pid)]
        hidden = not taken.pids and taken.uid not in (None, os.geteuid())
        if hidden:
            own = [pid for pid in processes_of(taken.uid) if self._is_our_server(pid)]
        if own:
            self.remarks.append(f"{line}: a running cyhorn, pid {own[0]}")
            self._is_served_by(own[0])
        else:
            who = [f"{process_title(pid).split(' ')[0]}, pid {pid}" for pid in taken.pids]
            who += [f"uid {taken.uid}"] if hidden else []
            self.problems.append("; ".join([line, *who]))

    def _is_our_server(self, pid: int) -> bool:
        """Whether `pid` is a master of this configuration: by its title, or because the pid file names it."""
        if process_title(pid) == f"{PREFIX}master [{self.cfg.proc_name}]":
            return True
        named = Pidfile(self.cfg.pidfile).validate() if self.cfg.pidfile else None
        return pid == named and is_cyhorn(pid)

    def _is_served_by(self, pid: int) -> None:
        """A server runs with this configuration, or one like it: is it another user's?"""
        try:
            uid = os.stat(f"/proc/{pid}").st_uid
        except OSError:
            return
        if os.geteuid() not in (0, uid):
            self._starter = self._starter or f"the server that runs, pid {pid}, is another user's"

    def _tls(self) -> None:
        cfg = self.cfg
        # A file that is missing, or a key without certificate, was told with the settings.
        named = [value for value in (cfg.certfile, cfg.keyfile, cfg.ca_certs) if value]
        if not cfg.is_ssl or not cfg.certfile or any(map(is_missing, named)):
            return
        try:
            make_ssl_context(cfg)
        except ConfigError as problem:
            self._refuse(problem)
        except Exception as cause:
            self._refuse(cause, f"ssl_context: the hook raised {cause!r}")

    def _user(self) -> None:
        if os.geteuid() == 0:
            return
        for name, wanted, own in (
            ("user", self.cfg.uid, os.geteuid()),
            ("group", self.cfg.gid, os.getegid()),
        ):
            if wanted != own:
                self.remarks.append(f"{self._named(name)}: only root may switch to another {name}")
                self._starter = f"root starts the server, as {name} asks for a switch"

    def _files(self) -> None:
        if path := self.cfg.pidfile:
            running = Pidfile(path).validate()
            if running and is_cyhorn(running):
                self.remarks.append(f"{self._named('pidfile')}: a server is running, pid {running}")
                self._is_served_by(running)
            elif running:
                self.problems.append(f"{self._named('pidfile')}: it names a living process, pid {running}")
            try:
                check_writable(path, "pidfile")
            except ConfigError as problem:
                self._refuse(problem)
        if path := self.cfg.tmp_upload_dir:
            may = os.access in os.supports_effective_ids
            if not os.path.isdir(path):
                self.problems.append(f"{self._named('tmp_upload_dir')}: there is no such directory")
            elif not os.access(path, os.W_OK | os.X_OK, effective_ids=may):
                self._refuse(PermissionError(), f"{self._named('tmp_upload_dir')}: it is not writable")


def _from_the_application_on(error: BaseException) -> str:
    """The traceback of `error` without the frames that led to the application: the importing, and ours."""
    told = traceback.TracebackException.from_exception(error)
    while len(told.stack) > 1 and told.stack[0].filename.startswith(_NOT_THE_APPLICATIONS):
        del told.stack[0]
    return "".join(told.format())


def _me() -> str:
    """The user of this process, as errors call him."""
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return f"uid {os.geteuid()}"


def processes_of(uid: int | None) -> Iterator[int]:
    """The processes of `uid`, as far as /proc shows them."""
    try:
        names = [name for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return
    for name in names:
        try:
            if os.stat(f"/proc/{name}").st_uid == uid:
                yield int(name)
        except OSError:
            continue  # it has ended
