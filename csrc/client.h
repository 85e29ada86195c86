/* client.h: what client.c and commands.c share. */
#ifndef IBLB_CLIENT_H
#define IBLB_CLIENT_H

#include "handles.h"

/* NULL, "" and white space mean none. */
static inline int text_is_none(const char *text) {
    while (text && (*text == ' ' || *text == '\t' || *text == '\r' || *text == '\n'))
        text++;
    return !text || !*text;
}

/* With the handle's mutex held: is the handle, its slot and its segment as it should be? IBLB_E_CLOSED, _STALE, _QUARANTINED, _SEGMENT. */
int handle_check(struct handle *handle, struct problem *problem);

/* With the handle's mutex held: does the worker live? Asks the kernel if `look`, or if it has not been asked for 100 ms. */
int handle_worker_alive(struct handle *handle, int look);

/* Remembers the problem as the handle's last one; returns its code. */
int handle_fail(struct handle *handle, const struct problem *problem);

#endif
