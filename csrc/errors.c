/* errors.c: the table of codes as text, and sentences. */
#include "errors.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "include/iblbridge.h"

struct code_text {
    int code;
    const char *meaning;
    const char *remedy;
};

static const struct code_text codes[] = {
#define CODE(name, number, exit, source, meaning, remedy) {name, meaning, remedy},
#include "codes.def"
};

/* codes.def and the generated lines of the header must agree, whoever edits which. */
#define CODE(name, number, exit, source, meaning, remedy) _Static_assert(name == number, #name ": run csrc/generate");
#include "codes.def"

static const struct code_text *find_code(int code) {
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++)
        if (codes[i].code == code)
            return &codes[i];
    return NULL;
}

/* The code point of the valid UTF-8 character at *text, which is moved behind it. */
static unsigned next_character(const unsigned char **text) {
    unsigned first = *(*text)++;
    int more = first >= 0xF0 ? 3 : first >= 0xE0 ? 2 : first >= 0xC0 ? 1 : 0;
    unsigned value = more ? first & (0x3Fu >> more) : first;
    while (more-- && (**text & 0xC0) == 0x80)
        value = value << 6 | (*(*text)++ & 0x3Fu);
    return value;
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

int problem_no_segment(struct problem *problem, const char *path, const char *name) {
    return problem_set(problem, IBLB_E_NO_SEGMENT,
                       "There is no segment at %s. Start the worker, with the same IBLBRIDGE_DIR if that is set: %s --segment %s.", path,
                       "iblbridge serve", name);
}

int copy_text(const char *from, char *text, int capacity) {
    if (!text || capacity <= 0)
        return IBLB_E_BUFFER;
    size_t length = strlen(from), room = (size_t)capacity - 1;
    size_t kept = length <= room ? length : whole_characters(from, room);
    memcpy(text, from, kept);
    text[kept] = '\0';
    return kept == length ? IBLB_OK : IBLB_E_BUFFER;
}

int copy_ascii(const char *from, char *text, int capacity) {
    if (!text || capacity <= 0)
        return IBLB_E_BUFFER;
    size_t at = 0;
    const unsigned char *next = (const unsigned char *)from;
    while (*next) {
        char said[16];
        unsigned value = next_character(&next);
        if (value < 0x80)
            snprintf(said, sizeof said, "%c", (int)value);
        else if (value < 0x10000)
            snprintf(said, sizeof said, "\\u%04x", value);
        else
            snprintf(said, sizeof said, "\\u%04x\\u%04x", 0xD7C0 + (value >> 10), 0xDC00 + (value & 0x3FF));
        if (at + strlen(said) >= (size_t)capacity)
            break;
        memcpy(text + at, said, strlen(said));
        at += strlen(said);
        from = (const char *)next;
    }
    text[at] = '\0';
    return *from ? IBLB_E_BUFFER : IBLB_OK;
}

IBLB_API int iblb_error_text(int code, char *text, int capacity) {
    if (!text || capacity <= 0 || !find_code(code))
        return IBLB_E_ARGUMENT;
    struct problem problem;
    problem_standard(&problem, code);
    return copy_ascii(problem.text, text, capacity);
}
