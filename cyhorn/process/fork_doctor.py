"""The fork doctor: with `preload_app`, what the application has opened that a fork breaks.

A connection that was made in the master is the same connection in every worker: what they send mixes,
and each reads answers that were meant for another. A thread of the master is in no worker: a client or
pool that counts on it waits for ever. Both are easily made at import, and neither shows until much later.

The facts are the process's own: sockets with a peer (Linux tells of all descriptors) and threads, as far
as they came while the application was loaded. So what the server itself and the configuration have opened
is never named, nor are listeners, datagrams, pairs of sockets within the process, and threads of
libraries that start them again after a fork. Only where there is something to tell, it is
searched for who holds it.
"""

from __future__ import annotations

import gc
import os
import re
import sys
import threading
from _socket import SOCK_STREAM
from _socket import socket as CSocket  # what gevent does not replace
from collections.abc import Iterable, Iterator
from contextlib import closing
from types import CodeType, ModuleType
from typing import Any, NamedTuple

from cyhorn.process.holders import Holding, find_holdings
from cyhorn.process.preload import is_own, top_package

DESCRIPTORS = "/proc/self/fd"
ADVICE = "Open it after the fork: in post_fork, or at the first use"

#: Libraries whose threads come again by themselves in a forked process.
FORK_AWARE = frozenset(("ddtrace", "elasticapm", "newrelic", "opentelemetry", "sentry_sdk"))
#: Clients written in C: classes whose `fileno` tells the descriptor of the connection.
CLIENTS_IN_C = frozenset(
    (
        ("MySQLdb.connections", "Connection"),
        ("psycopg", "Connection"),
        ("psycopg2.extensions", "connection"),
    )
)
#: What clients are made of, and are not themselves.
PLUMBING = frozenset(
    "_queue _socket _ssl _thread _weakref _weakrefset asyncio builtins collections contextlib"
    " functools gevent io queue selectors socket ssl threading types weakref".split()
)


class Facts(NamedTuple):
    """What is alive in this process: connections (inode → descriptor), and threads."""

    connections: dict[int, int]
    threads: frozenset[threading.Thread]


class Finding:
    """A client, or a thread or socket that belongs to none, and what it has that a fork breaks."""

    def __init__(self, subject: str) -> None:
        self.subject = subject
        self.peers: list[str] = []
        self.threads: list[str] = []

    def __str__(self) -> str:
        parts = []
        if self.peers:
            parts.append(f"is connected to {_some(self.peers)}")
        if self.threads:
            count = len(self.threads)
            parts.append(f"has {'a thread' if count == 1 else f'{count} threads'}: {_some(self.threads)}")
        harm = []
        if self.peers:
            harm.append("share the connection" if len(self.peers) == 1 else "share the connections")
        if self.threads:
            harm.append("are without the thread" if len(self.threads) == 1 else "are without the threads")
        return f"{self.subject} {' and '.join(parts)}; the workers {' and '.join(harm)}"


class ForkDoctor:
    """Watches the load of an application::

        with ForkDoctor() as doctor:
            load()
        for line in doctor.diagnose(): ...
    """

    def __init__(self) -> None:
        self._before = self._found = Facts({}, frozenset())

    def __enter__(self) -> ForkDoctor:
        self._before = take_facts()
        return self

    def __exit__(self, *_: object) -> None:
        now = take_facts()
        connections = {
            inode: fd for inode, fd in now.connections.items() if inode not in self._before.connections
        }
        self._found = Facts(connections, now.threads - self._before.threads)

    def diagnose(self) -> list[str]:
        """What was opened during the load and is still open: a line for each client."""
        if not any(self._found):
            return []
        gc.collect()  # what nobody holds any more is no danger
        now = take_facts()
        left = Facts(
            {inode: fd for inode, fd in now.connections.items() if inode in self._found.connections},
            now.threads & self._found.threads,
        )
        return [f"{finding}. {ADVICE}" for finding in _examine(left)]


def take_facts() -> Facts:
    """What is alive in this process at the moment."""
    return Facts(_connections(), _threads())


