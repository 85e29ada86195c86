/* json.c: readers of JSON text and of msgpack, and a writer of JSON text.
 *
 *   json_check         json_value, which calls itself for what is inside; json_string, json_number, json_word for the rest
 *   msgpack_is_simple  most arguments, quickly
 *   msgpack_check,
 *   msgpack_to_json    msgpack_value, which calls itself for what is inside: `strict` refuses what JSON can't say, an output is written to
 *   msgpack_find_str   next_token for each key, msgpack_value without an output to step over its value
 *   next_token         the only place that knows what msgpack bytes mean and that advances through them, over bytes it has seen to be
 *                      there; a str is known to be UTF-8 from then on
 *   put...             the JSON text of one token
 *
 * All readers walk over one `input`. When something is wrong, its `at` stays there and a sentence goes up through the callers.
 * Work is linear in the bytes given: every element takes a byte or more, so a count above the bytes that are left is refused at once.
 */
#include "json.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const unsigned char *data;
    size_t bytes, at; /* at <= bytes */
    int strict;       /* msgpack: refuse what JSON can't say */
} input;

typedef struct {
    char *text;
    size_t capacity, used; /* `used` goes on counting when the text is full: it becomes `needed` */
} output;

static const char too_deep[] = "arrays and maps are nested more than 64 deep";
static const char not_utf8[] = "not valid UTF-8";
_Static_assert(JSON_MAX_DEPTH == 64, "too_deep names the limit");

/* The bytes of the UTF-8 sequence that s begins with, 0 if it is none. The second byte alone decides about overlong forms and surrogates.
 */
