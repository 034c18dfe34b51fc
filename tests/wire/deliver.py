"""Ways to deliver a case's bytes, and the three places to deliver them to.

`plans` cuts what a client sends into pieces. `on_parser` gives them to parser and chunked
decoder alone, `on_loop` to a loop in this thread over socket pairs, `on_server` to a
running server. Every function returns how many deliveries it made, and raises
AssertionError, with the delivery, at the first that is not as the case says.
"""

from __future__ import annotations

import functools
import itertools
import random
import select
import socket
import time
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

from cyhorn.config.config import Config
from cyhorn.errors import OUR_ERRORS
from cyhorn.workers.sync import SyncWorker
from cyhorn.wsgi.options import LoopOptions
from tests.loop.driver import PATIENCE, Incomplete, Served, read_answer
from tests.wire import applications
from tests.wire.case import Case
from tests.wire.judge import Output, answered, before, judge, sentinel

#: A case's bytes are cut at each offset up to this size; beyond it, at its ends and in some places.
EVERY_CUT_SIZE = 400
#: Beyond this size, in a few places only.
LARGE = 100_000
#: Of a message no longer than this, each byte comes alone.
EVERY_BYTE_SIZE = 1200


class Plan(NamedTuple):
    """One delivery. `turns` holds, for each turn of the client, the pieces it sends."""

    name: str
    turns: tuple[tuple[bytes, ...], ...]
    preceded: bool = False


def _cut(data: bytes, cuts: Sequence[int]) -> tuple[bytes, ...]:
    ends = [0, *sorted(cuts), len(data)]
    return tuple(data[a:b] for a, b in itertools.pairwise(ends) if a < b)


def _offsets(case: Case, thorough: bool) -> list[int]:
    """Where the case's bytes are cut in two."""
    size = len(case.data)
    chosen = random.Random(case.name)
    if size > LARGE:
        return sorted(chosen.randrange(1, size) for _ in range(60 if thorough else 3))
    if thorough or size <= EVERY_CUT_SIZE:
        return list(range(1, size))
    ends = {offset for offset in (*range(1, 60), *range(size - 60, size + 1)) if 0 < offset < size}
    return sorted(ends | {chosen.randrange(1, size) for _ in range(40)})


def plans(case: Case, *, thorough: bool = False, cuts: bool = True) -> Iterator[Plan]:
    """The deliveries of `case`: whole, in pieces, behind another request; a sentinel in front of none.

    Without `cuts`, two pieces are cut at a few offsets only.
    """
    turns = [turn.data for turn in case.turns]
    after = sentinel(case)

    def spread(name: str, offsets: Sequence[int], *, preceded: bool = False) -> Plan:
        """Cut at `offsets` of the case's bytes; the sentinel comes with the last piece."""
        pieces: list[tuple[bytes, ...]] = []
        base = 0
        for number, data in enumerate(turns):
            own = [offset - base for offset in offsets if base < offset < base + len(data)]
            base += len(data)
            if number == 0 and preceded:
                data = before(case) + data
                own = [offset + len(before(case)) for offset in own]
            if number == len(turns) - 1:
                data += after
            pieces.append(_cut(data, own))
        return Plan(name, tuple(pieces), preceded)

    size = len(case.data)
    yield spread("whole", ())
    if case.quiet == "silent":
        return
    follows = not case.first and case.settings.get("keepalive") != 0
    if follows:
        yield spread("whole, behind another request", (), preceded=True)
    step = 1
    if size > LARGE:
        step = size // 20
    elif size > EVERY_BYTE_SIZE:
        step = size // (min(size, 5000) if thorough else 400)  # a server gives a head some seconds
    chosen = random.Random(case.name)
    offsets = _offsets(case, thorough)
    if cuts:
        yield spread("byte by byte", range(1, size, step))
        if follows and size <= EVERY_BYTE_SIZE:
            yield spread("byte by byte, behind another request", range(1, size), preceded=True)
    elif len(offsets) > 3:
        offsets = chosen.sample(offsets, 3)
    for offset in offsets:
        yield spread(f"cut at {offset}", (offset,))
    for _ in range(20 if thorough else 3):
        some = sorted(chosen.randrange(1, size) for _ in range(chosen.randint(2, 6))) if size > 1 else []
        yield spread(f"cut at {some}", some, preceded=follows and chosen.random() < 0.5)


