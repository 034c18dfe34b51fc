# cython: auto_pickle=False
"""The guard of a worker, compiled: the kernel alone does both of its steps. `_orphan_py` says what it is for.

When the thread that forked this process ends, which is the master's main thread, the kernel sends it
SIGNAL (PR_SET_PDEATHSIG). The handler, in C, starts a timer, and the timer sends SIGKILL. So there is
no thread, and it does not matter whether the application ever lets go of the interpreter.

Invariants: the handler makes one call, which POSIX permits it, and keeps errno. The guard is set after
privileges have been dropped, for the kernel forgets the first step at a change of credentials.
A forked child inherits neither step: what an application starts is its own.
"""

from libc cimport errno as c_errno
from posix.signal cimport SA_ONSTACK, SA_RESTART, SIG_UNBLOCK, SIGEV_SIGNAL
from posix.signal cimport sigaddset, sigemptyset, sigevent, sigprocmask
from posix.time cimport CLOCK_MONOTONIC, itimerspec, timer_create, timer_settime
from posix.types cimport sigset_t, timer_t
from posix.unistd cimport getppid

cdef extern from "<signal.h>" nogil:
    ctypedef void (*handler_t)(int) noexcept
    struct action_t "sigaction":
        handler_t sa_handler
        sigset_t sa_mask
        int sa_flags
    int sigaction(int, const action_t *, action_t *)
    int SIGKILL, SIGRTMAX

cdef extern from "<sys/prctl.h>" nogil:
    int prctl(int, unsigned long)
    enum: PR_SET_PDEATHSIG

cdef timer_t timer
cdef itimerspec grace_time
cdef bint has_timer = False


cdef void on_orphaned(int number) noexcept nogil:
    """SIGNAL has come: start the timer. A second one starts it anew, and there is none."""
    cdef int saved = c_errno.errno
    timer_settime(timer, 0, &grace_time, NULL)
    c_errno.errno = saved


cdef int failed(str what) except -1:
    raise OSError(c_errno.errno, f"{what} failed")


def guard(parent_fd, int ppid, double grace):
    """Kill this process `grace` seconds after its master `ppid` has ended.

    To be called in the thread and by the process that serve; `parent_fd` is what the Python side watches.
    Raises OSError where the system does not do it.
    """
    global has_timer
    cdef sigevent event
    cdef action_t action
    cdef sigset_t ours
    cdef int number = SIGRTMAX - 1  # valgrind keeps the last to itself
    # No time at all would stop the timer; a century is longer than any process, and can be counted.
    cdef long long wait = max(1, <long long>(min(grace, 3.2e9) * 1e9))
    grace_time.it_interval.tv_sec = grace_time.it_interval.tv_nsec = 0
    grace_time.it_value.tv_sec = wait // 1_000_000_000
    grace_time.it_value.tv_nsec = wait % 1_000_000_000
    if not has_timer:
        event.sigev_notify = SIGEV_SIGNAL
        event.sigev_signo = SIGKILL
        event.sigev_value.sival_ptr = NULL
        if timer_create(CLOCK_MONOTONIC, &event, &timer):
            failed("timer_create")
        has_timer = True
    action.sa_handler = on_orphaned
    action.sa_flags = SA_RESTART | SA_ONSTACK
    sigemptyset(&action.sa_mask)
    sigemptyset(&ours)
    sigaddset(&ours, number)
    if sigaction(number, &action, NULL) or sigprocmask(SIG_UNBLOCK, &ours, NULL):
        failed("sigaction")
    if prctl(PR_SET_PDEATHSIG, number):
        failed("prctl")
    if getppid() != ppid:
        on_orphaned(number)  # it ended before we asked to be told
