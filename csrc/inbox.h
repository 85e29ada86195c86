/* inbox.h: a handle's open requests, and the responses that came before somebody asked for them.
 *
 * Responses are moved out of the shared ring by whatever call comes first, so that one that nobody reads blocks nothing
 * but itself. The number of a request (64 bits, never reused in a slot) gives its place: number mod INBOX_ENTRIES;
 * numbers whose place is taken are skipped. What the caller sees is the number's lower 31 bits. Private memory only;
 * guarded by the handle's mutex.
 */
#ifndef IBLB_INBOX_H
#define IBLB_INBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define INBOX_ENTRIES 2048u
#define INBOX_ORDINARY 1024u /* from here on only interrupts are let in */

enum entry_state { ENTRY_FREE = 0, ENTRY_OPEN, ENTRY_ANSWERED };

struct entry {
    uint64_t number;
    uint64_t position; /* of the command in its ring */
    enum entry_state state;
    int code;
    unsigned char *body;
    uint32_t bytes;
};

struct inbox {
    struct entry entries[INBOX_ENTRIES]; /* bounded: each body is at most a quarter of the response ring */
    uint32_t opened;                     /* at least the number of those that are not free */
};

/* The first usable number from `first` on, or 0 if all places are taken. */
uint64_t inbox_number(const struct inbox *inbox, uint64_t first);
void inbox_open(struct inbox *inbox, uint64_t number, uint64_t position);
static inline int inbox_request(uint64_t number) {
    return (int)(number & 0x7fffffff);
}

/* Are there INBOX_ORDINARY requests that nobody has waited for yet? */
bool inbox_crowded(struct inbox *inbox);

/* The open or answered request that the caller knows by this number; NULL if there is none. */
struct entry *inbox_find(struct inbox *inbox, int request);

/* The open request that a response with this number belongs to. NULL if there is none: drop the response. */
struct entry *inbox_expects(struct inbox *inbox, uint64_t number);

/* Keeps `body`, allocated with malloc. */
void inbox_answer(struct entry *entry, int code, unsigned char *body, uint32_t bytes);
void inbox_free(struct entry *entry);
void inbox_clear(struct inbox *inbox);

#endif
