/* host.c: starts, stops, asks and ends the actors of the crash tests, for host.py on the other side of its standard streams.
 *
 * It reads, separated by tabs: "start ID COMMAND NAME=VALUE ...", "ask ID" (to end), "kill ID", "stop ID", "go ID", "clock"; and writes
 * "pid ID PID", "still ID", "ended ID STATUS", "clock NS". It ends with its standard input, and what still runs with it.
 */
#include <stdint.h>

#include "system.h"

#define MOST 8192
#define LINE 4096

static struct actor {
    char order[LINE]; /* its command, then its variables, separated by tabs */
    HANDLE process, end, still, go;
} actors[MOST];

static CRITICAL_SECTION output;

static void answer(const char *format, long one, unsigned long long other) {
    EnterCriticalSection(&output);
    printf(format, one, other);
    fflush(stdout);
    LeaveCriticalSection(&output);
}

static HANDLE make_event(const char *what, DWORD pid) {
    char name[64];
    snprintf(name, sizeof name, "iblbridge-test-%s-%lu", what, pid);
    return CreateEventA(NULL, FALSE, FALSE, name);
}

/* Our own environment, and what the order adds to it: each variable once, each ends with a NUL, and all with one more. */
static wchar_t *environment_of(char *variables) {
    wchar_t *block = calloc(65536, sizeof *block), *end = block, *ours = GetEnvironmentStringsW(), *added = block;
    for (char *next, *one = variables; one; one = next) {
        next = strchr(one, '\t');
        if (next)
            *next++ = '\0';
        end += wcslen(to_wide(one, end)) + 1;
    }
    wchar_t *end_of_added = end;
    for (const wchar_t *one = ours; *one && end - block < 60000; one += wcslen(one) + 1) {
        int known = 0;
        for (const wchar_t *other = added; other < end_of_added; other += wcslen(other) + 1)
            known = known || _wcsnicmp(one, other, wcscspn(other, L"=") + 1) == 0;
        if (!known)
            end += wcslen(wcscpy(end, one)) + 1;
    }
    FreeEnvironmentStringsW(ours);
    return block;
}

static int start(struct actor *actor) {
    STARTUPINFOW how = {.cb = sizeof how};
    PROCESS_INFORMATION made;
    wchar_t line[SYSTEM_PATH];
    char *variables = strchr(actor->order, '\t');
    if (variables)
        *variables++ = '\0';
    wchar_t *environment = environment_of(variables);
    BOOL done = FALSE; /* a busy Wine may need a second attempt */
    for (int i = 0; i < 3 && !done; i++)
        done = CreateProcessW(NULL, to_wide(actor->order, line), NULL, NULL, FALSE, CREATE_SUSPENDED | CREATE_UNICODE_ENVIRONMENT,
                              environment, NULL, &how, &made);
    free(environment);
    if (!done)
        return 0;
    actor->end = make_event("end", made.dwProcessId);
    actor->still = make_event("still", made.dwProcessId);
    actor->go = make_event("go", made.dwProcessId);
    actor->process = made.hProcess;
    answer("pid %ld %llu\n", (long)(actor - actors), made.dwProcessId);
    ResumeThread(made.hThread);
    CloseHandle(made.hThread);
    return 1;
}

static DWORD WINAPI start_and_watch(LPVOID argument) {
    struct actor *actor = argument;
    DWORD status = 0;
    if (!start(actor)) {
        status = 1000 + GetLastError();
    } else {
        HANDLE what[] = {actor->process, actor->still};
        while (WaitForMultipleObjects(2, what, FALSE, INFINITE) == WAIT_OBJECT_0 + 1)
            answer("still %ld\n", (long)(actor - actors), 0);
        GetExitCodeProcess(actor->process, &status);
    }
    answer("ended %ld %llu\n", (long)(actor - actors), status);
    return 0;
}

/* Whether it has stopped itself or was stopped. */
static void go_on(struct actor *actor) {
    SetEvent(actor->go);
    call_of_ntdll("NtResumeProcess", actor->process);
}

static void tell_clock(void) {
    LARGE_INTEGER ticks, a_second;
    QueryPerformanceFrequency(&a_second);
    QueryPerformanceCounter(&ticks);
    answer("clock %ld %llu\n", 0, (unsigned long long)ticks.QuadPart * (1000000000u / (unsigned long long)a_second.QuadPart));
}

static void do_as_told(const char *line) {
    char order[16], rest[LINE] = "";
    long id = 0;
    if (sscanf(line, "%15s %ld %4095[^\r\n]", order, &id, rest) < 1)
        return;
    struct actor *actor = &actors[id % MOST];
    if (strcmp(order, "start") == 0) {
        memcpy(actor->order, rest, sizeof rest);
        CloseHandle(CreateThread(NULL, 1 << 20, start_and_watch, actor, 0, NULL));
    } else if (strcmp(order, "clock") == 0) {
        tell_clock();
    } else if (!actor->process) {
        return;
    } else if (strcmp(order, "ask") == 0) {
        SetEvent(actor->end);
    } else if (strcmp(order, "kill") == 0) {
        TerminateProcess(actor->process, KILLED_STATUS);
    } else if (strcmp(order, "stop") == 0) {
        call_of_ntdll("NtSuspendProcess", actor->process);
    } else if (strcmp(order, "go") == 0) {
        go_on(actor);
    }
}

int main(void) {
    static char line[LINE];
    InitializeCriticalSection(&output);
    while (fgets(line, sizeof line, stdin))
        do_as_told(line);
    for (int i = 0; i < MOST; i++)
        if (actors[i].process)
            TerminateProcess(actors[i].process, KILLED_STATUS);
    return 0;
}
