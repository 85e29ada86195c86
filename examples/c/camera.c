/* camera.c: a simulated camera that masters command: your program as a service, in C. Put your device in its place.
 *
 *     camera SEGMENT [SERVICE [WARM_UP_S [DIES_AFTER_S]]]
 *
 * EXPINIT warms it up, EXPSTART begins a file, EXPEND ends it and says how many frames are in it, EXPINTERRUPT stops it
 * at once, also while it warms up. With DIES_AFTER_S it dies in the middle of a recording, and says so. Ctrl-C ends it.
 * README.md tells how to build and run it.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <iblbridge.h>

#define OPEN_MS 2000 /* for the worker to come up */
#define LOOK_MS 20   /* in one wait: the camera is looked after in between */
#define FRAMES_PER_S 100
#define WANTED (IBLB_EXPINIT + IBLB_EXPSTART + IBLB_EXPEND + IBLB_EXPCLEANUP + IBLB_EXPINTERRUPT)

static struct {
    double warm_up, dies_after; /* s */
    int warming;                /* the EXPINIT that is answered when it is warm; 0: none */
    double warm_at, since;      /* s */
    int is_warm, records, frames;
} camera;

static int handle;
static char json[1 << 17], data[1 << 16], file[1 << 15];
static volatile sig_atomic_t ended;

static void end(int signal_number) {
    (void)signal_number;
    ended = 1;
}

static double seconds(void) {
    double now;
    iblb_clock_ns(&now);
    return now / 1e9;
}

/* Copies the text behind `start` as it stands in the JSON, to be put into other JSON. A JSON library does more. */
static const char *text_behind(const char *start, char *text, size_t room) {
    const char *from = strstr(json, start);
    size_t used = 0;
    for (from = from ? from + strlen(start) : ""; *from && *from != '"' && used + 2 < room; from++) {
        if (*from == '\\')
            text[used++] = *from++;
        text[used++] = *from;
    }
    text[used] = '\0';
    return text;
}

static const char *name_of(int message) {
    return message == IBLB_EXPINIT        ? "EXPINIT"
           : message == IBLB_EXPSTART     ? "EXPSTART"
           : message == IBLB_EXPEND       ? "EXPEND"
           : message == IBLB_EXPINTERRUPT ? "EXPINTERRUPT"
                                          : "EXPCLEANUP";
}

/* Says to its master and here that a command was done. Returns 0 if it was too late: its master was told that it failed. */
static int answer(int message, int command, const char *answered) {
    int status = iblb_answer(handle, command, -1, answered);
    printf("%s: %s\n", name_of(message),
           status >= 0             ? "done"
           : status == IBLB_E_LATE ? "too late, its master was told that it failed"
                                   : "not answered; its master is told when its time is up");
    return status >= 0;
}

static void fail(int message, int command, const char *sentence) {
    iblb_fail(handle, command, sentence);
    printf("%s: failed, %s\n", name_of(message), sentence);
}

/* {"frames": 12}, of the recording that ends now, or of the last one. */
static const char *stop(void) {
    if (camera.records)
        camera.frames = (int)((seconds() - camera.since) * FRAMES_PER_S);
    camera.records = 0;
    snprintf(data, sizeof data, "{\"frames\": %d}", camera.frames);
    return data;
}

/* Does what a master asks at once, or keeps the command until it is done. */
static void obey(int message, int command) {
    char master[64];
    printf("%s from %s\n", name_of(message), text_behind("\"master\":\"", master, sizeof master));
    if (message == IBLB_EXPINTERRUPT && camera.warming) {
        fail(IBLB_EXPINIT, camera.warming, "An EXPINTERRUPT overtook this EXPINIT.");
        camera.warming = 0;
    }
    if (message == IBLB_EXPINIT) {
        if (camera.warming)
            fail(message, camera.warming, "Another EXPINIT came.");
        camera.warming = command;
        camera.warm_at = seconds() + camera.warm_up;
    } else if (message == IBLB_EXPSTART && !camera.is_warm) {
        fail(message, command, "The camera is cold. Send EXPINIT first.");
    } else if (message == IBLB_EXPSTART) {
        camera.records = 1;
        camera.since = seconds();
        snprintf(data, sizeof data, "{\"file\": \"%s.avi\"}", text_behind("\"args\":[\"", file, sizeof file));
        if (!answer(message, command, data))
            stop();
    } else { /* EXPEND, EXPINTERRUPT, EXPCLEANUP */
        answer(message, command, stop());
    }
}

/* What goes on while nothing is asked. */
static void live(void) {
    if (camera.warming && seconds() >= camera.warm_at) {
        camera.is_warm = 1;
        answer(IBLB_EXPINIT, camera.warming, NULL);
        camera.warming = 0;
    }
    if (camera.records && camera.dies_after > 0 && seconds() >= camera.since + camera.dies_after) {
        camera.is_warm = 0;
        stop();
        snprintf(data, sizeof data, "{\"why\": \"The camera died.\", \"frames\": %d}", camera.frames);
        iblb_tell(handle, IBLB_EXPINTERRUPT, data);
    }
    fflush(stdout);
}

int main(int count, char **arguments) {
    char sentence[1024];
    int command, message;
    if (count < 2 || count > 5) {
        fprintf(stderr, "usage: %s SEGMENT [SERVICE [WARM_UP_S [DIES_AFTER_S]]]\n", arguments[0]);
        return 2;
    }
    camera.warm_up = count > 3 ? atof(arguments[3]) : 0.1;
    camera.dies_after = count > 4 ? atof(arguments[4]) : 0;
    signal(SIGINT, end);
    int status = iblb_open(arguments[1], "camera", OPEN_MS, &handle);
    if (status >= 0)
        status = iblb_serve(handle, count > 2 ? arguments[2] : "", WANTED);
    if (status >= 0)
        printf("serving %s at %s\n", count > 2 ? arguments[2] : "the listener", arguments[1]);
    fflush(stdout);
    while (!ended && (status >= 0 || status == IBLB_E_TIMEOUT || status == IBLB_E_NO_WORKER)) { /* the next worker is waited for */
        status = iblb_next_command(handle, LOOK_MS, &command, &message, json, sizeof json, NULL);
        if (status == IBLB_OK)
            obey(message, command);
        live();
    }
    if (!ended) {
        iblb_last_error(handle, sentence, sizeof sentence);
        fprintf(stderr, "%s (%d)\n", sentence, status);
    }
    iblb_close(handle); /* whoever waits for an answer is told */
    return !ended;
}
