/* Preloaded into a server: its wall clock is the machine's plus the seconds that the first 8 bytes of the
   file named by WALL_CLOCK_FILE say (an int64, mapped, so that a test moves the clock while the server runs).
   The monotonic clocks are the machine's. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *offset;

__attribute__((constructor)) static void map_offset(void)
{
    const char *path = getenv("WALL_CLOCK_FILE");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        void *page = mmap(NULL, 8, PROT_READ, MAP_SHARED, fd, 0);
        if (page != MAP_FAILED)
            offset = page;
        close(fd);
    }
}

int clock_gettime(clockid_t clock, struct timespec *when)
{
    int result = (int)syscall(SYS_clock_gettime, clock, when);
    if (result == 0 && offset && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        when->tv_sec += *offset;
    return result;
}

int gettimeofday(struct timeval *restrict when, void *restrict zone)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    when->tv_sec = now.tv_sec;
    when->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *when)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (when)
        *when = now.tv_sec;
    return now.tv_sec;
}
