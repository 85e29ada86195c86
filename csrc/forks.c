/* forks.c: see forks.h. */
#include "forks.h"

#include "os.h"

/* In the order in which their mutexes may be taken by one thread: a problem is remembered whatever else is locked. */
static void before(void) {
    workers_before_fork();
    handles_before_fork();
    remembered_before_fork();
}

static void after(void) {
    remembered_after_fork();
    handles_after_fork();
    workers_after_fork();
}

static void in_child(void) {
    remembered_after_fork();
    handles_in_child();
    workers_in_child();
}

void forks_watch(void) {
    os_at_fork(before, after, in_child);
}
