/* iblb: the bridge from a shell, and the simplest foreign program there is.
 *
 *     iblb call rig0 EXPSTART '["2026-01-01_1_subject"]'
 *
 * The response goes to standard output as one line of JSON, a sentence to standard error if the status is not 0. Exit status: see usage. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "iblbridge.h"

enum exit_status {
#define EXIT_STATUS(name, number, meaning) EXIT_##name = (number),
#include "../codes.def"
};

static const char usage[] = "iblb call SEGMENT MESSAGE [ARGS]     send a command, wait, print the response\n"
                            "iblb notify SEGMENT MESSAGE [ARGS]   send a command that nobody waits for\n"
                            "iblb ping SEGMENT                    time one turn through the worker\n"
                            "iblb state SEGMENT                   worker and services\n"
                            "iblb codes                           all statuses\n"
                            "\n"
                            "MESSAGE  EXPINIT EXPSTART EXPEND EXPCLEANUP EXPINTERRUPT EXPSTATUS EXPINFO ALYX PING SERVICES, or a number\n"
                            "ARGS     a JSON array of the arguments, e.g. '[\"2026-01-01_1_subject\", {\"note\": 1}]'\n"
                            "\n"
                            "  --services A,B   only these services (default: all)\n"
                            "  --timeout MS     how long to wait for the response (default: 12000)\n"
                            "  --open MS        how long to wait for segment and worker (default: 1000)\n"
                            "  --client NAME    name of this client (default: its own)\n";

struct options {
    const char *services;
    const char *client;
    int timeout_ms;
    int open_ms;
};

static const struct {
    const char *name;
    int number;
} messages[] = {{"EXPINIT", IBLB_EXPINIT},
                {"EXPSTART", IBLB_EXPSTART},
                {"EXPEND", IBLB_EXPEND},
                {"EXPCLEANUP", IBLB_EXPCLEANUP},
                {"EXPINTERRUPT", IBLB_EXPINTERRUPT},
                {"EXPSTATUS", IBLB_EXPSTATUS},
                {"EXPINFO", IBLB_EXPINFO},
                {"ALYX", IBLB_ALYX},
                {"PING", IBLB_PING},
                {"SERVICES", IBLB_SERVICES}};

static int message_number(const char *text) {
    for (size_t i = 0; i < sizeof messages / sizeof messages[0]; i++)
        if (strcmp(text, messages[i].name) == 0)
            return messages[i].number;
    char *end;
    long number = strtol(text, &end, 10);
    return *end || number < 0 || number > 4096 ? 0 : (int)number; /* 0 is no message: the library says so */
}

static int show_usage(FILE *stream, int status) {
    fputs(usage, stream);
    fputs("\nExit status\n\n", stream);
#define EXIT_STATUS(name, number, meaning) fprintf(stream, "%5d  %s\n", number, meaning);
#include "../codes.def"
    return status;
}

static int exit_status(int code) {
    static const struct {
        int code;
        enum exit_status status;
    } statuses[] = {
#define CODE(name, number, exit, source, meaning, remedy) {number, EXIT_##exit},
#include "../codes.def"
    };
    for (size_t i = 0; i < sizeof statuses / sizeof statuses[0]; i++)
        if (statuses[i].code == code)
            return (int)statuses[i].status;
    return code < 0 ? EXIT_MISUSE : EXIT_FINE;
}

static int report(int handle, int code) {
    char text[1024];
    if (code == IBLB_OK)
        return EXIT_FINE;
    iblb_last_error(handle, text, sizeof text);
    fprintf(stderr, "iblb: %s (%d)\n", text, code);
    return exit_status(code);
}

/* Shells differ in what they make of quotation marks: PowerShell 5.1 and cmd take them away unless they are written \". */
static int report_command(int handle, int code, const char *args) {
    int status = report(handle, code);
    if (code == IBLB_E_JSON)
        fprintf(stderr, "iblb: The shell has handed over: %s\n", args);
    return status;
}

static int call(int handle, const char *message, const char *args, const struct options *options) {
    int request, needed = 0, capacity = 1 << 16;
    char *json = malloc((size_t)capacity);
    if (!json)
        return report(0, IBLB_E_MEMORY);
    int code = iblb_call(handle, options->services, message_number(message), args, options->timeout_ms, json, capacity, &request);
    if (code == IBLB_E_BUFFER) { /* the response is kept; ask how long it is */
        iblb_wait(handle, request, 0, NULL, 0, &needed);
        free(json);
        json = malloc((size_t)needed);
        if (!json)
            return report(0, IBLB_E_MEMORY);
        code = iblb_wait(handle, request, 0, json, needed, &needed);
    }
    if (*json)
        puts(json);
    free(json);
    return report_command(handle, code, args);
}

static int ping(int handle, const struct options *options) {
    double before, after;
    int request;
    iblb_clock_ns(&before);
    int code = iblb_call(handle, NULL, IBLB_PING, NULL, options->timeout_ms, NULL, 0, &request);
    iblb_clock_ns(&after);
    if (code == IBLB_OK)
        printf("%.0f us\n", (after - before) / 1000);
    return report(handle, code);
}

/* As bridge/segment/words.py says it. */
static void print_age(double seconds) {
    static const struct {
        const char *name;
        double seconds;
    } units[] = {{"d", 86400}, {"h", 3600}, {"min", 60}};
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
        if (seconds >= 2 * units[i].seconds) {
            printf("%.0f %s", seconds / units[i].seconds, units[i].name);
            return;
        }
    printf("%.0f s", seconds);
}

