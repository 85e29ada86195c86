/* quote.c: writes each line of its input as JSON, in a place of exactly the size needed; and says what a smaller one gets. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "iblb_quote.h"

static void quote(const char *text) {
    const size_t length = iblb_quote(text, NULL, 0);
    for (size_t capacity = 1; capacity <= length; capacity++) {
        char *small = malloc(capacity);
        assert(small && iblb_quote(text, small, capacity) == length && *small == '\0');
        free(small);
    }
    char *json = malloc(length + 1);
    assert(json && iblb_quote(text, json, length + 1) == length && strlen(json) == length);
    puts(json);
    free(json);
}

int main(void) {
    static char text[1 << 16];
    const size_t bytes = fread(text, 1, sizeof text - 1, stdin);
    quote(NULL);
    for (size_t at = 0; at < bytes; at += strlen(text + at) + 1) /* separated by NUL */
        quote(text + at);
    return 0;
}
