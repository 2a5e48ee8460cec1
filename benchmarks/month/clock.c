/* A library that is preloaded into a process and moves its wall clock, and nothing else.
 *
 * The file that MONTH_CLOCK names is a list of moves: how many there are, then for each the real
 * time at which it was made and how far the clock is ahead since then, all in microseconds as
 * int64. A call takes the newest move; a time stamp of a file takes the move that was the newest
 * when the file was written. Monotonic clocks, and so every duration, stay as they are. A deadline
 * that a caller computed from the moved clock is moved back before the kernel sees it.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define MOVES 4096
#define NEXT(name, version) next(#name, version)

struct moves {
    int64_t count;
    struct {
        int64_t since, ahead;
    } at[MOVES];
};

static const struct moves *moves;

__attribute__((constructor)) static void open_moves(void) {
    const char *path = getenv("MONTH_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *mapped = mmap(NULL, sizeof *moves, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (mapped != MAP_FAILED) moves = mapped;
}

static void *next(const char *name, const char *version) {
    void *found = version ? dlvsym(RTLD_NEXT, name, version) : NULL;
    return found ? found : dlsym(RTLD_NEXT, name);
}

static int64_t ahead(void) {
    int64_t count = moves ? __atomic_load_n(&moves->count, __ATOMIC_ACQUIRE) : 0;
    return count ? moves->at[count - 1].ahead : 0;
}

static int64_t ahead_at(int64_t real) {
    int64_t low = 0, high = moves ? __atomic_load_n(&moves->count, __ATOMIC_ACQUIRE) : 0;
    while (low < high) {
        int64_t middle = (low + high) / 2;
        if (moves->at[middle].since <= real) low = middle + 1;
        else high = middle;
    }
    return low ? moves->at[low - 1].ahead : 0;
}

static void shift(struct timespec *time, int64_t by) {
    int64_t micro = by % 1000000;
    time->tv_sec += by / 1000000;
    time->tv_nsec += micro * 1000;
    if (time->tv_nsec >= 1000000000) time->tv_nsec -= 1000000000, time->tv_sec++;
    if (time->tv_nsec < 0) time->tv_nsec += 1000000000, time->tv_sec--;
}

static void shift_written(struct timespec *time) {
    shift(time, ahead_at(time->tv_sec * 1000000LL + time->tv_nsec / 1000));
}

static int is_wall(clockid_t clock) {
    return clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE || clock == CLOCK_TAI;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = NEXT(clock_gettime, "GLIBC_2.17");
    int status = real(clock, time);
    if (!status && is_wall(clock)) shift(time, ahead());
    return status;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    time->tv_sec = now.tv_sec;
    time->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *result) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (result) *result = now.tv_sec;
    return now.tv_sec;
}

/* Deadlines. */

static const struct timespec *moved_back(const struct timespec *given, struct timespec *own) {
    *own = *given;
    shift(own, -ahead());
    return own;
}

/* A condition keeps to itself which clock it has; no machine has been up since 1986. */
static const struct timespec *if_wall(const struct timespec *given, struct timespec *own) {
    return given->tv_sec > 500000000 ? moved_back(given, own) : given;
}

int pthread_cond_timedwait(pthread_cond_t *restrict condition, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict until) {
    static int (*real)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
    struct timespec own;
    if (!real) real = NEXT(pthread_cond_timedwait, "GLIBC_2.3.2");
    return real(condition, mutex, if_wall(until, &own));
}

int pthread_cond_clockwait(pthread_cond_t *condition, pthread_mutex_t *mutex, clockid_t clock,
                           const struct timespec *until) {
    static int (*real)(pthread_cond_t *, pthread_mutex_t *, clockid_t, const struct timespec *);
    struct timespec own;
    if (!real) real = NEXT(pthread_cond_clockwait, NULL);
    return real(condition, mutex, clock, is_wall(clock) ? moved_back(until, &own) : until);
}

int pthread_mutex_timedlock(pthread_mutex_t *restrict mutex,
                            const struct timespec *restrict until) {
    static int (*real)(pthread_mutex_t *, const struct timespec *);
    struct timespec own;
    if (!real) real = NEXT(pthread_mutex_timedlock, NULL);
    return real(mutex, moved_back(until, &own));
}

int sem_timedwait(sem_t *restrict semaphore, const struct timespec *restrict until) {
    static int (*real)(sem_t *, const struct timespec *);
    struct timespec own;
    if (!real) real = NEXT(sem_timedwait, NULL);
    return real(semaphore, moved_back(until, &own));
}

int sem_clockwait(sem_t *semaphore, clockid_t clock, const struct timespec *until) {
    static int (*real)(sem_t *, clockid_t, const struct timespec *);
    struct timespec own;
    if (!real) real = NEXT(sem_clockwait, NULL);
    return real(semaphore, clock, is_wall(clock) ? moved_back(until, &own) : until);
}

/* When files were written. */

static int stamped(int status, struct stat *of) {
    if (!status) {
        shift_written(&of->st_atim);
        shift_written(&of->st_mtim);
        shift_written(&of->st_ctim);
    }
    return status;
}

#define STAT(name, parameters, types, arguments)                                                   \
    int name parameters {                                                                          \
        static int(*real) types;                                                                   \
        if (!real) real = NEXT(name, NULL);                                                        \
        return stamped(real arguments, (struct stat *)of);                                         \
    }

STAT(stat, (const char *restrict path, struct stat *restrict of), (const char *, struct stat *),
     (path, of))
STAT(lstat, (const char *restrict path, struct stat *restrict of), (const char *, struct stat *),
     (path, of))
STAT(fstat, (int file, struct stat *of), (int, struct stat *), (file, of))
STAT(fstatat, (int folder, const char *restrict path, struct stat *restrict of, int flags),
     (int, const char *, struct stat *, int), (folder, path, of, flags))
STAT(stat64, (const char *restrict path, struct stat64 *restrict of),
     (const char *, struct stat64 *), (path, of))
STAT(lstat64, (const char *restrict path, struct stat64 *restrict of),
     (const char *, struct stat64 *), (path, of))
STAT(fstat64, (int file, struct stat64 *of), (int, struct stat64 *), (file, of))
STAT(fstatat64, (int folder, const char *restrict path, struct stat64 *restrict of, int flags),
     (int, const char *, struct stat64 *, int), (folder, path, of, flags))
STAT(__xstat, (int version, const char *path, struct stat *of), (int, const char *, struct stat *),
     (version, path, of))
STAT(__lxstat, (int version, const char *path, struct stat *of),
     (int, const char *, struct stat *), (version, path, of))
STAT(__fxstat, (int version, int file, struct stat *of), (int, int, struct stat *),
     (version, file, of))

static void shift_statx(struct statx_timestamp *time) {
    struct timespec own = {time->tv_sec, time->tv_nsec};
    shift_written(&own);
    time->tv_sec = own.tv_sec;
    time->tv_nsec = own.tv_nsec;
}

int statx(int folder, const char *restrict path, int flags, unsigned mask,
          struct statx *restrict of) {
    static int (*real)(int, const char *, int, unsigned, struct statx *);
    if (!real) real = NEXT(statx, NULL);
    int status = real(folder, path, flags, mask, of);
    if (!status) {
        shift_statx(&of->stx_atime);
        shift_statx(&of->stx_mtime);
        shift_statx(&of->stx_ctime);
    }
    return status;
}
