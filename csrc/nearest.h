/* nearest.h: which word was probably meant by one that there is not; as bridge/nearest.py offers it. */
#ifndef IBLB_NEAREST_H
#define IBLB_NEAREST_H

#include <stddef.h>
#include <stdint.h>

#define LONGEST_WORD 63 /* bytes; what is longer is like nothing */
#define UNLIKE SIZE_MAX

/* How many bytes of `word` (of so many) must be put in, left out, changed, or exchanged with their neighbour to make it `other`, whatever
 * the case; UNLIKE if these are more than a third of it. Takes bounded time and no locale. */
size_t unlikeness(const char *word, size_t length, const char *other);

#endif
