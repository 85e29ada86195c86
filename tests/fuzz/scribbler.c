/* scribbler.c: writes random bytes into a live segment, through the file alone, until it is killed or its time is up.
 *
 *     scribbler <segment file> slot <name of a client> <seed> <ms>     only that client's slot: header, rings, records
 *     scribbler <segment file> anywhere - <seed> <ms>                   the header, the services, every slot
 *
 * It knows layout.h and nothing else of the library. Prints how many writes it made.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "layout.h"

static uint64_t state;

static uint64_t random64(void) { /* xorshift64* */
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return state * UINT64_C(2685821657736338717);
}

static uint64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static volatile unsigned char *memory;

/* A word that is random, or small, or nearly what is there. */
static void scribble(uint64_t from, uint64_t bytes) {
    uint64_t place = from + random64() % bytes, width = random64() % 3 ? 8 : 1 + random64() % 8;
    uint64_t kind = random64() % 4, value;
    place = random64() % 4 ? place & ~(uint64_t)7 : place;
    if (place + width > from + bytes)
        width = from + bytes - place;
    uint64_t there = 0;
    for (uint64_t i = 0; i < width; i++)
        there |= (uint64_t)memory[place + i] << (8 * i);
    value = kind == 0   ? random64()
            : kind == 1 ? random64() % 66
            : kind == 2 ? there + random64() % 3 * 64 - 64
                        : there ^ (UINT64_C(1) << random64() % 64);
    for (uint64_t i = 0; i < width; i++)
        memory[place + i] = (unsigned char)(value >> (8 * i));
}

int main(int argc, char **argv) {
    struct stat status;
    int file = argc == 6 ? open(argv[1], O_RDWR) : -1;
    if (file < 0 || fstat(file, &status) != 0)
        return fprintf(stderr, "scribbler <segment file> slot|anywhere <client> <seed> <ms>\n"), 2;
    uint64_t size = (uint64_t)status.st_size, from = 0, bytes = size, writes = 0;
    memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    state = strtoull(argv[4], NULL, 10) * 2 + 1;
    uint64_t until = now_ms() + strtoull(argv[5], NULL, 10);
    if (memory == MAP_FAILED)
        return 2;
    const struct segment_header *header = (const void *)memory;
    uint64_t command_bytes = header->command_bytes; /* read once: it may be what is scribbled on */
    uint64_t rings = command_bytes + header->response_bytes + header->event_bytes + header->incoming_bytes,
             slot_bytes = SLOT_HEADER_BYTES + rings;
    if (strcmp(argv[2], "slot") == 0) {
        uint32_t i = 0;
        while (i < header->slots && strcmp(((const struct slot_header *)(memory + SLOTS_OFFSET + i * slot_bytes))->client, argv[3]) != 0)
            i++;
        if (i == header->slots)
            return fprintf(stderr, "no client %s\n", argv[3]), 2;
        from = SLOTS_OFFSET + i * slot_bytes;
        bytes = slot_bytes;
    }
    for (; now_ms() < until; writes++) {
        uint64_t where = random64() % 8, slot = from;
        if (from == 0)
            slot = SLOTS_OFFSET + random64() % ((size - SLOTS_OFFSET) / slot_bytes) * slot_bytes;
        if (where < 2)
            scribble(slot, sizeof(struct slot_header));
        else if (where < 5)
            scribble(slot + SLOT_HEADER_BYTES, 4096); /* where the first records are */
        else if (where < 6)
            scribble(slot + SLOT_HEADER_BYTES + command_bytes, 4096); /* and the first responses */
        else if (where < 7 && from == 0)
            scribble(0, sizeof(struct segment_header));
        else
            scribble(from, bytes);
        struct timespec pause = {0, (long)(random64() % 200000)};
        nanosleep(&pause, NULL);
    }
    printf("%llu\n", (unsigned long long)writes);
    return 0;
}
