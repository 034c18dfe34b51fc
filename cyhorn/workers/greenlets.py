"""Greenlets that lead a loop in turn: leader and followers, as `cyhorn.crew` has it with threads.

While nothing is ready the loop rests, and gevent's hub waits for its descriptor. When something is ready, or
a timer of the loop is due, the hub switches to a greenlet of the crew, which leads: it serves what is ready,
calls the application itself, and lets the loop rest again. A fast application pays for one switch a turn, not
for one a request.

Where the application waits, gevent switches back to the hub, and the loop is in the middle of a call. What is
ready next finds it there and has another greenlet take it over (`Loop.take_over`). The one in the call
answers its request, hands the connection back and leads on, or waits to be needed.

Invariants: all of it happens in one thread, so that between two switches nobody else touches the loop.
`_leader` is the greenlet that is somewhere within a turn, None while the loop rests. A greenlet that waits
for its client in the middle of a turn, outside of a call, cannot be replaced; it is waited for.
"""

from __future__ import annotations

import contextvars
import time
import traceback
from typing import Any

import gevent
from gevent.event import Event

from cyhorn.errors import TakenOver
from cyhorn.loop import Loop

#: Seconds for which a greenlet leads before others that could run have their turn.
SLICE = 0.001
#: Greenlets without work that are kept. More are made when they are needed.
SPARE = 64
#: Seconds after which it is looked again whether the loop can be led, where a turn waits for a client.
LOOK_AGAIN = 0.01
#: Greenlets whose stacks a dump shows.
SHOWN = 20

_READ = 1  # an event of gevent's loops


class GreenletCrew:
    """Serves by `loop` until it is over. `run` is to be called in the main greenlet of the thread."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self._hub = gevent.get_hub()
        self._ready = self._hub.loop.io(loop.fileno(), _READ)
        self._looking = False  # whether `_ready` is started
        self._timer: Any = None
        self._due = float("inf")  # when it ends
        self._patience = float("inf")  # for how long it was set
        self._leader: Any = None
        self._members: set[Any] = set()
        self._idle: list[Any] = []
        self._context = contextvars.copy_context()
        self._over = False
        self._ended = Event()
        self._failure: BaseException | None = None  # what ended one of the greenlets, and with it the worker

    def run(self) -> None:
        """Serve until all is over. Raises what a signal handler raised to end the worker."""
        try:
            self._rest(0.0)  # a stop that came before is to be seen
            self._ended.wait()
        finally:
            self._over = True
            self._ready.stop()
            if self._timer is not None:
                self._timer.stop()
        if self._failure is not None:
            raise self._failure
        self.loop.close()

    # -- in the hub, where nothing may wait ------------------------------------------------------

    def _attend(self) -> None:
        """Something is ready, or due: let a greenlet see to it."""
        if self._leader is None or self.loop.call_ticket is not None:
            self._free_greenlet().switch()
            return
        self._ready.stop()  # it would be ready all the time
        self._looking = False
        self._call_after(LOOK_AGAIN)

    def _on_time(self) -> None:
        self._due = self._patience = float("inf")
        self._attend()

    def _call_after(self, seconds: float) -> None:
        """Have `_attend` called within `seconds`. Earlier does no harm, so the timer is rarely set."""
        if seconds >= self._patience:
            return  # it was set before, and for less
        due = time.monotonic() + seconds
        if due < self._due:
            if self._timer is not None:
                self._timer.stop()
            self._timer = self._hub.loop.timer(seconds)
            self._timer.start(self._on_time, update=True)
            self._due, self._patience = due, seconds

    def _free_greenlet(self) -> Any:
        while self._idle:
            greenlet = self._idle.pop()
            if not greenlet.dead:  # the application may kill what it finds
                return greenlet
        greenlet = gevent.Greenlet(self._serve)
        greenlet.gr_context = self._context.copy()  # what was set while the application was loaded
        self._members.add(greenlet)
        return greenlet

    # -- in a greenlet of the crew ------------------------------------------------------------------

    def _serve(self) -> None:
        """Lead when switched to, and wait in the hub meanwhile."""
        me = gevent.getcurrent()
        try:
            self._lead(me)
            while len(self._idle) < SPARE and not self._over:
                self._idle.append(me)
                try:
                    self._hub.switch()
                except gevent.GreenletExit:
                    break
                self._lead(me)
        except BaseException as error:
            self._failure = error
            self._end()
        finally:
            self._members.discard(me)

    def _lead(self, me: Any) -> None:
        """Serve what is ready, if the loop is there to be led."""
        loop = self.loop
        while not self._over:
            if self._leader is not None:
                ticket = loop.call_ticket
                if ticket is None or not loop.take_over(ticket):
                    return  # within a turn, which goes on by itself
            self._leader = me
            try:
                patience = loop.lead_on(SLICE)
            except TakenOver:
                continue  # what was handed back is to be seen to
            self._leader = None
            if patience is None:
                self._end()
            else:
                self._rest(patience)
            return

    def _rest(self, patience: float) -> None:
        """Let the hub wait for the loop, for `patience` seconds at most."""
        if not self._looking:
            self._ready.start(self._attend)
            self._looking = True
        self._call_after(patience)

    def _end(self) -> None:
        self._over = True
        self._ended.set()

    # -- for those who look at it --------------------------------------------------------------------

    def stacks(self) -> str:
        """Where the greenlets that are in the application stand, in the words of a traceback."""
        parts = []
        away = [each for each in self._members if each.gr_frame is not None and each not in self._idle]
        for number, greenlet in enumerate(away[:SHOWN], 1):
            stack = "".join(traceback.format_stack(greenlet.gr_frame))
            parts.append(f"Greenlet {number} of {len(away)} (most recent call last):\n{stack}")
        return "\n".join(parts)
