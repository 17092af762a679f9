// Preloaded into a process, moves its wall clock by the number of seconds in the file that LLOOM_TEST_CLOCK names, each time
// it is read anew. Time since boot stays as it is, as when a clock is set.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (real == NULL) {
        real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    }
    int result = real(clock, now);
    if (result != 0 || (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE)) {
        return result;
    }
    const char *path = getenv("LLOOM_TEST_CLOCK");
    FILE *file = path == NULL ? NULL : fopen(path, "r");
    if (file != NULL) {
        long seconds = 0;
        if (fscanf(file, "%ld", &seconds) == 1) {
            now->tv_sec += seconds;
        }
        fclose(file);
    }
    return result;
}
