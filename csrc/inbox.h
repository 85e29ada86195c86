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
    uint32_t used;                       /* how many are not free */
};

static inline int inbox_request(uint64_t number) {
    return (int)(number & 0x7fffffff);
}
static inline struct entry *inbox_place(struct inbox *inbox, uint64_t number) {
    return &inbox->entries[number % INBOX_ENTRIES];
}

/* The first usable number from `first` on, or 0 if all places are taken. */
uint64_t inbox_number(const struct inbox *inbox, uint64_t first);

/* The place of the first usable number from *number on, which becomes that number; NULL if all places are taken. */
static inline struct entry *inbox_choose(struct inbox *inbox, uint64_t *number) {
    struct entry *entry = inbox_place(inbox, *number);
    if (inbox_request(*number) > 0 && entry->state == ENTRY_FREE)
        return entry;
    *number = inbox_number(inbox, *number);
    return *number ? inbox_place(inbox, *number) : NULL;
}

/* `entry`: the place of `number`, which is free. */
static inline void inbox_open(struct inbox *inbox, struct entry *entry, uint64_t number, uint64_t position) {
    entry->number = number; /* all else is 0, for it was free */
    entry->position = position;
    entry->state = ENTRY_OPEN;
    inbox->used++;
}

/* Are there INBOX_ORDINARY requests that nobody has waited for yet? */
static inline bool inbox_crowded(const struct inbox *inbox) {
    return inbox->used >= INBOX_ORDINARY;
}

/* The open or answered request that the caller knows by this number; NULL if there is none. */
struct entry *inbox_find(struct inbox *inbox, int request);

/* The open request that a response with this number belongs to. NULL if there is none: drop the response. */
struct entry *inbox_expects(struct inbox *inbox, uint64_t number);

/* Keeps `body`, allocated with malloc. */
void inbox_answer(struct entry *entry, int code, unsigned char *body, uint32_t bytes);
void inbox_free(struct inbox *inbox, struct entry *entry);
void inbox_clear(struct inbox *inbox);

#endif
