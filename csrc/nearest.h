/* nearest.h: which word was probably meant by one that does not exist; as bridge/nearest.py does it. */
#ifndef IBLB_NEAREST_H
#define IBLB_NEAREST_H

#include <stddef.h>
#include <stdint.h>

#define LONGEST_WORD 63 /* bytes; a longer word is like no other */
#define UNLIKE SIZE_MAX

/* How many bytes of `word` must be inserted, left out, changed, or exchanged with their neighbour to make it `other`,
 * whatever the case; UNLIKE if these are more than a third of it. Takes bounded time and no locale. */
size_t unlikeness(const char *word, size_t length, const char *other);

#endif
