/* iblb_windows.c: Windows uses UTF-16 for the arguments and for the names of files, iblb.c and the library use UTF-8.
 * Also sets the exit status after Ctrl-C. */
#include <stdlib.h>
#include <windows.h>

#include "words.h"

enum exit_status {
#define EXIT_STATUS(name, number, meaning) EXIT_##name = (number),
#include "../codes.def"
};

int main(int count, char **arguments);
int wmain(int count, wchar_t **arguments);

FILE *open_text(const char *path) {
    wchar_t wide[4096];
    return MultiByteToWideChar(CP_UTF8, 0, path, -1, wide, 4096) ? _wfopen(wide, L"r") : NULL;
}

static BOOL WINAPI end(DWORD event) {
    (void)event;
    ExitProcess(EXIT_INTERRUPTED);
}

int wmain(int count, wchar_t **arguments) {
    char **converted = calloc((size_t)count + 1, sizeof *converted);
    SetConsoleCtrlHandler(end, TRUE);
    for (int i = 0; converted && i < count; i++) {
        int bytes = WideCharToMultiByte(CP_UTF8, 0, arguments[i], -1, NULL, 0, NULL, NULL);
        converted[i] = malloc((size_t)bytes);
        if (!converted[i])
            return EXIT_FAILURE;
        WideCharToMultiByte(CP_UTF8, 0, arguments[i], -1, converted[i], bytes, NULL, NULL);
    }
    return converted ? main(count, converted) : EXIT_FAILURE; /* what was allocated goes with the process */
}
