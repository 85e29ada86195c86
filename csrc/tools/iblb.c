/* iblb: the bridge from a shell, and the simplest foreign program there is.
 *
 *     iblb call rig0 EXPSTART 2026-01-01_1_subject
 *
 * The response goes to standard output as one line of JSON, a sentence to standard error if the status is not 0. Exit
 * status: see usage. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "iblbridge.h"
#include "iblbridge_worker.h"
#include "camera.h"
#include "words.h"

enum exit_status {
#define EXIT_STATUS(name, number, meaning) EXIT_##name = (number),
#include "../codes.def"
};

static const char usage[] = "iblb call SEGMENT MESSAGE [ARG...]    send a command, wait, print the response\n"
                            "iblb notify SEGMENT MESSAGE [ARG...]  send a command that nobody waits for\n"
                            "iblb ping SEGMENT                     time one turn through the worker\n"
                            "iblb state SEGMENT                    worker, services, listeners; exit status 0 if\n"
                            "                                      a worker serves, 3 if none does, another\n"
                            "                                      if it does not answer\n"
                            "iblb camera SEGMENT [LISTENER]        be a camera that is none: do what\n"
                            "                                      masters ask of a listener\n"
                            "iblb codes                            all statuses, and what to do at each\n"
                            "iblb --version\n"
                            "\n"
                            "MESSAGE  EXPINIT EXPSTART EXPEND EXPCLEANUP EXPINTERRUPT EXPSTATUS\n"
                            "         EXPINFO ALYX PING SERVICES, in any case, or a number\n"
                            "ARG      JSON or plain words: 2026-01-01_1_subject '{\"note\": 1}'\n"
                            "         @FILE: what stands in the file; -: what comes from standard input\n"
                            "         a single ARG that is an array is all of them: '[\"2026-...\", {}]'\n"
                            "\n"
                            "  --services A,B    only these services (default: all)\n"
                            "  --timeout TIME    how long to wait for the response: 5s, 500ms, or a number\n"
                            "                    of ms (default: 12s)\n"
                            "  --open TIME       how long to wait for segment and worker (default: 1s)\n"
                            "  --client NAME     name of this client (default: its own)\n"
                            "  --args-file FILE  take the arguments from a file, as @FILE does; -: from\n"
                            "                    standard input\n";

struct options {
    const char *services;
    const char *client;
    const char *args_file;
    int timeout_ms;
    int open_ms;
};

static const char *const message_names[] = {"EXPINIT",   "EXPSTART", "EXPEND", "EXPCLEANUP", "EXPINTERRUPT",
                                            "EXPSTATUS", "EXPINFO",  "ALYX",   "PING",       "SERVICES"};
static const int message_numbers[] = {IBLB_EXPINIT,   IBLB_EXPSTART, IBLB_EXPEND, IBLB_EXPCLEANUP, IBLB_EXPINTERRUPT,
                                      IBLB_EXPSTATUS, IBLB_EXPINFO,  IBLB_ALYX,   IBLB_PING,       IBLB_SERVICES};
static const char *const verbs[] = {"call", "notify", "ping", "state", "camera", "codes", "help"};
static const char *const option_names[] = {"--services", "--client", "--timeout", "--open", "--args-file", "--help", "--version"};
#define COUNT(array) (sizeof(array) / sizeof *(array))

/* The number of a message that is given by name or number; -1 if there is none of that name. */
static int message_number(const char *text) {
    for (size_t i = 0; i < COUNT(message_names); i++)
        if (same_word(text, message_names[i]))
            return message_numbers[i];
    size_t digits = strspn(text, "0123456789");
    return digits && digits < 9 && !text[digits] ? (int)strtol(text, NULL, 10) : -1; /* the library refuses what is not a message */
}

static int misuse(const char *sentence) {
    fprintf(stderr, "iblb: %s For usage: iblb --help\n", sentence);
    return EXIT_MISUSE;
}

static int unknown(const char *kind, const char *word, const char *const *words, size_t count) {
    const char *meant = nearest(word, words, count);
    fprintf(stderr, "iblb: there is no %s %s%s%s%s For usage: iblb --help\n", kind, word, meant ? "; did you mean " : "",
            meant ? meant : "", meant ? "?" : ".");
    return EXIT_MISUSE;
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
    if (code == IBLB_E_PENDING) { /* only this process can wait for a request, and it ends: what happened stays, not what to do */
        char *end = strstr(text, ". ");
        size_t length = end ? (size_t)(end + 2 - text) : 0;
        snprintf(text + length, sizeof text - length, "%s", "The answer is lost here: ask EXPSTATUS before you repeat it.");
    }
    fprintf(stderr, "iblb: %s (%d)\n", text, code);
    return exit_status(code);
}

