/* words.h: how iblb reads what is typed, by the rules of bridge/cli/words.py.
 *
 * Each argument of a command is JSON, or plain words if it is not JSON. What begins like JSON but is not is refused.
 * "@FILE" stands for the text of a file, "-" for that of standard input. If the only argument is an array, it is the
 * list of all arguments. A number that no computer has, such as 1e999, is refused. */
#ifndef IBLB_WORDS_H
#define IBLB_WORDS_H

#include <stddef.h>
#include <stdio.h>

/* The one of `words` that is most like `word`, whatever the case; NULL if none is like it. */
const char *nearest(const char *word, const char *const *words, size_t count);

/* Are the two the same, whatever the case? */
int same_word(const char *one, const char *other);

/* "5s", "500ms", "2min", "1h", or a number of ms, in ms; -1 if it is not a time. */
int milliseconds(const char *text);

/* The arguments as JSON text, to be freed; NULL, with a sentence in `problem`, if one cannot be read. */
char *arguments_json(int count, char *const *words, char *problem, size_t capacity);

/* Opens a file for reading; its name is UTF-8. In iblb_posix.c or iblb_windows.c. */
FILE *open_text(const char *path);

#endif
