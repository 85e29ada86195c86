/* fuzz_json.c: any bytes, given to every reader of json.h. What must hold of the results is stated in json.h and tested here. */
#include "json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPECT(condition)                                                                                                                  \
    do {                                                                                                                                   \
        if (!(condition)) {                                                                                                                \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                                                        \
            abort();                                                                                                                       \
        }                                                                                                                                  \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void text_in(const char *text, size_t size) {
    size_t where = 99, valid = utf8_check(text, size);
    EXPECT(valid <= size && utf8_check(text, valid) == valid);
    const char *wrong = json_check(text, size, &where);
    EXPECT(where <= size && (wrong || where == size));
    EXPECT(wrong || valid == size); /* a JSON text is UTF-8 throughout */
}

/* In memory of exactly `capacity` bytes: the sanitizer sees one too many. */
static void text_out(const uint8_t *data, size_t size, size_t capacity, size_t expected) {
    char *text = malloc(capacity);
    size_t needed = 99, where;
    if (!text)
        abort();
    EXPECT(!msgpack_to_json(data, size, text, capacity, &needed) && needed == expected);
    if (capacity < expected) {
        EXPECT(text[0] == '\0');
    } else {
        EXPECT(strlen(text) + 1 == expected);
        EXPECT(!json_check(text, expected - 1, &where));
        for (const char *s = text; *s; s++)
            EXPECT(*s >= 0x20 && *s <= 0x7e);
    }
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    size_t used = 99, where = 99, needed = 99, strict_needed, length;
    const char *text;
    text_in((const char *)data, size);

    const char *wrong = msgpack_to_json(data, size, NULL, 0, &needed);
    if (wrong) {
        char small[4] = "xyz";
        EXPECT(needed == 0);
        EXPECT(msgpack_to_json(data, size, small, sizeof small, &needed) && needed == 0 && small[0] == '\0');
    } else {
        EXPECT(needed >= 2 && needed <= 8 * size + 30);
        text_out(data, size, needed, needed);
        text_out(data, size, needed - 1, needed);
        text_out(data, size, needed + 1, needed);
    }

    const char *refused = msgpack_check(data, size, &used, &where);
    EXPECT(!msgpack_is_simple(data, size) || (!refused && used == size));
    EXPECT(where <= size && used <= size && (refused ? used == 0 : used == where && used > 0));
    if (!refused)
        EXPECT(!msgpack_to_json(data, used, NULL, 0, &strict_needed) && strict_needed > 1);

    if (msgpack_find_str(data, size, "error", &text, &length)) {
        const char *begin = (const char *)data, *end = begin + size;
        EXPECT(text >= begin && text <= end && length <= (size_t)(end - text));
        EXPECT(utf8_check(text, length) == length);
    }
    return 0;
}
