/* test_json.c: the readers and the writer in csrc/json.c. Inputs are copied into memory of exactly their size, so that a build with
 * -fsanitize=address,undefined sees every byte read or written outside.
 *
 *     cc -std=c11 -I csrc tests/c/test_json.c csrc/json.c -o test_json && ./test_json
 */
#include "json.h"

#include "check.h"

#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BYTES(literal) literal, sizeof(literal) - 1
#define REPEAT8(literal) literal literal literal literal literal literal literal literal
#define REPEAT64(literal) REPEAT8(REPEAT8(literal))

typedef struct {
    const char *bytes;
    size_t size;
} sample;

typedef struct {
    const char *bytes;
    size_t size;
    const char *json;
} pair;

static void *copy_of(const void *bytes, size_t size) {
    void *copy = malloc(size ? size : 1);
    if (!copy)
        abort();
    if (size)
        memcpy(copy, bytes, size);
    return copy;
}

static const char *check_json(const char *bytes, size_t size, size_t *where) {
    char *copy = copy_of(bytes, size);
    const char *wrong = json_check(copy, size, where);
    free(copy);
    return wrong;
}

static const char *check_msgpack(const char *bytes, size_t size, size_t *used, size_t *where) {
    unsigned char *copy = copy_of(bytes, size);
    const char *wrong = msgpack_check(copy, size, used, where);
    CHECK(!msgpack_is_simple(copy, size) || (!wrong && *used == size));
    free(copy);
    return wrong;
}

/* The text, to be freed; NULL if refused. */
static char *text_of(const char *bytes, size_t size) {
    unsigned char *copy = copy_of(bytes, size);
    size_t needed = 99, again = 99;
    char *text = NULL;
    if (!msgpack_to_json(copy, size, NULL, 0, &needed)) {
        text = malloc(needed);
        if (!text)
            abort();
        CHECK(msgpack_to_json(copy, size, text, needed, &again) == NULL);
        CHECK(again == needed && strlen(text) + 1 == needed);
    } else {
        CHECK(needed == 0);
    }
    free(copy);
    return text;
}

static void check_table(const pair *table, int rows) {
    for (int i = 0; i < rows; i++) {
        char *text = text_of(table[i].bytes, table[i].size);
        CHECK_ROW(i, text && strcmp(text, table[i].json) == 0);
        if (text && strcmp(text, table[i].json) != 0)
            printf("        %s instead of %s\n", text, table[i].json);
        size_t where;
        CHECK_ROW(i, text && check_json(text, strlen(text), &where) == NULL);
        free(text);
    }
}

/* ---- UTF-8 ---- */

static void utf8_good_sequences_are_accepted(void) {
    static const sample good[] = {
        {BYTES("")},
        {BYTES("plain")},
        {BYTES("\0")},
        {BYTES("\x7f")},
        {BYTES("\xc2\x80")},
        {BYTES("\xdf\xbf")},
        {BYTES("\xe0\xa0\x80")},
        {BYTES("\xec\xbf\xbf")},
        {BYTES("\xed\x80\x80")},
        {BYTES("\xed\x9f\xbf")},
        {BYTES("\xee\x80\x80")},
        {BYTES("\xef\xbf\xbf")},
        {BYTES("\xf0\x90\x80\x80")},
        {BYTES("\xf3\xbf\xbf\xbf")},
        {BYTES("\xf4\x8f\xbf\xbf")},
    };
    for (int i = 0; i < ROWS(good); i++) {
        char *copy = copy_of(good[i].bytes, good[i].size);
        CHECK_ROW(i, utf8_check(copy, good[i].size) == good[i].size);
        free(copy);
    }
    CHECK(utf8_check(NULL, 0) == 0);
}

static void utf8_bad_sequences_are_refused_where_they_begin(void) {
    static const sample bad[] = {
        {BYTES("\x80")},
        {BYTES("\xbf")},
        {BYTES("\xc0\x80")},
        {BYTES("\xc1\xbf")},
        {BYTES("\xc2")},
        {BYTES("\xc2\x7f")},
        {BYTES("\xc2\xc0")},
        {BYTES("\xe0\x80\x80")},
        {BYTES("\xe0\x9f\xbf")},
        {BYTES("\xe1\x80")},
        {BYTES("\xe1\x80\x7f")},
        {BYTES("\xe1\x7f\x80")},
        {BYTES("\xed\xa0\x80")},
        {BYTES("\xed\xbf\xbf")},
        {BYTES("\xf0\x80\x80\x80")},
        {BYTES("\xf0\x8f\xbf\xbf")},
        {BYTES("\xf0\x90\x80")},
        {BYTES("\xf0\x90\x80\x41")},
        {BYTES("\xf0\x90\x41\x80")},
        {BYTES("\xf4\x90\x80\x80")},
        {BYTES("\xf5\x80\x80\x80")},
        {BYTES("\xf8\x88\x80\x80\x80")},
        {BYTES("\xfe")},
        {BYTES("\xff")},
    };
    for (int i = 0; i < ROWS(bad); i++) {
        char *copy = malloc(bad[i].size + 3);
        if (!copy)
            abort();
        memcpy(copy, "a\xc3\xa9", 3);
        memcpy(copy + 3, bad[i].bytes, bad[i].size);
        CHECK_ROW(i, utf8_check(copy, bad[i].size + 3) == 3);
        free(copy);
    }
}

