/* incoming.pml: what masters ask of a program that serves: answer against withdrawal against death, with a crash
 * between any two accesses.
 *
 * Modelled: one slot with its owner, which takes, answers in any order or not at all, and leaves, or is killed at any
 * step; a first worker, which hands over commands, withdraws any at any time, hears answers, tells masters, and may be
 * killed at any step; its successor, which stays.
 *
 *     proctype program   look_for_command(), take_command(), serving_release() in taking.c; answer(), swap_to_answered(), publish() in
 *                        answering.c; leave() in handles.c
 *     proctype worker    segment_serve() at its start, then inherit() in incoming.c; then in any order
 *         hand           publish() in incoming.c
 *         withdraw       iblbw_withdraw()
 *         hear           iblbw_take(), iblbw_accept(), what is said to the master, iblbw_respond()
 *         sweep          view_sweep(), set_free() in view.c
 *         look           iblbw_incoming_state()
 *     proctype killer    kill -9; the kernel drops the locks of the dead
 *
 * Checked: no master is told twice, be it an answer or a failure; none is told that its command failed once the
 * program was told that its answer counts, unless the program died over it. When nothing can move any more (`judge`):
 * each command that was handed over was told of once, but for what the first worker was about to tell when it was
 * killed; the slot of a program that is gone is free.
 *
 * Abstracted away: bytes, full rings, numbers, what else stands in the command ring, time (a withdrawal may come at
 * any moment), sleeping (doorbell.pml). Memory is sequentially consistent here.
 *
 * Each ABLATION_ leaves out one thing that the protocol relies on; tests/test_model.py demands that the search then
 * finds a violation.
 */
#define NOBODY 0
#define PROGRAM 1
#define FIRST_WORKER 2
#define SECOND_WORKER 3

#define COMMANDS 2

#ifndef VICTIM
#define VICTIM FIRST_WORKER /* the one that may be killed */
#endif

#define PUBLISHED 1
#define TAKEN 2
#define ANSWERED 3
#define WITHDRAWN 4
#define OPEN(r) (control[r] == PUBLISHED || control[r] == TAKEN)

#define WRITTEN 1 /* states of an answer in the command ring */
#define ACCEPTED 2
#define DONE 3

/* --- shared memory --- */
byte tail, head; /* of the incoming ring: a position is an index */
byte control[COMMANDS];
byte answers; /* tail of the command ring */
byte answer_of[COMMANDS]; /* which command this one answers */
byte answer_state[COMMANDS];
bool slot_free;

/* --- the kernel --- */
byte worker_lock, slot_lock = PROGRAM;
bool killed[4];

/* --- what really happened: nobody in the model reads these --- */
byte told_answer[COMMANDS], told_failure[COMMANDS];
bool counts[COMMANDS]; /* the program was told that its answer counts */
bool silent[COMMANDS]; /* a worker was about to tell, or had just told, when it was killed: the next one knows by what it had kept
                        * beside the segment (bridge/listen/owed.py), which is not modelled */
bool late[COMMANDS];

#define TOLD(r) (told_answer[r] + told_failure[r])

inline tell_failure(r) {
    d_step {
        told_failure[r]++;
        assert(TOLD(r) <= 1 && !(counts[r] && !killed[PROGRAM]));
        silent[r] = false
    }
}

/* ================================================================ program */

inline release() {
    do
    :: head < tail && !OPEN(head) -> head = head + 1
#ifdef ABLATION_RELEASED_WHEN_TAKEN
    :: head < tail && control[head] == TAKEN -> head = head + 1
#endif
    :: else -> break
    od
}

/* The record lies behind the tail, where nobody looks, then we swap, then we publish. */
inline answer(r) {
    d_step { answer_of[answers] = r; answer_state[answers] = WRITTEN }
#ifdef ABLATION_PUBLISHED_BEFORE_THE_SWAP
    answers = answers + 1;
#endif
    if
#ifdef ABLATION_ANSWERED_WITHOUT_A_SWAP
    :: control[r] == TAKEN -> control[r] = ANSWERED; won = true
#else
    :: d_step { control[r] == TAKEN -> control[r] = ANSWERED; won = true }
#endif
    :: d_step { control[r] != TAKEN -> won = false; late[r] = true; mine[r] = false }
    fi;
    if
    :: won ->
#ifndef ABLATION_PUBLISHED_BEFORE_THE_SWAP
       answers = answers + 1;
#endif
       d_step { counts[r] = true; mine[r] = false; won = false; assert(!told_failure[r]) }
    :: else -> skip
    fi
}

proctype program() {
    byte me = PROGRAM, i = 0;
    bool mine[COMMANDS], won;
    {
        do
        :: i < tail ->
           release();
           if
           :: d_step { control[i] == PUBLISHED -> control[i] = TAKEN; mine[i] = true }
           :: control[i] != PUBLISHED -> skip
           fi;
           i = i + 1
        :: mine[0] -> answer(0); release()
        :: mine[1] -> answer(1); release()
        :: true -> break /* it closes, whatever is open */
        od;
        slot_lock = NOBODY
    } unless { killed[me] }
}

/* ================================================================ worker */

