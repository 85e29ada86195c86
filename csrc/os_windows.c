/* os_windows.c: files in %LOCALAPPDATA%\iblbridge, LockFileEx, named events. Text is UTF-8 here and UTF-16 there.
 *
 * A segment is for one Windows user: its directory, its events and the name of this boot are all that user's own. */
#define WIN32_LEAN_AND_MEAN
#include "os.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <winsock2.h> /* has to come before windows.h */
#include <windows.h>

#include <aclapi.h>
#include <sddl.h>

#include "include/iblbridge.h"
#include "layout.h"

#ifndef CREATE_WAITABLE_TIMER_HIGH_RESOLUTION /* Windows 10, 1803 */
#define CREATE_WAITABLE_TIMER_HIGH_RESOLUTION 2
#endif

#define NS 1000000000ull
#define MS 1000000ull
#define LOCK_PATIENCE_NS (500 * MS) /* for those who only look, and may be stopped in the middle */
#define FILE_PATIENCE_NS (500 * MS) /* for a virus scanner that has a new file open */
#define WIDE_PATH (PATH_BYTES + 8)
#define REMOVED ".removed-" /* begins the names of files that are as good as deleted */
#define NO_BOOT_ID "unknown"
#define SHARE_ALL (FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE)

/* --- text --- */

static int to_wide(const char *text, wchar_t *wide, int capacity) {
    return MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, text, -1, wide, capacity) > 0 ? 0 : -1;
}

static int to_utf8(const wchar_t *wide, char *text, size_t capacity) {
    return WideCharToMultiByte(CP_UTF8, 0, wide, -1, text, (int)capacity, NULL, NULL) > 0 ? 0 : -1;
}

/* A path as the system takes it. A long one gets the form that has no limit of 260 characters. "" if there is no such
 * path. */
static const wchar_t *system_path(const char *path, wchar_t wide[WIDE_PATH]) {
    wchar_t given[WIDE_PATH];
    DWORD length = to_wide(path, given, WIDE_PATH) == 0 ? GetFullPathNameW(given, WIDE_PATH - 4, wide + 4, NULL) : 0;
    if (length == 0 || length >= WIDE_PATH - 4)
        return L"";
    if (length < 240 || wide[4] == L'\\')
        return wide + 4;
    memcpy(wide, L"\\\\?\\", 4 * sizeof *wide);
    return wide;
}

/* The system's reason, in the user's language, without the full stop. */
static const char *reason(DWORD error, char *text, size_t capacity) {
    wchar_t wide[256];
    DWORD length = FormatMessageW(FORMAT_MESSAGE_FROM_SYSTEM | FORMAT_MESSAGE_IGNORE_INSERTS, NULL, error, 0, wide, 256, NULL);
    while (length > 0 && wcschr(L" .\r\n", wide[length - 1]))
        wide[--length] = L'\0';
    if (length == 0 || to_utf8(wide, text, capacity) != 0)
        snprintf(text, capacity, "error %lu", error);
    return text;
}

static int fail(struct problem *problem, int code, const char *format, const char *path, DWORD error) {
    char sentence[PATH_BYTES + 256], why[256];
    snprintf(sentence, sizeof sentence, format, path);
    return problem_set(problem, code, "%s: %s.", sentence, reason(error, why, sizeof why));
}

/* Not getenv: each C runtime has a copy of its own. Is the variable there, and not empty? */
static bool environment(const wchar_t *name, char *text, size_t capacity) {
    wchar_t wide[WIDE_PATH];
    DWORD length = GetEnvironmentVariableW(name, wide, WIDE_PATH);
    if (length == 0)
        return false;
    if (length >= WIDE_PATH || to_utf8(wide, text, capacity) != 0)
        memset(text, 'x', capacity), text[capacity - 1] = '\0'; /* too long, and found to be */
    return true;
}

/* --- threads --- */

/* TerminateThread asks nobody, and nothing can be done about it. */
void os_hold_thread(void) {
}
void os_let_thread(void) {
}
void os_end_if_asked(void (*undo)(void *), void *argument) {
    (void)undo, (void)argument;
}

void os_mutex_init(os_mutex *mutex) {
    InitializeSRWLock((SRWLOCK *)mutex);
}
void os_mutex_destroy(os_mutex *mutex) {
    (void)mutex;
}
void os_mutex_lock(os_mutex *mutex) {
    AcquireSRWLockExclusive((SRWLOCK *)mutex);
}
bool os_mutex_try(os_mutex *mutex) {
    return TryAcquireSRWLockExclusive((SRWLOCK *)mutex) != 0;
}
void os_mutex_unlock(os_mutex *mutex) {
    ReleaseSRWLockExclusive((SRWLOCK *)mutex);
}
void os_cond_init(os_cond *cond) {
    InitializeConditionVariable((CONDITION_VARIABLE *)cond);
}
void os_cond_destroy(os_cond *cond) {
    (void)cond;
}
void os_cond_broadcast(os_cond *cond) {
    WakeAllConditionVariable((CONDITION_VARIABLE *)cond);
}

