/* queue.h: the commands in a ring, as whoever did not write them reads them: the worker, and a client that is to append behind them.
 *
 * Every byte may be anything: each is read once, checked, and believed only in the copy.
 */
#ifndef IBLB_QUEUE_H
#define IBLB_QUEUE_H

#include "ring.h"

enum found { FOUND_NONE = 0, FOUND_COMMAND, FOUND_NONSENSE };

static inline enum record_state state_of(uint64_t control) {
    return (enum record_state)(uint32_t)control;
}

/* The next record from *at on, which is moved to it. FOUND_NONE at `tail`. `generation`: of the slot's present owner; what owners before it
 * have left is of an older one, and none is of a younger. */
enum found queue_read(const struct ring *ring, uint32_t generation, uint64_t *at, uint64_t tail, struct command_record *record,
                      uint64_t *control);

/* What stands between the two ends of a ring that nobody reads or writes meanwhile. */
struct queue {
    uint64_t head, tail;
    uint64_t last_stamp, last_request; /* 0 if there is no command */
};

/* Does all of it make sense, in order? Then what is appended will be read. */
bool queue_look(const struct ring *ring, uint32_t generation, struct queue *queue);

#endif