inline inherit() {
    r = head;
    do
    :: r < tail && !slot_free ->
       if
#ifdef ABLATION_SUCCESSOR_FORGETS_WHAT_WAS_TAKEN
       :: control[r] == PUBLISHED -> mine[r] = true
       :: control[r] != PUBLISHED -> skip
#else
       :: OPEN(r) -> mine[r] = true
       :: !OPEN(r) -> skip
#endif
       fi;
       r = r + 1
    :: else -> break
    od;
    r = 0
}

inline hand() {
    control[next] = PUBLISHED; /* the whole record, behind the tail */
    d_step { mine[next] = true; tail = tail + 1 } /* `mine` is known to nobody but us */
}

inline withdraw(r) {
    if
#ifdef ABLATION_WITHDRAWN_WITHOUT_A_SWAP
    :: OPEN(r) -> control[r] = WITHDRAWN; silent[r] = true;
#else
    :: d_step { OPEN(r) -> control[r] = WITHDRAWN; silent[r] = true };
#endif
       d_step { mine[r] = false; tell_failure(r) }
    :: !OPEN(r) -> skip /* its owner was first */
    fi
}

/* The answer at our cursor. One that a dead worker had accepted it may have told: nothing is said twice. */
inline hear() {
    if
    :: d_step { answer_state[cursor] == WRITTEN -> answer_state[cursor] = ACCEPTED; silent[answer_of[cursor]] = true };
       d_step {
           told_answer[answer_of[cursor]]++;
           assert(TOLD(answer_of[cursor]) <= 1);
           silent[answer_of[cursor]] = false
       }
    :: answer_state[cursor] != WRITTEN -> skip
    fi;
    d_step { answer_state[cursor] = DONE; mine[answer_of[cursor]] = false; cursor = cursor + 1 }
}

/* What its owner had not answered when it went it never will; what it had stands in the command ring, or never came
 * there: that is known once the slot is free, after everything in it was taken. */
inline look(r) {
    if
#ifdef ABLATION_GONE_BEFORE_ITS_ANSWERS_WERE_TAKEN
    :: reclaimed ->
#else
    :: reclaimed && (OPEN(r) || slot_free) ->
#endif
#ifndef ABLATION_GONE_AND_STILL_INHERITED
       d_step { /* ours alone to change: its owner is gone */
           if
           :: OPEN(r) && !slot_free -> control[r] = WITHDRAWN
           :: else -> skip
           fi;
           silent[r] = true
       };
#endif
       d_step { mine[r] = false; tell_failure(r) }
    :: else -> skip
    fi
}

/* What is open is about to be told of, as gone. */
inline free() {
    d_step {
        slot_free = true;
        silent[0] = silent[0] || mine[0];
        silent[1] = silent[1] || mine[1]
    }
}

proctype worker(byte me) {
    byte r, next, cursor;
    bool mine[COMMANDS], reclaimed;
end_waits:
    {
        atomic { worker_lock == NOBODY && (me == FIRST_WORKER || killed[FIRST_WORKER]) -> worker_lock = me }
        inherit();
        next = tail;
end_serves:
        do
        :: next < COMMANDS && !reclaimed && !slot_free -> hand(); next = next + 1
        :: mine[0] && !reclaimed && OPEN(0) -> withdraw(0)
        :: mine[1] && !reclaimed && OPEN(1) -> withdraw(1)
        :: cursor < answers && answer_state[cursor] != DONE -> hear()
        :: cursor < answers && answer_state[cursor] == DONE -> cursor = cursor + 1
        :: mine[0] && reclaimed && (OPEN(0) || slot_free) -> look(0)
        :: mine[1] && reclaimed && (OPEN(1) || slot_free) -> look(1)
#ifdef ABLATION_GONE_BEFORE_ITS_ANSWERS_WERE_TAKEN
        :: mine[0] && reclaimed -> look(0)
        :: mine[1] && reclaimed -> look(1)
#endif
        :: !reclaimed && slot_lock == NOBODY -> slot_lock = me; reclaimed = true
#ifdef ABLATION_FREED_BEFORE_ITS_ANSWERS_WERE_TAKEN
        :: reclaimed && !slot_free -> free()
#else
        :: reclaimed && !slot_free && cursor == answers -> free()
#endif
        od
    } unless { killed[me] }
}

/* ================================================================ the end */

proctype killer() {
    if
    :: d_step {
           killed[VICTIM] = true;
           if
           :: worker_lock == VICTIM -> worker_lock = NOBODY
           :: else -> skip
           fi;
           if
           :: slot_lock == VICTIM -> slot_lock = NOBODY
           :: else -> skip
           fi
       }
    :: skip
    fi
}

proctype judge() {
    byte r;
    timeout;
    do
    :: r < tail ->
       assert(TOLD(r) == 1 || (silent[r] && killed[FIRST_WORKER]));
       assert(!late[r] || told_failure[r] || (silent[r] && killed[FIRST_WORKER]));
       assert(!counts[r] || told_answer[r] || (silent[r] && killed[FIRST_WORKER]));
       r = r + 1
    :: else -> break
    od;
    assert(slot_free)
}

init {
    atomic {
        run program();
        run worker(FIRST_WORKER);
        run worker(SECOND_WORKER);
        run killer();
        run judge()
    }
}