static DWORD to_ms(uint64_t ns) {
    uint64_t ms = ns / MS + (ns % MS != 0);
    return ms < INFINITE ? (DWORD)ms : INFINITE - 1;
}

void os_cond_wait(os_cond *cond, os_mutex *mutex, int64_t timeout_ns) {
    SleepConditionVariableSRW((CONDITION_VARIABLE *)cond, (SRWLOCK *)mutex, to_ms(timeout_ns > 0 ? (uint64_t)timeout_ns : 0), 0);
}

void os_at_fork(void (*before)(void), void (*parent)(void), void (*child)(void)) {
    (void)before, (void)parent, (void)child;
}

static void (*at_unload)(void);

void os_at_unload(void (*function)(void)) {
    at_unload = function;
}

BOOL WINAPI DllMain(HINSTANCE library, DWORD event, LPVOID process_ends);
BOOL WINAPI DllMain(HINSTANCE library, DWORD event, LPVOID process_ends) {
    (void)library;
    if (event == DLL_PROCESS_DETACH && !process_ends && at_unload)
        at_unload();
    return TRUE;
}

/* --- clocks --- */

uint64_t os_clock_ns(void) {
    static shared_u64 frequency; /* the same in every process, until the next boot */
    LARGE_INTEGER ticks;
    uint64_t a_second = load64_relaxed(&frequency);
    if (!a_second) {
        QueryPerformanceFrequency(&ticks);
        a_second = (uint64_t)ticks.QuadPart;
        store64_relaxed(&frequency, a_second);
    }
    QueryPerformanceCounter(&ticks);
    uint64_t now = (uint64_t)ticks.QuadPart;
    return now / a_second * NS + now % a_second * NS / a_second;
}

uint64_t os_wall_ns(void) {
    const uint64_t from_1601_to_1970 = 11644473600;
    FILETIME time;
    GetSystemTimePreciseAsFileTime(&time);
    return (((uint64_t)time.dwHighDateTime << 32 | time.dwLowDateTime) - from_1601_to_1970 * 10000000) * 100;
}

/* The time that the interrupt time counts and the unbiased one does not; 0 if the system does not tell (Wine 8). */
uint64_t os_asleep_ns(uint64_t likely) {
    union {
        FARPROC found;
        void(WINAPI *call)(ULONGLONG *);
    } interrupt_time = {GetProcAddress(GetModuleHandleW(L"kernelbase.dll"), "QueryInterruptTime")};
    uint64_t least = UINT64_MAX;
    if (!interrupt_time.found)
        return 0;
    for (int i = 0; i < 3 && least > likely / 100; i++) {
        ULONGLONG awake, all;
        QueryUnbiasedInterruptTime(&awake);
        interrupt_time.call(&all);
        least = all - awake < least ? all - awake : least;
    }
    return least * 100;
}

/* Sleep() rounds up to the system's tick, 15.6 ms. */
void os_sleep_ns(uint64_t time) {
    LARGE_INTEGER due = {.QuadPart = -(LONGLONG)(time / 100)};
    HANDLE timer = CreateWaitableTimerExW(NULL, NULL, CREATE_WAITABLE_TIMER_HIGH_RESOLUTION, TIMER_ALL_ACCESS);
    if (timer && SetWaitableTimer(timer, &due, 0, NULL, NULL, FALSE))
        WaitForSingleObject(timer, to_ms(time) + 1000);
    else
        Sleep(to_ms(time));
    if (timer)
        CloseHandle(timer);
}

/* --- this process, this user, this machine --- */

uint32_t os_pid(void) {
    return GetCurrentProcessId();
}

int os_process_name(uint32_t pid, char *text, size_t capacity) {
    DWORD length = 32768; /* the longest that exist: a program's path may have more than 260 characters */
    wchar_t *path = malloc(length * sizeof *path);
    char name[3 * MAX_PATH];
    HANDLE process = pid ? OpenProcess(PROCESS_QUERY_LIMITED_INFORMATION, FALSE, pid) : NULL;
    bool found = path && process && QueryFullProcessImageNameW(process, 0, path, &length);
    if (found) {
        const wchar_t *last = wcsrchr(path, L'\\');
        found = to_utf8(last ? last + 1 : path, name, sizeof name) == 0;
    }
    if (process)
        CloseHandle(process);
    free(path);
    if (found)
        snprintf(text, capacity, "%s", name);
    return found ? 0 : -1;
}

BOOLEAN NTAPI SystemFunction036(PVOID buffer, ULONG bytes); /* documented as RtlGenRandom */

uint64_t os_random(void) {
    uint64_t value = 0;
    if (!SystemFunction036(&value, sizeof value))
        value = os_wall_ns() ^ os_clock_ns() << 20 ^ (uint64_t)os_pid() << 40;
    return value;
}

/* The user that this process runs as; free() it. NULL if the system does not say. */
static TOKEN_USER *this_user(void) {
    HANDLE token;
    DWORD bytes = 0;
    TOKEN_USER *user = NULL;
    if (!OpenProcessToken(GetCurrentProcess(), TOKEN_QUERY, &token))
        return NULL;
    GetTokenInformation(token, TokenUser, NULL, 0, &bytes);
    user = malloc(bytes ? bytes : 1);
    if (user && !GetTokenInformation(token, TokenUser, user, bytes, &bytes)) {
        free(user);
        user = NULL;
    }
    CloseHandle(token);
    return user;
}

