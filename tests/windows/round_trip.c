/* round_trip.c: how long a PING takes from a client in one process to a worker in another and back, beside what the system itself takes for
 * two named events, as two processes use them that do nothing else.
 *
 *     round_trip COUNT [SEGMENT]
 *
 * Both are measured in turns, and of each the fastest turn counts, so that what else the computer does falls on both or on neither. Prints
 * one line of JSON: microseconds, their ratio, and what a round trip asked of the system.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "include/iblbridge.h"
#include "include/iblbridge_worker.h"
#include "os.h"
#include "system.h"

#define TURNS 5

/* --- what is asked of the system (ld's --wrap) --- */

static struct {
    long parks, wakes, looks, clocks;
} asked;

int __real_os_park(shared_u32 *word, uint32_t expected, uint64_t timeout_ns, const struct os_waits *waits);
int __wrap_os_park(shared_u32 *word, uint32_t expected, uint64_t timeout_ns, const struct os_waits *waits);
int __wrap_os_park(shared_u32 *word, uint32_t expected, uint64_t timeout_ns, const struct os_waits *waits) {
    asked.parks++;
    return __real_os_park(word, expected, timeout_ns, waits);
}
void __real_os_wake(shared_u32 *word, const struct os_waits *waits);
void __wrap_os_wake(shared_u32 *word, const struct os_waits *waits);
void __wrap_os_wake(shared_u32 *word, const struct os_waits *waits) {
    asked.wakes++;
    __real_os_wake(word, waits);
}
bool __real_os_locked(os_file file, uint64_t offset);
bool __wrap_os_locked(os_file file, uint64_t offset);
bool __wrap_os_locked(os_file file, uint64_t offset) {
    asked.looks++;
    return __real_os_locked(file, offset);
}
uint64_t __real_os_clock_ns(void);
uint64_t __wrap_os_clock_ns(void);
uint64_t __wrap_os_clock_ns(void) {
    asked.clocks++;
    return __real_os_clock_ns();
}

/* --- the other process: answers whatever comes --- */

static HANDLE there, back;

static void open_events(const char *segment) {
    char name[128];
    snprintf(name, sizeof name, "iblbridge-test-%s-there", segment);
    there = CreateEventA(NULL, FALSE, FALSE, name);
    snprintf(name, sizeof name, "iblbridge-test-%s-back", segment);
    back = CreateEventA(NULL, FALSE, FALSE, name);
}

static DWORD WINAPI echo_event(LPVOID unused) {
    (void)unused;
    while (WaitForSingleObject(there, INFINITE) == WAIT_OBJECT_0)
        SetEvent(back);
    return 0;
}

static int serve(const char *segment) {
    static struct iblbw_command commands[64];
    static unsigned char payload[1 << 18];
    static const unsigned char body[] = {0x80};
    struct iblbw_worker *worker;
    open_events(segment);
    if (iblbw_open(segment, 4, 0, 0, 0, 0, &worker) != 0 || iblbw_services(worker, "") != 0)
        return 1;
    CloseHandle(CreateThread(NULL, 0, echo_event, NULL, 0, NULL));
    puts("ready");
    fflush(stdout);
    for (int ends = 0; !ends;) {
        int count = iblbw_take(worker, commands, 64, payload, sizeof payload, 1000);
        for (int i = 0; i < count; i++) {
            ends = ends || commands[i].message == IBLB_EXPEND;
            if (ends) {
                printf("%ld %ld %ld %ld\n", asked.parks, asked.wakes, asked.looks, asked.clocks);
                fflush(stdout);
            }
            iblbw_accept(worker, &commands[i]);
            iblbw_respond(worker, &commands[i], 0, body, sizeof body);
        }
    }
    iblbw_close(worker, 1);
    return 0;
}

/* --- this one --- */

static double events(int count) {
    uint64_t began = os_clock_ns();
    for (int i = 0; i < count; i++) {
        SetEvent(there);
        WaitForSingleObject(back, INFINITE);
    }
    return (double)(os_clock_ns() - began) / 1e3 / count;
}

static double pings(int handle, int count, int *failed) {
    int request;
    uint64_t began = os_clock_ns();
    for (int i = 0; i < count; i++)
        *failed += iblb_call(handle, NULL, IBLB_PING, NULL, 5000, NULL, 0, &request) != 0;
    return (double)(os_clock_ns() - began) / 1e3 / count;
}

int main(int argc, char **argv) {
    if (argc == 3 && strcmp(argv[1], "serve") == 0)
        return serve(argv[2]);
    int count = argc > 1 ? atoi(argv[1]) : 2000, handle, request, failed = 0;
    const char *segment = argc > 2 ? argv[2] : "round-trip";
    double bare = 1e9, ping = 1e9;
    char line[128] = "";
    struct child worker;
    const char *words[] = {"serve", segment, NULL};
    if (child_start(&worker, argv[0], words) != 0 || !child_line(&worker, line, sizeof line) || strcmp(line, "ready") != 0 ||
        iblb_open(segment, "round-trip", 5000, &handle) != 0)
        return 2;
    open_events(segment);
    events(count / 10);
    pings(handle, count / 10, &failed);
    memset(&asked, 0, sizeof asked);
    for (int turn = 0; turn < TURNS; turn++) {
        double took = events(count);
        bare = took < bare ? took : bare;
        took = pings(handle, count, &failed);
        ping = took < ping ? took : ping;
    }
    double all = (double)count * TURNS, its[4] = {0};
    double ours[] = {asked.parks / all, asked.wakes / all, asked.looks / all, (asked.clocks - 4 * TURNS) / all};
    failed += iblb_send(handle, NULL, IBLB_EXPEND, NULL, 0, &request) != 0;
    child_line(&worker, line, sizeof line);
    sscanf(line, "%lf %lf %lf %lf", &its[0], &its[1], &its[2], &its[3]);
    failed += iblb_wait(handle, request, 5000, NULL, 0, NULL) != 0;
    iblb_close(handle);
    failed += child_wait(&worker) != 0;
    all += count / 10;
    printf("{\"bare_us\": %.1f, \"ping_us\": %.1f, \"ratio\": %.2f, \"failed\": %d, ", bare, ping, ping / bare, failed);
    printf("\"client\": {\"parks\": %.2f, \"wakes\": %.2f, \"looks\": %.2f, \"clocks\": %.2f}, ", ours[0], ours[1], ours[2], ours[3]);
    printf("\"worker\": {\"parks\": %.2f, \"wakes\": %.2f, \"looks\": %.2f, \"clocks\": %.2f}}\n", its[0] / all, its[1] / all, its[2] / all,
           its[3] / all);
    return failed > 0;
}