/* How the services in a response to IBLB_SERVICES do: who is down, and of whom nothing was heard lately; silence is no fault. */
static void print_services(const char *json) {
    int count = 0, down = 0, up = 0, silent = 0, never = 0;
    double least = 0;
    while ((json = strstr(json, "\"health\":\"")) != NULL) { /* a quotation mark in a text has a backslash before it */
        const char *age = strstr(json, "\"age_ms\":");
        double seconds = age ? strtod(age + strlen("\"age_ms\":"), NULL) / 1000 : -1;
        json += strlen("\"health\":\"");
        count++;
        if (strncmp(json, "down", 4) == 0)
            down++;
        else if (strncmp(json, "up", 2) == 0)
            up++;
        else if (seconds < 0)
            never++;
        else if (silent++ == 0 || seconds < least)
            least = seconds;
    }
    printf(", ");
    if (count == 0)
        printf("no services");
    else
        printf("%d service%s: %d down", count, count == 1 ? "" : "s", down);
    if (up)
        printf(", %d up", up);
    if (silent) {
        printf(", %d not heard for ", silent);
        print_age(least);
    }
    if (never)
        printf(", %d never heard", never);
}

static int state(int handle, const struct options *options) {
    int alive = 0, services = 0, request, needed, capacity = 1 << 18; /* of 128 services with long errors */
    int code = iblb_worker_state(handle, &alive, &services, NULL);
    if (code != IBLB_OK)
        return report(handle, code);
    printf("worker %s", alive ? "alive" : "gone");
    char *json = alive ? malloc((size_t)capacity) : NULL;
    if (json) {
        code =
            iblb_call(handle, NULL, IBLB_SERVICES, NULL, options->timeout_ms < 1000 ? options->timeout_ms : 1000, json, capacity, &request);
        if (code == IBLB_E_BUFFER && iblb_wait(handle, request, 0, NULL, 0, &needed) == IBLB_E_BUFFER) {
            free(json);
            json = malloc((size_t)needed);
            code = json ? iblb_wait(handle, request, 0, json, needed, &needed) : IBLB_E_MEMORY;
        }
        if (code >= 0)
            print_services(json);
        else
            printf(", %d services: it does not answer", services);
        free(json);
    }
    puts("");
    return EXIT_FINE; /* that it does not answer is the answer */
}

static int codes(void) {
    char text[1024];
    for (int code = -8999; code <= 9999; code++)
        if (iblb_error_text(code, text, sizeof text) == IBLB_OK)
            printf("%6d  %s\n", code, text);
    return EXIT_FINE;
}

/* Takes `--name value` out of the arguments; returns how many are left, or -1. */
static int parse(int count, char **arguments, struct options *options) {
    int left = 0;
    for (int i = 0; i < count; i++) {
        const char **text = strcmp(arguments[i], "--services") == 0 ? &options->services
                            : strcmp(arguments[i], "--client") == 0 ? &options->client
                                                                    : NULL;
        int *number = strcmp(arguments[i], "--timeout") == 0 ? &options->timeout_ms
                      : strcmp(arguments[i], "--open") == 0  ? &options->open_ms
                                                             : NULL;
        char *end = "";
        if (!text && !number) {
            if (strncmp(arguments[i], "--", 2) == 0)
                return -1;
            arguments[left++] = arguments[i];
            continue;
        }
        if (++i == count)
            return -1;
        if (text)
            *text = arguments[i];
        else
            *number = (int)strtol(arguments[i], &end, 10);
        if (*end)
            return -1;
    }
    return left;
}

int main(int count, char **arguments) {
    struct options options = {NULL, NULL, 12000, 1000};
    int left = parse(count - 1, arguments + 1, &options);
    char **words = arguments + 1;
    const char *verb = left > 0 ? words[0] : "";
    int commands = strcmp(verb, "call") == 0 || strcmp(verb, "notify") == 0;
    int questions = strcmp(verb, "ping") == 0 || strcmp(verb, "state") == 0;
    if (strcmp(verb, "help") == 0 || (count == 2 && strcmp(arguments[1], "--help") == 0))
        return show_usage(stdout, EXIT_FINE);
    if (strcmp(verb, "codes") == 0 && left == 1)
        return codes();
    if (!(commands && (left == 3 || left == 4)) && !(questions && left == 2))
        return show_usage(stderr, EXIT_MISUSE);

    int handle;
    double now;
    char name[40];
    iblb_clock_ns(&now);
    snprintf(name, sizeof name, "iblb-%.0f", now); /* "iblb": may use the slot kept for tools */
    int code = iblb_open(words[1], options.client ? options.client : name, options.open_ms, &handle);
    if (code < 0)
        return report(0, code);
    const char *args = left == 4 ? words[3] : NULL;
    int status;
    if (strcmp(verb, "call") == 0)
        status = call(handle, words[2], args, &options);
    else if (strcmp(verb, "notify") == 0)
        status = report_command(handle, iblb_notify(handle, options.services, message_number(words[2]), args, 0), args);
    else if (strcmp(verb, "ping") == 0)
        status = ping(handle, &options);
    else
        status = state(handle, &options);
    iblb_close(handle);
    return status;
}