static size_t utf8_length(const unsigned char *s, size_t left) {
    if (s[0] < 0x80)
        return 1;
    if (s[0] < 0xc2 || s[0] > 0xf4)
        return 0;
    const size_t length = s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
    const unsigned char lowest = s[0] == 0xe0 ? 0xa0 : s[0] == 0xf0 ? 0x90 : 0x80;
    const unsigned char highest = s[0] == 0xed ? 0x9f : s[0] == 0xf4 ? 0x8f : 0xbf;
    if (left < length || s[1] < lowest || s[1] > highest)
        return 0;
    for (size_t i = 2; i < length; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    return length;
}

/* Most of any text is ASCII, and is looked at in steps of eight bytes. */
#define EACH(byte) (UINT64_C(0x0101010101010101) * (byte))

static uint64_t eight(const void *s) {
    uint64_t bytes;
    memcpy(&bytes, s, sizeof bytes);
    return bytes;
}

static int eight_ascii(const char *s) {
    return (eight(s) & EACH(0x80)) == 0;
}

static uint64_t four_times_eight(const char *s) {
    return eight(s) | eight(s + 8) | eight(s + 16) | eight(s + 24);
}
static uint64_t eight_times_eight(const char *s) {
    return four_times_eight(s) | four_times_eight(s + 32);
}
static int some_ascii(const char *s) /* 32 bytes */
{
    return (four_times_eight(s) & EACH(0x80)) == 0;
}
static int more_ascii(const char *s) /* 64 bytes */
{
    return (eight_times_eight(s) & EACH(0x80)) == 0;
}

/* Are the eight bytes at s what a JSON string holds as they are: ASCII, no control, no quote, no backslash? Each
 * difference borrows into a byte's highest bit if the byte is one of those; it borrows from the next byte then too,
 * which no longer matters. */
static int eight_plain(const unsigned char *s) {
    const uint64_t bytes = eight(s);
    const uint64_t control = (bytes - EACH(0x20)) | (bytes + EACH(0x01)); /* 0x7f too */
    const uint64_t quote = (bytes ^ EACH('"')) - EACH(0x01), backslash = (bytes ^ EACH('\\')) - EACH(0x01);
    return ((bytes | control | quote | backslash) & EACH(0x80)) == 0;
}

static size_t skip_plain(const unsigned char *s, size_t at, size_t bytes) {
    while (bytes - at >= 8 && eight_plain(s + at))
        at += 8;
    return at;
}

size_t utf8_check(const char *text, size_t bytes) {
    size_t at = 0, length;
    for (;;) {
        while (bytes - at >= 64 && more_ascii(text + at))
            at += 64;
        if (bytes - at < 64 && bytes >= 64 && more_ascii(text + bytes - 64))
            return bytes; /* the rest, with some of what stands before it */
        if (bytes - at >= 32 && some_ascii(text + at))
            at += 32;
        while (bytes - at >= 8 && eight_ascii(text + at))
            at += 8;
        if (bytes - at < 8 && bytes >= 8 && eight_ascii(text + bytes - 8))
            return bytes;
        while (at < bytes && (unsigned char)text[at] < 0x80) /* fewer than eight */
            at++;
        if (at == bytes || (length = utf8_length((const unsigned char *)text + at, bytes - at)) == 0)
            return at;
        at += length;
    }
}

/* ---- JSON text in ---- */

static int peek(const input *in) {
    return in->at < in->bytes ? in->data[in->at] : -1;
} /* -1, at the end, is no byte */

static int take(input *in, int c) {
    return peek(in) == c ? (in->at++, 1) : 0;
}

static void skip_space(input *in) {
    while (take(in, ' ') || take(in, '\t') || take(in, '\n') || take(in, '\r')) {
    }
}

static int skip_digits(input *in) /* 0 if there is none */
{
    const size_t start = in->at;
    while (peek(in) >= '0' && peek(in) <= '9')
        in->at++;
    return in->at > start;
}

static const char *unless_at_end(const input *in, const char *sentence) {
    return in->at == in->bytes ? "the JSON text ends too early" : sentence;
}

static const char *json_number(input *in) {
    take(in, '-');
    int fine = take(in, '0') || skip_digits(in); /* a digit after a leading 0 is no longer ours, and refused by the caller */
    if (fine && take(in, '.'))
        fine = skip_digits(in);
    if (fine && (take(in, 'e') || take(in, 'E'))) {
        if (!take(in, '+'))
            take(in, '-');
        fine = skip_digits(in);
    }
    return fine ? NULL : unless_at_end(in, "a digit is missing in this number");
}

static const char *json_word(input *in, const char *word) {
    while (*word && take(in, *word))
        word++;
    return *word ? unless_at_end(in, "JSON knows only the words true, false and null") : NULL;
}

static const char *hexadecimal(input *in, unsigned *unit) /* the XXXX of \uXXXX */
{
    *unit = 0;
    for (int i = 0; i < 4; i++, in->at++) {
        const int c = peek(in);
        const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
        if (digit < 0)
            return unless_at_end(in, "\\u needs four hexadecimal digits");
        *unit = *unit * 16 + (unsigned)digit;
    }
    return NULL;
}

static const char *json_escape(input *in) /* from behind the backslash */
{
    const size_t start = in->at - 1;
    const char *wrong;
    unsigned unit;
    if (peek(in) > 0 && strchr("\"\\/bfnrt", peek(in))) {
        in->at++;
        return NULL;
    }
    if (!take(in, 'u'))
        return unless_at_end(in, "an escape that JSON does not have (a backslash itself is written twice)");
    if ((wrong = hexadecimal(in, &unit)) || unit < 0xd800 || unit > 0xdfff)
        return wrong;
    if (unit < 0xdc00 && take(in, '\\') && take(in, 'u'))
        if ((wrong = hexadecimal(in, &unit)) || (unit >= 0xdc00 && unit <= 0xdfff))
            return wrong;
    in->at = start;
    return "half of a surrogate pair stands alone";
}

static const char *json_string(input *in) /* from the opening quote */
{
    in->at++;
    for (;;) {
        in->at = skip_plain(in->data, in->at, in->bytes);
        if (take(in, '"'))
            return NULL;
        if (peek(in) < 0x20)
            return unless_at_end(in, "a control character inside a string (write it as an escape)");
        if (take(in, '\\')) {
            const char *wrong = json_escape(in);
            if (wrong)
                return wrong;
        } else {
            const size_t length = utf8_length(in->data + in->at, in->bytes - in->at);
            if (length == 0)
                return not_utf8;
            in->at += length;
        }
    }
}

static const char *json_value(input *in, int depth) {
    skip_space(in);
    const int first = peek(in), last = first == '[' ? ']' : '}';
    const char *wrong;
    if (first == '"')
        return json_string(in);
    if (first == '-' || (first >= '0' && first <= '9'))
        return json_number(in);
    if (first == 't')
        return json_word(in, "true");
    if (first == 'f')
        return json_word(in, "false");
    if (first == 'n')
        return json_word(in, "null");
    if (first != '[' && first != '{')
        return unless_at_end(in, "a JSON value should stand here");
    if (depth == JSON_MAX_DEPTH)
        return too_deep;

    in->at++;
    skip_space(in);
    if (take(in, last))
        return NULL;
    do {
        if (first == '{') {
            skip_space(in);
            if (peek(in) != '"')
                return unless_at_end(in, "a key in double quotes should stand here");
            if ((wrong = json_string(in)))
                return wrong;
            skip_space(in);
            if (!take(in, ':'))
                return unless_at_end(in, "a colon should stand here");
        }
        if ((wrong = json_value(in, depth + 1)))
            return wrong;
        skip_space(in);
    } while (take(in, ','));
    return take(in, last) ? NULL : unless_at_end(in, "a comma or the closing bracket should stand here");
}

const char *json_check(const char *text, size_t bytes, size_t *where) {
    input in = {(const unsigned char *)text, bytes, 0, 0};
    const char *wrong = json_value(&in, 0);
    if (!wrong) {
        skip_space(&in);
        if (in.at < bytes)
            wrong = "nothing may follow the JSON value";
    }
    *where = in.at;
    return wrong;
}

/* ---- msgpack in ---- */

enum kind { NIL, NEVER, BOOL, UINT, INT, FLOAT, STR, BIN, EXT, ARRAY, MAP };

typedef struct {
    enum kind kind;
    uint64_t number;           /* BOOL, UINT, INT in two's complement; bytes of STR, BIN, EXT; elements of ARRAY, pairs of MAP */
    double real;               /* FLOAT */
    const unsigned char *body; /* STR, BIN, EXT */
} token;

/* Bytes 0xc0 to 0xdf: what they begin, and how many bytes of number or length follow (EXT with 0: a fixext, of 1 << first - 0xd4). */
static const struct {
    unsigned char kind, width;
} formats[32] = {
    {NIL, 0},   {NEVER, 0}, {BOOL, 0}, {BOOL, 0}, {BIN, 1},  {BIN, 2}, {BIN, 4},   {EXT, 1},   {EXT, 2}, {EXT, 4}, {FLOAT, 4},
    {FLOAT, 8}, {UINT, 1},  {UINT, 2}, {UINT, 4}, {UINT, 8}, {INT, 1}, {INT, 2},   {INT, 4},   {INT, 8}, {EXT, 0}, {EXT, 0},
    {EXT, 0},   {EXT, 0},   {EXT, 0},  {STR, 1},  {STR, 2},  {STR, 4}, {ARRAY, 2}, {ARRAY, 4}, {MAP, 2}, {MAP, 4},
};

static double real_of(uint64_t bits, unsigned width) {
    const uint32_t narrow_bits = (uint32_t)bits;
    float narrow;
    double wide;
    memcpy(&narrow, &narrow_bits, sizeof narrow);
    memcpy(&wide, &bits, sizeof wide);
    return width == 4 ? (double)narrow : wide;
}

/* One token, the bytes of a str, bin or ext included; the elements of an array or map are the tokens that follow it. */
static const char *next_token(input *in, token *t) {
    static const char short_of_bytes[] = "the msgpack data ends too early";
    if (in->at == in->bytes)
        return short_of_bytes;
    const unsigned char *s = in->data + in->at;
    const unsigned first = s[0];
    size_t left = in->bytes - in->at - 1, width = 0;
    t->number = 0;

    if (first < 0x80)
        t->kind = UINT, t->number = first;
    else if (first < 0x90)
        t->kind = MAP, t->number = first & 0x0f;
    else if (first < 0xa0)
        t->kind = ARRAY, t->number = first & 0x0f;
    else if (first < 0xc0)
        t->kind = STR, t->number = first & 0x1f;
    else if (first >= 0xe0)
        t->kind = INT, t->number = first | ~(uint64_t)0xff;
    else {
        t->kind = (enum kind)formats[first - 0xc0].kind;
        width = formats[first - 0xc0].width;
        if (left < width)
            return short_of_bytes;
        left -= width;
        for (size_t i = 1; i <= width; i++)
            t->number = t->number << 8 | s[i];
        if (t->kind == NEVER)
            return "0xc1, which no msgpack begins with";
        if (t->kind == BOOL)
            t->number = first & 1;
        if (t->kind == FLOAT)
            t->real = real_of(t->number, (unsigned)width);
        if (t->kind == INT && width < 8 && s[1] >= 0x80)
            t->number |= UINT64_MAX << (8 * width);
        if (t->kind == EXT)
            t->number = 1 + (width ? t->number : (uint64_t)1 << (first - 0xd4)); /* 1: its type byte */
    }
    size_t body = 0, valid = 0;
    switch (t->kind) {
    case STR:
    case BIN:
    case EXT:
        if (t->number > left)
            return short_of_bytes;
        if (in->strict && t->kind != STR)
            return "binary data or an extension, which JSON does not have";
        body = (size_t)t->number;
        t->body = s + 1 + width;
        valid = t->kind == STR ? utf8_check((const char *)t->body, body) : body;
        break;
    case ARRAY:
    case MAP:
        if (t->number > (t->kind == MAP ? left / 2 : left))
            return short_of_bytes;
        break;
    case FLOAT:
        if (in->strict && !(fabs(t->real) <= DBL_MAX))
            return "NaN or infinity, which JSON does not have";
        break;
    default:
        break;
    }
    in->at += 1 + width + valid;
    return valid < body ? not_utf8 : NULL;
}

/* ---- JSON text out ---- */

static void put(output *out, int c) {
    if (out->used < out->capacity)
        out->text[out->used] = (char)c;
    out->used++;
}

static void put_bytes(output *out, const unsigned char *s, size_t bytes) {
    const size_t room = out->used < out->capacity ? out->capacity - out->used : 0;
    if (room)
        memcpy(out->text + out->used, s, bytes < room ? bytes : room);
    out->used += bytes;
}

static void put_text(output *out, const char *text) {
    while (*text)
        put(out, *text++);
}

static void put_unsigned(output *out, uint64_t number) {
    char digits[20];
    int n = 0;
    do
        digits[n++] = (char)('0' + (int)(number % 10));
    while (number /= 10);
    while (n)
        put(out, digits[--n]);
}

/* The shortest of 15 to 17 digits that reads back as the same number. snprintf and strtod follow the locale, which another thread may
 * change between them: strtod then finds another number and one digit more is taken; 17 are always exact. Whatever stands for the decimal
 * point (one byte or several) is the only thing in the text that is not one of "0123456789+-e". */
static void put_double(output *out, double value) {
    char text[40];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    int whole = 1;
    for (const char *s = text; *s; s++) {
        if (strchr("0123456789+-e", *s)) {
            if (*s == 'e')
                whole = 0;
            put(out, *s);
        } else if (whole) {
            whole = 0;
            put(out, '.');
        }
    }
    if (whole)
        put_text(out, ".0"); /* or a reader would take it for an int */
}

static void put_escape(output *out, uint32_t unit) {
    put_text(out, "\\u");
    for (int shift = 12; shift >= 0; shift -= 4)
        put(out, "0123456789abcdef"[unit >> shift & 15]);
}

static void put_str(output *out, const unsigned char *s, size_t bytes) {
    put(out, '"');
    for (size_t i = 0; i < bytes;) {
        const size_t plain = skip_plain(s, i, bytes) - i;
        if (plain) {
            put_bytes(out, s + i, plain);
            i += plain;
            continue;
        }
        const size_t length = utf8_length(s + i, bytes - i); /* not 0: next_token looked */
        uint32_t code = length == 1 ? s[i] : s[i] & (0x7fu >> length);
        for (size_t k = 1; k < length; k++)
            code = code << 6 | (s[i + k] & 0x3fu);
        i += length;
        if (code >= 0x10000) {
            put_escape(out, 0xd800 + ((code - 0x10000) >> 10));
            put_escape(out, 0xdc00 + (code & 0x3ff));
        } else if (code < 0x20 || code > 0x7e) {
            put_escape(out, code);
        } else {
            if (code == '"' || code == '\\')
                put(out, '\\');
            put(out, (int)code);
        }
    }
    put(out, '"');
}

static void put_base64(output *out, const unsigned char *s, size_t bytes) {
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    put(out, '"');
    for (size_t i = 0; i < bytes; i += 3) {
        const size_t n = bytes - i;
        const uint32_t bits = (uint32_t)s[i] << 16 | (n > 1 ? (uint32_t)s[i + 1] << 8 : 0) | (n > 2 ? (uint32_t)s[i + 2] : 0);
        put(out, alphabet[bits >> 18]);
        put(out, alphabet[bits >> 12 & 63]);
        put(out, n > 1 ? alphabet[bits >> 6 & 63] : '=');
        put(out, n > 2 ? alphabet[bits & 63] : '=');
    }
    put(out, '"');
}

static void put_scalar(output *out, const token *t) {
    if (t->kind == BOOL)
        put_text(out, t->number ? "true" : "false");
    else if (t->kind == UINT)
        put_unsigned(out, t->number);
    else if (t->kind == INT && t->number <= INT64_MAX)
        put_unsigned(out, t->number);
    else if (t->kind == INT)
        put(out, '-'), put_unsigned(out, 0 - t->number);
    else if (t->kind == FLOAT && fabs(t->real) <= DBL_MAX)
        put_double(out, t->real);
    else if (t->kind == STR)
        put_str(out, t->body, (size_t)t->number);
    else if (t->kind == BIN)
        put_base64(out, t->body, (size_t)t->number);
    else
        put_text(out, "null");
}

/* ---- a whole msgpack object ---- */

static const char *msgpack_key(input *in, output *out) {
    const size_t start = in->at;
    token t;
    const char *wrong = next_token(in, &t);
    if (wrong)
        return wrong;
    if (t.kind == ARRAY || t.kind == MAP || (in->strict && t.kind != STR)) {
        in->at = start;
        return in->strict ? "a map key that is not text" : "a map key that is an array or a map";
    }
    if (!out)
        return NULL;
    const char *quote = t.kind == STR || t.kind == BIN ? "" : "\"";
    put_text(out, quote);
    put_scalar(out, &t);
    put_text(out, quote);
    put(out, ':');
    return NULL;
}

static const char *msgpack_value(input *in, output *out, int depth) {
    const size_t start = in->at;
    token t;
    const char *wrong = next_token(in, &t);
    if (wrong)
        return wrong;
    if (t.kind != ARRAY && t.kind != MAP) {
        if (out)
            put_scalar(out, &t);
        return NULL;
    }
    if (depth == JSON_MAX_DEPTH) {
        in->at = start;
        return too_deep;
    }
    if (out)
        put(out, t.kind == ARRAY ? '[' : '{');
    for (uint64_t i = 0; i < t.number; i++) {
        if (out && i)
            put(out, ',');
        if (t.kind == MAP && (wrong = msgpack_key(in, out)))
            return wrong;
        if ((wrong = msgpack_value(in, out, depth + 1)))
            return wrong;
    }
    if (out)
        put(out, t.kind == ARRAY ? ']' : '}');
    return NULL;
}

/* Is a text of up to 255 bytes ASCII? The last step looks at some of what stands before the rest once more. */
static inline bool is_short_ascii(const char *s, size_t bytes) {
    uint64_t all = 0;
    size_t at = 0;
    if (bytes >= 64) {
        for (; bytes - at > 64; at += 64)
            all |= eight_times_eight(s + at);
        all |= eight_times_eight(s + bytes - 64);
    } else if (bytes >= 8) {
        for (; bytes - at > 8; at += 8)
            all |= eight(s + at);
        all |= eight(s + bytes - 8);
    } else {
        for (; at < bytes; at++)
            all |= (unsigned char)s[at];
    }
    return (all & EACH(0x80)) == 0;
}

int msgpack_is_simple(const unsigned char *data, size_t bytes) {
    size_t at = 0, arrays = 0;
    for (size_t more = 1; more > 0; more--) {
        if (at == bytes)
            return 0;
        const unsigned first = data[at++];
        size_t body = 0;
        if (first >= 0x90 && first < 0xa0) {
            if (arrays++ == JSON_MAX_DEPTH)
                return 0;
            more += first & 0x0f;
            continue;
        }
        if (first >= 0xa0 && first < 0xc0)
            body = first & 0x1f;
        else if (first == 0xd9 && at < bytes)
            body = data[at++];
        else if (first >= 0x80)
            return 0;
        if (body > bytes - at || !is_short_ascii((const char *)data + at, body))
            return 0;
        at += body;
    }
    return at == bytes;
}

const char *msgpack_check(const unsigned char *data, size_t bytes, size_t *used, size_t *where) {
    input in = {data, bytes, 0, 1};
    const char *wrong = msgpack_value(&in, NULL, 0);
    *used = wrong ? 0 : in.at;
    *where = in.at;
    return wrong;
}

const char *msgpack_to_json(const unsigned char *data, size_t bytes, char *text, size_t capacity, size_t *needed) {
    input in = {data, bytes, 0, 0};
    output out = {text, capacity, 0};
    const char *wrong;
    if (bytes > SIZE_MAX / 8)
        wrong = "too large"; /* a byte becomes seven at most (in {false: false}): `used` can't wrap */
    else
        wrong = msgpack_value(&in, &out, 0);
    if (!wrong && in.at < bytes)
        wrong = "nothing may follow the msgpack object";
    put(&out, '\0');
    if (capacity > 0 && (wrong || out.used > capacity))
        text[0] = '\0';
    *needed = wrong ? 0 : out.used;
    return wrong;
}

int msgpack_find_str(const unsigned char *data, size_t bytes, const char *key, const char **text, size_t *length) {
    input in = {data, bytes, 0, 0};
    const size_t key_bytes = strlen(key);
    token map, t;
    if (next_token(&in, &map) || map.kind != MAP)
        return 0;
    for (uint64_t i = 0; i < map.number; i++) {
        if (next_token(&in, &t) || t.kind == ARRAY || t.kind == MAP)
            return 0;
        if (t.kind == STR && t.number == key_bytes && memcmp(t.body, key, key_bytes) == 0) {
            if (next_token(&in, &t) || t.kind != STR)
                return 0;
            *text = (const char *)t.body;
            *length = (size_t)t.number;
            return 1;
        }
        if (msgpack_value(&in, NULL, 1))
            return 0;
    }
    return 0;
}
