"""What the control socket can be asked and told.

A question reads what the arbiter knows; an order does what the signal of the same meaning does, or
changes the number of workers. Neither waits for anything: workers come and go in the turns that follow.
Results are what Gunicorn's have under the same names, and more.
"""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from cyhorn.master.forensics import path_of
from cyhorn.process.heartbeat import BUSY, READY, STATE_NAMES, STOPPING

if TYPE_CHECKING:
    from cyhorn.arbiter import Arbiter
    from cyhorn.master.roster import WorkerRecord

#: How many workers can be asked for at once.
MAX_COUNT = 100

#: Arguments that may be left out.
OPTIONAL = ("[N]", "[graceful|quick]")

Data = dict[str, Any]


class CommandError(Exception):
    """A command that is not known, or not possible; the text says why."""


class Command(NamedTuple):
    """One line of ``help``: `takes` names the argument, in brackets when it may be left out (OPTIONAL)."""

    run: Callable[[Commands, str], Data]
    takes: str
    meaning: str
    is_order: bool = False


class Commands:
    """The commands of `arbiter`, which began at `began`, monotonic seconds."""

    def __init__(self, arbiter: Arbiter, began: float) -> None:
        self._arbiter = arbiter
        self._began = began

    def run(self, words: Sequence[str], peer: str) -> Data:
        """Do what `words` say. `peer` is the pid of who says so. Raises CommandError."""
        if not words:
            raise CommandError("the command is empty; try help")
        small = [word.lower() for word in words]
        if "dirty" in small[:2]:
            raise CommandError("dirty workers are not served")
        name = next((name for name in (" ".join(small[:2]), small[0]) if name in COMMANDS), None)
        if name is None:
            known = [other for other in COMMANDS if other.startswith(f"{small[0]} ")]
            there_is = ", ".join(known or COMMANDS)
            raise CommandError(f"there is no command {' '.join(words)!r}; there is {there_is}")
        command = COMMANDS[name]
        rest = words[len(name.split()) :]
        is_missing = not rest and command.takes not in ("", *OPTIONAL)
        if len(rest) > bool(command.takes) or is_missing:
            raise CommandError(f"use: {name} {command.takes}".rstrip())
        data = command.run(self, rest[0] if rest else "")
        if command.is_order:
            self._arbiter.log.info("Control socket: %s (from pid %s)", " ".join([name, *rest]), peer)
        return data

    # --- questions -----------------------------------------------------------------------

    def show_all(self, _: str) -> Data:
        arbiter, workers = self._arbiter, self._workers()
        return {
            "arbiter": {"pid": arbiter.pid, "type": "arbiter", "role": arbiter.master_name.lower()},
            "web_workers": [{**worker, "type": "web"} for worker in workers],
            "web_worker_count": len(workers),
            # Gunicorn's own client looks for these.
            "dirty_arbiter": None,
            "dirty_workers": [],
            "dirty_worker_count": 0,
        }

    def show_workers(self, _: str) -> Data:
        workers = self._workers()
        return {"workers": workers, "count": len(workers)}

    def show_config(self, _: str) -> Data:
        settings = self._arbiter.cfg.settings
        return {name: _plain(setting.value) for name, setting in settings.items()} | {
            "worker_class": self._arbiter.cfg.worker_class_str,
            "proc_name": self._arbiter.cfg.proc_name,
        }

    def show_stats(self, _: str) -> Data:
        arbiter, records = self._arbiter, self._arbiter.records()
        departed = arbiter.departed
        return {
            "uptime": round(time.monotonic() - self._began, 2),
            "pid": arbiter.pid,
            "workers_current": len(records),
            "workers_target": arbiter.num_workers,
            "workers_ready": sum(record.slot.state in (READY, BUSY) for record in records),
            "workers_busy": sum(record.slot.state == BUSY for record in records),
            "workers_spawned": arbiter.worker_age,
            "workers_killed": departed.killed,
            "reloads": arbiter.reloads,
            "requests": departed.requests + sum(record.slot.requests for record in records),
            "connections": sum(record.slot.connections for record in records),
            "dirty_arbiter_pid": None,
        }

    def show_listeners(self, _: str) -> Data:
        families: dict[int, str] = {socket.AF_INET: "tcp", socket.AF_INET6: "tcp6", socket.AF_UNIX: "unix"}
        listeners = [
            {
                "address": str(listener),
                "type": families.get(listener.family, "unknown"),
                "fd": listener.fileno(),
                "backlog": max(0, listener.get_backlog()),
            }
            for listener in self._arbiter.LISTENERS
        ]
        return {"listeners": listeners, "count": len(listeners)}

    def help(self, _: str) -> Data:
        lines = {f"{name} {command.takes}".rstrip(): command.meaning for name, command in COMMANDS.items()}
        return {"commands": lines}

    def _workers(self) -> list[Data]:
        now = time.monotonic()
        return [_worker(record, now) for record in self._arbiter.records()]

    # --- orders --------------------------------------------------------------------------

    def worker_add(self, argument: str) -> Data:
        added, previous = _count(argument), self._arbiter.num_workers
        self._set_workers(previous + added)
        return {"added": added, "previous": previous, "total": self._arbiter.num_workers}

    def worker_remove(self, argument: str) -> Data:
        count, previous = _count(argument), self._arbiter.num_workers
        self._set_workers(max(min(1, previous), previous - count))
        total = self._arbiter.num_workers
        return {"removed": previous - total, "previous": previous, "total": total}

    def worker_kill(self, argument: str) -> Data:
        record = next((record for record in self._arbiter.records() if str(record.pid) == argument), None)
        if record is None:
            raise CommandError(f"there is no worker {argument}")
        self._arbiter.ask_to_leave(record)
        return {"success": True, "killed": record.pid}

    def reload(self, _: str) -> Data:
        self._arbiter.signal(signal.SIGHUP, None)
        return {"status": "reloading"}

    def reopen(self, _: str) -> Data:
        self._arbiter.signal(signal.SIGUSR1, None)
        return {"status": "reopening"}

    def shutdown(self, argument: str) -> Data:
        mode = argument.lower() or "graceful"
        if mode not in ("graceful", "quick"):
            raise CommandError(f"shutdown is graceful or quick, not {argument!r}")
        self._arbiter.signal(signal.SIGTERM if mode == "graceful" else signal.SIGINT, None)
        return {"status": "shutting_down", "mode": mode}

    def _set_workers(self, count: int) -> None:
        self._arbiter.num_workers = count
        self._arbiter.wakeup()