def check(case: Case, plan: Plan, output: Output) -> None:
    """Judge what a client of `plan` received, and tell the delivery where it is wrong."""
    try:
        judge(case, output, preceded=plan.preceded)
    except (AssertionError, Incomplete) as error:
        pieces = " | ".join(repr(piece)[1:] for turn in plan.turns for piece in turn)
        raise AssertionError(
            f"{case.path}\n  {plan.name}: {error}\n  sent {pieces[:3000]}\n  received {output}"
        ) from error


# -- the loop in this thread ------------------------------------------------------------


def loop_options(case: Case) -> LoopOptions:
    """What a sync worker makes of the case's settings."""
    config = Config()
    for name, value in case.settings.items():
        config.set(name, value)
    worker = SimpleNamespace(
        cfg=config,
        timeout=config.timeout,
        max_requests=0,
        _access_options=dict,
        _guarded=lambda name: None,
    )
    options = SyncWorker.loop_options(worker)  # type: ignore[arg-type]
    return options._replace(script_name=case.variables.get("SCRIPT_NAME", ""))


class Client:
    """One connection's other end, which follows a plan."""

    def __init__(self, sock: socket.socket, case: Case, plan: Plan) -> None:
        self.sock = sock
        self.case = case
        self.plan = plan
        self.data = b""
        self.ended = self.reset = False
        self.shut = False  # whether our FIN is sent
        self.sent_at = 0.0
        self._turn = 0
        self._piece = 0
        sock.setblocking(False)

    @property
    def spoken(self) -> bool:
        """Whether all is sent."""
        return self._turn == len(self.plan.turns)

    def speak(self) -> None:
        """Send the next piece, unless an answer has to come first."""
        if self.spoken or self.ended:
            return
        if not self._piece and self._turn and not self._answered():
            return
        pieces = self.plan.turns[self._turn]
        try:
            sent = self.sock.send(pieces[self._piece])
            if sent < len(pieces[self._piece]):
                rest = pieces[self._piece][sent:]
                self.plan = self.plan._replace(
                    turns=(
                        *self.plan.turns[: self._turn],
                        (*pieces[: self._piece], rest, *pieces[self._piece + 1 :]),
                        *self.plan.turns[self._turn + 1 :],
                    )
                )
                return
        except BlockingIOError:
            return
        except (BrokenPipeError, ConnectionResetError):
            self._turn = len(self.plan.turns)
            return
        self._piece += 1
        if self._piece == len(pieces):
            self._turn, self._piece = self._turn + 1, 0
        if self.spoken:
            self.sent_at = time.monotonic()
            if self.case.quiet == "fin":
                self._shut()

    def _answered(self) -> bool:
        """Whether all answers to what was sent in earlier turns are here."""
        data = self.data
        if self.plan.preceded:
            try:
                data = read_answer(data)[1]
            except Incomplete:
                return False
        turns = self.case.turns[: self._turn]
        wanted = sum(not answer.optional for turn in turns for answer in turn.answers)
        return answered(self.case, data) >= wanted

    def _shut(self) -> None:
        self.shut = True
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def listen(self) -> None:
        """Receive what is there."""
        while not self.ended:
            try:
                data = self.sock.recv(1 << 18)
            except BlockingIOError:
                return
            except ConnectionResetError:
                self.ended = self.reset = True
                return
            self.data += data
            self.ended = not data

    @property
    def output(self) -> Output:
        return Output(self.data, self.ended, self.reset)


def converse(clients: list[Client], serve: Any, quiet: float) -> None:
    """Let every client speak and listen until its connection has ended.

    `serve()` lets the server work. A server that waits for more must have stayed silent for
    `quiet` seconds; the client then leaves, and gets no answer.
    """
    deadline = time.monotonic() + PATIENCE
    open_ones = list(clients)
    while open_ones:
        assert time.monotonic() < deadline, (
            f"{open_ones[0].case.path}: nothing more came\n  {open_ones[0].plan}\n  {open_ones[0].output}"
        )
        for client in open_ones:
            client.speak()
        serve()
        for client in open_ones:
            client.listen()
        open_ones = [client for client in open_ones if not _over(client, quiet)]


def _over(client: Client, quiet: float) -> bool:
    if client.ended:
        return True
    waits = client.case.ending == "wait" and client.spoken and not client.shut
    return waits and client._answered() and time.monotonic() - client.sent_at > quiet


def leave(client: Client, serve: Any) -> None:
    """The client of a case that ends in "wait" leaves inside its request: no answer."""
    if client.case.ending != "wait" or client.ended:
        return
    seen = client.output
    client._shut()
    deadline = time.monotonic() + PATIENCE
    while not client.ended:
        assert time.monotonic() < deadline, "the connection stays after its client's end"
        serve()
        client.listen()
    assert client.data == seen.data, f"an answer to half a request: {client.data[len(seen.data) :]!r}"


