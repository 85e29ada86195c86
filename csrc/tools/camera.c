/* camera.c: iblb as a camera that is none. It takes what masters ask, and answers as a camera would: 30 frames a second
 * from EXPSTART to EXPEND. */
#include "camera.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "iblbridge.h"

#define LOOK_MS 200 /* between two looks whether a signal has come */
#define FRAMES_PER_NS (30 / 1e9)
#define ASKED (IBLB_EXPINIT + IBLB_EXPSTART + IBLB_EXPEND + IBLB_EXPCLEANUP + IBLB_EXPINTERRUPT)

static volatile sig_atomic_t stopped;

static void stop(int number) {
    (void)number;
    stopped = 1;
}

/* Does what was asked; `began`: when it began to record, 0 if it does not. */
static int obey(int handle, int command, int message, double *began) {
    char frames[64] = "";
    double now;
    iblb_clock_ns(&now);
    if (message == IBLB_EXPSTART && *began > 0)
        return iblb_fail(handle, command, "It records already. End that first.");
    if (message == IBLB_EXPSTART)
        *began = now;
    if (message == IBLB_EXPEND || message == IBLB_EXPINTERRUPT) {
        snprintf(frames, sizeof frames, "{\"frames\": %.0f}", *began > 0 ? (now - *began) * FRAMES_PER_NS : 0);
        *began = 0;
    }
    return iblb_answer(handle, command, -1, frames);
}

int play_camera(int handle, const char *listener) {
    static char json[1 << 17]; /* a datagram, with every character escaped that may be */
    double began = 0;
    signal(SIGINT, stop);
    signal(SIGTERM, stop);
    int code = iblb_serve(handle, listener, ASKED);
    if (code < 0)
        return code;
    puts("serving");
    fflush(stdout);
    while (!stopped) {
        int command, message;
        code = iblb_next_command(handle, LOOK_MS, &command, &message, json, sizeof json, NULL);
        if (code == IBLB_E_TIMEOUT || code == IBLB_E_NO_WORKER)
            continue;
        if (code != IBLB_OK)
            return code;
        puts(json);
        fflush(stdout);
        code = obey(handle, command, message, &began);
        if (code < 0 && code != IBLB_E_LATE)
            return code;
    }
    return IBLB_OK;
}
