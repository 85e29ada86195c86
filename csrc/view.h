/* view.h: what the worker knows of one slot, in memory of its own, and the slot's life as the worker drives it.
 *
 *     FREE ──claimed by a client──► LIVE ──owner gone, all answered──► FREE
 *                                    │
 *                                    └──its rings make no sense──► QUARANTINED ──owner gone──► FREE
 *
 * Everything the client can write is read once and checked, and only the copy is believed. A slot is freed when every
 * record is answered; we hold its lock then, and its state is the last thing written. Where no worker lives, a client
 * may claim a slot whose owner left in order, and append behind what that one left. So a slot that was left in order is
 * first looked at under its lock, and its ring may hold commands of older generations. They are carried out like all
 * others, but nobody is told what becomes of them.
 *
 * The slot of an owner that did not leave in order is kept until the caller has noted whose it was: so no other client's
 * name takes the place of that one, and a worker that is killed before leaves the loss to be found by the next.
 */
#ifndef IBLB_VIEW_H
#define IBLB_VIEW_H

#include "queue.h"
#include "segment.h"

#define EARLY_INTERRUPTS 16

enum phase { PHASE_FREE = 0, PHASE_LIVE, PHASE_QUARANTINED };
enum loss { NOT_LOST = 0, LOST, LOST_AND_NAMED };

struct view {
    struct slot slot;
    uint32_t index;
    enum phase phase;
    int taken;      /* commands in the caller's hands: neither answered nor found withdrawn */
    bool reclaimed; /* the client is gone and we hold its slot's lock */
    int share;      /* commands that may still be taken into this batch */
    enum loss loss; /* it had not closed in order, and nobody has noted that yet */
    char client[NAME_BYTES];
    uint32_t generation;
    uint64_t head; /* records before it are answered */
    uint64_t scan; /* records before it were taken; never beyond `seen` */
    uint64_t seen; /* records before it were searched for interrupts */
    uint64_t response_tail;
    bool held; /* a response found no room */
    uint64_t event_tail;
    uint64_t incoming_tail;
    uint64_t inherit_at; /* incoming records from here to inherit_end are an earlier worker's, and were not looked at */
    uint64_t inherit_end;
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

/* Follows what the owner did to the slot's state. One that makes no sense ends in quarantine. */
void view_look(struct view *view, const struct segment *segment);

/* Takes over the lock of an owner that is gone, and frees the slot once everything in it is answered. */
void view_sweep(struct view *view, const struct segment *segment);

/* Its owner's loss is noted where a worker after us finds it: from here on the slot does not tell of it any more. */
void view_note_loss(struct view *view, const struct segment *segment);

/* Puts the next command among those seen into view->next. Skips padding, what is cancelled or answered, and interrupts
 * that were taken early. */
enum found view_next(struct view *view);
void view_took(struct view *view);

/* Puts the next EXPINTERRUPT that was not looked at yet into view->interrupt, wherever it stands in the ring. */
enum found view_next_interrupt(struct view *view);
void view_took_interrupt(struct view *view);

/* Has the owner made room for a response that is held back? */
bool view_made_room(const struct view *view);

/* Is there something in the ring that was not looked at yet, or room for what is held back? */
bool view_has_news(const struct view *view, const struct segment *segment);

/* Is there something in the ring that was not taken yet? */
bool view_has_commands(const struct view *view);

/* Gives back the room of everything at the head that is finished. */
void view_advance(struct view *view, const struct segment *segment);

/* The command's control word, if the command still stands where it was taken from and belongs to the same claim; else
 * NULL. */
shared_u64 *view_control(const struct view *view, uint32_t generation, uint64_t position, uint64_t request);

/* A command that was taken is answered or was withdrawn: nothing more will come for it. */
void view_done(struct view *view, uint32_t generation);

/* Places an event for the owner, if it wants that event. One that finds no room is counted and lost. Returns whether it
 * was placed. */
bool view_publish_event(struct view *view, const struct segment *segment, int message, const unsigned char *body, uint32_t bytes);

void view_quarantine(struct view *view, const struct segment *segment);

#endif
