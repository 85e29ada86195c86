/* remains.h: files in the segment directory that no longer have an owner, and how they are removed.
 *
 * The rule: to remove a file, take its worker lock, the claim lock and the locks of all slots that a segment can have,
 * one by one; it is not enough to look at them. And the path must still lead to the file that is locked. The kernel
 * drops a lock when its owner dies, and keeps it while the owner is merely stopped. So whatever lives, in whatever
 * state, is never removed.
 */
#ifndef IBLB_REMAINS_H
#define IBLB_REMAINS_H

#include "os.h"

/* With the worker lock of `file` held: says in the segment's state that it is gone, for those who have it mapped, and
 * removes the path. IBLB_E_SYSTEM if another program does not let that happen. */
int segment_retire(os_file file, const char *path, struct problem *problem);

/* Removes a segment that has no owner. IBLB_E_WORKER_BUSY, _NAME_TAKEN (a client lives), _STALE (it was replaced
 * meanwhile), _SEGMENT (it does not begin as a segment does: it may be anybody's), or as os_open. */
int remains_discard(const char *path, struct problem *problem);

/* A half-made segment: `.<name>.<16 hex digits>`, see segment.c. The length of the name, or 0 if it is none. */
size_t remains_half_made(const char *file);

/* Removes a half-made segment whose maker died, whatever is in it. IBLB_E_WORKER_BUSY (it is just being made), _STALE,
 * or as os_open. */
int remains_discard_half_made(const char *path, struct problem *problem);

/* The same for all half-made segments of the name at the end of `path`. */
void remains_remove(const char *path);

/* Does the file begin as a segment does, of whatever version? */
bool remains_has_magic(os_file file);

/* Somebody's file stands where a segment should be: gives it another name, NAME.foreign-<random>, and says so in
 * *replaced. Nobody ever deletes it. IBLB_E_SYSTEM. */
int remains_set_aside(const char *path, char replaced[PROBLEM_BYTES], struct problem *problem);

#endif
