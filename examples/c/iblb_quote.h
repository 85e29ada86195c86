/* iblb_quote.h: a text as JSON, for the arguments of a command. Include it; there is nothing to link.
 *
 *     char note[256], arguments[512];
 *     if (iblb_quote("he said \"go\"", note, sizeof note) >= sizeof note) ...too long
 *     snprintf(arguments, sizeof arguments, "[\"2026-01-01_1_subject\", {\"note\": %s}]", note);
 */
#ifndef IBLB_QUOTE_H
#define IBLB_QUOTE_H

#include <stddef.h>
#include <string.h>

/* Writes `text` to `json` as a JSON string, with its quotation marks and a NUL at the end; NULL becomes null. Like
 * snprintf, it returns the length of the whole string, without the NUL. If that is not less than `capacity`, the string
 * did not fit, and `json` is "": nothing is ever cut, and no character is halved. Bytes beyond ASCII stay as they are;
 * the library checks whether they are UTF-8 (IBLB_E_UTF8). */
static inline size_t iblb_quote(const char *text, char *json, size_t capacity) {
    static const char digits[] = "0123456789abcdef";
    const size_t bytes = text ? strlen(text) : 0;
    size_t length = text ? bytes + 2 : 4, used = 0;
    for (size_t i = 0; i < bytes; i++) {
        const unsigned char byte = (unsigned char)text[i];
        length += byte < 0x20 ? 5 : byte == '"' || byte == '\\' ? 1 : 0;
    }
    if (length >= capacity) {
        if (capacity > 0)
            json[0] = '\0';
        return length;
    }
    if (!text) {
        memcpy(json, "null", 5);
        return length;
    }
    json[used++] = '"';
    for (size_t i = 0; i < bytes; i++) {
        const unsigned char byte = (unsigned char)text[i];
        if (byte < 0x20) {
            memcpy(json + used, "\\u00", 4);
            json[used + 4] = digits[byte >> 4];
            json[used + 5] = digits[byte & 15];
            used += 6;
            continue;
        }
        if (byte == '"' || byte == '\\')
            json[used++] = '\\';
        json[used++] = text[i];
    }
    json[used++] = '"';
    json[used] = '\0';
    return length;
}

#endif
