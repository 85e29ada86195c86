/* ends.c: what test_ends.py asks of every client, with plain C. */
#include <stdlib.h>

#include "iblbridge.h"

static int opened(const char *client) {
    int handle;
    if (iblb_open("rig0", client, 5000, &handle) != 0)
        abort();
    return handle;
}

int main(void) {
    iblb_close(opened("closed"));
    iblb_abandon(opened("abandoned"));
    opened("left");
    exit(0);
}
