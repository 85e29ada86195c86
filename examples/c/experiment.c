/* experiment.c: a whole experiment from C. What an acquisition program does, without the acquisition.
 *
 *     experiment SEGMENT [YYYY-MM-DD_N_SUBJECT [CLIENT]]
 *
 * Prepares and starts all services, watches for a while whether one of them gives up, asks what they do, and ends the
 * experiment. If a service fails, the others are stopped, and it says who failed and why. README.md tells how to build
 * and run it.
 */
#include <stdio.h>

#include <iblbridge.h>

#define OPEN_MS 2000       /* for the worker to come up */
#define COMMAND_MS 12000   /* for all services to do what they are told */
#define QUESTION_MS 100    /* for a question that is not worth waiting for */
#define EXPERIMENT_MS 1000 /* how long the animal works */
#define LOOK_MS 200        /* in one wait: so the program can be stopped in between */

static int handle;
static char json[1 << 18];

/* Says what became of a command. Returns whether the experiment may go on: a warning is for who sits there. */
static int report(const char *name, int status) {
    char sentence[1024];
    iblb_last_error(handle, sentence, sizeof sentence);
    if (status < 0)
        printf("%s: failed (%d): %s\n", name, status, sentence);
    else if (status > 0) /* such as IBLB_W_STATUS: a service was told EXPEND, and says that it still runs */
        printf("%s: warning (%d): %s\n", name, status, sentence);
    else
        printf("%s: done\n", name);
    if (*json)
        printf("  %s\n", json); /* one entry per service: what it did, what it said */
    fflush(stdout);
    return status >= 0;
}

/* Sends a command to all services and waits until each has done it. */
static int tell(const char *name, int message, const char *arguments) {
    int request;
    *json = '\0';
    return report(name, iblb_call(handle, "", message, arguments, COMMAND_MS, json, sizeof json, &request));
}

/* Asks something that is given up if the answer takes too long. */
static int ask(const char *name, int message) {
    int request;
    *json = '\0';
    int status = iblb_send(handle, "", message, "", 0, &request);
    if (status >= 0)
        status = iblb_wait(handle, request, QUESTION_MS, json, sizeof json, NULL);
    if (status != IBLB_E_TIMEOUT)
        return report(name, status);
    iblb_cancel(handle, request);
    printf("%s: cancelled\n", name);
    return 1;
}

/* Here the animal works; returns early if a service gives up. */
static void watch(void) {
    double now, end;
    iblb_clock_ns(&end);
    end += EXPERIMENT_MS * 1e6;
    do {
        int message;
        int status = iblb_next_event(handle, LOOK_MS, &message, json, sizeof json, NULL);
        if (status == IBLB_OK) {
            printf("event %s\n", json);
            return;
        }
        if (status != IBLB_E_TIMEOUT) {
            *json = '\0';
            report("event", status);
            return;
        }
        iblb_clock_ns(&now);
    } while (now < end);
}

static int experiment(const char *subject) {
    char reference[256];
    if (snprintf(reference, sizeof reference, "[\"%s\"]", subject) >= (int)sizeof reference)
        return 0;
    iblb_subscribe(handle, IBLB_EXPINTERRUPT);
    if (!tell("EXPINIT", IBLB_EXPINIT, ""))
        return 0;
    int fine = tell("EXPSTART", IBLB_EXPSTART, reference);
    if (fine) {
        watch();
        fine = ask("EXPSTATUS", IBLB_EXPSTATUS) && tell("EXPINFO", IBLB_EXPINFO, "") && tell("EXPEND", IBLB_EXPEND, "");
    }
    if (!fine) { /* a camera may run, even if no answer came */
        tell("EXPINTERRUPT", IBLB_EXPINTERRUPT, "");
        return 0;
    }
    return tell("EXPCLEANUP", IBLB_EXPCLEANUP, "");
}

int main(int count, char **arguments) {
    char sentence[1024];
    if (count < 2 || count > 4) {
        fprintf(stderr, "usage: %s SEGMENT [YYYY-MM-DD_N_SUBJECT [CLIENT]]\n", arguments[0]);
        return 2;
    }
    int status = iblb_open(arguments[1], count > 3 ? arguments[3] : "experiment", OPEN_MS, &handle);
    if (status != IBLB_OK) { /* an error, or the warning that no worker is there */
        iblb_last_error(handle, sentence, sizeof sentence);
        fprintf(stderr, "%s (%d)\n", sentence, status);
        return 1;
    }
    int fine = experiment(count > 2 ? arguments[2] : "2026-01-01_1_subject");
    iblb_close(handle);
    return fine ? 0 : 1;
}
