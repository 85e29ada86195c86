/* forks.h: what this library does around a fork(), registered from here alone.
 *
 * A child must find no mutex locked by a thread that it does not have, and must drop what it has of its parent's
 * segments.
 */
#ifndef IBLB_FORKS_H
#define IBLB_FORKS_H

/* Begins. Call it before you take a mutex that no fork may find locked; all calls but the first do nothing. */
void forks_watch(void);

/* The parts: the worker's (worker.c), the clients' (handles.c), the remembered problem's (remembered.c). */
void workers_before_fork(void);
void workers_after_fork(void);
void workers_in_child(void);
void handles_before_fork(void);
void handles_after_fork(void);
void handles_in_child(void);
void remembered_before_fork(void);
void remembered_after_fork(void);

#endif
