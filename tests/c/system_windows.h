/* system_windows.h: see system.h.
 *
 * Instead of signals there are events, named by the process's number, which the supervisor makes before the process runs:
 * iblbridge-test-end-PID, iblbridge-test-still-PID (it stands still), iblbridge-test-go-PID.
 */
#ifndef SYSTEM_WINDOWS_H
#define SYSTEM_WINDOWS_H

#define WIN32_LEAN_AND_MEAN
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <winsock2.h> /* has to come before windows.h */
#include <windows.h>

#include <aclapi.h>
#include <sddl.h>

#define KILLED_STATUS 0xDEADu

static inline wchar_t *to_wide(const char *text, wchar_t wide[SYSTEM_PATH]) {
    if (!MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, text, -1, wide, SYSTEM_PATH))
        wide[0] = L'\0';
    return wide;
}

/* A path that may be longer than 260 characters: absolute then. */
static inline wchar_t *to_wide_path(const char *path, wchar_t wide[SYSTEM_PATH]) {
    char text[SYSTEM_PATH];
    snprintf(text, sizeof text, "%s%s", strlen(path) < 240 || path[0] == '\\' ? "" : "\\\\?\\", path);
    for (char *c = text; *c; c++)
        *c = *c == '/' ? '\\' : *c;
    return to_wide(text, wide);
}

/* --- this process --- */

static inline const char *variable(const char *name) {
    static _Thread_local char texts[4][SYSTEM_PATH]; /* of the last four calls */
    static _Thread_local int next;
    wchar_t wide_name[SYSTEM_PATH], wide[SYSTEM_PATH];
    char *text = texts[next++ % 4];
    DWORD length = GetEnvironmentVariableW(to_wide(name, wide_name), wide, SYSTEM_PATH);
    if (length == 0 || length >= SYSTEM_PATH || !WideCharToMultiByte(CP_UTF8, 0, wide, -1, text, SYSTEM_PATH, NULL, NULL))
        return NULL;
    return text;
}

static inline void set_variable(const char *name, const char *value) {
    wchar_t wide_name[SYSTEM_PATH], wide[SYSTEM_PATH];
    SetEnvironmentVariableW(to_wide(name, wide_name), value ? to_wide(value, wide) : NULL);
}

static inline void die(int status) {
    TerminateProcess(GetCurrentProcess(), (UINT)status);
}

static inline HANDLE event_of_process(const char *what, uint32_t pid) {
    char name[64];
    snprintf(name, sizeof name, "iblbridge-test-%s-%u", what, pid);
    return OpenEventA(SYNCHRONIZE | EVENT_MODIFY_STATE, FALSE, name);
}

static inline void stand_still(void) {
    HANDLE still = event_of_process("still", GetCurrentProcessId()), go = event_of_process("go", GetCurrentProcessId());
    SetEvent(still);
    WaitForSingleObject(go, INFINITE);
    CloseHandle(still);
    CloseHandle(go);
}

static void (*end_request)(void);

static inline DWORD WINAPI wait_for_end_request(LPVOID event) {
    WaitForSingleObject(event, INFINITE);
    end_request();
    return 0;
}

static inline void on_end_request(void (*function)(void)) {
    HANDLE event = event_of_process("end", GetCurrentProcessId());
    end_request = function;
    if (event)
        CloseHandle(CreateThread(NULL, 0, wait_for_end_request, event, 0, NULL));
}

static inline void close_standard_streams(void) {
}

static inline void *aligned_memory(size_t alignment, size_t bytes) {
    return _aligned_malloc(bytes, alignment);
}
static inline void free_aligned(void *memory) {
    _aligned_free(memory);
}

/* A crash ends the process with the exception's code; otherwise Wine starts its debugger, which may wait for somebody at a screen. */
static inline LONG WINAPI end_crashed(EXCEPTION_POINTERS *crash) {
    fprintf(stderr, "crashed: exception %lx at %p\n", crash->ExceptionRecord->ExceptionCode, crash->ExceptionRecord->ExceptionAddress);
    TerminateProcess(GetCurrentProcess(), crash->ExceptionRecord->ExceptionCode);
    return EXCEPTION_CONTINUE_SEARCH;
}
__attribute__((constructor)) static void watch_for_crashes(void) {
    SetUnhandledExceptionFilter(end_crashed);
}

/* --- files --- */

static inline int set_access(const char *path, const char *list) {
    wchar_t wide[SYSTEM_PATH];
    PSECURITY_DESCRIPTOR descriptor;
    PACL entries;
    BOOL present, by_default;
    if (!ConvertStringSecurityDescriptorToSecurityDescriptorA(list, SDDL_REVISION_1, &descriptor, NULL))
        return -1;
    int done = GetSecurityDescriptorDacl(descriptor, &present, &entries, &by_default) &&
               SetNamedSecurityInfoW(to_wide_path(path, wide), SE_FILE_OBJECT,
                                     DACL_SECURITY_INFORMATION | PROTECTED_DACL_SECURITY_INFORMATION, NULL, NULL, entries, NULL) == 0;
    LocalFree(descriptor);
    return done ? 0 : -1;
}

