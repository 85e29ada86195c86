/* test_inbox.c: the handle's open requests: numbers, places, and what belongs to whom.
 *
 *     cc -std=c11 -I csrc tests/c/test_inbox.c csrc/inbox.c -o test_inbox && ./test_inbox
 */
#include "inbox.h"

#include <stdlib.h>
#include <string.h>

#include "check.h"

static struct inbox inbox;

static void set_up(void) {
    inbox_clear(&inbox);
    memset(&inbox, 0, sizeof inbox);
}

static void open_request(struct inbox *in, uint64_t number, uint64_t position) {
    uint64_t chosen = number;
    struct entry *entry = inbox_choose(in, &chosen);
    if (CHECK(entry && chosen == number))
        inbox_open(in, entry, number, position);
}

static unsigned char *body_of(const char *text) {
    unsigned char *body = malloc(strlen(text));
    memcpy(body, text, strlen(text));
    return body;
}

static void numbers_are_given_one_after_the_other(void) {
    set_up();
    for (uint64_t number = 1; number <= 10; number++) {
        CHECK_SAME(inbox_number(&inbox, number), number);
        open_request(&inbox, number, 64 * number);
    }
}

static void numbers_whose_place_is_taken_are_skipped(void) {
    set_up();
    for (uint64_t number = 5; number <= 8; number++)
        open_request(&inbox, number, 0);
    CHECK_SAME(inbox_number(&inbox, 5 + INBOX_ENTRIES), 9 + INBOX_ENTRIES);
    inbox_free(&inbox, inbox_find(&inbox, 7));
    CHECK_SAME(inbox_number(&inbox, 5 + INBOX_ENTRIES), 7 + INBOX_ENTRIES);
}

static void an_answered_request_keeps_its_place_until_it_is_freed(void) {
    set_up();
    open_request(&inbox, 3, 0);
    inbox_answer(inbox_expects(&inbox, 3), 0, body_of("x"), 1);
    CHECK_SAME(inbox_number(&inbox, 3 + INBOX_ENTRIES), 4 + INBOX_ENTRIES);
    inbox_free(&inbox, inbox_find(&inbox, 3));
    CHECK_SAME(inbox_number(&inbox, 3 + INBOX_ENTRIES), 3 + INBOX_ENTRIES);
}

static void when_all_places_are_taken_there_is_no_number(void) {
    set_up();
    for (uint64_t i = 0, number = 1; i < INBOX_ENTRIES; i++, number++) {
        number = inbox_number(&inbox, number);
        CHECK_ROW(i, number != 0);
        open_request(&inbox, number, 0);
    }
    CHECK_SAME(inbox_number(&inbox, 1 + INBOX_ENTRIES), 0);
    inbox_free(&inbox, inbox_find(&inbox, 700));
    CHECK_SAME(inbox_number(&inbox, 1 + INBOX_ENTRIES), 700 + INBOX_ENTRIES);
}

static void a_request_is_never_0_nor_negative_at_the_wrap_of_31_bits(void) {
    set_up();
    uint64_t number = (UINT64_C(1) << 31) - 3;
    for (int i = 0; i < 6; i++, number++) {
        number = inbox_number(&inbox, number);
        open_request(&inbox, number, (uint64_t)i);
        int request = inbox_request(number);
        CHECK_ROW(i, request > 0);
        struct entry *entry = inbox_find(&inbox, request);
        CHECK_ROW(i, entry && entry->number == number && entry->position == (uint64_t)i);
    }
    CHECK_SAME(inbox_request((UINT64_C(1) << 31) + 1), 1);
    CHECK(inbox_find(&inbox, 1) && inbox_find(&inbox, 1)->number == (UINT64_C(1) << 31) + 1);
}

static void a_request_of_long_ago_with_the_same_lower_bits_is_not_mistaken(void) {
    set_up();
    open_request(&inbox, (UINT64_C(5) << 31) + 9, 0);
    CHECK(!inbox_expects(&inbox, 9)); /* a late response of an earlier round */
    CHECK(inbox_expects(&inbox, (UINT64_C(5) << 31) + 9) != NULL);
    CHECK(inbox_find(&inbox, 9) != NULL);
    CHECK(!inbox_find(&inbox, 9 + (int)INBOX_ENTRIES)); /* the same place, another request */
}

static void only_what_is_open_is_found_and_expected(void) {
    set_up();
    CHECK(!inbox_find(&inbox, 0) && !inbox_find(&inbox, -1) && !inbox_find(&inbox, 12) && !inbox_expects(&inbox, 12));
    CHECK(!inbox_find(&inbox, -2147483647 - 1) && !inbox_expects(&inbox, 0));
    open_request(&inbox, 12, 77);
    struct entry *entry = inbox_expects(&inbox, 12);
    CHECK(entry && entry == inbox_find(&inbox, 12) && entry->state == ENTRY_OPEN && entry->position == 77);
    inbox_answer(entry, -8070, body_of("abc"), 3);
    CHECK(inbox_find(&inbox, 12) == entry && entry->state == ENTRY_ANSWERED && entry->code == -8070 && entry->bytes == 3);
    CHECK(!inbox_expects(&inbox, 12)); /* a second response of a second worker is dropped */
    inbox_free(&inbox, entry);
    CHECK(!inbox_find(&inbox, 12) && entry->state == ENTRY_FREE && entry->body == NULL);
}

static void clearing_frees_every_body(void) {
    set_up();
    for (uint64_t number = 1; number <= 100; number++) {
        open_request(&inbox, number, 0);
        if (number % 2)
            inbox_answer(inbox_expects(&inbox, number), 0, body_of("body"), 4);
    }
    inbox_clear(&inbox); /* a leak is the sanitizer's to find */
    for (int request = 1; request <= 100; request++)
        CHECK_ROW(request, !inbox_find(&inbox, request));
}

static const struct test tests[] = {
    {"numbers are given one after the other", numbers_are_given_one_after_the_other},
    {"numbers whose place is taken are skipped", numbers_whose_place_is_taken_are_skipped},
    {"an answered request keeps its place until it is freed", an_answered_request_keeps_its_place_until_it_is_freed},
    {"when all places are taken there is no number", when_all_places_are_taken_there_is_no_number},
    {"a request is never 0 nor negative at the wrap of 31 bits", a_request_is_never_0_nor_negative_at_the_wrap_of_31_bits},
    {"a request of long ago with the same lower bits is not mistaken", a_request_of_long_ago_with_the_same_lower_bits_is_not_mistaken},
    {"only what is open is found and expected", only_what_is_open_is_found_and_expected},
    {"clearing frees every body", clearing_frees_every_body},
};

int main(void) {
    return run_tests(tests, ROWS(tests));
}