/* Full access for this user and the system, for nobody else. LocalFree(*descriptor). 0 or -1. */
static int only_this_user(SECURITY_ATTRIBUTES *attributes) {
    wchar_t text[256], *sid = NULL;
    TOKEN_USER *user = this_user();
    bool done = false;
    *attributes = (SECURITY_ATTRIBUTES){.nLength = sizeof *attributes};
    if (user && ConvertSidToStringSidW(user->User.Sid, &sid)) {
        _snwprintf(text, 255, L"D:P(A;OICI;GA;;;%ls)(A;OICI;GA;;;SY)", sid);
        text[255] = L'\0';
        done = ConvertStringSecurityDescriptorToSecurityDescriptorW(text, SDDL_REVISION_1, &attributes->lpSecurityDescriptor, NULL);
        LocalFree(sid);
    }
    free(user);
    return done ? 0 : -1;
}

/* A key of the registry that lives until the user's last logoff, or the next boot. Whoever comes first gives it its
 * value, and the others wait for a mutex. If the first one dies with the mutex, the next finds it abandoned and the
 * value missing. */
bool os_boot_id(char id[40]) {
    wchar_t name[256], *sid = NULL;
    TOKEN_USER *user = this_user();
    HKEY key;
    DWORD bytes = 33;
    char text[40] = NO_BOOT_ID;
    _snwprintf(name, 255, L"Global\\iblbridge-boot-%ls", user && ConvertSidToStringSidW(user->User.Sid, &sid) ? sid : L"");
    name[255] = L'\0';
    HANDLE mutex = CreateMutexW(NULL, FALSE, name);
    DWORD waited = mutex ? WaitForSingleObject(mutex, 2000) : WAIT_FAILED;
    if (RegCreateKeyExW(HKEY_CURRENT_USER, L"Software\\iblbridge-boot", 0, NULL, REG_OPTION_VOLATILE, KEY_READ | KEY_WRITE, NULL, &key,
                        NULL) == 0) {
        if (RegQueryValueExW(key, L"id", NULL, NULL, (BYTE *)text, &bytes) != 0 || bytes != 33) {
            snprintf(text, sizeof text, "%016" PRIx64 "%016" PRIx64, os_random(), os_random());
            if (RegSetValueExW(key, L"id", 0, REG_BINARY, (const BYTE *)text, 33) != 0)
                snprintf(text, sizeof text, NO_BOOT_ID);
        }
        RegCloseKey(key);
    }
    if (waited == WAIT_OBJECT_0 || waited == WAIT_ABANDONED)
        ReleaseMutex(mutex);
    if (mutex)
        CloseHandle(mutex);
    LocalFree(sid);
    free(user);
    memset(id, 0, 40);
    snprintf(id, 40, "%.39s", text);
    return strcmp(id, NO_BOOT_ID) != 0;
}

/* --- the directory --- */

const char *os_file_name(const char *path) {
    const char *end = path + strlen(path);
    while (end > path && end[-1] != '\\' && end[-1] != '/')
        end--;
    return end;
}

/* Makes a path absolute, because the program may change its directory later, and plain: a space at its end, or
 * quotation marks around it, come from how a variable is set in a console. 0 or -1. */
static int make_plain(char path[PATH_BYTES]) {
    wchar_t given[WIDE_PATH], whole[WIDE_PATH];
    size_t length = strlen(path);
    while (length > 0 && strchr(" \"", path[length - 1]))
        path[--length] = '\0';
    if (to_wide(path[0] == '"' ? path + 1 : path, given, WIDE_PATH) != 0)
        return -1;
    DWORD needed = GetFullPathNameW(given, WIDE_PATH, whole, NULL);
    if (needed == 0 || needed >= WIDE_PATH)
        return -1;
    if (needed > 3 && whole[needed - 1] == L'\\') /* except the one that is a drive's own */
        whole[needed - 1] = L'\0';
    return to_utf8(whole, path, PATH_BYTES);
}

int os_directory(char directory[PATH_BYTES], struct problem *problem) {
    char base[PATH_BYTES];
    int length = 0;
    if (environment(L"IBLBRIDGE_DIR", base, sizeof base))
        length = snprintf(directory, PATH_BYTES, "%s", base);
    else if (environment(L"LOCALAPPDATA", base, sizeof base))
        length = snprintf(directory, PATH_BYTES, "%s\\iblbridge", base);
    else if (environment(L"USERPROFILE", base, sizeof base)) /* a program that was started without LOCALAPPDATA has this one */
        length = snprintf(directory, PATH_BYTES, "%s\\AppData\\Local\\iblbridge", base);
    else
        return problem_set(problem, IBLB_E_PERMISSION, "Neither IBLBRIDGE_DIR nor LOCALAPPDATA is set: nobody knows where segments are.");
    if (length < 0 || length > PATH_BYTES - 128 || make_plain(directory) != 0 || strlen(directory) > PATH_BYTES - 128)
        return problem_set(problem, IBLB_E_NAME, "IBLBRIDGE_DIR is longer than %d bytes, or no path.", PATH_BYTES - 128);
    return IBLB_OK;
}

