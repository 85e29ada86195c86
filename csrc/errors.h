/* errors.h: a code with the sentence that goes with it. */
#ifndef IBLB_ERRORS_H
#define IBLB_ERRORS_H

#include <stddef.h>

#define PROBLEM_BYTES 1024

struct problem {
    int code;
    char text[PROBLEM_BYTES]; /* ASCII or UTF-8, whole characters */
};

/* No problem: the kilobyte behind the end of the text is left as it is, for every call comes this way. */
static inline void problem_clear(struct problem *problem) {
    problem->code = 0;
    problem->text[0] = '\0';
}

/* Sets both and returns the code, so that `return problem_set(...)` reads as what it is. */
#if defined(__MINGW32__)
__attribute__((cold, format(gnu_printf, 3, 4))) /* built with __USE_MINGW_ANSI_STDIO */
#elif defined(__GNUC__)
__attribute__((cold, format(printf, 3, 4)))
#endif
int problem_set(struct problem *problem, int code, const char *format, ...);

/* The same with the code's own text from codes.def. */
int problem_standard(struct problem *problem, int code);

/* IBLB_E_NO_SEGMENT, with where it was looked for and what to do. */
int problem_no_segment(struct problem *problem, const char *path, const char *name);

/* Copies `text` with its NUL; IBLB_E_BUFFER (cut at a whole character) if it does not fit. */
int copy_text(const char *from, char *text, int capacity);

/* The same as ASCII, everything else as \uXXXX as in the JSON that it goes with: for what leaves through the public functions. */
int copy_ascii(const char *from, char *text, int capacity);

#endif
