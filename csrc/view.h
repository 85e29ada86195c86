/* view.h: what the worker knows of one slot, in memory of its own, and the slot's life as the worker drives it.
 *
 *     FREE ──claimed by a client──► LIVE ──owner gone, all answered──► FREE
 *                                    │
 *                                    └──its rings make no sense──► QUARANTINED ──owner gone──► FREE
 *
 * Everything the client can write is read once, checked, and believed only in the copy. A slot is freed with its lock held by us, when
 * every record is answered, and its state is the last thing written. Where no worker lives, a client may claim a slot whose owner left in
 * order, and append behind what that one left: so a slot that says so is looked at for the first time under its lock only, and its ring may
 * hold commands of older generations. They are carried out as all are; what becomes of them is told to nobody.
 */
#ifndef IBLB_VIEW_H
#define IBLB_VIEW_H

#include "queue.h"
#include "segment.h"

#define EARLY_INTERRUPTS 16

enum phase { PHASE_FREE = 0, PHASE_LIVE, PHASE_QUARANTINED };

struct view {
    struct slot slot;
    uint32_t index;
    enum phase phase;
    int taken;      /* commands in the caller's hands: neither answered nor found withdrawn */
    bool reclaimed; /* the client is gone and we hold its slot's lock */
    int share;      /* commands that may still be taken into this batch */
    bool lost;      /* and it had not closed in order; until somebody was told */
    char client[NAME_BYTES];
    uint32_t generation;
    uint64_t head; /* records before it are answered */
    uint64_t scan; /* records before it were taken; never beyond `seen` */
    uint64_t seen; /* records before it were looked at for interrupts */
    uint64_t response_tail;
    bool held; /* a response found no room */
    uint64_t event_tail;
    uint64_t last_stamp;
    uint64_t last_request;
    uint64_t early[EARLY_INTERRUPTS]; /* positions beyond scan that were taken already */
    int early_count;
    bool next_known;            /* `next` is the record at scan */
    struct command_record next; /* a private copy */
    uint64_t next_control;
    bool interrupt_known; /* `interrupt` stands at interrupt_position */
    struct command_record interrupt;
    uint64_t interrupt_position;
};

/* Follows what the owner did to the slot's state; a scribbled one ends in quarantine. */
void view_look(struct view *view, const struct segment *segment);

/* Takes over the lock of an owner that is gone; frees the slot once nothing in it is unanswered. */
void view_sweep(struct view *view, const struct segment *segment);

/* The next command among those seen, in view->next. Skips padding, what is cancelled or answered, and interrupts taken early. */
enum found view_next(struct view *view);
void view_took(struct view *view);

/* The next EXPINTERRUPT that was not looked at, wherever it stands in the ring, in view->interrupt. */
enum found view_next_interrupt(struct view *view);
void view_took_interrupt(struct view *view);

/* Has the owner made room that a held response waits for? */
bool view_made_room(const struct view *view);

/* Is there something in the ring that was not looked at, or room for what was held? */
bool view_has_news(const struct view *view, const struct segment *segment);

/* Is there something in the ring that was not taken? */
bool view_has_commands(const struct view *view);

/* Gives back the room of everything at the head that is done. */
void view_advance(struct view *view, const struct segment *segment);

/* The command's control word, if it is still where it was taken from and of the same claim; else NULL. */
shared_u64 *view_control(const struct view *view, uint32_t generation, uint64_t position, uint64_t request);

/* A command that was taken is answered, or found withdrawn: nothing more will come for it. */
void view_done(struct view *view, uint32_t generation);

/* Places an event for the owner, if it wants it; one that finds no room is counted and lost. Was it placed? */
bool view_publish_event(struct view *view, const struct segment *segment, int message, const unsigned char *body, uint32_t bytes);

void view_quarantine(struct view *view, const struct segment *segment);

#endif
