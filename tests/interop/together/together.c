/* together.c: one of several programs on one segment. SEGMENT CLIENT COUNT
 *
 * Subscribes to EXPINTERRUPT and says "ready"; starts experiments <CLIENT>-0, -1, ... and counts the answers that are its own, from both
 * services; waits for an event and says who sent it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <iblbridge.h>

static char json[1 << 18];

static int fail(int handle, int status) {
    char sentence[1024];
    iblb_last_error(handle, sentence, sizeof sentence);
    fprintf(stderr, "%s (%d)\n", sentence, status);
    return 1;
}

int main(int count, char **arguments) {
    int handle, message, right = 0, commands = count == 4 ? atoi(arguments[3]) : 0;
    int status = commands ? iblb_open(arguments[1], arguments[2], 5000, &handle) : IBLB_E_ARGUMENT;
    if (status != IBLB_OK)
        return fail(0, status);
    if ((status = iblb_subscribe(handle, IBLB_EXPINTERRUPT)) != IBLB_OK)
        return fail(handle, status);
    printf("ready\n");
    fflush(stdout);
    for (int i = 0; i < commands; i++) {
        char reference[128], wanted[160];
        int request, services = 0;
        snprintf(reference, sizeof reference, "[\"%.99s-%d\"]", arguments[2], i);
        snprintf(wanted, sizeof wanted, "\"value\":[\"%.99s-%d\",", arguments[2], i);
        status = iblb_call(handle, "", IBLB_EXPSTART, reference, 20000, json, sizeof json, &request);
        if (status != IBLB_OK)
            return fail(handle, status);
        for (char *at = strstr(json, wanted); at != NULL; at = strstr(at + 1, wanted))
            services++;
        right += services == 2;
    }
    for (int looks = 0; looks < 50; looks++) {
        status = iblb_next_event(handle, 200, &message, json, sizeof json, NULL);
        if (status == IBLB_OK)
            break;
    }
    if (status != IBLB_OK)
        return fail(handle, status);
    char *service = strstr(json, "\"service\":\"");
    service = service ? service + strlen("\"service\":\"") : "";
    printf("%s %d %.*s\n", arguments[2], right, (int)strcspn(service, "\""), service);
    iblb_close(handle);
    return 0;
}
