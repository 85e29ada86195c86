/* queue.h: the commands in a ring, as somebody reads them who did not write them: the worker, or a client that is about
 * to append to them.
 *
 * Each byte may be anything: it is read once and checked, and only the copy is believed.
 */
#ifndef IBLB_QUEUE_H
#define IBLB_QUEUE_H

#include <stdbool.h>

#include "include/iblbridge_worker.h"
#include "ring.h"

enum found { FOUND_NONE = 0, FOUND_COMMAND, FOUND_NONSENSE };

static inline enum record_state state_of(uint64_t control) {
    return (enum record_state)(uint32_t)control;
}

/* May its payload hold a token? Then it is wiped once nobody will read it any more. What a program answers may be the
 * answer to an ALYX. */
static inline bool is_secret(int32_t message) {
    return message == IBLB_ALYX || message == IBLBW_ANSWER;
}

/* Reads the next record from *at on, and moves *at to it. FOUND_NONE at `tail`. `generation` is that of the slot's
 * present owner: what earlier owners left has an older one, and nothing has a newer one. */
enum found queue_read(const struct ring *ring, uint32_t generation, uint64_t *at, uint64_t tail, struct command_record *record,
                      uint64_t *control);

/* What stands between the two ends of a ring that nobody reads or writes meanwhile. */
struct queue {
    uint64_t head, tail;
    uint64_t last_stamp, last_request; /* 0 if there is no command */
};

/* Does all of it make sense, and is it in order? Then what is appended will be read. */
bool queue_look(const struct ring *ring, uint32_t generation, struct queue *queue);

#endif
