"""Threads that lead a loop in turn (leader and followers).

One thread of the crew leads: it waits for the connections and calls the application itself.
The others wait. A watch looks every millisecond whether the same call is still there; then
it wakes one of those who wait, which takes the loop over (`Loop.take_over`) and leads from
then on. Whoever comes back from a call and finds another leading hands the answered
connection back and waits in turn.

Invariants: exactly one thread leads while the loop is not over. There is one thread more
than calls that may be made at a time, so that somebody can always lead.
"""

from __future__ import annotations

import threading
import time

from cyhorn._loop_py import Loop

#: Seconds between two looks of the watch, and how many of them without a call send it to sleep.
LOOK, IDLE_LOOKS = 0.001, 20
#: Seconds for the other threads to see that all is over.
JOIN_TIMEOUT = 1.0


class CallWatch:
    """Notices a call that lasts longer than about a millisecond, and releases `promotion` for it."""

    def __init__(self) -> None:
        self.promotion = threading.Semaphore(0)
        self.promoted = -1  # number of the call that was found to last
        self._ticket: int | None = None
        self._awake = threading.Event()
        self._ended = False

    def begins(self, ticket: int) -> None:
        """The one who leads makes call number `ticket`."""
        self._ticket = ticket
        if not self._awake.is_set():
            self._awake.set()

    def ends(self) -> None:
        """The one who leads makes no call."""
        self._ticket = None

    def run(self) -> None:
        """Look until ended; while nobody calls, sleep."""
        seen, idle = None, 0
        while not self._ended:
            time.sleep(LOOK)
            ticket = self._ticket
            if ticket is None:
                idle += 1
                if idle >= IDLE_LOOKS:
                    self._awake.clear()
                    if self._ticket is None and not self._ended:  # a call that begins now sees it cleared
                        self._awake.wait()
                    idle = 0
            else:
                idle = 0
                if ticket == seen and ticket != self.promoted:
                    self.promoted = ticket
                    self.promotion.release()
            seen = ticket

    def end(self) -> None:
        """Let `run` return."""
        self._ended = True
        self._awake.set()


class Crew:
    """`threads` threads that may be in the application at a time, and one more that leads `loop`."""

    def __init__(self, loop: Loop, threads: int) -> None:
        self.loop = loop
        self.threads = threads
        self._watch = CallWatch()
        self._over = False
        self._failure: BaseException | None = None  # what ended one of the other threads

    def run(self) -> None:
        """Serve until the loop is over. To be called in the main thread, which is one of the crew."""
        self.loop.call_watch = self._watch
        others = [
            threading.Thread(target=self._serve, name=f"cyhorn-{number}", daemon=True)
            for number in range(self.threads)
        ]
        others.append(threading.Thread(target=self._watch.run, name="cyhorn-watch", daemon=True))
        for thread in others:
            thread.start()
        self._lead_and_follow(True)
        for thread in others:
            thread.join(JOIN_TIMEOUT)
        self.loop.call_watch = None
        self.loop.close()
        if self._failure is not None:
            raise self._failure

    def _serve(self) -> None:
        try:
            self._lead_and_follow(False)
        except BaseException as error:
            self._failure = error  # the main thread ends the worker by it
            self._end()

    def _lead_and_follow(self, leads: bool) -> None:
        """Lead and follow in turn, until all is over."""
        while not self._over:
            if leads and self.loop.lead():
                self._end()
                return
            self._watch.promotion.acquire()
            leads = not self._over and self.loop.take_over(self._watch.promoted)

    def _end(self) -> None:
        self._over = True
        self._watch.end()
        self._watch.promotion.release(self.threads + 1)
