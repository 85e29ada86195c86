/* words.c: see words.h. */
#include "words.h"

#include <ctype.h>
#include <float.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "../json.h"
#include "../nearest.h"

#define MOST_BYTES (1 << 20) /* of a file, which may have no end, like /dev/zero; a datagram holds 64 KiB */
#define BEGINNING 4          /* letters that tell which word was begun, if only one begins like that */

struct text {
    char *bytes; /* NUL-terminated */
    size_t used, capacity;
};

/* --- words that are meant --- */

static int lower(char c) {
    return tolower((unsigned char)c);
}

int same_word(const char *one, const char *other) {
    while (*one && lower(*one) == lower(*other))
        one++, other++;
    return lower(*one) == lower(*other);
}

static int begins(const char *text, const char *word) {
    while (*word && lower(*word) == lower(*text))
        word++, text++;
    return !*word;
}

const char *nearest(const char *word, const char *const *words, size_t count) {
    const char *best = NULL;
    size_t length = strlen(word), least = UNLIKE, begun = 0;
    for (size_t i = 0; i < count && length >= BEGINNING; i++)
        if (begins(words[i], word) && ++begun == 1)
            best = words[i];
    if (begun == 1)
        return best;
    best = NULL;
    for (size_t i = 0; i < count; i++) {
        size_t far = unlikeness(word, length, words[i]);
        if (far < least) {
            least = far;
            best = words[i];
        }
    }
    return best;
}

/* --- times --- */

int milliseconds(const char *text) {
    static const struct {
        const char *unit;
        double ms;
    } units[] = {{"", 1}, {"ms", 1}, {"s", 1e3}, {"min", 60e3}, {"h", 3600e3}};
    size_t digits = strspn(text, "0123456789.");
    char *end;
    double number = strtod(text, &end);
    if (digits == 0 || end != text + digits)
        return -1;
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
        if (strcmp(end, units[i].unit) == 0)
            return number * units[i].ms < INT_MAX ? (int)(number * units[i].ms) : -1;
    return -1;
}

/* --- arguments --- */

static int append(struct text *text, const char *bytes, size_t count) {
    if (text->capacity - text->used <= count) {
        size_t capacity = 2 * (text->used + count) + 64;
        char *larger = realloc(text->bytes, capacity);
        if (!larger)
            return 0;
        text->bytes = larger;
        text->capacity = capacity;
    }
    memcpy(text->bytes + text->used, bytes, count);
    text->used += count;
    text->bytes[text->used] = '\0';
    return 1;
}

static int append_quoted(struct text *text, const char *words, size_t count) {
    int fine = append(text, "\"", 1);
    for (size_t i = 0; fine && i < count; i++) {
        unsigned char c = (unsigned char)words[i];
        char escape[8];
        int length = snprintf(escape, sizeof escape, c == '"' || c == '\\' ? "\\%c" : c < 0x20 ? "\\u%04x" : "%c", c);
        fine = append(text, escape, (size_t)length);
    }
    return fine && append(text, "\"", 1);
}

/* The text that a word stands for. 0 if it cannot be read. */
static int fetch(const char *word, struct text *text, char *problem, size_t capacity) {
    int from_input = strcmp(word, "-") == 0 || strcmp(word, "@-") == 0, from_file = word[0] == '@' && !from_input;
    char part[4096];
    size_t count;
    if (!from_file && !from_input)
        return append(text, word, strlen(word));
    FILE *file = from_input ? stdin : open_text(word + 1);
    int fine = file && append(text, "", 0);
    while (fine && text->used <= MOST_BYTES && (count = fread(part, 1, sizeof part, file)) > 0)
        fine = append(text, part, count);
    if (fine && text->used > MOST_BYTES) {
        snprintf(problem, capacity, "%s: it has more than %d KiB; no command is so long.", word, MOST_BYTES >> 10);
        fine = 0;
    } else if (!file || !fine || ferror(file)) {
        snprintf(problem, capacity, "%s: it cannot be read; write a text that begins with @ as '\"@...\"'.", word);
        fine = 0;
    }
    if (file && from_file)
        fclose(file);
    while (fine && text->used && strchr("\r\n", text->bytes[text->used - 1]))
        text->bytes[--text->used] = '\0';
    if (fine && text->used >= 3 && memcmp(text->bytes, "\xef\xbb\xbf", 3) == 0) /* the mark that Windows puts at the beginning of a text */
        memmove(text->bytes, text->bytes + 3, (text->used -= 3) + 1);
    return fine;
}

/* The first number of a JSON text that is larger than any number of a computer, and its length; NULL if there is none.
 * Whole numbers are never too large: some programs take any of them. */
static const char *endless_number(const char *json, size_t *length) {
    for (const char *at = json; *at; at++) {
        if (*at == '"') {
            for (at++; *at != '"'; at++)
                at += *at == '\\';
        } else if (strchr("-0123456789", *at)) {
            *length = strspn(at, "+-.0123456789eE");
            double number = strtod(at, NULL);
            if (strcspn(at, ".eE") < *length && (number > DBL_MAX || number < -DBL_MAX))
                return at;
            at += *length - 1;
        }
    }
    return NULL;
}

/* Appends one argument as JSON; *is_array says whether it is an array. */
static int append_argument(struct text *json, const char *word, int *is_array, char *problem, size_t capacity) {
    struct text text = {NULL, 0, 0};
    size_t where = 0;
    int fine = fetch(word, &text, problem, capacity);
    const char *wrong = fine ? json_check(text.bytes, text.used, &where) : NULL;
    const char *endless;
    char first = fine ? text.bytes[strspn(text.bytes, " \t\r\n")] : '\0';
    *is_array = fine && !wrong && first == '[';
    if (wrong && first && strchr("{[\"", first)) {
        size_t characters = 1;
        for (size_t i = 0; i < where; i++)
            characters += ((unsigned char)text.bytes[i] & 0xc0) != 0x80;
        const char *shown = word[0] == '-' ? "standard input" : word;
        snprintf(problem, capacity, "%.60s begins like JSON but is not: %s at character %u.", shown, wrong, (unsigned)characters);
        fine = 0;
    } else if (fine && !wrong && (endless = endless_number(text.bytes, &where)) != NULL) {
        snprintf(problem, capacity, "%.*s is larger than any number that can be sent.", (int)(where < 60 ? where : 60), endless);
        fine = 0;
    } else if (fine) {
        fine = wrong ? append_quoted(json, text.bytes, text.used) : append(json, text.bytes, text.used);
    }
    free(text.bytes);
    return fine;
}

char *arguments_json(int count, char *const *words, char *problem, size_t capacity) {
    struct text json = {NULL, 0, 0};
    int fine = append(&json, "[", 1), is_array = 0;
    snprintf(problem, capacity, "There is no memory.");
    for (int i = 0; fine && i < count; i++)
        fine = (i == 0 || append(&json, ", ", 2)) && append_argument(&json, words[i], &is_array, problem, capacity);
    if (fine && count == 1 && is_array) {
        memmove(json.bytes, json.bytes + 1, json.used);
        return json.bytes;
    }
    if (fine && append(&json, "]", 1))
        return json.bytes;
    free(json.bytes);
    return NULL;
}
