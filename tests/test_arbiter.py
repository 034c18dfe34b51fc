"""The arbiter without processes: its fields, its signal queue, its hooks."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from cyhorn.app.base import BaseApplication
from cyhorn.arbiter import Arbiter
from cyhorn.errors import ConfigError


class Embedded(BaseApplication):
    """An application of somebody who embeds the server."""

    def __init__(self, **settings: Any) -> None:
        self.settings = settings
        super().__init__()

    def load_config(self) -> None:
        for name, value in self.settings.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        return lambda environ, start_response: []


@pytest.fixture
def handlers() -> Iterator[None]:
    """Puts the signal handlers of the test process back."""
    before = {number: signal.getsignal(number) for number in Arbiter.SIGNALS}
    yield
    signal.set_wakeup_fd(-1)
    for number, handler in before.items():
        signal.signal(number, handler)


def test_it_has_the_names_that_hooks_and_subclasses_of_gunicorn_use() -> None:
    arbiter = Arbiter(Embedded(workers=3, bind=["127.0.0.1:0"], proc_name="mine"))
    assert (arbiter.num_workers, arbiter.worker_age, arbiter.proc_name) == (3, 0, "mine")
    assert (arbiter.master_name, arbiter.master_pid, arbiter.reexec_pid) == ("Master", 0, 0)
    assert (arbiter.WORKERS, arbiter.LISTENERS, list(arbiter.SIG_QUEUE)) == ({}, [], [])
    assert arbiter.address == [("127.0.0.1", 0)]
    assert arbiter.pid == os.getpid()
    assert not arbiter.systemd
    assert arbiter.cfg is arbiter.app.cfg
    assert set(Arbiter.START_CTX) == {0, "args", "cwd"}
    assert (Arbiter.WORKER_BOOT_ERROR, Arbiter.APP_LOAD_ERROR) == (3, 4)
    for name in ["chld", "hup", "term", "int", "quit", "ttin", "ttou", "usr1", "usr2", "winch"]:
        assert callable(getattr(arbiter, f"handle_{name}"))


def test_nworkers_changed_is_called_whenever_the_number_is_set_as_by_gunicorn() -> None:
    seen: list[tuple[Any, Any]] = []

    def changed(server: Any, new_value: Any, old_value: Any) -> None:
        seen.append((new_value, old_value))

    arbiter = Arbiter(Embedded(workers=2, nworkers_changed=changed))
    arbiter.num_workers = 2
    arbiter.num_workers = 5
    assert seen == [(2, None), (2, 2), (5, 2)]


@pytest.mark.rule(25)
def test_every_signal_is_queued_in_order_and_wakes_the_loop(handlers: None) -> None:
    arbiter = Arbiter(Embedded())
    arbiter.init_signals()
    sent = [
        signal.SIGTTIN,
        signal.SIGTTIN,
        signal.SIGHUP,
        signal.SIGCHLD,
        signal.SIGCHLD,
        signal.SIGTTOU,
    ] * 50
    for number in sent:
        os.kill(os.getpid(), number)
    queued = [number for number in arbiter.SIG_QUEUE if number != signal.SIGCHLD]
    assert queued == [number for number in sent if number != signal.SIGCHLD]
    assert list(arbiter.SIG_QUEUE).count(signal.SIGCHLD) == 1  # reaping is a loop: once is enough
    assert arbiter._wakeup.wait(0)


def test_term_int_and_quit_leave_the_loop() -> None:
    for name in ("term", "int", "quit"):
        with pytest.raises(StopIteration):
            getattr(Arbiter(Embedded()), f"handle_{name}")()


def test_winch_means_nothing_unless_daemonised() -> None:
    arbiter = Arbiter(Embedded(workers=2))
    arbiter.handle_winch()
    assert arbiter.num_workers == 2
    arbiter = Arbiter(Embedded(workers=2, daemon=True))
    arbiter.handle_winch()
    assert arbiter.num_workers == 0


def test_a_worker_that_somebody_else_reaped_is_let_go_of() -> None:
    gone = os.fork()
    if gone == 0:
        os._exit(0)
    os.waitpid(gone, 0)
    seen: list[Any] = []
    arbiter = Arbiter(Embedded(worker_exit=lambda server, worker: seen.append(worker)))
    arbiter.WORKERS[gone] = worker = object()  # type: ignore[assignment]
    arbiter.kill_worker(gone, signal.SIGTERM)
    assert arbiter.WORKERS == {} and seen == [worker]


def test_a_preloaded_application_that_does_not_exist_is_the_operators_error() -> None:
    class Missing(Embedded):
        def load(self) -> Any:
            raise ConfigError("there is none")

    with pytest.raises(ConfigError):
        Arbiter(Missing(preload_app=True))


def test_the_environment_names_the_server_and_raw_env(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SERVER_SOFTWARE", raising=False)
    monkeypatch.setenv("COLOUR", "blue")
    Arbiter(Embedded(raw_env=["COLOUR=green"]))
    assert os.environ["SERVER_SOFTWARE"].startswith("cyhorn/")
    assert os.environ["COLOUR"] == "green"
    monkeypatch.delenv("SERVER_SOFTWARE")
