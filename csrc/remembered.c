/* remembered.c: one problem behind a mutex, which a fork leaves free. */
#include "remembered.h"

#include "forks.h"
#include "os.h"

static os_mutex process_mutex = OS_MUTEX_INIT;
static struct problem process_problem;

void remembered_before_fork(void) {
    os_mutex_lock(&process_mutex);
}
void remembered_after_fork(void) {
    os_mutex_unlock(&process_mutex);
}

int problem_remember(const struct problem *problem) {
    forks_watch();
    os_mutex_lock(&process_mutex);
    process_problem = *problem;
    os_mutex_unlock(&process_mutex);
    return problem->code;
}

void problem_recall(struct problem *problem) {
    forks_watch();
    os_mutex_lock(&process_mutex);
    *problem = process_problem;
    os_mutex_unlock(&process_mutex);
}