static inline int make_directory(const char *path) {
    wchar_t wide[SYSTEM_PATH];
    return CreateDirectoryW(to_wide_path(path, wide), NULL) ? 0 : -1; /* with the access list of the one it lies in */
}

static inline int make_temporary_directory(char path[SYSTEM_PATH]) {
    char base[MAX_PATH];
    if (!GetTempPathA(sizeof base, base))
        return -1;
    snprintf(path, SYSTEM_PATH, "%siblbridge-test-%lu-%lu", base, GetCurrentProcessId(), GetTickCount());
    return make_directory(path);
}

static inline int remove_directory(const char *path) {
    wchar_t wide[SYSTEM_PATH];
    return RemoveDirectoryW(to_wide_path(path, wide)) ? 0 : -1;
}
static inline int remove_file(const char *path) {
    wchar_t wide[SYSTEM_PATH];
    return DeleteFileW(to_wide_path(path, wide)) ? 0 : -1;
}
static inline int file_exists(const char *path) {
    wchar_t wide[SYSTEM_PATH];
    return GetFileAttributesW(to_wide_path(path, wide)) != INVALID_FILE_ATTRIBUTES;
}

static inline int is_for_us_alone(const char *path) {
    static const WELL_KNOWN_SID_TYPE others[] = {WinWorldSid, WinAuthenticatedUserSid, WinBuiltinUsersSid, WinBuiltinGuestsSid};
    wchar_t wide[SYSTEM_PATH];
    PSECURITY_DESCRIPTOR descriptor;
    PACL entries = NULL;
    if (GetNamedSecurityInfoW(to_wide_path(path, wide), SE_FILE_OBJECT, DACL_SECURITY_INFORMATION, NULL, NULL, &entries, NULL,
                              &descriptor) != 0)
        return 0;
    int alone = entries != NULL;
    for (DWORD i = 0; entries && i < entries->AceCount; i++) {
        ACCESS_ALLOWED_ACE *entry;
        if (!GetAce(entries, i, (void **)&entry) || entry->Header.AceType != ACCESS_ALLOWED_ACE_TYPE)
            continue;
        for (size_t j = 0; j < sizeof others / sizeof others[0]; j++)
            alone =
                alone && !((entry->Mask & (FILE_WRITE_DATA | GENERIC_WRITE | GENERIC_ALL)) && IsWellKnownSid(&entry->SidStart, others[j]));
    }
    LocalFree(descriptor);
    return alone;
}

static inline int let_everybody_write(const char *path) {
    return set_access(path, "D:P(A;OICI;GA;;;WD)");
}
static inline int make_link(const char *target, const char *path) {
    (void)target, (void)path;
    return -1;
}

static inline intptr_t hold_file(const char *path) {
    wchar_t wide[SYSTEM_PATH];
    return (intptr_t)CreateFileW(to_wide_path(path, wide), GENERIC_READ, 0, NULL, OPEN_EXISTING, FILE_ATTRIBUTE_NORMAL, NULL);
}
static inline void let_file_go(intptr_t file) {
    CloseHandle((HANDLE)file);
}

static inline intptr_t open_log(const char *path) {
    char own[SYSTEM_PATH];
    wchar_t wide[SYSTEM_PATH];
    snprintf(own, sizeof own, "%s.%lu", path, GetCurrentProcessId());
    return (intptr_t)CreateFileW(to_wide_path(own, wide), FILE_APPEND_DATA, FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE, NULL,
                                 OPEN_ALWAYS, FILE_ATTRIBUTE_NORMAL, NULL);
}
static inline int write_log(intptr_t file, const char *line, size_t bytes) {
    DWORD written;
    return WriteFile((HANDLE)file, line, (DWORD)bytes, &written, NULL) && written == bytes ? 0 : -1;
}

/* --- other processes --- */

