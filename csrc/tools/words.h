/* words.h: how iblb reads what is typed, by the rules of bridge/cli/words.py.
 *
 * Of a command's arguments each is JSON, or plain words if it is not; what begins like JSON and is not is refused. "@FILE" stands for the
 * text of a file, "-" for that of standard input. An array that is the only argument is all of them. A number that no computer has, such as
 * 1e999, is refused. */
#ifndef IBLB_WORDS_H
#define IBLB_WORDS_H

#include <stddef.h>
#include <stdio.h>

/* The one of `words` that is most like `word`, whatever the case; NULL if none is. */
const char *nearest(const char *word, const char *const *words, size_t count);

/* Are they the same, whatever the case? */
int same_word(const char *one, const char *other);

/* "5s", "500ms", "2min", "1h", or a number of ms: in ms; -1 if it is no time. */
int milliseconds(const char *text);

/* The arguments as JSON text, to be freed; NULL, with a sentence in `problem`, if one cannot be read. */
char *arguments_json(int count, char *const *words, char *problem, size_t capacity);

/* Opens a file to be read, its name in UTF-8. In iblb_posix.c or iblb_windows.c. */
FILE *open_text(const char *path);

#endif
