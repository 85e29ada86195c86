/* check.h: checks that go on after a failure, and a runner whose last line is "N passed, N failed, N skipped". */
#ifndef CHECK_H
#define CHECK_H

#include <stdio.h>

static _Atomic int wrong_checks; /* of the running test, from whatever thread */

static inline int check_failed(const char *file, int line, const char *what) {
    wrong_checks++;
    printf("    %s:%d: %s\n", file, line, what);
    return 0;
}

#define CHECK(condition) ((condition) ? 1 : check_failed(__FILE__, __LINE__, #condition))

/* The same for a row of a table, or a turn of a loop: names it. */
#define CHECK_ROW(row, condition)                                                                                                          \
    do {                                                                                                                                   \
        if (!CHECK(condition))                                                                                                             \
            printf("        in row %lld\n", (long long)(row));                                                                             \
    } while (0)

/* Two integers; prints both. */
#define CHECK_SAME(found, expected)                                                                                                        \
    do {                                                                                                                                   \
        long long found_value = (long long)(found), expected_value = (long long)(expected);                                                \
        if (found_value != expected_value) {                                                                                               \
            check_failed(__FILE__, __LINE__, #found " == " #expected);                                                                     \
            printf("        found %lld, expected %lld\n", found_value, expected_value);                                                    \
        }                                                                                                                                  \
    } while (0)

#define ROWS(table) ((int)(sizeof(table) / sizeof((table)[0])))

struct test {
    const char *sentence;
    void (*run)(void);
    const char *left_out; /* why it is not run here; NULL: it is. See system.h */
};

/* Runs them all; returns the exit status. */
static inline int run_tests(const struct test *tests, int count) {
    int failed = 0, skipped = 0;
    for (int i = 0; i < count; i++) {
        if (tests[i].left_out) {
            skipped++;
            printf("skip  %s: %s\n", tests[i].sentence, tests[i].left_out);
            continue;
        }
        wrong_checks = 0;
        tests[i].run();
        failed += wrong_checks > 0;
        printf("%s  %s\n", wrong_checks ? "FAIL" : "ok  ", tests[i].sentence);
        fflush(stdout);
    }
    printf("%d passed, %d failed, %d skipped\n", count - failed - skipped, failed, skipped);
    return failed > 0;
}

#endif
