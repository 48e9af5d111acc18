/* Kill a process at one of its own calls, or make the call fail.

   Preloaded into the server that forks, this does nothing until the environment sets it up; a
   child gets its environment after the fork. Calls are counted for each kind from then on.

     KILL_KIND  which kind of call kills the process
     KILL_AT    at which of them, from 1
     KILL_MODE  before, middle (half of the bytes are written, sent or received) or after

     FAULT_KINDS  which kinds of calls fail, separated by commas
     FAULT_PATH   on files whose path fits this pattern
     FAULT_ERRNO  with which number
     FAULT_TIMES  how often; 0 is for ever
     FAULT_WHILE  only while this file exists; the first failure makes another beside it, .failed */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { WRITE, PWRITE, FSYNC, CHANGE, SEND, RECEIVE, OPEN, KINDS };
enum verdict { PASS, MIDDLE, AFTER, FAIL };

static const char *const NAMES[KINDS] = {
    "write", "pwrite", "fsync", "change", "send", "receive", "open"};

static long counts[KINDS];
static long failures;

static _Noreturn void die(void)
{
    kill(getpid(), SIGKILL);
    for (;;)
        pause();
}

static int is_socket(int fd)
{
    struct stat what;
    return fstat(fd, &what) == 0 && S_ISSOCK(what.st_mode);
}

static int is_named(const char *list, enum kind kind)
{
    size_t length = strlen(NAMES[kind]);
    for (const char *at = list; at && *at; at = strchr(at, ',') ? strchr(at, ',') + 1 : NULL)
        if (!strncmp(at, NAMES[kind], length) && (at[length] == ',' || !at[length]))
            return 1;
    return 0;
}

static const char *path_of(int fd, char *into)
{
    char link[32];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, into, PATH_MAX - 1);
    into[length < 0 ? 0 : length] = 0;
    return into;
}

/* Count a failure, and say whether it may happen. */
static int may_fail(void)
{
    char mark[PATH_MAX];
    long times = atol(getenv("FAULT_TIMES"));
    if (__atomic_add_fetch(&failures, 1, __ATOMIC_SEQ_CST) > times && times)
        return 0;
    snprintf(mark, sizeof mark, "%s.failed", getenv("FAULT_WHILE"));
    close(creat(mark, 0600));
    return 1;
}

static int is_faulty(enum kind kind, int fd, const char *path)
{
    char found[PATH_MAX];
    const char *kinds = getenv("FAULT_KINDS");
    if (!kinds || !is_named(kinds, kind) || access(getenv("FAULT_WHILE"), F_OK))
        return 0;
    if (fnmatch(getenv("FAULT_PATH"), path ? path : path_of(fd, found), 0))
        return 0;
    return may_fail();
}

static enum verdict verdict_of(enum kind kind)
{
    const char *wanted = getenv("KILL_KIND");
    if (!wanted || strcmp(wanted, NAMES[kind]))
        return PASS;
    if (__atomic_add_fetch(&counts[kind], 1, __ATOMIC_SEQ_CST) != atol(getenv("KILL_AT")))
        return PASS;
    const char *mode = getenv("KILL_MODE");
    if (!strcmp(mode, "before"))
        die();
    return strcmp(mode, "after") ? MIDDLE : AFTER;
}

static enum verdict judge(enum kind kind, int fd, const char *path)
{
    int before = errno;
    if (is_faulty(kind, fd, path)) {
        errno = atoi(getenv("FAULT_ERRNO"));
        return FAIL;
    }
    enum verdict verdict = verdict_of(kind);
    errno = before;
    return verdict;
}

#define REAL(name) ((__typeof__(&name))real(#name))

static void *real(const char *name)
{
    return dlsym(RTLD_NEXT, name);
}

/* Do the whole of a call, or what a verdict leaves of it. */
#define CALL(kind, fd, path, whole, half)                                                         \
    switch (judge(kind, fd, path)) {                                                              \
    case FAIL:                                                                                    \
        return -1;                                                                                \
    case MIDDLE:                                                                                  \
        half;                                                                                     \
        die();                                                                                    \
    case AFTER:                                                                                   \
        whole;                                                                                    \
        die();                                                                                    \
    case PASS:                                                                                    \
        break;                                                                                    \
    }                                                                                             \
    return whole

/* Writing to files, pipes and sockets. */

static enum kind outward(int fd)
{
    return is_socket(fd) ? SEND : WRITE;
}

