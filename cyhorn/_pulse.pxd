# The compiled heartbeat's type, for the loop, its connections and the request cycle.

cdef extern from *:
    """
    #include <string.h>
    /* A call of memcpy: for a size known to be small the compiler takes "rep movs", which begins slowly. */
    static inline void cyhorn_copy(void *to, const void *from, size_t size) {
        __asm__("" : "+r"(size));
        memcpy(to, from, size);
    }
    /* Orders the stores of one record for a reader in another process; on x86-64 they are plain moves. */
    #define cyhorn_publish(number, value) __atomic_store_n((number), (value), __ATOMIC_RELEASE)
    #define cyhorn_retract(number) do { \
        __atomic_store_n((number), 0, __ATOMIC_RELAXED); \
        __atomic_thread_fence(__ATOMIC_RELEASE); \
    } while (0)
    """
    void cyhorn_copy(void *to, const void *source, size_t size) noexcept nogil
    void cyhorn_publish(long long *number, long long value) noexcept nogil
    void cyhorn_retract(long long *number) noexcept nogil

cdef extern from "Python.h":
    const void *PyUnicode_DATA(object text) noexcept
    Py_ssize_t PyUnicode_GET_LENGTH(object text) noexcept

cdef enum:
    # cyhorn.process.calls
    PEER_SIZE = 48
    METHOD_SIZE = 16
    TARGET_SIZE = 168

cdef struct Caller:
    # What of a record a connection keeps: who calls, and the method, up to a space or NUL.
    char peer[PEER_SIZE]
    char method[METHOD_SIZE]

cdef struct CallRecord:
    long long number
    long long began
    long long size
    Caller caller
    char target[TARGET_SIZE]


cdef inline void call_begins(
    CallRecord *record, long long number, long long now, const Caller *caller, str target
) noexcept:
    """Write down call `number`. `target` is a string of latin-1, as every one that came over the wire."""
    cdef Py_ssize_t size = PyUnicode_GET_LENGTH(target)
    record.began = now
    record.size = size
    record.caller = caller[0]
    cyhorn_copy(record.target, PyUnicode_DATA(target), <size_t>min(size, <Py_ssize_t>TARGET_SIZE))
    cyhorn_publish(&record.number, number)


cdef inline void call_ends(CallRecord *record) noexcept:
    """Take it back."""
    cyhorn_retract(&record.number)


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
    cdef CallRecord *calls            # the records of the slot's calls, or NULL
    cdef int call_count
    cdef bint shares                  # whether the others accept what this worker leaves

    cdef int beat(self, long long now=*) except -1
    cdef void mark(self, bint busy) noexcept
    cdef int publish(self, long long requests, Py_ssize_t connections) except -1
    cdef bint has_its_share(self, Py_ssize_t connections, long long now) noexcept
    cdef bint others_wait(self) noexcept
    # Where request cycle number `place` writes down its calls; NULL where nobody reads it.
    cdef CallRecord *call_record(self, Py_ssize_t place) noexcept
