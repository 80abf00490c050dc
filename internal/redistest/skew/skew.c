/* A program that is started with this library before its others (LD_PRELOAD) sees the
 * time of day moved by as many microseconds as the file that HOLDFAST_SKEW names holds:
 * one int64, looked at in each call. The monotonic clock stays as it is.
 *
 * Nothing is looked up and nothing allocated, since an allocator may ask for the time
 * before anything else runs. (libfaketime does, and cannot be used with jemalloc.) */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile const int64_t *skew;

__attribute__((constructor)) static void attach(void) {
	const char *name = getenv("HOLDFAST_SKEW");
	int fd = name ? open(name, O_RDONLY | O_CLOEXEC) : -1;
	void *map = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *skew, PROT_READ, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED) _exit(70);
	close(fd);
	skew = map;
}

int clock_gettime(clockid_t id, struct timespec *ts) {
	if (syscall(SYS_clock_gettime, id, ts) != 0) return -1;
	if (skew && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) {
		int64_t ns = ts->tv_nsec + *skew % 1000000 * 1000;
		ts->tv_sec += *skew / 1000000 + (ns >= 1000000000) - (ns < 0);
		ts->tv_nsec = ns + (ns < 0) * 1000000000LL - (ns >= 1000000000) * 1000000000LL;
	}
	return 0;
}

int gettimeofday(struct timeval *restrict tv, void *restrict zone) {
	struct timespec ts;
	if (clock_gettime(CLOCK_REALTIME, &ts) != 0) return -1;
	tv->tv_sec = ts.tv_sec;
	tv->tv_usec = ts.tv_nsec / 1000;
	return 0;
}

time_t time(time_t *t) {
	struct timespec ts;
	if (clock_gettime(CLOCK_REALTIME, &ts) != 0) return -1;
	if (t) *t = ts.tv_sec;
	return ts.tv_sec;
}
