/* unload.c: the library as a DLL that a program lets go of, as MATLAB and LabVIEW do, with a client that nobody closed.
 *
 *     unload DLL SEGMENT
 *
 * The worker is in this program's own copy of the library.
 */
#include <stdio.h>
#include <string.h>
#include <windows.h>

#include "include/iblbridge.h"
#include "include/iblbridge_worker.h"
#include "os.h"

static struct iblbw_worker *worker;
static struct iblbw_command commands[8];
static unsigned char payload[1 << 18];

static int attached(int wanted) {
    for (uint64_t until = os_clock_ns() + 5000000000u; os_clock_ns() < until;) {
        iblbw_take(worker, commands, 8, payload, sizeof payload, 20);
        if (iblbw_client_attached(worker, "forgotten") == wanted)
            return 1;
    }
    return 0;
}

#define CHECK(condition)                                                                                                                   \
    if (!(condition)) {                                                                                                                    \
        printf("%s:%d: %s\n", __FILE__, __LINE__, #condition);                                                                             \
        return 1;                                                                                                                          \
    }

int main(int argc, char **argv) {
    union {
        FARPROC found;
        int (*open)(const char *, const char *, int, int *);
    } its;
    int handle = 0, other = 0;
    char name[64];
    CHECK(argc == 3 && iblbw_open(argv[2], 4, 0, 0, 0, 0, &worker) == 0);
    for (int turn = 0; turn < 3; turn++) {
        HMODULE library = LoadLibraryA(argv[1]);
        CHECK(library != NULL);
        its.found = GetProcAddress(library, "iblb_open");
        CHECK(its.found && its.open(argv[2], "forgotten", 2000, &handle) == 0);
        CHECK(attached(1));
        CHECK(iblb_open(argv[2], "forgotten", 0, &other) == IBLB_E_NAME_TAKEN); /* in the other copy of the library it is a stranger */
        CHECK(FreeLibrary(library));
        CHECK(GetModuleHandleA(argv[1]) == NULL);
        CHECK(attached(0));
        CHECK(iblbw_lost_client(worker, name, sizeof name) && strcmp(name, "forgotten") == 0);
    }
    CHECK(iblb_open(argv[2], "forgotten", 0, &other) == 0 && iblb_close(other) == 0);
    iblbw_close(worker, 1);
    puts("unloaded");
    return 0;
}