/* Is it a folder that is copied to other computers while it is written to? */
static bool is_synchronised(const wchar_t *path) {
    for (const wchar_t *part = path; part; part = wcschr(part, L'\\')) {
        part += *part == L'\\';
        if (_wcsnicmp(part, L"OneDrive", 8) == 0)
            return true;
    }
    return false;
}

static bool is_remote(const wchar_t *path) {
    const wchar_t *drive = wcsncmp(path, L"\\\\?\\", 4) == 0 ? path + 4 : path; /* of a long path */
    const wchar_t root[] = {drive[0], L':', L'\\', L'\0'};
    return drive[1] != L':' || GetDriveTypeW(root) == DRIVE_REMOTE;
}

/* Where a directory really is, or, if there is none yet, the one above it: a directory on the way may be a link. False
 * if nobody knows. */
static bool final_path(const wchar_t *path, wchar_t found[WIDE_PATH]) {
    DWORD length = 0;
    wcscpy(found, path);
    for (int i = 0; i < 2 && length == 0; i++) {
        HANDLE directory = CreateFileW(found, 0, SHARE_ALL, NULL, OPEN_EXISTING, FILE_FLAG_BACKUP_SEMANTICS, NULL);
        wchar_t *last = wcsrchr(found, L'\\');
        if (directory != INVALID_HANDLE_VALUE) {
            length = GetFinalPathNameByHandleW(directory, found, WIDE_PATH, FILE_NAME_NORMALIZED | VOLUME_NAME_DOS);
            CloseHandle(directory);
            break;
        }
        if (!last)
            break;
        last[last > found && last[-1] == L':'] = L'\0'; /* a drive's own keeps its backslash */
    }
    return length > 0 && length < WIDE_PATH;
}

/* FAT and exFAT keep no permissions: everybody may do everything there, and nothing can be done about that. */
static bool has_permissions(const wchar_t *path) {
    wchar_t root[WIDE_PATH];
    DWORD flags = 0;
    return !GetVolumePathNameW(path, root, WIDE_PATH) || !GetVolumeInformationW(root, NULL, 0, NULL, NULL, &flags, NULL, 0) ||
           (flags & FILE_PERSISTENT_ACLS);
}

/* May others than the user and the administrators write to it, or to the files in it? */
static bool others_may_write(const wchar_t *path) {
    static const WELL_KNOWN_SID_TYPE others[] = {WinWorldSid,     WinAuthenticatedUserSid, WinBuiltinUsersSid, WinBuiltinGuestsSid,
                                                 WinAnonymousSid, WinInteractiveSid,       WinNetworkSid};
    const DWORD writing =
        FILE_WRITE_DATA | FILE_APPEND_DATA | FILE_DELETE_CHILD | DELETE | WRITE_DAC | WRITE_OWNER | GENERIC_WRITE | GENERIC_ALL;
    PSECURITY_DESCRIPTOR descriptor;
    PACL list = NULL;
    bool found = false;
    if (GetNamedSecurityInfoW((wchar_t *)(uintptr_t)path, SE_FILE_OBJECT, DACL_SECURITY_INFORMATION, NULL, NULL, &list, NULL, &descriptor))
        return false;
    if (!list)
        found = true; /* no list at all: everybody may do everything */
    for (DWORD i = 0; list && i < list->AceCount; i++) {
        ACCESS_ALLOWED_ACE *entry;
        if (!GetAce(list, i, (void **)&entry) || entry->Header.AceType != ACCESS_ALLOWED_ACE_TYPE || !(entry->Mask & writing))
            continue;
        for (size_t j = 0; j < sizeof others / sizeof others[0]; j++)
            found = found || IsWellKnownSid(&entry->SidStart, others[j]);
    }
    LocalFree(descriptor);
    return found;
}

/* Judges by the path alone, before a directory is made there. */
static int check_path(const char *path, struct problem *problem) {
    wchar_t wide[WIDE_PATH], final[WIDE_PATH];
    const wchar_t *name = system_path(path, wide), *there = final_path(name, final) ? final : name;
    if (is_remote(name) || is_remote(there))
        return problem_set(problem, IBLB_E_PERMISSION, "%s is on a network drive, or on none. " USE_LOCAL_DISK, path);
    if (strlen(path) <= 3)
        return problem_set(problem, IBLB_E_PERMISSION, "%s is a whole drive. Set IBLBRIDGE_DIR to a folder.", path);
    if (is_synchronised(name) || is_synchronised(there))
        return problem_set(problem, IBLB_E_PERMISSION,
                           "%s is in OneDrive, which copies and locks files. Set IBLBRIDGE_DIR to a local folder.", path);
    return IBLB_OK;
}