class Loops:
    """The loops of one side, one for each group of settings and transport, made when first used."""

    def __init__(self, impl: Any, folder: Any) -> None:
        self.impl = impl
        self.folder = folder
        self._served: dict[Any, Served] = {}

    def served(self, case: Case) -> Served:
        """The loop that serves `case`."""
        unix = case.over != "tcp"
        key = (case.group, unix)
        if key not in self._served:
            path = str(self.folder / f"{self.impl.name}-{len(self._served)}") if unix else None
            self._served[key] = Served(
                self.impl, applications.application, unix=path, **loop_options(case)._asdict()
            )
        return self._served[key]

    def close(self) -> None:
        """End them all."""
        for served in self._served.values():
            served.close()


def on_loop(case: Case, loops: Loops, *, thorough: bool = False) -> int:
    """Deliver `case` in every way to a loop in this thread. Returns how many ways."""
    served = loops.served(case)
    every = [
        plan
        for plan in plans(case, thorough=thorough)
        # An application that reads while the client sends would wait for this very thread.
        if case.settings.get("buffer_request_body", True) or plan.name.startswith("whole")
    ]
    served.log.lines.clear()
    for start in range(0, len(every), 100):
        batch = every[start : start + 100]
        clients = []
        for plan in batch:
            if case.over == "tcp":
                sock = socket.create_connection(served.address)
                served.turn(0)
            else:
                sock, theirs = socket.socketpair()
                served.loop.adopt(theirs)
            clients.append(Client(sock, case, plan))

        def serve() -> None:
            served.turn(0)

        try:
            converse(clients, serve, 0.0)
            for client in clients:
                check(case, client.plan, client.output)
                leave(client, serve)
        finally:
            for client in clients:
                client.sock.close()
            served.turn(0)
    judge_log(case, served, len(every))
    return len(every)


def judge_log(case: Case, served: Served, deliveries: int) -> None:
    """A refusal is one line that names its code; a traceback is never a client's doing."""
    log = served.log
    refusals = [answer for answer in case.answers if answer.code is not None]
    for answer in refusals:
        assert answer.code is not None
        levels = [level for level, message, _ in log.lines if message.endswith(f"[{answer.code.name}]")]
        assert len(levels) == deliveries, f"{case.path}: {len(levels)} lines of {deliveries} in the log"
        level = "error" if answer.code in OUR_ERRORS else "info"
        assert set(levels) == {level}, f"{case.path}: logged as {set(levels)}"
    if all(answer.status != 500 for answer in case.answers) and case.ending != "cut":
        unexpected = [kind for kind in log.tracebacks if not any(a.logged for a in case.answers)]
        assert not unexpected, f"{case.path}: {unexpected}"
    messages = [message for _, message, _ in log.lines]
    for answer in case.answers:
        for words in answer.logged:
            assert any(words in message for message in messages), f"{case.path}: not logged: {words}"


# -- a running server ---------------------------------------------------------------------


def _give_time(clients: list[Client]) -> None:
    """Pieces are some time apart, so that the server mostly sees them one by one."""
    waiting = [client for client in clients if not client.ended]
    if all(client.spoken for client in waiting):
        poll = select.poll()
        for client in waiting:
            poll.register(client.sock, select.POLLIN)
        poll.poll(20)
    else:
        time.sleep(0.0005)


def on_server(case: Case, addresses: dict[str, Any], *, thorough: bool = False) -> int:
    """Deliver `case` to a server's addresses, "tcp" and "unix". Returns how many deliveries."""
    transports = [case.over] if case.over else ["tcp", "unix"]
    every = [
        (transport, plan)
        for transport in transports
        for plan in plans(case, thorough=thorough, cuts=thorough)
        if len(case.data) < LARGE or plan.name == "whole"
    ]
    for start in range(0, len(every), 64):
        clients = []
        for transport, plan in every[start : start + 64]:
            family = socket.AF_INET if transport == "tcp" else socket.AF_UNIX
            sock = socket.socket(family)
            sock.connect(addresses[transport])
            if transport == "tcp":
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            clients.append(Client(sock, case, plan))

        serve = functools.partial(_give_time, clients)
        try:
            converse(clients, serve, 0.05)
            for client in clients:
                check(case, client.plan, client.output)
                leave(client, serve)
        finally:
            for client in clients:
                client.sock.close()
    return len(every)
