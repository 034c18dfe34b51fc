# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, auto_pickle=False
"""A worker's sign of life and its place among the others, compiled: stores into the shared slot.

`_pulse_py` says what each means. Here a beat is a store of the coarse clock, so that the
loop can afford one a turn.
"""

cimport cython

from cyhorn._system cimport CLOCK_MONOTONIC_COARSE, clock_ns


@cython.final
cdef class Pulse:
    """The heartbeat of one worker. `heartbeat` is its slot, something with `notify()`, or None.

    `multiprocess` says that the slot's table has other workers in it.
    """

    def __cinit__(self):
        self.slot_beat = NULL
        self.table = NULL
        self.calls = NULL

    def __init__(self, heartbeat, multiprocess, shared_listeners=True):
        cdef unsigned char[::1] view
        cdef SlotLayout *layout = &self.layout
        self.heartbeat = heartbeat
        self.shares = shared_listeners
        table = getattr(heartbeat, "table", None)
        if table is None:
            return
        view = memoryview(table.buffer)
        self.view = view
        self.slot_beat = <long long *>&view[<Py_ssize_t>heartbeat.offset]
        self.slot_requests = self.slot_beat + 1
        layout.slot, layout.connections, layout.state = table.LAYOUT[:3]
        layout.ready, layout.busy, layout.busy_limit = table.LAYOUT[3:]
        self.slot_connections = <int *>(<char *>self.slot_beat + layout.connections)
        self.slot_state = <int *>(<char *>self.slot_beat + layout.state)
        self.call_count, size = table.CALL_LAYOUT
        if size != sizeof(CallRecord):
            raise ValueError(f"a record of a call has {sizeof(CallRecord)} bytes, not {size}")
        self.calls = <CallRecord *>&view[<Py_ssize_t>heartbeat.calls_offset]
        if multiprocess:
            self.table = <char *>&view[0]
            self.table_used = <int *>(self.table + <Py_ssize_t>table.slots * layout.slot)

    cdef int beat(self, long long now=0) except -1:
        """Say that the worker lives. `now`: the coarse clock where it was just read, in nanoseconds."""
        if self.slot_beat != NULL:
            self.slot_beat[0] = now or clock_ns(CLOCK_MONOTONIC_COARSE)
        elif self.heartbeat is not None:
            self.heartbeat.notify()
        return 0

    cdef void mark(self, bint busy) noexcept:
        """Say whether this worker waits or works; what else it is, others have said."""
        cdef int now
        if self.slot_beat != NULL:
            now = self.slot_state[0]
            if now == self.layout.ready or now == self.layout.busy:
                self.slot_state[0] = self.layout.busy if busy else self.layout.ready

    cdef int publish(self, long long requests, Py_ssize_t connections) except -1:
        """Tell the master and the other workers how many there are."""
        if self.slot_beat != NULL:
            self.slot_requests[0] = requests
            self.slot_connections[0] = <int>connections
        elif self.heartbeat is not None:
            self.heartbeat.requests = requests
            self.heartbeat.connections = connections
        return 0

    cdef bint has_its_share(self, Py_ssize_t connections, long long now) noexcept:
        """Whether this worker, with its `connections`, holds more than the others that accept.

        `Slot.fair_share` says what is fair; here it is looked up in the table itself.
        """
        cdef const char *slot
        cdef long long workers = 0, held = 0, beat
        cdef int i, state
        if self.table == NULL or not self.shares:
            return False
        for i in range(self.table_used[0]):
            slot = self.table + i * self.layout.slot
            state = (<const int *>(slot + self.layout.state))[0]
            beat = (<const long long *>slot)[0]
            if slot == <const char *>self.slot_beat:
                workers += 1
                held += connections
            elif state == self.layout.ready or (
                state == self.layout.busy and now - beat < self.layout.busy_limit
            ):
                workers += 1
                held += (<const int *>(slot + self.layout.connections))[0]
        return workers > 1 and connections >= held * 9 // (8 * workers) + 2

    cdef bint others_wait(self) noexcept:
        """Whether another worker has nothing to do at the moment: `Slot.others_wait`."""
        cdef const char *slot
        cdef int i
        if self.table != NULL:
            for i in range(self.table_used[0]):
                slot = self.table + i * self.layout.slot
                if slot != <const char *>self.slot_beat and (
                    (<const int *>(slot + self.layout.state))[0] == self.layout.ready
                ):
                    return True
        return False

    cdef CallRecord *call_record(self, Py_ssize_t place) noexcept:
        return self.calls + place if self.calls != NULL and place < self.call_count else NULL

    def close(self):
        """Let go of the table, which can then be unmapped."""
        self.slot_beat = NULL
        self.table = NULL
        self.calls = NULL
        self.heartbeat = self.view = None
