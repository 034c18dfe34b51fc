/* A native thread that notices when a call of the application lasts longer than about a millisecond.
 *
 * It must see this while the GIL is held by the very call, so it is no Python thread and touches
 * no object: the loop writes when a call begins and ends, and the watch posts `promote` when the
 * same call was there at two looks. While nobody calls, it sleeps until it is woken.
 */
#ifndef CYHORN_WATCH_H
#define CYHORN_WATCH_H

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#define CYHORN_LOOK_NS 1000000 /* between two looks */
#define CYHORN_IDLE_LOOKS 20   /* looks without a call before it goes to sleep */

typedef struct call_watch {
    _Atomic(long long) ticket;    /* number of the call that is or was made last */
    _Atomic(long long) promoted;  /* number of the call that was found to last, for who takes over */
    _Atomic(int) calling;         /* whether the one who leads is in the application */
    _Atomic(int) asleep;
    _Atomic(int) ended;
    sem_t wake;                   /* for the watch */
    sem_t promote;                /* for a thread that waits to lead */
    pthread_t thread;
} call_watch;

static inline void *cyhorn_watch_main(void *argument) {
    call_watch *watch = argument;
    struct timespec pause = {0, CYHORN_LOOK_NS};
    long long seen = -1;
    int idle = 0;
    while (!atomic_load(&watch->ended)) {
        nanosleep(&pause, NULL);
        if (atomic_load(&watch->calling)) {
            long long ticket = atomic_load(&watch->ticket);
            idle = 0;
            if (ticket == seen && ticket != atomic_load(&watch->promoted)) {
                atomic_store(&watch->promoted, ticket);
                sem_post(&watch->promote);
            }
            seen = ticket;
        } else if (++idle >= CYHORN_IDLE_LOOKS) {
            atomic_store(&watch->asleep, 1);
            /* A call that begins now sees `asleep`, or is seen here. */
            while (!atomic_load(&watch->calling) && !atomic_load(&watch->ended)
                   && sem_wait(&watch->wake) != 0 && errno == EINTR) {
            }
            atomic_store(&watch->asleep, 0);
            idle = 0;
        }
    }
    return NULL;
}

/* Returns NULL, with errno set, where the thread cannot be made. */
static inline call_watch *cyhorn_watch_start(void) {
    call_watch *watch = calloc(1, sizeof(call_watch));
    sigset_t all, before;
    int failure;
    if (watch == NULL) {
        return NULL;
    }
    atomic_init(&watch->promoted, -1);
    sem_init(&watch->wake, 0, 0);
    sem_init(&watch->promote, 0, 0);
    sigfillset(&all); /* signals are for the interpreter's threads */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    failure = pthread_create(&watch->thread, NULL, cyhorn_watch_main, watch);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failure) {
        free(watch);
        errno = failure;
        return NULL;
    }
    return watch;
}

/* Nobody may wait for `promote` any more. */
static inline void cyhorn_watch_end(call_watch *watch) {
    atomic_store(&watch->ended, 1);
    sem_post(&watch->wake);
    pthread_join(watch->thread, NULL);
    sem_destroy(&watch->wake);
    sem_destroy(&watch->promote);
    free(watch);
}

static inline sem_t *cyhorn_promotion(call_watch *watch) {
    return &watch->promote;
}

static inline void cyhorn_call_begins(call_watch *watch, long long ticket) {
    atomic_store_explicit(&watch->ticket, ticket, memory_order_relaxed);
    atomic_store(&watch->calling, 1);
    if (atomic_load(&watch->asleep)) {
        sem_post(&watch->wake);
    }
}

static inline void cyhorn_call_ends(call_watch *watch) {
    atomic_store_explicit(&watch->calling, 0, memory_order_release);
}

#endif