ssize_t write(int fd, const void *bytes, size_t size)
{
    CALL(outward(fd), fd, NULL, REAL(write)(fd, bytes, size), REAL(write)(fd, bytes, size / 2));
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    CALL(outward(fd), fd, NULL, REAL(writev)(fd, parts, count),
         REAL(write)(fd, parts->iov_base, parts->iov_len / 2));
}

ssize_t pwrite(int fd, const void *bytes, size_t size, off_t at)
{
    CALL(PWRITE, fd, NULL, REAL(pwrite)(fd, bytes, size, at),
         REAL(pwrite)(fd, bytes, size / 2, at));
}

ssize_t pwrite64(int fd, const void *bytes, size_t size, off64_t at)
{
    CALL(PWRITE, fd, NULL, REAL(pwrite64)(fd, bytes, size, at),
         REAL(pwrite64)(fd, bytes, size / 2, at));
}

ssize_t send(int fd, const void *bytes, size_t size, int flags)
{
    CALL(SEND, fd, NULL, REAL(send)(fd, bytes, size, flags),
         REAL(send)(fd, bytes, size / 2, flags));
}

ssize_t sendto(int fd, const void *bytes, size_t size, int flags, const struct sockaddr *to,
               socklen_t length)
{
    CALL(SEND, fd, NULL, REAL(sendto)(fd, bytes, size, flags, to, length),
         REAL(sendto)(fd, bytes, size / 2, flags, to, length));
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    CALL(SEND, fd, NULL, REAL(sendmsg)(fd, message, flags),
         REAL(send)(fd, message->msg_iov->iov_base, message->msg_iov->iov_len / 2, flags));
}

/* Receiving: what other files give is no concern of anybody's. */

static size_t half_of_what_came(int fd)
{
    int waiting = 0;
    ioctl(fd, FIONREAD, &waiting);
    return (size_t)waiting / 2;
}

#define RECEIVE_CALL(whole)                                                                       \
    CALL(RECEIVE, fd, NULL, whole, REAL(recv)(fd, bytes, half_of_what_came(fd), MSG_DONTWAIT))

ssize_t read(int fd, void *bytes, size_t size)
{
    if (!is_socket(fd))
        return REAL(read)(fd, bytes, size);
    RECEIVE_CALL(REAL(read)(fd, bytes, size));
}

ssize_t recv(int fd, void *bytes, size_t size, int flags)
{
    RECEIVE_CALL(REAL(recv)(fd, bytes, size, flags));
}

ssize_t recvfrom(int fd, void *bytes, size_t size, int flags, struct sockaddr *from,
                 socklen_t *length)
{
    RECEIVE_CALL(REAL(recvfrom)(fd, bytes, size, flags, from, length));
}

ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
    void *bytes = message->msg_iov->iov_base;
    RECEIVE_CALL(REAL(recvmsg)(fd, message, flags));
}

/* What makes writes last, and what changes files without writing to them. Nothing has a middle. */

int fsync(int fd)
{
    CALL(FSYNC, fd, NULL, REAL(fsync)(fd), (void)0);
}

int fdatasync(int fd)
{
    CALL(FSYNC, fd, NULL, REAL(fdatasync)(fd), (void)0);
}

int ftruncate(int fd, off_t size)
{
    CALL(CHANGE, fd, NULL, REAL(ftruncate)(fd, size), (void)0);
}

int ftruncate64(int fd, off64_t size)
{
    CALL(CHANGE, fd, NULL, REAL(ftruncate64)(fd, size), (void)0);
}

int unlink(const char *path)
{
    CALL(CHANGE, -1, path, REAL(unlink)(path), (void)0);
}

int rename(const char *from, const char *to)
{
    CALL(CHANGE, -1, from, REAL(rename)(from, to), (void)0);
}

/* Opening for writing. Whoever does not ask for a new file gives no mode: then it is not looked at. */

static int opened(const char *name, const char *path, int flags, va_list more)
{
    int (*open_it)(const char *, int, ...) = (int (*)(const char *, int, ...))real(name);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;
    if ((flags & O_ACCMODE) == O_RDONLY)
        return open_it(path, flags, mode);
    CALL(OPEN, -1, path, open_it(path, flags, mode), (void)0);
}

int open(const char *path, int flags, ...)
{
    va_list more;
    va_start(more, flags);
    int fd = opened("open", path, flags, more);
    va_end(more);
    return fd;
}

int open64(const char *path, int flags, ...)
{
    va_list more;
    va_start(more, flags);
    int fd = opened("open64", path, flags, more);
    va_end(more);
    return fd;
}