/* ---- JSON text ---- */

static void json_valid_text_is_accepted(void) {
    static const sample good[] = {
        {BYTES("[\"2026-01-01_1_subject\", {\"note\": 1}]")},
        {BYTES("null")},
        {BYTES(" \t\r\n true \t\r\n ")},
        {BYTES("false")},
        {BYTES("0")},
        {BYTES("-0")},
        {BYTES("-0.0")},
        {BYTES("10")},
        {BYTES("1e5")},
        {BYTES("1E+05")},
        {BYTES("0e-0")},
        {BYTES("1.50e-3")},
        {BYTES("1e999")},
        {BYTES("18446744073709551616")},
        {BYTES("\"\"")},
        {BYTES("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"")},
        {BYTES("\"\\u00e9\\uABCD\\uffff\\u0000\"")},
        {BYTES("\"\\ud83d\\ude00 \\uDBFF\\uDFFF\"")},
        {BYTES("\"\x7f \xc3\xa9 \xf0\x9f\x98\x80\"")},
        {BYTES("[]")},
        {BYTES("[ ]")},
        {BYTES("{}")},
        {BYTES("{ }")},
        {BYTES("[1,[2],{\"a\":{}}]")},
        {BYTES(" [ 1 , 2 ] ")},
        {BYTES(" { \"a\" : 1 , \"a\" : 2 } ")},
        {BYTES("{\"\":0}")},
    };
    for (int i = 0; i < ROWS(good); i++) {
        size_t where = 99;
        CHECK_ROW(i, check_json(good[i].bytes, good[i].size, &where) == NULL);
        CHECK_ROW(i, where == good[i].size);
    }
}

static void json_invalid_text_is_refused_at_the_byte_that_is_wrong(void) {
    static const struct {
        const char *bytes;
        size_t size, where;
    } bad[] = {
        {BYTES(""), 0},
        {BYTES("  "), 2},
        {BYTES("1."), 2},
        {BYTES(".5"), 0},
        {BYTES("-.5"), 1},
        {BYTES("01"), 1},
        {BYTES("-01"), 2},
        {BYTES("-"), 1},
        {BYTES("+1"), 0},
        {BYTES("1e"), 2},
        {BYTES("1e+"), 3},
        {BYTES("1.e5"), 2},
        {BYTES("--1"), 1},
        {BYTES("0x10"), 1},
        {BYTES("1,5"), 1},
        {BYTES("NaN"), 0},
        {BYTES("Infinity"), 0},
        {BYTES("-Infinity"), 1},
        {BYTES("nan"), 1},
        {BYTES("nul"), 3},
        {BYTES("nulL"), 3},
        {BYTES("True"), 0},
        {BYTES("truee"), 4},
        {BYTES("'a'"), 0},
        {BYTES("a"), 0},
        {BYTES("\xef\xbb\xbf"
               "1"),
         0},
        {BYTES("1\0"), 1},
        {BYTES("\0"), 0},
        {BYTES("1 2"), 2},
        {BYTES("[] ]"), 3},
        {BYTES("[1,]"), 3},
        {BYTES("[,1]"), 1},
        {BYTES("[1 2]"), 3},
        {BYTES("[1"), 2},
        {BYTES("[1}"), 2},
        {BYTES("]"), 0},
        {BYTES("{1:2}"), 1},
        {BYTES("{\"a\"}"), 4},
        {BYTES("{\"a\" 1}"), 5},
        {BYTES("{\"a\":}"), 5},
        {BYTES("{\"a\":1,}"), 7},
        {BYTES("{\"a\":1 \"b\":2}"), 7},
        {BYTES("{\"a\":1]"), 6},
        {BYTES("{a:1}"), 1},
        {BYTES("{"), 1},
        {BYTES("[1] // note"), 4},
        {BYTES("\""), 1},
        {BYTES("\"a"), 2},
        {BYTES("\"a\nb\""), 2},
        {BYTES("\"\x1f\""), 1},
        {BYTES("\"\0\""), 1},
        {BYTES("\"\\\""), 3},
        {BYTES("\"\\"), 2},
        {BYTES("\"\\x41\""), 2},
        {BYTES("\"\\'\""), 2},
        {BYTES("\"\\\0\""), 2},
        {BYTES("\"\\U0041\""), 2},
        {BYTES("\"\\u12\""), 5},
        {BYTES("\"\\u12"), 5},
        {BYTES("\"\\u12g4\""), 5},
        {BYTES("\"\\u+123\""), 3},
        {BYTES("\"\\u 123\""), 3},
        {BYTES("\"\\ud83d\""), 1},
        {BYTES("\"\\ude00\""), 1},
        {BYTES("\"\\ud83d\\n\""), 1},
        {BYTES("\"\\ud83dx\""), 1},
        {BYTES("\"\\ud83d"), 1},
        {BYTES("\"\\ud83d\\ud83d\\ude00\""), 1},
        {BYTES("\"\\ude00\\ud83d\""), 1},
        {BYTES("\"\\ude00\\ude00\""), 1},
        {BYTES("\"\\ud83d\\u0041\""), 1},
        {BYTES("\"\\ud83d\\u00\""), 11},
        {BYTES("{\"\\udfff\":1}"), 2},
        {BYTES("\"\xc3\""), 1},
        {BYTES("\"\xc3"), 1},
        {BYTES("\"a\xed\xa0\x80\""), 2},
        {BYTES("\"\xc0\x80\""), 1},
        {BYTES("[\xc3\xa9]"), 1},
        {BYTES("\xc2\xa0"
               "1"),
         0},
        {BYTES("\v1"), 0},
        {BYTES("\f1"), 0},
    };
    for (int i = 0; i < ROWS(bad); i++) {
        size_t where = 99;
        CHECK_ROW(i, check_json(bad[i].bytes, bad[i].size, &where) != NULL);
        CHECK_ROW(i, where == bad[i].where);
        if (where != bad[i].where)
            printf("        %s: at %d, not at %d\n", bad[i].bytes, (int)where, (int)bad[i].where);
    }
    size_t where = 99;
    CHECK(json_check(NULL, 0, &where) != NULL && where == 0);
}

static void json_every_prefix_of_a_sample_is_refused(void) {
    static const char text[] = "[\"s\\u00e9\\ud83d\\ude00\\n\xc3\xa9\", {\"note\": -1.5e-3, \"b\": [true, false, null]}, {}]";
    size_t where = 99;
    CHECK(check_json(BYTES(text), &where) == NULL);
    for (size_t size = 0; size < sizeof text - 1; size++) {
        CHECK_ROW(size, check_json(text, size, &where) != NULL);
        CHECK_ROW(size, where <= size);
    }
}

static void json_may_be_64_deep_and_not_65(void) {
    size_t where = 99;
    CHECK(check_json(BYTES(REPEAT64("[") REPEAT64("]")), &where) == NULL);
    CHECK(check_json(BYTES("[" REPEAT64("[") REPEAT64("]") "]"), &where) != NULL && where == 64);
    CHECK(check_json(BYTES(REPEAT64("{\"a\":") "1" REPEAT64("}")), &where) == NULL);
    CHECK(check_json(BYTES("{\"a\":" REPEAT64("{\"a\":") "1" REPEAT64("}") "}"), &where) != NULL && where == 64 * 5);
    CHECK(check_json(BYTES("[" REPEAT64("[],") "1]"), &where) == NULL); /* siblings do not add up */

    const size_t many = 1000000;
    char *text = malloc(many);
    if (!text)
        abort();
    memset(text, '[', many);
    CHECK(json_check(text, many, &where) != NULL && where == 64);
    free(text);
}

/* ---- msgpack ---- */

/* What JSON can say, so that msgpack_check takes it too. */
static const pair sayable[] = {
    {BYTES("\xc0"), "null"},
    {BYTES("\xc2"), "false"},
    {BYTES("\xc3"), "true"},
    {BYTES("\x00"), "0"},
    {BYTES("\x7f"), "127"},
    {BYTES("\xff"), "-1"},
    {BYTES("\xe0"), "-32"},
    {BYTES("\xcc\xff"), "255"},
    {BYTES("\xcd\xff\xfe"), "65534"},
    {BYTES("\xce\xff\xff\xff\xff"), "4294967295"},
    {BYTES("\xcc\x00"), "0"},
    {BYTES("\xcf\xff\xff\xff\xff\xff\xff\xff\xff"), "18446744073709551615"},
    {BYTES("\xcf\x00\x20\x00\x00\x00\x00\x00\x01"), "9007199254740993"},
    {BYTES("\xd0\x80"), "-128"},
    {BYTES("\xd0\x7f"), "127"},
    {BYTES("\xd1\x80\x00"), "-32768"},
    {BYTES("\xd1\x01\x00"), "256"},
    {BYTES("\xd2\x80\x00\x00\x00"), "-2147483648"},
    {BYTES("\xd2\x7f\xff\xff\xff"), "2147483647"},
    {BYTES("\xd3\xff\xff\xff\xff\xff\xff\xff\xff"), "-1"},
    {BYTES("\xd3\x80\x00\x00\x00\x00\x00\x00\x00"), "-9223372036854775808"},
    {BYTES("\xd3\x7f\xff\xff\xff\xff\xff\xff\xff"), "9223372036854775807"},
    {BYTES("\xca\x3f\xc0\x00\x00"), "1.5"},
    {BYTES("\xca\x3f\x80\x00\x00"), "1.0"},
    {BYTES("\xca\x80\x00\x00\x00"), "-0.0"},
    {BYTES("\xca\x00\x00\x00\x01"), "1.401298464324817e-45"},
    {BYTES("\xcb\x3f\xb9\x99\x99\x99\x99\x99\x9a"), "0.1"},
    {BYTES("\xcb\x3f\xd5\x55\x55\x55\x55\x55\x55"), "0.3333333333333333"},
    {BYTES("\xcb\x3f\xd3\x33\x33\x33\x33\x33\x34"), "0.30000000000000004"},
    {BYTES("\xcb\xc0\x08\x00\x00\x00\x00\x00\x00"), "-3.0"},
    {BYTES("\xcb\x44\xb5\x2d\x02\xc7\xe1\x4a\xf6"), "1e+23"},
    {BYTES("\xcb\x7f\xef\xff\xff\xff\xff\xff\xff"), "1.7976931348623157e+308"},
    {BYTES("\xcb\x00\x00\x00\x00\x00\x00\x00\x01"), "4.94065645841247e-324"},
    {BYTES("\xa0"), "\"\""},
    {BYTES("\xa1"
           "a"),
     "\"a\""},
    {BYTES("\xbf"
           "1234567890123456789012345678901"),
     "\"1234567890123456789012345678901\""},
    {BYTES("\xd9\x01"
           "a"),
     "\"a\""},
    {BYTES("\xda\x00\x01"
           "a"),
     "\"a\""},
    {BYTES("\xdb\x00\x00\x00\x01"
           "a"),
     "\"a\""},
    {BYTES("\xd9\x00"), "\"\""},
    {BYTES("\xa5\"\\/ ~"), "\"\\\"\\\\/ ~\""},
    {BYTES("\xa4\0\n\x1f\x7f"), "\"\\u0000\\u000a\\u001f\\u007f\""},
    {BYTES("\xa5\xc3\xa9\xe2\x82\xac"), "\"\\u00e9\\u20ac\""},
    {BYTES("\xa8\xf0\x9f\x98\x80\xf4\x8f\xbf\xbf"), "\"\\ud83d\\ude00\\udbff\\udfff\""},
    {BYTES("\xa3\xef\xbf\xbf"), "\"\\uffff\""},
    {BYTES("\xa4\xf0\x90\x80\x80"), "\"\\ud800\\udc00\""},
    {BYTES("\x90"), "[]"},
    {BYTES("\x92\x01\x92\xc0\x90"), "[1,[null,[]]]"},
    {BYTES("\xdc\x00\x01\x01"), "[1]"},
    {BYTES("\xdd\x00\x00\x00\x02\x01\x02"), "[1,2]"},
    {BYTES("\x80"), "{}"},
    {BYTES("\x81\xa1"
           "a\x01"),
     "{\"a\":1}"},
    {BYTES("\xde\x00\x02\xa1"
           "a\x80\xa0\x90"),
     "{\"a\":{},\"\":[]}"},
    {BYTES("\xdf\x00\x00\x00\x01\xa1\"\xa1\""), "{\"\\\"\":\"\\\"\"}"},
    {BYTES("\x82\xa1"
           "a\x01\xa1"
           "a\x02"),
     "{\"a\":1,\"a\":2}"},
    {BYTES("\x8f\xa0\x00\xa0\x01\xa0\x02\xa0\x03\xa0\x04\xa0\x05\xa0\x06\xa0\x07\xa0\x08\xa0\x09\xa0\x0a\xa0\x0b\xa0\x0c\xa0\x0d\xa0\x0e"),
     "{\"\":0,\"\":1,\"\":2,\"\":3,\"\":4,\"\":5,\"\":6,\"\":7,\"\":8,\"\":9,\"\":10,\"\":11,\"\":12,\"\":13,\"\":14}"},
};

/* What only msgpack can say: written as something near it, and refused by msgpack_check. */
static const pair unsayable[] = {
    {BYTES("\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00"), "null"},
    {BYTES("\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00"), "null"},
    {BYTES("\xcb\xff\xf0\x00\x00\x00\x00\x00\x00"), "null"},
    {BYTES("\xca\x7f\xc0\x00\x00"), "null"},
    {BYTES("\xca\xff\x80\x00\x00"), "null"},
    {BYTES("\xca\x7f\x80\x00\x01"), "null"},
    {BYTES("\xc4\x00"), "\"\""},
    {BYTES("\xc4\x01"
           "M"),
     "\"TQ==\""},
    {BYTES("\xc5\x00\x02"
           "Ma"),
     "\"TWE=\""},
    {BYTES("\xc6\x00\x00\x00\x03"
           "Man"),
     "\"TWFu\""},
    {BYTES("\xc4\x04\x00\xff\xfe\xfb"), "\"AP/++w==\""},
    {BYTES("\xd4\x01\x00"), "null"},
    {BYTES("\xd5\x01\x00\x00"), "null"},
    {BYTES("\xd6\xff\x00\x00\x00\x00"), "null"},
    {BYTES("\xd7\xff\x00\x00\x00\x00\x00\x00\x00\x00"), "null"},
    {BYTES("\xd8\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"), "null"},
    {BYTES("\xc7\x00\x05"), "null"},
    {BYTES("\xc7\x02\x05\xc1\xc1"), "null"},
    {BYTES("\xc8\x00\x01\x05\xc1"), "null"},
    {BYTES("\xc9\x00\x00\x00\x01\x05\xc1"), "null"},
    {BYTES("\x87\x01\x02\xc0\x02\xc3\x02\xca\x3f\xc0\x00\x00\x02\xc4\x01M\x02\xd4\x01\x00\x02\xff\x02"),
     "{\"1\":2,\"null\":2,\"true\":2,\"1.5\":2,\"TQ==\":2,\"null\":2,\"-1\":2}"},
};

static void msgpack_of_every_type_becomes_json(void) {
    check_table(sayable, ROWS(sayable));
    check_table(unsayable, ROWS(unsayable));
}

static void msgpack_check_accepts_what_json_can_say_and_nothing_else(void) {
    size_t used = 99, where = 99;
    for (int i = 0; i < ROWS(sayable); i++) {
        CHECK_ROW(i, check_msgpack(sayable[i].bytes, sayable[i].size, &used, &where) == NULL);
        CHECK_ROW(i, used == sayable[i].size);
    }
    for (int i = 0; i < ROWS(unsayable); i++) {
        CHECK_ROW(i, check_msgpack(unsayable[i].bytes, unsayable[i].size, &used, &where) != NULL);
        CHECK_ROW(i, used == 0 && where <= 1); /* 1: the first key of the map */
    }
}

static int is_simple(const unsigned char *bytes, size_t size) {
    size_t used, where;
    check_msgpack((const char *)bytes, size, &used, &where); /* which compares */
    unsigned char *copy = copy_of((const char *)bytes, size);
    int simple = msgpack_is_simple(copy, size);
    free(copy);
    return simple;
}

static void msgpack_is_simple_knows_arrays_of_short_texts_and_small_numbers(void) {
    unsigned char text[2 + 255 + 1] = {0xd9};
    for (size_t length = 0; length <= 255; length++) {
        memset(text + 2, 'a', sizeof text - 2);
        text[1] = (unsigned char)length;
        CHECK_ROW(length, is_simple(text, 2 + length) && !is_simple(text, 1 + length) && !is_simple(text, 3 + length));
        for (size_t at = 0; at < length; at++) {
            text[2 + at] = 0x80;
            CHECK_ROW(length, !is_simple(text, 2 + length));
            text[2 + at] = 'a';
        }
    }
    static const char *const simple[] = {"\x07", "\x7f", "\xa0", "\xa1z", "\x90", "\x92\x01\xa1z", "\x92\x91\x90\x92\xa1z\x02"};
    for (int row = 0; row < ROWS(simple); row++)
        CHECK_ROW(row, is_simple((const unsigned char *)simple[row], strlen(simple[row])));
    memset(text, 0x91, sizeof text);
    text[64] = text[65] = 7;
    CHECK(is_simple(text, 65)); /* 64 deep */
    text[64] = 0x91;
    CHECK(!is_simple(text, 66));
}

static void what_msgpack_is_simple_knows_is_always_right(void) {
    static const unsigned char bytes[] = {0x00, 0x7f, 0x80, 0x81, 0x90, 0x91, 0x92, 0x93, 0x9f, 0xa0, 0xa1, 0xa2,
                                          0xbf, 0xc0, 0xc3, 0xd9, 0xda, 0xdc, 0xe0, 'a',  0x02, 0xc4, 0xff, 0x01};
    unsigned char some[7];
    uint32_t chance = 1;
    int known = 0;
    for (int turn = 0; turn < 300000; turn++) {
        size_t size = 1 + turn % sizeof some;
        for (size_t i = 0; i < size; i++) {
            chance = chance * 1664525 + 1013904223;
            some[i] = bytes[(chance >> 16) % sizeof bytes];
        }
        known += is_simple(some, size);
    }
    CHECK(known > 1000);
}

static void msgpack_check_stops_behind_the_first_object(void) {
    size_t used = 99, where = 99;
    CHECK(check_msgpack(BYTES("\x91\x01\xc1\xc1"), &used, &where) == NULL && used == 2);
    CHECK(text_of(BYTES("\x91\x01\xc1")) == NULL);
    CHECK(text_of(BYTES("\x91\x01\xc0")) == NULL);
}

static void msgpack_errors_name_the_byte(void) {
    static const struct {
        const char *bytes;
        size_t size, where;
    } bad[] = {
        {BYTES(""), 0},
        {BYTES("\xc1"), 0},
        {BYTES("\x92\x01\xc1"), 2},
        {BYTES("\x92\x01"), 0},
        {BYTES("\xa3"
               "a\xed\xa0"),
         2},
        {BYTES("\x91\xa2"
               "a"),
         1},
        {BYTES("\x81\x01\x01"), 1},
        {BYTES("\x82\xa1"
               "a\x01\xc0\x01"),
         4},
        {BYTES("\x81\x90\x01"), 1},
        {BYTES("\x81\x80\x01"), 1},
        {BYTES("\x81\xc4\x00\x01"), 1},
        {BYTES("\x92\x01\xc4\x00"), 2},
        {BYTES("\x92\x01\xd4\x00\x00"), 2},
        {BYTES("\x91\xca\x7f\x80\x00\x00"), 1},
        {BYTES("\xd9\x02\xc3\xa9\xff"), 99},
        {BYTES("\xd9\x03\xc3\xa9\xff"), 4},
        {BYTES("\x81\xa1\xff\x01"), 2},
    };
    for (int i = 0; i < ROWS(bad); i++) {
        size_t used = 99, where = 99;
        const char *wrong = check_msgpack(bad[i].bytes, bad[i].size, &used, &where);
        if (bad[i].where == 99) {
            CHECK_ROW(i, wrong == NULL && used == 4);
        } else {
            CHECK_ROW(i, wrong != NULL && used == 0 && where == bad[i].where);
        }
    }
    CHECK(text_of(BYTES("\x81\x90\x01")) == NULL); /* keys that are containers have no text */
    CHECK(text_of(BYTES("\x81\x80\x01")) == NULL);
    CHECK(text_of(BYTES("\xa1\xff")) == NULL);
    CHECK(text_of(BYTES("\xc1")) == NULL);
    size_t used = 99, where = 99;
    CHECK(msgpack_check(NULL, 0, &used, &where) != NULL && used == 0 && where == 0);
}

static void msgpack_every_prefix_of_every_sample_is_refused(void) {
    for (int i = 0; i < ROWS(sayable) + ROWS(unsayable); i++) {
        const pair *p = i < ROWS(sayable) ? &sayable[i] : &unsayable[i - ROWS(sayable)];
        for (size_t size = 0; size < p->size; size++) {
            size_t used = 99, where = 99;
            CHECK_ROW(i, check_msgpack(p->bytes, size, &used, &where) != NULL && where <= size);
            CHECK_ROW(i, text_of(p->bytes, size) == NULL);
        }
    }
}

static void msgpack_lengths_beyond_the_data_are_refused_at_their_header(void) {
    static const sample bad[] = {
        {BYTES("\xdd\xff\xff\xff\xff")},
        {BYTES("\xdf\xff\xff\xff\xff")},
        {BYTES("\xdf\x80\x00\x00\x00")},
        {BYTES("\xdb\xff\xff\xff\xff")},
        {BYTES("\xc6\xff\xff\xff\xff")},
        {BYTES("\xc9\xff\xff\xff\xff\x01")},
        {BYTES("\xdc\xff\xff\xc0\xc0")},
        {BYTES("\xde\x00\x02\xa0\xc0\xa0")},
        {BYTES("\xdd\x00\x00\x00\x03\xc1\xc1")},
        {BYTES("\x9f\xc1")},
        {BYTES("\x82\xc1\xc1\xc1")},
        {BYTES("\xd8\x01")},
        {BYTES("\xd4")},
    };
    for (int i = 0; i < ROWS(bad); i++) {
        size_t used = 99, where = 99;
        CHECK_ROW(i, check_msgpack(bad[i].bytes, bad[i].size, &used, &where) != NULL && where == 0);
        CHECK_ROW(i, text_of(bad[i].bytes, bad[i].size) == NULL);
    }
}

static void msgpack_may_be_64_deep_and_not_65(void) {
    size_t used = 99, where = 99;
    CHECK(check_msgpack(BYTES(REPEAT64("\x91") "\xc0"), &used, &where) == NULL && used == 65);
    CHECK(check_msgpack(BYTES("\x91" REPEAT64("\x91") "\xc0"), &used, &where) != NULL && where == 64);
    CHECK(check_msgpack(BYTES(REPEAT64("\x81\xa0") "\xc0"), &used, &where) == NULL && used == 129);
    CHECK(check_msgpack(BYTES("\x90" REPEAT64("\x81\xa0") "\xc0"), &used, &where) == NULL && used == 1);
    CHECK(check_msgpack(BYTES("\x91" REPEAT64("\x81\xa0") "\xc0"), &used, &where) != NULL && where == 1 + 63 * 2);
    char *text = text_of(BYTES(REPEAT64("\x91") "\xc0"));
    CHECK(text && strcmp(text, REPEAT64("[") "null" REPEAT64("]")) == 0);
    free(text);
    CHECK(text_of(BYTES("\x91" REPEAT64("\x91") "\xc0")) == NULL);
}

/* ---- buffers ---- */

static void json_text_fits_its_buffer_exactly_or_leaves_an_empty_string(void) {
    static const char bytes[] = "\x83\xa1"
                                "a\xcb\x3f\xb9\x99\x99\x99\x99\x99\x9a\xa2\xc3\xa9\x92\xc0\xc2\xa1"
                                "b\xc4\x02hi";
    static const char wanted[] = "{\"a\":0.1,\"\\u00e9\":[null,false],\"b\":\"aGk=\"}";
    const unsigned char *data = (const unsigned char *)bytes;
    size_t needed = 99;
    char text[sizeof wanted + 8];
    CHECK(msgpack_to_json(data, sizeof bytes - 1, NULL, 0, &needed) == NULL && needed == sizeof wanted);
    for (size_t capacity = 0; capacity <= sizeof wanted + 4; capacity++) {
        char *exact = malloc(capacity ? capacity : 1);
        if (!exact)
            abort();
        needed = 99;
        memset(exact, '#', capacity ? capacity : 1);
        CHECK_ROW(capacity, msgpack_to_json(data, sizeof bytes - 1, exact, capacity, &needed) == NULL && needed == sizeof wanted);
        if (capacity >= sizeof wanted)
            CHECK_ROW(capacity, strcmp(exact, wanted) == 0);
        else if (capacity > 0)
            CHECK_ROW(capacity, exact[0] == '\0');
        else
            CHECK_ROW(capacity, exact[0] == '#');
        free(exact);
    }
    memset(text, '#', sizeof text);
    CHECK(msgpack_to_json(data, sizeof bytes - 1, text, sizeof text, &needed) == NULL);
    CHECK(text[sizeof wanted - 1] == '\0' && text[sizeof wanted] == '#'); /* nothing behind the NUL is touched */
    memset(text, '#', sizeof text);
    CHECK(msgpack_to_json(data, sizeof bytes - 2, text, sizeof text, &needed) != NULL && needed == 0 && text[0] == '\0');
    CHECK(msgpack_to_json(NULL, 0, text, sizeof text, &needed) != NULL && needed == 0);
    CHECK(msgpack_to_json(NULL, 0, NULL, 0, &needed) != NULL && needed == 0);
    CHECK(msgpack_to_json(NULL, SIZE_MAX / 8 + 1, NULL, 0, &needed) != NULL && needed == 0); /* unread: its size might not fit *needed */
}

/* ---- numbers ---- */

static void check_doubles_in_this_locale(void) {
    uint64_t state = 88172645463325252u;
    for (int i = 0; i < 20000; i++) {
        state ^= state << 13, state ^= state >> 7, state ^= state << 17; /* xorshift: every bit pattern comes up */
        double value, again;
        memcpy(&value, &state, sizeof value);
        if (i % 2)
            value = (double)(int64_t)(state % 2000000) / 1000.0;
        if (!isfinite(value))
            continue;
        uint64_t bits, bits_again;
        memcpy(&bits, &value, sizeof bits);
        unsigned char packed[9] = {0xcb};
        for (int k = 0; k < 8; k++)
            packed[1 + k] = (unsigned char)(bits >> (56 - 8 * k));
        char text[64];
        size_t needed = 0, where;
        CHECK_ROW(i, msgpack_to_json(packed, 9, text, sizeof text, &needed) == NULL && needed <= 25);
        CHECK_ROW(i, json_check(text, needed - 1, &where) == NULL && strpbrk(text, ".e"));
        const char *separator = localeconv()->decimal_point; /* what strtod wants to see here */
        char *point = strchr(text, '.');
        if (point && separator[1])
            continue;
        if (point)
            *point = separator[0];
        again = strtod(text, NULL);
        memcpy(&bits_again, &again, sizeof bits_again);
        CHECK_ROW(i, bits == bits_again);
    }
}

static void doubles_read_back_the_same(void) {
    check_doubles_in_this_locale();
}

static void doubles_have_a_point_whatever_the_locale_says(void) {
    static const char *const names[] = {"de_DE.UTF-8",         "de_DE.utf8",  "fr_FR.UTF-8", "de_DE",
                                        "German_Germany.1252", "ps_AF.UTF-8", "ps_AF.utf8"};
    int tried = 0;
    for (int i = 0; i < ROWS(names); i++) {
        if (!setlocale(LC_ALL, names[i]) || strcmp(localeconv()->decimal_point, ".") == 0)
            continue;
        tried++;
        check_table(sayable, ROWS(sayable));
        check_doubles_in_this_locale();
    }
    setlocale(LC_ALL, "C");
    if (!tried)
        printf("    (no locale with a decimal comma is installed here)\n");
}

/* ---- one value ---- */

static int find(const char *bytes, size_t size, const char *key, const char *wanted) {
    unsigned char *copy = copy_of(bytes, size);
    const char *text = NULL;
    size_t length = 0;
    const int found = msgpack_find_str(copy, size, key, &text, &length);
    const int same = found && wanted && length == strlen(wanted) && memcmp(text, wanted, length) == 0 && text >= (const char *)copy &&
                     text + length <= (const char *)copy + size;
    free(copy);
    return wanted ? same : found;
}

static void find_str_finds_the_first_value_of_a_key(void) {
    static const char bytes[] = "\x87\x01\xa1x\xa1"
                                "a\x81\xa5"
                                "error\xa5inner\xa5"
                                "error\xa4 bad\xa0\xa1"
                                "e\xa4"
                                "code\x05\xa5"
                                "error\xa0\xa4last\xd9\x03"
                                "end";
    CHECK(find(BYTES(bytes), "error", " bad")); /* not the one inside, not the second */
    CHECK(find(BYTES(bytes), "last", "end"));
    CHECK(find(BYTES(bytes), "", "e"));
    CHECK(!find(BYTES(bytes), "code", NULL)); /* no str */
    CHECK(!find(BYTES(bytes), "inner", NULL));
    CHECK(!find(BYTES(bytes), "erro", NULL));
    CHECK(!find(BYTES(bytes), "errors", NULL));
    CHECK(find(BYTES("\x81\xa1"
                     "a\xa0"),
               "a", ""));
}

static void find_str_finds_nothing_in_what_is_no_map_or_cut_off(void) {
    static const char bytes[] = "\x82\xa1"
                                "a\x92\xc0\xa2hi\xa1"
                                "b\xa3"
                                "end";
    CHECK(find(BYTES(bytes), "b", "end"));
    for (size_t size = 0; size < sizeof bytes - 1; size++)
        CHECK_ROW(size, !find(bytes, size, "b", NULL));
    CHECK(!find(BYTES("\x92\xa1"
                      "a\xa1"
                      "b"),
                "a", NULL));
    CHECK(!find(BYTES("\x80"), "a", NULL));
    CHECK(!find(BYTES("\x82\x90\x01\xa1"
                      "a\xa1"
                      "b"),
                "a", NULL)); /* a container as key */
    CHECK(!find(BYTES("\xdf\xff\xff\xff\xff"), "a", NULL));
    CHECK(!find(BYTES("\x81\xa1"
                      "a\xa1\xff"),
                "a", NULL)); /* not UTF-8 */
    CHECK(!find(BYTES("\x82\xa1"
                      "x" REPEAT64("\x91") "\xc0\xa1"
                                           "a\xa1"
                                           "b"),
                "a", NULL)); /* too deep */
    CHECK(!find(NULL, 0, "a", NULL));
}

/* The readers look at eight or 32 bytes at a time where they can: no byte may hide among them, wherever it stands. */
static void any_byte_is_read_the_same_at_every_place_of_a_text_of_any_length(void) {
    enum { LONGEST = 70 };
    for (size_t length = 1; length <= LONGEST; length += length < 20 ? 1 : 17)
        for (size_t place = 0; place < length; place++)
            for (int byte = 0; byte < 256; byte++) {
                char json[LONGEST + 3], packed[LONGEST + 2], expected[LONGEST + 12], said[8];
                size_t where, used, needed, wrong_at = place + 1;
                memset(json, 'a', sizeof json);
                json[0] = json[length + 1] = '"';
                json[place + 1] = (char)byte;
                int plain = byte >= 0x20 && byte < 0x80 && byte != '"' && byte != '\\';
                if (byte == '"')
                    wrong_at = place + 2; /* what follows it; if that is the other quote, all of it */
                else if (byte == '\\')
                    wrong_at = place + 1 == length ? length + 2 : place + 2; /* \a is no escape, \" is one */
                const char *wrong = check_json(json, length + 2, &where);
                CHECK_ROW(byte, plain ? !wrong && where == length + 2 : wrong && where == wrong_at);

                int ascii = byte < 0x80;
                char *text = copy_of(json + 1, length);
                CHECK_ROW(byte, utf8_check(text, length) == (ascii ? length : place));
                free(text);

                packed[0] = (char)0xd9;
                packed[1] = (char)length;
                memcpy(packed + 2, json + 1, length);
                wrong = check_msgpack(packed, length + 2, &used, &where);
                CHECK_ROW(byte, ascii ? !wrong && used == length + 2 : wrong && where == place + 2);
                if (!ascii)
                    continue;
                snprintf(said, sizeof said, plain && byte != 0x7f ? "%c" : byte == '"' || byte == '\\' ? "\\%c" : "\\u%04x", byte);
                int bytes = snprintf(expected, sizeof expected, "\"%.*s%s%.*s\"", (int)place, json + 1, said, (int)(length - place - 1),
                                     json + place + 2);
                text = text_of(packed, length + 2);
                CHECK_ROW(byte, text && strcmp(text, expected) == 0);
                free(text);
                for (size_t room = 1; room <= (size_t)bytes + 1; room += room < 12 ? 1 : 7) { /* none is written behind the room */
                    char *small = copy_of(expected, room);
                    wrong = msgpack_to_json((const unsigned char *)packed, length + 2, small, room, &needed);
                    CHECK_ROW(byte, !wrong && needed == (size_t)bytes + 1 && strcmp(small, needed <= room ? expected : "") == 0);
                    free(small);
                }
            }
}

static const struct test tests[] = {
    {"any byte is read the same at every place of a text of any length", any_byte_is_read_the_same_at_every_place_of_a_text_of_any_length},
    {"UTF-8: good sequences are accepted", utf8_good_sequences_are_accepted},
    {"UTF-8: bad sequences are refused where they begin", utf8_bad_sequences_are_refused_where_they_begin},
    {"JSON: valid text is accepted", json_valid_text_is_accepted},
    {"JSON: invalid text is refused at the byte that is wrong", json_invalid_text_is_refused_at_the_byte_that_is_wrong},
    {"JSON: every prefix of a sample is refused", json_every_prefix_of_a_sample_is_refused},
    {"JSON: may be 64 deep and not 65", json_may_be_64_deep_and_not_65},
    {"msgpack: every type becomes JSON", msgpack_of_every_type_becomes_json},
    {"msgpack: the check accepts what JSON can say and nothing else", msgpack_check_accepts_what_json_can_say_and_nothing_else},
    {"msgpack: simple are arrays of short texts and small numbers", msgpack_is_simple_knows_arrays_of_short_texts_and_small_numbers},
    {"msgpack: what is called simple is always right", what_msgpack_is_simple_knows_is_always_right},
    {"msgpack: the check stops behind the first object", msgpack_check_stops_behind_the_first_object},
    {"msgpack: errors name the byte", msgpack_errors_name_the_byte},
    {"msgpack: every prefix of every sample is refused", msgpack_every_prefix_of_every_sample_is_refused},
    {"msgpack: lengths beyond the data are refused at their header", msgpack_lengths_beyond_the_data_are_refused_at_their_header},
    {"msgpack: may be 64 deep and not 65", msgpack_may_be_64_deep_and_not_65},
    {"the text fits its buffer exactly or leaves an empty string", json_text_fits_its_buffer_exactly_or_leaves_an_empty_string},
    {"doubles read back the same", doubles_read_back_the_same},
    {"doubles have a point whatever the locale says", doubles_have_a_point_whatever_the_locale_says},
    {"find_str finds the first value of a key", find_str_finds_the_first_value_of_a_key},
    {"find_str finds nothing in what is no map or cut off", find_str_finds_nothing_in_what_is_no_map_or_cut_off},
};

int main(void) {
    return run_tests(tests, ROWS(tests));
}