static int check_directory(const char *path, struct problem *problem) {
    wchar_t wide[WIDE_PATH];
    const wchar_t *name = system_path(path, wide);
    DWORD attributes = GetFileAttributesW(name), error = GetLastError();
    if (attributes == INVALID_FILE_ATTRIBUTES) {
        if (error == ERROR_FILE_NOT_FOUND || error == ERROR_PATH_NOT_FOUND)
            return problem_set(problem, IBLB_E_NO_SEGMENT, "There is no directory %s.", path);
        return fail(problem, IBLB_E_PERMISSION, "The segment directory %s cannot be read", path, error);
    }
    if (!(attributes & FILE_ATTRIBUTE_DIRECTORY) || (attributes & FILE_ATTRIBUTE_REPARSE_POINT))
        return problem_set(problem, IBLB_E_PERMISSION, "%s is not a directory (a link is not followed). Set IBLBRIDGE_DIR to one.", path);
    if (!has_permissions(name))
        return problem_set(problem, IBLB_E_PERMISSION,
                           "%s is on a drive that keeps no permissions (FAT, exFAT), where everybody can write. " USE_LOCAL_DISK, path);
    if (others_may_write(name))
        return problem_set(problem, IBLB_E_PERMISSION, "Everybody can write to %s. Use a folder of your own, or run: icacls \"%s\" %s",
                           path, path, "/inheritance:r /grant:r \"%USERNAME%:(OI)(CI)F\" (in PowerShell \"${env:USERNAME}:(OI)(CI)F\")");
    return IBLB_OK;
}

/* Is this program one of the Microsoft Store's, such as its Python? Nobody else sees what those write under AppData and
 * in the registry. */
static bool is_packaged(void) {
    union {
        FARPROC found;
        LONG(WINAPI *call)(UINT32 *, wchar_t *);
    } package_name = {GetProcAddress(GetModuleHandleW(L"kernel32.dll"), "GetCurrentPackageFullName")};
    UINT32 length = 0;
    return package_name.found && package_name.call(&length, NULL) == ERROR_INSUFFICIENT_BUFFER;
}

int os_segment_path(const char *name, bool create, char path[PATH_BYTES], struct problem *problem) {
    char directory[PATH_BYTES];
    wchar_t wide[WIDE_PATH];
    if (os_directory(directory, problem) != IBLB_OK)
        return problem->code;
    if (is_packaged())
        return problem_set(problem, IBLB_E_PERMISSION, "This program comes from the Microsoft Store: others do not see what it writes. %s",
                           "Use one that was installed otherwise, such as the Python of python.org.");
    size_t length = strlen(directory);
    snprintf(path, PATH_BYTES, "%.*s%s%.*s", PATH_BYTES - 128, directory, os_file_name(directory) == directory + length ? "" : "\\", 120,
             name);
    if (check_path(directory, problem) != IBLB_OK)
        return problem->code;
    if (create) {
        SECURITY_ATTRIBUTES ours;
        bool known = only_this_user(&ours) == 0;
        BOOL made = CreateDirectoryW(system_path(directory, wide), known ? &ours : NULL);
        DWORD error = GetLastError();
        LocalFree(ours.lpSecurityDescriptor);
        if (!made && error != ERROR_ALREADY_EXISTS)
            return fail(problem, IBLB_E_PERMISSION, "The segment directory %s cannot be made (is the folder above it there?)", directory,
                        error);
    }
    int code = check_directory(directory, problem);
    return code == IBLB_E_NO_SEGMENT ? problem_no_segment(problem, path, os_file_name(path)) : code;
}

void os_for_each_file(const char *directory, void (*visit)(const char *file, void *context), void *context) {
    char pattern[PATH_BYTES + 4], name[3 * MAX_PATH];
    wchar_t wide[WIDE_PATH];
    WIN32_FIND_DATAW entry;
    snprintf(pattern, sizeof pattern, "%s\\*", directory);
    HANDLE entries = FindFirstFileW(system_path(pattern, wide), &entry);
    if (entries == INVALID_HANDLE_VALUE)
        return;
    do
        if (to_utf8(entry.cFileName, name, sizeof name) == 0)
            visit(name, context);
    while (FindNextFileW(entries, &entry));
    FindClose(entries);
}

/* --- files --- */

static HANDLE handle_of(os_file file) {
    return (HANDLE)file;
}

/* Does it belong to this user, or to an administrator, as whom the same user may have started the worker? */
static bool is_ours(HANDLE file) {
    PSECURITY_DESCRIPTOR descriptor;
    PSID owner = NULL;
    TOKEN_USER *user = this_user();
    bool ours = true;
    if (GetSecurityInfo(file, SE_FILE_OBJECT, OWNER_SECURITY_INFORMATION, &owner, NULL, NULL, NULL, &descriptor) == 0) {
        ours = !user || EqualSid(owner, user->User.Sid) || IsWellKnownSid(owner, WinBuiltinAdministratorsSid) ||
               IsWellKnownSid(owner, WinLocalSystemSid);
        LocalFree(descriptor);
    }
    free(user);
    return ours;
}

