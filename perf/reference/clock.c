/* A clock that counts its readings: loaded before the C library by perf/icount.
 *
 * Under callgrind a program runs some fifty times slower, and how often a second passes, or
 * how long a call seems to take, differs from run to run. With this clock time is a function
 * of the program alone: a microsecond passes with each reading, so the counts are exact.
 */
#include <time.h>

int clock_gettime(clockid_t which, struct timespec *now)
{
    static long long microseconds = 1700000000000000LL;
    (void)which;
    microseconds++;
    now->tv_sec = microseconds / 1000000;
    now->tv_nsec = microseconds % 1000000 * 1000;
    return 0;
}