static inline int child_start(struct child *child, const char *program, const char *const words[]) {
    SECURITY_ATTRIBUTES inherited = {.nLength = sizeof inherited, .bInheritHandle = TRUE};
    PROCESS_INFORMATION made;
    wchar_t path[SYSTEM_PATH], line[4 * SYSTEM_PATH], word[SYSTEM_PATH];
    HANDLE ours, its;
    (void)program;
    *child = (struct child){0};
    if (!GetModuleFileNameW(NULL, path, SYSTEM_PATH) || !CreatePipe(&ours, &its, &inherited, 0))
        return -1;
    SetHandleInformation(ours, HANDLE_FLAG_INHERIT, 0);
    int length = _snwprintf(line, 2 * SYSTEM_PATH, L"\"%ls\"", path);
    for (int i = 0; i < MOST_WORDS && words[i]; i++)
        length += _snwprintf(line + length, SYSTEM_PATH / 4, L" \"%.200ls\"", to_wide(words[i], word));
    STARTUPINFOW start = {.cb = sizeof start,
                          .dwFlags = STARTF_USESTDHANDLES,
                          .hStdInput = GetStdHandle(STD_INPUT_HANDLE),
                          .hStdOutput = its,
                          .hStdError = GetStdHandle(STD_ERROR_HANDLE)};
    BOOL done = CreateProcessW(path, line, NULL, NULL, TRUE, 0, NULL, NULL, &start, &made);
    CloseHandle(its);
    if (!done) {
        CloseHandle(ours);
        return -1;
    }
    CloseHandle(made.hThread);
    *child = (struct child){(intptr_t)made.hProcess, (intptr_t)ours, made.dwProcessId};
    return 0;
}

static inline int child_fork(struct child *child) {
    *child = (struct child){0};
    return -1;
}

static inline int child_line(struct child *child, char *line, size_t capacity) {
    size_t length = 0;
    DWORD got;
    char c;
    while (child->process && ReadFile((HANDLE)child->output, &c, 1, &got, NULL) && got == 1 && c != '\n')
        if (c != '\r' && length + 1 < capacity)
            line[length++] = c;
    line[length] = '\0';
    return length > 0;
}

/* Not up to the end of the pipe: what the child itself has started may still hold it open. */
static inline void show_output(const struct child *child) {
    char text[512];
    DWORD there, got;
    while (PeekNamedPipe((HANDLE)child->output, NULL, 0, NULL, &there, NULL) && there > 0 &&
           ReadFile((HANDLE)child->output, text, there < sizeof text ? there : sizeof text, &got, NULL))
        for (DWORD i = 0; i < got; i++)
            if (text[i] != '\r')
                putchar(text[i]);
}

static inline int child_wait(struct child *child) {
    DWORD status = KILLED_STATUS;
    if (!child->process)
        return -1;
    while (WaitForSingleObject((HANDLE)child->process, 5) == WAIT_TIMEOUT)
        show_output(child);
    show_output(child);
    GetExitCodeProcess((HANDLE)child->process, &status);
    CloseHandle((HANDLE)child->process);
    CloseHandle((HANDLE)child->output);
    *child = (struct child){0};
    return status == KILLED_STATUS ? -1 : (int)status;
}

static inline void child_kill(struct child *child) {
    if (child->process) {
        TerminateProcess((HANDLE)child->process, KILLED_STATUS);
        child_wait(child);
    }
}

static inline int call_of_ntdll(const char *name, HANDLE process) {
    union {
        FARPROC found;
        LONG(NTAPI *call)(HANDLE);
    } function = {GetProcAddress(GetModuleHandleW(L"ntdll.dll"), name)};
    return function.found && function.call(process) >= 0 ? 0 : -1;
}

static inline int child_stop(struct child *child) {
    return call_of_ntdll("NtSuspendProcess", (HANDLE)child->process);
}
static inline int child_go_on(struct child *child) {
    return call_of_ntdll("NtResumeProcess", (HANDLE)child->process);
}

static inline int kill_process(uint32_t pid) {
    HANDLE process = OpenProcess(PROCESS_TERMINATE | SYNCHRONIZE, FALSE, pid);
    BOOL done = process && TerminateProcess(process, KILLED_STATUS) && WaitForSingleObject(process, 10000) == WAIT_OBJECT_0;
    if (process)
        CloseHandle(process);
    return done ? 0 : -1;
}

/* --- the network --- */

static inline intptr_t open_socket(int *port) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int size = sizeof at;
    u_long yes = 1;
    WSADATA unused;
    WSAStartup(MAKEWORD(2, 2), &unused);
    SOCKET made = socket(AF_INET, SOCK_DGRAM, 0);
    if (made == INVALID_SOCKET || bind(made, (struct sockaddr *)&at, size) || getsockname(made, (struct sockaddr *)&at, &size) ||
        ioctlsocket(made, (long)FIONBIO, &yes))
        return -1;
    *port = ntohs(at.sin_port);
    return (intptr_t)made;
}

static inline int receive_datagram(intptr_t socket, void *to, int capacity, int *from) {
    fd_set watched = {.fd_count = 1, .fd_array = {(SOCKET)socket}};
    struct timeval patience = {.tv_sec = 10};
    struct sockaddr_in sender = {0};
    int size = sizeof sender;
    int got =
        select(0, &watched, NULL, NULL, &patience) == 1 ? recvfrom((SOCKET)socket, to, capacity, 0, (struct sockaddr *)&sender, &size) : -1;
    *from = ntohs(sender.sin_port);
    return got;
}

static inline void close_socket(intptr_t socket) {
    closesocket((SOCKET)socket);
}

#endif