static HANDLE open_or_make(const char *path, DWORD disposition) {
    wchar_t wide[WIDE_PATH];
    DWORD flags = disposition == CREATE_NEW ? FILE_ATTRIBUTE_TEMPORARY | FILE_ATTRIBUTE_NOT_CONTENT_INDEXED : FILE_FLAG_OPEN_REPARSE_POINT;
    return CreateFileW(system_path(path, wide), GENERIC_READ | GENERIC_WRITE, SHARE_ALL, NULL, disposition, flags, NULL);
}

static int not_plain(struct problem *problem, const char *path) {
    return problem_set(problem, IBLB_E_PERMISSION,
                       "%s is a directory or a link, and no segment. Give the segment another name, or move that away.", path);
}

int os_open(const char *path, os_file *file, struct problem *problem) {
    BY_HANDLE_FILE_INFORMATION facts;
    wchar_t wide[WIDE_PATH];
    HANDLE opened = open_or_make(path, OPEN_EXISTING);
    DWORD error = GetLastError();
    *file = OS_NO_FILE;
    if (opened == INVALID_HANDLE_VALUE) {
        if (error == ERROR_FILE_NOT_FOUND || error == ERROR_PATH_NOT_FOUND)
            return problem_no_segment(problem, path, os_file_name(path));
        if (error == ERROR_SHARING_VIOLATION)
            return problem_set(problem, IBLB_E_SYSTEM,
                               "%s is open in a program that does not share it: a virus scanner, a backup? End that.", path);
        DWORD attributes = GetFileAttributesW(system_path(path, wide));
        if (attributes != INVALID_FILE_ATTRIBUTES && (attributes & FILE_ATTRIBUTE_DIRECTORY)) /* the system refuses to open it */
            return not_plain(problem, path);
        return fail(problem, error == ERROR_ACCESS_DENIED ? IBLB_E_PERMISSION : IBLB_E_SYSTEM, "%s cannot be opened", path, error);
    }
    if (!GetFileInformationByHandle(opened, &facts) ||
        (facts.dwFileAttributes & (FILE_ATTRIBUTE_DIRECTORY | FILE_ATTRIBUTE_REPARSE_POINT))) {
        CloseHandle(opened);
        return not_plain(problem, path);
    }
    if (!is_ours(opened)) {
        CloseHandle(opened);
        return problem_set(problem, IBLB_E_PERMISSION, "%s belongs to another Windows user; worker and clients must run as the same one.",
                           path);
    }
    *file = (os_file)opened;
    return IBLB_OK;
}

int os_create(const char *path, uint64_t bytes, os_file *file, struct problem *problem) {
    LARGE_INTEGER end = {.QuadPart = (LONGLONG)bytes};
    HANDLE made = open_or_make(path, CREATE_NEW);
    *file = OS_NO_FILE;
    if (made == INVALID_HANDLE_VALUE)
        return fail(problem, GetLastError() == ERROR_ACCESS_DENIED ? IBLB_E_PERMISSION : IBLB_E_SYSTEM, "%s cannot be made", path,
                    GetLastError());
    if (!SetFilePointerEx(made, end, NULL, FILE_BEGIN) || !SetEndOfFile(made)) {
        char why[256];
        reason(GetLastError(), why, sizeof why);
        CloseHandle(made);
        os_unlink(path);
        return problem_set(problem, IBLB_E_MEMORY, "There is no room for %llu bytes at %s: %s.", (unsigned long long)bytes, path, why);
    }
    *file = (os_file)made;
    return IBLB_OK;
}

/* Deletes what could not be deleted when its turn came, because somebody had it mapped. */
static void sweep(const char *file, void *context) {
    char path[PATH_BYTES];
    wchar_t wide[WIDE_PATH];
    const char *beside = context;
    if (strncmp(file, REMOVED, strlen(REMOVED)) != 0)
        return;
    snprintf(path, sizeof path, "%.*s%.*s", (int)(os_file_name(beside) - beside), beside, 100, file);
    DeleteFileW(system_path(path, wide));
}

static void sweep_beside(const char *path) {
    char directory[PATH_BYTES], beside[PATH_BYTES];
    snprintf(beside, sizeof beside, "%s", path);
    snprintf(directory, sizeof directory, "%.*s", (int)(os_file_name(beside) - beside), beside);
    os_for_each_file(directory, sweep, beside);
}

/* Without MOVEFILE_REPLACE_EXISTING a move fails if there is a file of that name. */
int os_publish(const char *temporary, const char *path) {
    wchar_t from[WIDE_PATH], to[WIDE_PATH];
    for (uint64_t until = os_clock_ns() + FILE_PATIENCE_NS;;) {
        if (MoveFileExW(system_path(temporary, from), system_path(path, to), 0)) {
            sweep_beside(path);
            return 1;
        }
        DWORD error = GetLastError();
        bool scanned = error == ERROR_SHARING_VIOLATION ||
                       (error == ERROR_ACCESS_DENIED && GetFileAttributesW(system_path(path, to)) == INVALID_FILE_ATTRIBUTES);
        if (!scanned || os_clock_ns() > until) {
            os_unlink(temporary);
            return error == ERROR_ALREADY_EXISTS || error == ERROR_FILE_EXISTS || error == ERROR_FILE_NOT_FOUND ? 0 : -1;
        }
        os_sleep_ns(5 * MS);
    }
}