def _threads() -> frozenset[threading.Thread]:
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None and monkey.is_module_patched("threading"):
        return frozenset()  # greenlets, which gevent sees to
    return frozenset(
        thread
        for thread in threading.enumerate()
        if not isinstance(thread, threading._DummyThread)
        and thread is not threading.main_thread()
        and top_package(_module_of(thread)) not in FORK_AWARE
    )


def _connections() -> dict[int, int]:
    """The connected stream sockets of this process: inode → descriptor."""
    found: dict[int, int] = {}
    try:
        names = os.listdir(DESCRIPTORS)
    except OSError:
        return found  # not Linux
    for name in names:
        try:
            target = os.readlink(f"{DESCRIPTORS}/{name}")
        except OSError:
            continue  # that of the listing
        inode = re.fullmatch(r"socket:\[(\d+)\]", target)
        if inode is not None and _peer(int(name)):
            found.setdefault(int(inode[1]), int(name))
    return found


def _peer(fd: int) -> str:
    """Who is at the other end of the stream `fd`, in words; empty where nobody is, or this process itself."""
    try:
        with closing(CSocket(fileno=os.dup(fd))) as sock:
            if sock.type != SOCK_STREAM:
                return ""
            peer = sock.getpeername()
    except OSError:
        return ""
    if isinstance(peer, bytes):
        peer = "@" + peer[1:].decode("utf-8", "replace")
    if isinstance(peer, str):
        return f"unix:{peer}" if peer else ""  # without a name: one of a pair
    if not isinstance(peer, tuple):
        return str(peer)
    host, port = peer[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


# -- who it belongs to --------------------------------------------------------------------------


def _examine(facts: Facts) -> list[Finding]:
    """The findings behind `facts`."""
    inner = _inner_pairs(facts.connections.values())
    peers = {fd: _peer(fd) for fd in facts.connections.values() if fd not in inner}
    findings: dict[object, Finding] = {}

    def finding(key: object, subject: str) -> Finding:
        return findings.setdefault(key, Finding(subject))

    open_fds, threads = set(peers), set(facts.threads)
    stands_for = _stand_ins(threads)
    for target, holding in _holders(set(peers), set(stands_for)):
        client = client_in(holding.chain)
        place = f"{_type_name(client)} in {holding.module}.{holding.name}{_assignment(holding)}"
        found = finding((holding.module, holding.name, id(client)), place)
        if id(target) in stands_for:
            for thread in stands_for[id(target)] & threads:
                threads.discard(thread)
                found.threads.append(_describe_thread(thread))
        elif (fd := _fileno(target)) in open_fds:
            open_fds.discard(fd)
            found.peers.append(peers[fd])
    for fd in sorted(open_fds):
        finding(f"descriptor {fd}", "A socket that no module's name leads to").peers.append(peers[fd])
    for thread in sorted(threads, key=lambda thread: thread.name):
        finding(id(thread), "The application").threads.append(_describe_thread(thread))
    return [found for found in findings.values() if found.peers or found.threads]


def _stand_ins(threads: set[threading.Thread]) -> dict[int, set[threading.Thread]]:
    """For the id of a thread: itself. For that of an object whose method it runs: it, for who keeps
    the object need not keep the thread."""
    found: dict[int, set[threading.Thread]] = {}
    for thread in threads:
        owner = getattr(getattr(thread, "_target", None), "__self__", None)
        for thing in (thread, owner):
            if thing is not None:
                found.setdefault(id(thing), set()).add(thread)
    return found


def _holders(fds: set[int], threads: set[int]) -> Iterator[tuple[object, Holding]]:
    """The sockets of `fds` and what stands for `threads`, with who holds it: own modules come first."""
    kinds: dict[type, bool] = {}

    def is_wanted(thing: object) -> bool:
        if id(thing) in threads:
            return True
        kind = type(thing)
        if kind not in kinds:
            kinds[kind] = issubclass(kind, CSocket) or _class_name(kind) in CLIENTS_IN_C
        return kinds[kind] and _fileno(thing) in fds

    found: set[int] = set()
    for modules in _modules():
        for holding in find_holdings(modules, is_wanted):
            target = holding.chain[-1]
            if id(target) in found:
                continue
            found.add(id(target))
            yield target, holding
            if len(found) == len(fds) + len(threads):
                return


def _modules() -> tuple[list[ModuleType], list[ModuleType]]:
    """The modules that are the application's own, and those that were installed."""
    own: list[ModuleType] = []
    installed: list[ModuleType] = []
    for name, module in list(sys.modules.items()):
        if _is_a(module, ModuleType) and top_package(name) not in sys.stdlib_module_names | {"cyhorn"}:
            (own if is_own(module) else installed).append(module)
    return own, installed


def _fileno(thing: Any) -> int:
    try:
        fd = thing.fileno()
    except Exception:
        return -1
    return fd if isinstance(fd, int) else -1


def client_in(chain: tuple[object, ...]) -> object:
    """The one of `chain`, which ends in a socket or thread, that a reader would call the client.

    It is the outermost of those that lie next to the end and are of the same package: for
    a Flask application that holds a pool of connections, the pool's client.
    """
    client, package = chain[-1], ""
    for thing in reversed(chain):
        top = top_package(_class_name(type(thing))[0])
        if _is_a(thing, type) or top in PLUMBING:
            continue
        if package and top != package:
            break
        client, package = thing, top
    return client


def _inner_pairs(fds: Iterable[int]) -> set[int]:
    """Those of the TCP sockets `fds` whose peer is another one of them: both ends are in this process."""
    ends: dict[Any, int] = {}
    peers: dict[int, Any] = {}
    for fd in fds:
        with closing(CSocket(fileno=os.dup(fd))) as sock:
            try:
                ends[sock.getsockname()] = fd
                peers[fd] = sock.getpeername()
            except OSError:
                continue
    return {fd for fd, peer in peers.items() if isinstance(peer, tuple) and peer in ends}


def _is_a(thing: object, kind: type) -> bool:
    """Like isinstance, without asking `thing` what it says of itself: proxies would answer for another."""
    return issubclass(type(thing), kind)


# -- words --------------------------------------------------------------------------------------


def _class_name(kind: type) -> tuple[str, str]:
    """Module and name of a class, which its metaclass may not want to tell."""
    try:
        return str(kind.__module__), str(kind.__qualname__)
    except Exception:
        return "", type.__repr__(kind)


def _type_name(thing: object) -> str:
    return ".".join(_class_name(type(thing)))


def _some(words: list[str]) -> str:
    """Each of `words` once, the first few of them."""
    words = list(dict.fromkeys(words))
    return ", ".join(words[:3]) + (f" and {len(words) - 3} more" if len(words) > 3 else "")


def _code_of(thread: threading.Thread) -> CodeType | None:
    """The code of what `thread` runs: its target, or its class's `run`."""
    target = getattr(thread, "_target", None)
    if target is None and type(thread).run is not threading.Thread.run:
        target = type(thread).run
    while target is not None and not hasattr(target, "__code__"):
        target = getattr(target, "__func__", None) or getattr(target, "func", None)
    return getattr(target, "__code__", None)


def _module_of(thread: threading.Thread) -> str:
    target: Any = getattr(thread, "_target", None) or type(thread)
    return str(getattr(target, "__module__", ""))


def _describe_thread(thread: threading.Thread) -> str:
    code = _code_of(thread)
    if code is None:
        return repr(thread.name)
    return f"{thread.name!r} ({_shorten(code.co_filename)}:{code.co_firstlineno})"


def _assignment(holding: Holding) -> str:
    """Where the holding name is assigned, as " (file:line)", as far as the source tells."""
    file = getattr(sys.modules.get(holding.module), "__file__", None)
    if not isinstance(file, str):
        return ""
    try:
        with open(file, encoding="utf-8") as source:
            lines = source.read().splitlines()
    except (OSError, UnicodeDecodeError):
        return f" ({_shorten(file)})"
    assigned = re.compile(rf"\s*(?:[\w, ]+,\s*)?{re.escape(holding.name)}\s*(?:,[^=]*|:[^=]*)?=(?!=)")
    for number, line in enumerate(lines, 1):
        if assigned.match(line):
            return f" ({_shorten(file)}:{number})"
    return f" ({_shorten(file)})"


def _shorten(file: str) -> str:
    """`file` from the working directory, or from where packages are installed, if it lies there."""
    for root in (os.getcwd(), *sorted(sys.path, key=len, reverse=True)):
        if root and file.startswith(os.path.join(root, "")):
            return os.path.relpath(file, root)
    return file
