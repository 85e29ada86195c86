/* iblb_windows.c: Windows hands the arguments over in UTF-16; iblb.c and the library take UTF-8. */
#include <stdlib.h>
#include <windows.h>

int main(int count, char **arguments);
int wmain(int count, wchar_t **arguments);

int wmain(int count, wchar_t **arguments) {
    char **converted = calloc((size_t)count + 1, sizeof *converted);
    for (int i = 0; converted && i < count; i++) {
        int bytes = WideCharToMultiByte(CP_UTF8, 0, arguments[i], -1, NULL, 0, NULL, NULL);
        converted[i] = malloc((size_t)bytes);
        if (!converted[i])
            return EXIT_FAILURE;
        WideCharToMultiByte(CP_UTF8, 0, arguments[i], -1, converted[i], bytes, NULL, NULL);
    }
    return converted ? main(count, converted) : EXIT_FAILURE; /* what was allocated goes with the process */
}