static bool move(const char *from, const char *to) {
    wchar_t wide_from[WIDE_PATH], wide_to[WIDE_PATH];
    return MoveFileExW(system_path(from, wide_from), system_path(to, wide_to), 0) != 0;
}

int os_rename(const char *from, const char *to) {
    for (uint64_t until = os_clock_ns() + FILE_PATIENCE_NS; !move(from, to); os_sleep_ns(5 * MS)) {
        DWORD error = GetLastError();
        if (error == ERROR_FILE_NOT_FOUND || error == ERROR_PATH_NOT_FOUND)
            return 0;
        if (error != ERROR_SHARING_VIOLATION || os_clock_ns() > until)
            return -1;
    }
    return 0;
}

/* The name of a deleted file lives as long as anybody has the file open, and a mapped file cannot be deleted. So the
 * file first gets another name. */
int os_unlink(const char *path) {
    wchar_t from[WIDE_PATH], to[WIDE_PATH];
    char away[PATH_BYTES];
    snprintf(away, sizeof away, "%.*s%s%016" PRIx64, (int)(os_file_name(path) - path), path, REMOVED, os_random());
    for (uint64_t until = os_clock_ns() + FILE_PATIENCE_NS; !MoveFileExW(system_path(path, from), system_path(away, to), 0);) {
        DWORD error = GetLastError();
        if (error == ERROR_FILE_NOT_FOUND || error == ERROR_PATH_NOT_FOUND || DeleteFileW(system_path(path, from)))
            return 0;
        if (error != ERROR_SHARING_VIOLATION || os_clock_ns() > until)
            return -1;
        os_sleep_ns(5 * MS);
    }
    sweep_beside(path);
    return 0;
}

void os_close(os_file file) {
    if (file != OS_NO_FILE)
        CloseHandle(handle_of(file));
}

uint64_t os_size(os_file file) {
    LARGE_INTEGER size;
    return GetFileSizeEx(handle_of(file), &size) ? (uint64_t)size.QuadPart : 0;
}

static OVERLAPPED at_offset(uint64_t offset) {
    return (OVERLAPPED){.Offset = (DWORD)offset, .OffsetHigh = (DWORD)(offset >> 32)};
}

int os_read(os_file file, uint64_t offset, void *to, size_t bytes) {
    OVERLAPPED place = at_offset(offset);
    DWORD done;
    return ReadFile(handle_of(file), to, (DWORD)bytes, &done, &place) && done == bytes ? 0 : -1;
}

int os_write(os_file file, uint64_t offset, const void *from, size_t bytes) {
    OVERLAPPED place = at_offset(offset);
    DWORD done;
    return WriteFile(handle_of(file), from, (DWORD)bytes, &done, &place) && done == bytes ? 0 : -1;
}

/* In some of Wine's answers the volume's number is 0: the file's own number decides. */
static bool same(HANDLE one, HANDLE other) {
    BY_HANDLE_FILE_INFORMATION a, b;
    return GetFileInformationByHandle(one, &a) && GetFileInformationByHandle(other, &b) && a.nFileIndexHigh == b.nFileIndexHigh &&
           a.nFileIndexLow == b.nFileIndexLow &&
           (a.dwVolumeSerialNumber == b.dwVolumeSerialNumber || !a.dwVolumeSerialNumber || !b.dwVolumeSerialNumber);
}

bool os_same_file(os_file file, const char *path) {
    wchar_t wide[WIDE_PATH];
    HANDLE there =
        CreateFileW(system_path(path, wide), FILE_READ_ATTRIBUTES, SHARE_ALL, NULL, OPEN_EXISTING, FILE_FLAG_OPEN_REPARSE_POINT, NULL);
    if (there == INVALID_HANDLE_VALUE)
        return GetLastError() != ERROR_FILE_NOT_FOUND && GetLastError() != ERROR_PATH_NOT_FOUND; /* only then is it known to be gone */
    bool yes = same(handle_of(file), there);
    CloseHandle(there);
    return yes;
}

bool os_same_open(os_file one, os_file other) {
    return same(handle_of(one), handle_of(other));
}

void *os_map(os_file file, size_t bytes) {
    uint64_t size = bytes;
    HANDLE mapping = CreateFileMappingW(handle_of(file), NULL, PAGE_READWRITE, (DWORD)(size >> 32), (DWORD)size, NULL);
    void *memory = mapping ? MapViewOfFile(mapping, FILE_MAP_READ | FILE_MAP_WRITE, 0, 0, bytes) : NULL;
    if (mapping)
        CloseHandle(mapping);
    return memory;
}

void os_unmap(void *memory, size_t bytes) {
    (void)bytes;
    UnmapViewOfFile(memory);
}

int os_guard(void *memory, size_t bytes, shared_u32 *truncated) {
    (void)memory, (void)bytes, (void)truncated;
    return 0;
}
void os_unguard(void *memory) {
    (void)memory;
}

/* --- locks: an owner's is exclusive; whoever looks takes a shared one for an instant --- */

