/* remembered.h: the last problem of the process that belongs to no handle. */
#ifndef IBLB_REMEMBERED_H
#define IBLB_REMEMBERED_H

#include "errors.h"

/* Remembers a problem of the process: a failed open, a bad handle, the worker's side. Returns its code. */
int problem_remember(const struct problem *problem);
void problem_recall(struct problem *problem);

#endif
