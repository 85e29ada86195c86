/* nearest.c: the distance between two words (Damerau, Levenshtein), of which three rows are kept. */
#include "nearest.h"

#include <string.h>

static int lower(char c) {
    return c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c;
}

size_t unlikeness(const char *word, size_t length, const char *other) {
    size_t row[3][LONGEST_WORD + 1] = {{0}}, others = strlen(other);
    if (length > LONGEST_WORD || others > LONGEST_WORD)
        return UNLIKE;
    for (size_t j = 0; j <= others; j++)
        row[0][j] = j;
    for (size_t i = 1; i <= length; i++) {
        size_t *now = row[i % 3], *before = row[(i + 2) % 3], *first = row[(i + 1) % 3];
        now[0] = i;
        for (size_t j = 1; j <= others; j++) {
            size_t least = before[j - 1] + (lower(word[i - 1]) != lower(other[j - 1]));
            if (before[j] + 1 < least)
                least = before[j] + 1;
            if (now[j - 1] + 1 < least)
                least = now[j - 1] + 1;
            if (i > 1 && j > 1 && lower(word[i - 1]) == lower(other[j - 2]) && lower(word[i - 2]) == lower(other[j - 1]) &&
                first[j - 2] + 1 < least)
                least = first[j - 2] + 1;
            now[j] = least;
        }
    }
    size_t far = row[length % 3][others];
    return far <= (length + 2) / 3 ? far : UNLIKE;
}