static int try_lock(os_file file, uint64_t offset, DWORD exclusive) {
    OVERLAPPED place = at_offset(offset);
    if (LockFileEx(handle_of(file), exclusive | LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, &place))
        return 1;
    return GetLastError() == ERROR_LOCK_VIOLATION || GetLastError() == ERROR_IO_PENDING ? 0 : -1;
}

void os_unlock(os_file file, uint64_t offset) {
    OVERLAPPED place = at_offset(offset);
    UnlockFileEx(handle_of(file), 0, 1, 0, &place);
}

bool os_locked(os_file file, uint64_t offset) {
    if (try_lock(file, offset, 0) != 1)
        return true;
    os_unlock(file, offset);
    return false;
}

/* If we can have a shared lock but not an exclusive one, somebody was just looking: try again. */
int os_lock(os_file file, uint64_t offset) {
    for (uint64_t until = 0;;) {
        int taken = try_lock(file, offset, LOCKFILE_EXCLUSIVE_LOCK);
        if (taken != 0)
            return taken;
        uint64_t now = os_clock_ns();
        until = until ? until : now + LOCK_PATIENCE_NS;
        if (os_locked(file, offset) || now > until)
            return 0;
        SwitchToThread();
    }
}

/* --- the network --- */

int os_send_datagram(intptr_t socket, uint32_t address, int port, const void *payload, int bytes) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(address)};
    return sendto((SOCKET)socket, payload, bytes, 0, (struct sockaddr *)&to, sizeof to) == SOCKET_ERROR ? WSAGetLastError() : 0;
}

/* --- waiting --- */

#define MAX_EVENTS (MAX_SLOTS + 1) /* each slot's bell, and the worker's */

struct os_event {
    shared_u64 word; /* its place in the segment, + 1; 0: none yet. Written last */
    HANDLE handle;   /* NULL: could not be opened */
};

static os_mutex events_mutex = OS_MUTEX_INIT;

/* Global: the worker may run in another session (a service, ssh) of the same user. */
static HANDLE open_event(const struct os_waits *waits, uint64_t place) {
    SECURITY_ATTRIBUTES ours;
    wchar_t name[80];
    bool known = only_this_user(&ours) == 0;
    _snwprintf(name, 79, L"Global\\iblbridge-%016I64x-%I64x", waits->id, place);
    name[79] = L'\0';
    HANDLE event = CreateEventW(known ? &ours : NULL, FALSE, FALSE, name);
    LocalFree(ours.lpSecurityDescriptor);
    return event;
}

/* The event of a word, opened when it is first asked for. */
static HANDLE event_of(const struct os_waits *waits, const shared_u32 *word) {
    uint64_t place = (uint64_t)((const char *)word - waits->memory);
    HANDLE handle = NULL;
    struct os_event *event = waits->events, *end = event ? event + MAX_EVENTS : NULL;
    for (; event < end && load64_acquire(&event->word); event++)
        if (load64_relaxed(&event->word) == place + 1)
            return event->handle;
    os_mutex_lock(&events_mutex);
    for (; event < end; event++) {
        if (!load64_relaxed(&event->word)) {
            event->handle = open_event(waits, place);
            store64_release(&event->word, place + 1);
        }
        if (load64_relaxed(&event->word) == place + 1) {
            handle = event->handle;
            break;
        }
    }
    os_mutex_unlock(&events_mutex);
    return handle;
}

uint32_t os_wait_mechanism(void) {
    char wanted[8];
    return environment(L"IBLBRIDGE_WAIT", wanted, sizeof wanted) && strcmp(wanted, "poll") == 0 ? WAIT_POLL : WAIT_EVENT;
}

void os_waits_open(struct os_waits *waits, uint32_t mechanism, uint64_t id, const void *memory) {
    *waits = (struct os_waits){.mechanism = mechanism, .id = id, .memory = memory};
    if (mechanism == WAIT_EVENT)
        waits->events = calloc(MAX_EVENTS, sizeof *waits->events);
}

void os_waits_close(struct os_waits *waits) {
    for (int i = 0; waits->events && i < (int)MAX_EVENTS; i++)
        if (waits->events[i].handle)
            CloseHandle(waits->events[i].handle);
    free(waits->events);
    waits->events = NULL;
}

int os_park(shared_u32 *word, uint32_t expected, uint64_t timeout_ns, const struct os_waits *waits) {
    HANDLE event = waits->mechanism == WAIT_EVENT ? event_of(waits, word) : NULL;
    for (uint64_t until = os_clock_ns() + timeout_ns; load32_acquire(word) == expected;) {
        uint64_t now = os_clock_ns();
        if (now >= until)
            return 0;
        uint64_t left = until - now;
        if (!event || WaitForSingleObject(event, to_ms(left)) == WAIT_FAILED) /* if it was set once too often, the word tells */
            os_sleep_ns(left < MS ? left : MS);
    }
    return 1;
}

void os_wake(shared_u32 *word, const struct os_waits *waits) {
    HANDLE event = waits->mechanism == WAIT_EVENT ? event_of(waits, word) : NULL;
    if (event)
        SetEvent(event);
}
