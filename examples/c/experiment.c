/* experiment.c: a whole experiment from C. What an acquisition program does, without the acquisition.
 *
 *     experiment rig0 2026-01-01_1_subject
 *
 * Build, where PREFIX is what `python -c "import bridge.native; print(bridge.native.PREFIX)"` prints:
 *
 *     export PKG_CONFIG_PATH=PREFIX/lib/pkgconfig
 *     cc experiment.c $(pkg-config --cflags --libs iblbridge) -o experiment
 *
 * or with CMake:
 *
 *     cmake -B build -DCMAKE_PREFIX_PATH=PREFIX && cmake --build build
 */
#include <stdio.h>

#include <iblbridge.h>

#define OPEN_MS 2000     /* for the worker to come up */
#define COMMAND_MS 12000 /* for all services to do what they are told */

static int handle;
static int started;

/* Sends one command to all services, waits, and prints what became of it. Returns the status: negative is an error. */
static int tell(const char *name, int message, const char *arguments) {
    static char json[1 << 18];
    char sentence[1024] = "";
    int request;
    int status = iblb_call(handle, "", message, arguments, COMMAND_MS, json, sizeof json, &request);
    if (status != IBLB_OK)
        iblb_last_error(handle, sentence, sizeof sentence);
    printf("%-12s %5d  %s%s%s\n", name, status, sentence, *sentence ? "  " : "", json);
    fflush(stdout);
    return status;
}

/* The same, and no further if it failed: whatever runs is stopped first. */
static int step(const char *name, int message, const char *arguments) {
    int status = tell(name, message, arguments);
    if (status >= 0)
        return 1;
    if (started)
        tell("EXPINTERRUPT", IBLB_EXPINTERRUPT, "");
    return 0;
}

static int experiment(const char *subject) {
    char reference[256];
    if (snprintf(reference, sizeof reference, "[\"%s\"]", subject) >= (int)sizeof reference)
        return 0;
    if (!step("EXPINFO", IBLB_EXPINFO, ""))
        return 0;
    if (!step("EXPINIT", IBLB_EXPINIT, ""))
        return 0;
    started = 1; /* from here on a camera may run, even if the answer does not come */
    if (!step("EXPSTART", IBLB_EXPSTART, reference))
        return 0;
    if (!step("EXPSTATUS", IBLB_EXPSTATUS, "[\"RUNNING\"]"))
        return 0;
    /* ... here the animal works ... */
    if (!step("EXPEND", IBLB_EXPEND, ""))
        return 0;
    started = 0;
    return step("EXPCLEANUP", IBLB_EXPCLEANUP, "");
}

int main(int count, char **arguments) {
    char sentence[1024];
    if (count < 2 || count > 3) {
        fprintf(stderr, "usage: %s SEGMENT [YYYY-MM-DD_N_SUBJECT]\n", arguments[0]);
        return 2;
    }
    int status = iblb_open(arguments[1], "experiment", OPEN_MS, &handle);
    if (status != IBLB_OK) { /* an error, or the warning that no worker is there */
        iblb_last_error(status < 0 ? 0 : handle, sentence, sizeof sentence);
        fprintf(stderr, "%s (%d)\n", sentence, status);
        return 1;
    }
    int fine = experiment(count == 3 ? arguments[2] : "2026-01-01_1_subject");
    iblb_close(handle);
    return fine ? 0 : 1;
}
