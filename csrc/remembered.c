/* remembered.c: one problem behind a mutex, which a fork leaves free. */
#include "remembered.h"

#include "os.h"

static os_mutex process_mutex = OS_MUTEX_INIT;
static struct problem process_problem;

static void before_fork(void) {
    os_mutex_lock(&process_mutex);
}
static void after_fork(void) {
    os_mutex_unlock(&process_mutex);
}

int problem_remember(const struct problem *problem) {
    static int fork_watched;
    os_mutex_lock(&process_mutex);
    if (!fork_watched)
        os_at_fork(before_fork, after_fork, after_fork); /* a child must not inherit the mutex from a thread that it has not */
    fork_watched = 1;
    process_problem = *problem;
    os_mutex_unlock(&process_mutex);
    return problem->code;
}

void problem_recall(struct problem *problem) {
    os_mutex_lock(&process_mutex);
    *problem = process_problem;
    os_mutex_unlock(&process_mutex);
}
