/* errors.c: the table of codes as text, and sentences. */
#include "errors.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "include/iblbridge.h"
#include "os.h"

struct code_text {
    int code;
    const char *meaning;
    const char *remedy;
};

static const struct code_text codes[] = {
#define CODE(name, number, source, meaning, remedy) {name, meaning, remedy},
#include "codes.def"
#undef CODE
};

/* codes.def and the generated lines of the header must agree, whoever edits which. */
#define CODE(name, number, source, meaning, remedy) _Static_assert(name == number, #name ": run csrc/codes.py");
#include "codes.def"
#undef CODE

static os_mutex process_mutex = OS_MUTEX_INIT;
static struct problem process_problem;

static const struct code_text *find_code(int code) {
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++)
        if (codes[i].code == code)
            return &codes[i];
    return NULL;
}

/* Moves `length` back to the beginning of a UTF-8 character, so that a cut text stays valid. */
static size_t whole_characters(const char *text, size_t length) {
    while (length > 0 && ((unsigned char)text[length] & 0xC0) == 0x80)
        length--;
    return length;
}

int problem_set(struct problem *problem, int code, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(problem->text, sizeof problem->text, format, arguments);
    va_end(arguments);
    if (length < 0)
        problem->text[0] = '\0';
    else if ((size_t)length >= sizeof problem->text)
        problem->text[whole_characters(problem->text, sizeof problem->text - 1)] = '\0';
    problem->code = code;
    return code;
}

int problem_standard(struct problem *problem, int code) {
    const struct code_text *known = find_code(code);
    if (!known)
        return problem_set(problem, code, "Unknown code %d.", code);
    return problem_set(problem, code, "%s %s", known->meaning, known->remedy);
}

int problem_remember(const struct problem *problem) {
    os_mutex_lock(&process_mutex);
    process_problem = *problem;
    os_mutex_unlock(&process_mutex);
    return problem->code;
}

void problem_recall(struct problem *problem) {
    os_mutex_lock(&process_mutex);
    *problem = process_problem;
    os_mutex_unlock(&process_mutex);
}

int copy_text(const char *from, char *text, int capacity) {
    if (!text || capacity <= 0)
        return IBLB_E_BUFFER;
    size_t length = strlen(from);
    if (length < (size_t)capacity) {
        memcpy(text, from, length + 1);
        return IBLB_OK;
    }
    length = whole_characters(from, (size_t)capacity - 1);
    memcpy(text, from, length);
    text[length] = '\0';
    return IBLB_E_BUFFER;
}

IBLB_API int iblb_error_text(int code, char *text, int capacity) {
    if (!text || capacity <= 0 || !find_code(code))
        return IBLB_E_ARGUMENT;
    struct problem problem;
    problem_standard(&problem, code);
    return copy_text(problem.text, text, capacity);
}
