/* replay.c: runs a fuzzer over stored inputs without libFuzzer: `replay FILE ...`. For compilers that do not have it, and for coverage. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        FILE *file = fopen(argv[i], "rb");
        if (!file)
            return 2;
        static uint8_t bytes[1 << 16];
        size_t size = fread(bytes, 1, sizeof bytes, file);
        fclose(file);
        uint8_t *copy = malloc(size ? size : 1); /* of its exact size, for a sanitizer */
        if (!copy)
            return 2;
        for (size_t at = 0; at < size; at++)
            copy[at] = bytes[at];
        LLVMFuzzerTestOneInput(copy, size);
        free(copy);
    }
    printf("%d inputs\n", argc - 1);
    return 0;
}
