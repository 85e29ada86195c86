/* iblb_posix.c: names of files are bytes here. */
#include "words.h"

FILE *open_text(const char *path) {
    return fopen(path, "r");
}
