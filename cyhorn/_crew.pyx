# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, auto_pickle=False
"""Threads that lead a loop in turn, compiled: a native watch notices a long call. See `_crew_py`.

The watch (`_watch.h`) needs no GIL, so that it sees also a call that holds it; the thread that
it wakes takes the GIL, and with it the lead: whoever has the GIL sees the loop at rest, for a
compiled loop gives it away only where it waits, calls or logs.
"""

cimport cython
from cpython.exc cimport PyErr_CheckSignals, PyErr_SetFromErrno

from cyhorn._loop cimport Loop, call_watch

import threading

cdef extern from "<semaphore.h>" nogil:
    ctypedef struct sem_t:
        pass
    int sem_wait(sem_t *semaphore)
    int sem_post(sem_t *semaphore)

cdef extern from "_watch.h" nogil:
    call_watch *cyhorn_watch_start()
    void cyhorn_watch_end(call_watch *watch)
    sem_t *cyhorn_promotion(call_watch *watch)

cdef double JOIN_TIMEOUT = 1.0  # seconds for the other threads to see that all is over


@cython.final
cdef class Crew:
    """`threads` threads that may be in the application at a time, and one more that leads `loop`."""

    cdef Loop loop
    cdef Py_ssize_t threads
    cdef call_watch *watch
    cdef bint over
    cdef object failure               # what ended one of the other threads

    def __cinit__(self):
        self.watch = NULL

    def __init__(self, loop, threads):
        self.loop = loop
        self.threads = threads

    def run(self):
        """Serve until the loop is over. To be called in the main thread, which is one of the crew."""
        self.watch = cyhorn_watch_start()
        if self.watch == NULL:
            PyErr_SetFromErrno(OSError)
        self.loop.call_watch = self.watch
        others = [
            threading.Thread(target=self._serve, name=f"cyhorn-{number}", daemon=True)
            for number in range(self.threads)
        ]
        for thread in others:
            thread.start()
        self.serve(True)
        for thread in others:
            thread.join(JOIN_TIMEOUT)
        if not any([thread.is_alive() for thread in others]):
            self.loop.call_watch = NULL
            cyhorn_watch_end(self.watch)
            self.watch = NULL
        self.loop.close()
        if self.failure is not None:
            raise self.failure

    def _serve(self):
        try:
            self.serve(False)
        except BaseException as error:
            self.failure = error  # the main thread ends the worker by it
            self.end()

    cdef int serve(self, bint leads) except -1:
        """Lead and follow in turn, until all is over."""
        cdef int status
        while not self.over:
            if leads and self.loop.lead():
                return self.end()
            with nogil:
                status = sem_wait(cyhorn_promotion(self.watch))
            if status != 0:
                PyErr_CheckSignals()  # in the main thread: their handlers
            leads = status == 0 and not self.over and self.loop.take_over(self.watch.promoted)
        return 0

    cdef int end(self) except -1:
        self.over = True
        for _ in range(self.threads + 1):
            sem_post(cyhorn_promotion(self.watch))
        return 0