static int call(int handle, int message, const char *args, const struct options *options) {
    int request, needed = 0, capacity = 1 << 16;
    char *json = malloc((size_t)capacity);
    if (!json)
        return report(0, IBLB_E_MEMORY);
    int code = iblb_call(handle, options->services, message, args, options->timeout_ms, json, capacity, &request);
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
    return report(handle, code);
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

/* In the words of bridge/segment/words.py. */
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

/* What stands in the JSON text behind the next `key`, such as "\"health\":"; NULL: there is none. A quotation mark in a text
 * has a backslash before it, so no text can be taken for a key. */
static const char *behind(const char *json, const char *key) {
    const char *at = json ? strstr(json, key) : NULL;
    return at ? at + strlen(key) : NULL;
}

static const char listens[] = "\"role\":\"listener\"";

/* How the services in a response to IBLB_SERVICES are: which are down, and which have not been heard lately; silence is
 * not a fault. Its listeners come last. */
static void print_services(const char *json) {
    int count = 0, down = 0, up = 0, silent = 0, never = 0;
    double least = 0;
    const char *end = strstr(json, listens);
    while ((json = behind(json, "\"health\":\"")) != NULL && (!end || json < end)) {
        const char *age = behind(json, "\"age_ms\":");
        double seconds = age ? strtod(age, NULL) / 1000 : -1;
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

/* One text as JSON has it, without its quotation marks. */
static void print_text(const char *text) {
    for (; text && *text && *text != '"'; text++) {
        putchar(*text);
        if (*text == '\\' && text[1])
            putchar(*++text);
    }
}

/* A line for each listener: where masters find it, and who does what they ask. */
static void print_listeners(const char *json) {
    while ((json = behind(json, listens)) != NULL) {
        const char *client = behind(json, "\"client\":\"");
        printf("listening as ");
        print_text(behind(json, "\"name\":\""));
        printf(" at ");
        print_text(behind(json, "\"uri\":\""));
        printf(client && *client != '"' ? ": served by " : ": no program serves it: masters get an error");
        print_text(client);
        puts("");
    }
}

/* Whether the last worker of a segment stopped in order, so that nobody has to look for what ended it. */
static int was_stopped(const char *segment) {
    struct iblbw_report *found = malloc(sizeof *found);
    struct iblbw_slot_report *slots = malloc(64 * sizeof *slots);
    char services[128 * 64];
    int stopped = found && slots && iblbw_inspect(segment, found, slots, services, sizeof services) == IBLB_OK && found->is_segment &&
                  found->slots && found->epoch && found->worker_pid == 0;
    free(found);
    free(slots);
    return stopped;
}

static int state(int handle, const char *segment, const struct options *options) {
    int alive = 0, services = 0, request, needed, capacity = 1 << 18; /* of 128 services with long errors */
    int code = iblb_worker_state(handle, &alive, &services, NULL);
    if (code != IBLB_OK)
        return report(handle, code);
    printf("worker %s", alive ? "alive" : was_stopped(segment) ? "stopped in order" : "gone");
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
            printf(", %d service%s: it does not answer", services, services == 1 ? "" : "s");
    }
    puts("");
    if (json && code >= 0)
        print_listeners(json);
    free(json);
    return exit_status(alive ? code : IBLB_E_NO_WORKER); /* without a sentence: what was found out is said */
}

static int codes(void) {
#define CODE(name, number, exit, source, meaning, remedy) printf("%6d  %-22s  %s %s\n", number, #name, meaning, remedy);
#include "../codes.def"
    return EXIT_FINE;
}

/* Takes `--name value` and `--name=value` out of the arguments. Returns how many arguments are left, or -1 after it has
 * said what is wrong. */
static int parse(int count, char **arguments, struct options *options) {
    int left = 0, ended = 0;
    for (int i = 0; i < count; i++) {
        char *word = arguments[i], *value = strchr(word, '=');
        if (ended || strncmp(word, "--", 2) != 0) {
            arguments[left++] = word;
            continue;
        }
        if (strcmp(word, "--") == 0) {
            ended = 1;
            continue;
        }
        if (value)
            *value++ = '\0';
        const char **text = strcmp(word, "--services") == 0    ? &options->services
                            : strcmp(word, "--client") == 0    ? &options->client
                            : strcmp(word, "--args-file") == 0 ? &options->args_file
                                                               : NULL;
        int *time = strcmp(word, "--timeout") == 0 ? &options->timeout_ms : strcmp(word, "--open") == 0 ? &options->open_ms : NULL;
        if (!text && !time)
            return unknown("option", word, option_names, COUNT(option_names)), -1;
        if (!value && ++i < count)
            value = arguments[i];
        if (!value) {
            fprintf(stderr, "iblb: something is missing behind %s. For usage: iblb --help\n", word);
            return -1;
        }
        if (text == &options->services && value[strspn(value, " \t")] == '\0') { /* as from a variable that is not set */
            fputs("iblb: --services names no service; leave it out to reach all\n", stderr);
            return -1;
        }
        if (text)
            *text = value;
        else if ((*time = milliseconds(value)) < 0) {
            fprintf(stderr, "iblb: %s: %s is not a time; write 5s or 500ms, or a number of ms. For usage: iblb --help\n", word, value);
            return -1;
        } else if (time == &options->timeout_ms && *time == 0) { /* whether anything is sent would depend on luck */
            fprintf(stderr, "iblb: --timeout: %s leaves no time for an answer; write 5s or 500ms\n", value);
            return -1;
        }
    }
    return left;
}

/* The arguments as JSON, to be freed; NULL if there are none. 0 after it has said what is wrong. */
static int read_arguments(int count, char **words, const struct options *options, char **json) {
    char problem[1024];
    char *file = NULL;
    *json = NULL;
    if (options->args_file) {
        if (count)
            return misuse("the arguments stand in --args-file, or here."), 0;
        file = malloc(strlen(options->args_file) + 2);
        if (!file)
            return 0;
        sprintf(file, "@%s", options->args_file);
        words = &file;
        count = 1;
    }
    if (count)
        *json = arguments_json(count, words, problem, sizeof problem);
    if (count && !*json)
        fprintf(stderr, "iblb: %s\n", problem);
    /* Shells treat quotation marks differently: PowerShell 5.1 and cmd take them away unless they are written \". */
    if (count && !*json && strstr(problem, "begins like JSON")) {
        fputs("iblb: The shell has handed over:", stderr);
        for (int i = 0; i < count; i++)
            fprintf(stderr, " %s", words[i]);
        fputs("\n", stderr);
    }
    free(file);
    return !count || *json;
}

static int run(int count, char **arguments) {
    struct options options = {NULL, NULL, NULL, 12000, 1000};
    char **words = arguments + 1;
    for (int i = 1; i < count && strcmp(arguments[i], "--") != 0; i++) {
        if (strcmp(arguments[i], "--help") == 0 || strcmp(arguments[i], "-h") == 0)
            return show_usage(stdout, EXIT_FINE);
        if (strcmp(arguments[i], "--version") == 0) {
            printf("iblb %d.%d.%d\n", IBLB_VERSION / 10000, IBLB_VERSION / 100 % 100, IBLB_VERSION % 100);
            return EXIT_FINE;
        }
    }
    int left = parse(count - 1, words, &options);
    if (left < 0)
        return EXIT_MISUSE;
    if (left == 0)
        return show_usage(stderr, EXIT_MISUSE);
    const char *verb = words[0];
    int commands = strcmp(verb, "call") == 0 || strcmp(verb, "notify") == 0;
    int questions = strcmp(verb, "ping") == 0 || strcmp(verb, "state") == 0;
    if (strcmp(verb, "help") == 0)
        return show_usage(stdout, EXIT_FINE);
    if (strcmp(verb, "codes") == 0)
        return left == 1 ? codes() : misuse("codes takes nothing.");
    int camera = strcmp(verb, "camera") == 0;
    if (!commands && !questions && !camera)
        return unknown("command", verb, verbs, COUNT(verbs));
    if (questions && left != 2)
        return misuse(left < 2 ? "the name of the segment is missing." : "one word too many behind the name of the segment.");
    if (camera && (left < 2 || left > 3))
        return misuse(left < 2 ? "the name of the segment is missing." : "one word too many behind the name of the listener.");
    if (commands && left < 3)
        return misuse(left < 2 ? "the name of the segment is missing." : "the message is missing.");
    int message = commands ? message_number(words[2]) : IBLB_PING;
    if (message < 0)
        return unknown("message", words[2], message_names, COUNT(message_names));
    char *args = NULL;
    if (commands && !read_arguments(left - 3, words + 3, &options, &args))
        return EXIT_MISUSE;

    int handle;
    double now;
    char name[40];
    iblb_clock_ns(&now);
    snprintf(name, sizeof name, "iblb-%.0f", now); /* "iblb": may use the slot kept for tools */
    int status, code = iblb_open(words[1], options.client ? options.client : camera ? "camera" : name, options.open_ms, &handle);
    if (code < 0) {
        free(args);
        return report(0, code);
    }
    if (strcmp(verb, "call") == 0)
        status = call(handle, message, args, &options);
    else if (strcmp(verb, "notify") == 0)
        status = report(handle, iblb_notify(handle, options.services, message, args, 0));
    else if (strcmp(verb, "ping") == 0)
        status = ping(handle, &options);
    else if (camera)
        status = report(handle, play_camera(handle, left == 3 ? words[2] : NULL));
    else
        status = state(handle, words[1], &options);
    iblb_close(handle);
    free(args);
    return status;
}

/* A response that is lost is not "it worked": a full disk accepts all that is printed, and reports the loss only here.
 * Whoever closed our output wants none. */
int main(int count, char **arguments) {
    int status = run(count, arguments);
    if ((fflush(stdout) == 0 && !ferror(stdout)) || errno == EBADF)
        return status;
    fprintf(stderr, "iblb: the output cannot be written.\n");
    return status == EXIT_FINE ? EXIT_MISUSE : status;
}
