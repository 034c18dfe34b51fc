# The compiled heartbeat's type, for the loop and its connections.

cdef struct SlotLayout:
    # HeartbeatTable.LAYOUT: a slot's size and where its fields lie, in bytes; two of its states;
    # and after how many nanoseconds without a beat a busy worker accepts nobody.
    int slot
    int connections
    int state
    int ready
    int busy
    long long busy_limit


cdef class Pulse:
    cdef object heartbeat             # what was given: a Slot, something like it, or None
    # The slot in shared memory, or NULL
    cdef object view
    cdef long long *slot_beat
    cdef long long *slot_requests
    cdef int *slot_connections
    cdef int *slot_state
    cdef SlotLayout layout
    cdef char *table                  # all slots, where there are other workers; else NULL
    cdef int *table_used              # how many of them are to be looked at
    cdef bint shares                  # whether the others accept what this worker leaves

    cdef int beat(self, long long now=*) except -1
    cdef void mark(self, bint busy) noexcept
    cdef int publish(self, long long requests, Py_ssize_t connections) except -1
    cdef bint has_its_share(self, Py_ssize_t connections, long long now) noexcept
    cdef bint others_wait(self) noexcept
