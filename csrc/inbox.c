/* inbox.c: see inbox.h. */
#include "inbox.h"

#include <stdlib.h>

uint64_t inbox_number(const struct inbox *inbox, uint64_t first) {
    for (uint64_t number = first; number < first + INBOX_ENTRIES; number++)
        if (inbox_request(number) > 0 && inbox->entries[number % INBOX_ENTRIES].state == ENTRY_FREE)
            return number;
    return 0;
}

struct entry *inbox_find(struct inbox *inbox, int request) {
    if (request <= 0)
        return NULL;
    struct entry *entry =
        inbox_place(inbox, (uint64_t)request); /* 2^31 is a multiple of INBOX_ENTRIES: the same place as the whole number's */
    return entry->state != ENTRY_FREE && inbox_request(entry->number) == request ? entry : NULL;
}

struct entry *inbox_expects(struct inbox *inbox, uint64_t number) {
    struct entry *entry = inbox_place(inbox, number);
    return entry->state == ENTRY_OPEN && entry->number == number ? entry : NULL;
}

void inbox_answer(struct entry *entry, int code, unsigned char *body, uint32_t bytes) {
    entry->state = ENTRY_ANSWERED;
    entry->code = code;
    entry->body = body;
    entry->bytes = bytes;
}

void inbox_free(struct inbox *inbox, struct entry *entry) {
    free(entry->body);
    *entry = (struct entry){0};
    inbox->used--;
}

void inbox_clear(struct inbox *inbox) {
    for (size_t i = 0; i < INBOX_ENTRIES; i++)
        if (inbox->entries[i].state != ENTRY_FREE)
            inbox_free(inbox, &inbox->entries[i]);
}
