/* remains.c: see remains.h. */
#include "remains.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "include/iblbridge.h"
#include "locks.h"

#define RANDOM_DIGITS 16

bool remains_has_magic(os_file file) {
    char magic[8];
    return os_read(file, 0, magic, sizeof magic) == 0 && memcmp(magic, SEGMENT_MAGIC, sizeof magic) == 0;
}

int remains_set_aside(const char *path, char replaced[PROBLEM_BYTES], struct problem *problem) {
    struct problem said;
    char aside[PATH_BYTES];
    int length = snprintf(aside, sizeof aside, "%s.foreign-%016" PRIx64, path, os_random());
    if (length < 0 || (size_t)length >= sizeof aside || os_rename(path, aside) != 0)
        return problem_set(problem, IBLB_E_SYSTEM,
                           "%s is not a segment of iblbridge and cannot be moved away. Move it, or end who uses it.", path);
    problem_set(&said, IBLB_OK, "%s was not a segment of iblbridge; that file is now %s.", path, aside);
    copy_text(said.text, replaced, PROBLEM_BYTES);
    return IBLB_OK;
}

int segment_retire(os_file file, const char *path, struct problem *problem) {
    static const uint32_t replaced = SEGMENT_REPLACED;
    if (os_size(file) >= sizeof(struct segment_header) && remains_has_magic(file))
        os_write(file, offsetof(struct segment_header, state), &replaced, sizeof replaced); /* where it is in all versions */
    if (os_unlink(path) == 0)
        return IBLB_OK;
    return problem_set(problem, IBLB_E_SYSTEM,
                       "%s has to be removed and another program keeps it open: a virus scanner, a backup? End that.", path);
}

static int worker_holds(os_file file, const char *path, struct problem *problem) {
    uint32_t pid = 0;
    os_read(file, offsetof(struct segment_header, worker_pid), &pid, sizeof pid);
    return problem_set(problem, IBLB_E_WORKER_BUSY, "A worker holds %s: process %" PRIu32 ".", path, pid);
}

/* Takes every lock that an owner could hold: those of as many slots as any segment can have, for the header may be
 * damaged. The worker's comes last, so a worker that is just starting is held up only for an instant. */
static int take_all_locks(os_file file, const char *path, struct problem *problem) {
    if (os_locked(file, worker_lock())) /* the usual case, without holding up clients that attach */
        return worker_holds(file, path, problem);
    if (os_lock(file, claim_lock()) != 1)
        return problem_set(problem, IBLB_E_NAME_TAKEN, "A client is just attaching to %s.", path);
    for (uint32_t i = 0; i < MAX_SLOTS; i++)
        if (os_lock(file, slot_lock(i)) != 1 || os_lock(file, slot_guard(i)) != 1)
            return problem_set(problem, IBLB_E_NAME_TAKEN, "A client holds slot %" PRIu32 " of %s.", i, path);
    if (os_lock(file, worker_lock()) != 1)
        return worker_holds(file, path, problem);
    return IBLB_OK;
}

/* What bridge/segment/kept.py has beside the segment. As long as the segment is there and we hold its locks, it is nobody else's. */
static void forget(const char *path) {
    static const char *const kinds[] = {"ports", "ports.new", "losses", "losses.new", "listeners", "listeners.new"};
    const char *name = os_file_name(path);
    char kept[PATH_BYTES];
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        int length = snprintf(kept, sizeof kept, "%.*s.%s.%s", (int)(name - path), path, name, kinds[i]);
        if (length > 0 && (size_t)length < sizeof kept)
            os_unlink(kept);
    }
}

static int discard(const char *path, bool half_made, struct problem *problem) {
    os_file file;
    int code = os_open(path, &file, problem);
    if (code != IBLB_OK)
        return code;
    if (half_made && os_lock(file, worker_lock()) != 1)
        code = problem_set(problem, IBLB_E_WORKER_BUSY, "%s is just being made.", path);
    else if (!half_made && !remains_has_magic(file))
        code = problem_set(problem, IBLB_E_SEGMENT, "%s does not begin as a segment does. If it is of no use, remove it by hand.", path);
    else if (!half_made)
        code = take_all_locks(file, path, problem);
    if (code == IBLB_OK && !os_same_file(file, path))
        code = problem_set(problem, IBLB_E_STALE, "%s was just removed or replaced.", path);
    if (code == IBLB_OK && !half_made)
        forget(path);
    if (code == IBLB_OK)
        code = segment_retire(file, path, problem);
    os_close(file);
    return code;
}

int remains_discard(const char *path, struct problem *problem) {
    return discard(path, false, problem);
}

int remains_discard_half_made(const char *path, struct problem *problem) {
    return discard(path, true, problem);
}

size_t remains_half_made(const char *file) {
    size_t length = strlen(file);
    if (file[0] != '.' || length < RANDOM_DIGITS + 3 || length >= NAME_BYTES + RANDOM_DIGITS + 2)
        return 0;
    const char *digits = file + length - RANDOM_DIGITS;
    return digits[-1] == '.' && strspn(digits, "0123456789abcdef") == RANDOM_DIGITS ? length - RANDOM_DIGITS - 2 : 0;
}

static void remove_one(const char *file, void *context) {
    struct problem problem;
    char path[PATH_BYTES];
    const char *segment = context, *name = os_file_name(segment);
    size_t length = remains_half_made(file);
    if (length == 0 || length != strlen(name) || strncmp(file + 1, name, length) != 0)
        return;
    snprintf(path, sizeof path, "%.*s%s", (int)(name - segment), segment, file);
    discard(path, true, &problem);
}

void remains_remove(const char *path) {
    char directory[PATH_BYTES], segment[PATH_BYTES];
    snprintf(segment, sizeof segment, "%s", path);
    snprintf(directory, sizeof directory, "%.*s", (int)(os_file_name(segment) - segment), segment);
    os_for_each_file(directory, remove_one, segment);
}