COMMANDS = {
    "show all": Command(Commands.show_all, "", "The master and its workers."),
    "show workers": Command(Commands.show_workers, "", "What each worker is doing."),
    "show config": Command(Commands.show_config, "", "The settings."),
    "show stats": Command(Commands.show_stats, "", "Counts of workers, requests, connections and reloads."),
    "show listeners": Command(Commands.show_listeners, "", "Where the server listens."),
    "worker add": Command(Commands.worker_add, "[N]", "N workers more, or one (TTIN).", True),
    "worker remove": Command(Commands.worker_remove, "[N]", "N less, or one, but never none (TTOU).", True),
    "worker kill": Command(Commands.worker_kill, "PID", "Let one worker finish and be replaced.", True),
    "reload": Command(Commands.reload, "", "Configuration and application anew (HUP).", True),
    "reopen": Command(Commands.reopen, "", "Log files anew (USR1).", True),
    "shutdown": Command(Commands.shutdown, "[graceful|quick]", "Stop (TERM, or INT).", True),
    "help": Command(Commands.help, "", "These commands."),
}


def _worker(record: WorkerRecord, now: float) -> Data:
    slot = record.slot
    leaving = record.asked or slot.state == STOPPING
    return {
        "pid": record.pid,
        "age": record.worker.age,
        "booted": record.has_booted,
        "aborted": record.aborted_at is not None,
        "state": "stopping" if leaving else STATE_NAMES[slot.state],
        "requests": slot.requests,
        "connections": slot.connections,
        "last_heartbeat": round(max(0.0, now - slot.last_update()), 2),
        "calls": [
            {
                "method": call.method,
                "path": path_of(call),
                "peer": call.peer,
                "seconds": round(max(0.0, now - call.began), 2),
            }
            for call in slot.calls()
        ],
    }


def _count(argument: str) -> int:
    text = argument or "1"
    count = int(text) if text.isascii() and text.isdigit() and len(text) < 9 else 0
    if not 1 <= count <= MAX_COUNT:
        raise CommandError(f"the number of workers is to be from 1 to {MAX_COUNT}, not {argument!r}")
    return count


def _plain(value: Any) -> Any:
    """What JSON can say of the value of a setting."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, dict):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    return getattr(value, "__qualname__", None) or str(value)
