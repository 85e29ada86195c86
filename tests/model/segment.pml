/* segment.pml: the life of a command and of its slot, with a crash possible between any two accesses of shared memory.
 *
 * Modelled: one slot; a first client that claims it, publishes two commands (the second may be an EXPINTERRUPT), may cancel each, takes the
 * responses and leaves, or is killed at any step; a second client that claims the same slot afterwards and publishes one; a first worker,
 * which may be killed at any step as well, and its successor, which stays. Every statement, atomic or d_step below makes at
 * most one access of what stands under "shared memory" (exceptions are marked), so that the search stops and switches where the C code can.
 *
 *     proctype client   claim(), may_reuse(), may_append() in client.c; write_command(), wait_for(), withdraw() in commands.c; the emptying of the
 *                       response ring by whatever call comes first; leave() in handles.c
 *     proctype worker   segment_serve() and begin() at its start; then, in any order, as two threads under one mutex do it:
 *         gather        gather() and take_interrupts() in worker.c; view_look(), view_next_interrupt(), view_next() in view.c
 *         accept        iblbw_accept() up to the compare-and-swap; `dispatch` is the first datagram, some time after
 *         answer        iblbw_respond(), answer(), place_response() in worker.c
 *         advance, sweep   view_advance(), view_sweep(), set_free() in view.c
 *     proctype killer   kill -9; the kernel drops the locks of the dead
 *
 * Checked, by assertions on the way:
 *     no command is dispatched twice; none that its owner withdrew with success, ever; none whose owner was told that it was not sent;
 *     none but an interrupt is accepted once an interrupt with a younger stamp was seen, whichever worker saw it;
 *     a client takes at most one response per request, and only its own; no slot is claimed while one of its records is unanswered, but by
 *     who appends; no response is placed for an owner that has left.
 * and when nothing can move any more (`judge`; every run ends, which a second search for cycles shows): a client that was not killed has,
 * for each request, a response or its successful withdrawal; every published record is ANSWERED or CANCELLED; the slot is FREE.
 *
 * With -DSTALL the first worker, between two calls, loses its lock while it is only stopped (which the kernel does not do) and goes on
 * after its successor began: the comparison of epochs alone must then do. Nobody is killed in that search.
 *
 * Abstracted away: bytes, padding, wrapping and full rings (ring.c has tests of its own; a position is an index here and is also the
 * request's number and stamp); services and their order; clocks (a command may be refused at any time before it is accepted: expired, bad
 * arguments, a worker about to stop); several slots (they share nothing but the epoch and the interrupt's stamp, which are here);
 * quarantine; events; notifications; sleeping (doorbell.pml): who waits here is woken. Memory is sequentially consistent here: what a
 * record holds is published by release and acquire of the tail, which C11 guarantees.
 *
 * Each ABLATION_ leaves out one thing that the protocol relies on; tests/test_model.py demands that the search then finds a violation.
 */
#define NOBODY 0
#define FIRST_CLIENT 1
#define SECOND_CLIENT 2
#define FIRST_WORKER 3
#define SECOND_WORKER 4

#define RECORDS 3 /* two of the first client, one of the second */
#define RESPONSES 6
#ifndef INTERRUPTS
#define INTERRUPTS 0 /* which of the records are EXPINTERRUPTs: a set of bits */
#endif
#ifndef LEAVES
#define LEAVES 0 /* which of them their client does not wait for */
#endif
#ifndef VICTIM
#define VICTIM FIRST_CLIENT /* the one that may be killed */
#endif
#ifndef CANCELS
#define CANCELS 0 /* which of them their client cancels at any time, or never */
#endif

#define STAMP(r) ((r) + 1) /* 0: no interrupt yet */

#define FREE 0
#define CLAIMED 1

#define PUBLISHED 1
#define ACCEPTED 2 /* + 8 * epoch */
#define ANSWERED 3
#define CANCELLED 4
#define STATE(control) ((control) & 7)
#define DONE(r) (STATE(record[r].control) == ANSWERED || STATE(record[r].control) == CANCELLED)

#define SENT 1     /* codes of responses: the services' outcomes, */
#define NOT_SENT 2 /* expired, aborted, refused: no datagram ever left, */
#define UNKNOWN 3  /* IBLB_E_OUTCOME_UNKNOWN */

typedef Record {
    byte control;
    byte generation;
    bool interrupt
};
typedef Response {
    byte request;
    byte generation;
    byte code
};

/* --- shared memory --- */
byte epoch, interrupt_stamp;
byte slot_state, slot_generation;
bool closing; /* its owner has left in order */
byte command_tail, command_head;
Record record[RECORDS];
byte response_tail, response_head;
Response response[RESPONSES];

/* --- the kernel --- */
byte worker_lock, slot_lock;
bool killed[5];

/* --- what really happened: nobody in the model reads these --- */
byte sent[RECORDS];
byte owner[RECORDS];
bool withdrawn[RECORDS];
bool told_not_sent[RECORDS];
byte taken[RECORDS];
bool gone[5];

/* ================================================================ client */

#define OPEN(r) ((open >> (r)) & 1)
#define MAY_CANCEL(r) (((CANCELS & open & (7 - tried)) >> (r)) & 1)
#define FORGET(r) open = open & (7 - (1 << (r)))

inline look_for_a_free_slot() {
    if
    :: atomic { slot_lock == NOBODY && slot_state != FREE -> slot_lock = me } /* in vain, once: the lock is held for a moment */
       slot_state != FREE; /* only the worker frees, and it needs the lock */
       slot_lock = NOBODY
    :: skip
    fi
    if
    :: atomic { slot_lock == NOBODY && slot_state == CLAIMED && closing -> slot_lock = me }
       if
#ifdef ABLATION_REUSED_BESIDE_A_WORKER
       :: slot_state == CLAIMED && closing -> skip; /* both are ours to change now, with the lock */
#else
       :: slot_state == CLAIMED && closing && worker_lock == NOBODY -> skip;
#endif
          reuses = true
       :: else -> slot_lock = NOBODY; goto wait_for_a_free_one
       fi
    :: skip;
wait_for_a_free_one:
#ifdef ABLATION_CLAIMED_BY_THE_LOCK_ALONE
    atomic { slot_lock == NOBODY -> slot_lock = me }
#else
    atomic { slot_lock == NOBODY && slot_state == FREE -> slot_lock = me }
#endif
    fi
}

inline claim() {
    d_step { /* ours alone to look at: we hold the slot's lock */
        r = 0;
        do
        :: r < command_tail -> assert(DONE(r) || reuses); r++ /* no free slot has a record of its old owner that is unanswered */
        :: else -> break
        od;
        assert(command_head == command_tail || reuses);
        r = 0;
#ifdef ABLATION_WRITES_OVER_WHAT_WAS_LEFT
        tail = command_head;
#else
        tail = command_tail;
#endif
        head = response_tail
    }
#ifdef ABLATION_CLOSING_TAKEN_BACK_FIRST
    d_step { closing = false }
#endif
    d_step { slot_generation++; generation = slot_generation }
    d_step { response_head = head }
    d_step { closing = false }
    if
    :: reuses -> reuses = false /* it is CLAIMED */
    :: else -> slot_state = CLAIMED
    fi
}

inline publish() {
    d_step { /* the whole record, which nobody looks at yet */
        record[tail].control = PUBLISHED;
        record[tail].generation = generation;
        record[tail].interrupt = (INTERRUPTS >> tail) & 1;
        owner[tail] = me
    }
    d_step {
        open = open | ((1 << tail) & (7 - LEAVES));
        tail++;
        published++;
        command_tail = tail
    }
}

inline drain_one() {
    d_step {
        request = response[head].request;
        if
#ifdef ABLATION_SECOND_RESPONSE_TAKEN
        :: response[head].generation == generation ->
#else
        :: response[head].generation == generation && OPEN(request) ->
#endif
            assert(owner[request] == me);
            assert(taken[request] == 0);
            taken[request]++;
            assert(response[head].code != NOT_SENT || sent[request] == 0);
            assert(response[head].code != SENT || sent[request] == 1);
            told_not_sent[request] = (response[head].code == NOT_SENT);
            FORGET(request)
        :: else
        fi;
        head++;
        request = 0
    }
    d_step { response_head = head }
}

/* Gives up waiting, as iblb_call does: what cannot be withdrawn is still waited for. */
inline cancel(r) {
    d_step {
        tried = tried | (1 << r);
        if
        :: record[r].control == PUBLISHED -> record[r].control = CANCELLED; withdrawn[r] = true; FORGET(r)
        :: else
        fi
    }
}

proctype client(byte me, quota) {
    byte generation, tail, head, open, tried, published, request, r;
    bool reuses;
    {
        look_for_a_free_slot();
        claim();
        do
        :: published < quota -> publish()
        :: head != response_tail -> drain_one()
        :: MAY_CANCEL(0) -> cancel(0)
        :: MAY_CANCEL(1) -> cancel(1)
        :: MAY_CANCEL(2) -> cancel(2)
        :: published == quota && open == 0 -> break
        od;
        closing = true;
        d_step { slot_lock = NOBODY; gone[me] = true; generation = 0; tail = 0; head = 0; published = 0; tried = 0 }
    } unless {
        d_step {
            killed[me];
            if
            :: slot_lock == me -> slot_lock = NOBODY
            :: else
            fi;
            gone[me] = true;
            generation = 0; tail = 0; head = 0; open = 0; tried = 0; published = 0; request = 0; r = 0; reuses = false /* fewer states */
        }
    }
}

/* ================================================================ worker */

#define IDLE 0
#define TAKEN 1
#define ORPHAN 2
#define TO_SEND 3
#define ON_ITS_WAY 4

/* view_control(): still where it was taken from */
#ifdef ABLATION_READS_ITS_OWNERS_ALONE
#define IN_VIEW(r) (live && record[r].generation == generation && (r) >= head && (r) < seen)
#else
#define IN_VIEW(r) (live && record[r].generation <= generation && (r) >= head && (r) < seen)
#endif
#ifdef ABLATION_ANSWERS_WHO_HAS_LEFT
#define WAS_LEFT(r) false
#else
#define WAS_LEFT(r) (record[r].generation != generation)
#endif

#ifdef ABLATION_BEGUN_WITHOUT_THE_LOCK
#define COULD_BEGIN true
#define MAY_BEGIN true
#else
#define COULD_BEGIN (!closing || slot_lock == NOBODY)
#define MAY_BEGIN (owned || !closing)
#endif
#define NEWS ((!live && slot_state != FREE && COULD_BEGIN) || (live && command_tail != seen))
/* A sweep without effect is left out; the others come at any time. */
#define TO_SWEEP (live && ((!owned && slot_lock == NOBODY) || (owned && (head == command_tail || (head < scan && DONE(head))))))

inline look() {
#ifndef ABLATION_BEGUN_WITHOUT_THE_LOCK
    if
    :: !live && slot_state != FREE && closing -> /* it may be claimed again at this moment */
        if
        :: d_step { slot_lock == NOBODY -> slot_lock = me; owned = true }
        :: else
        fi
    :: else
    fi
#endif
    if
    :: d_step {
            !live && slot_state != FREE && MAY_BEGIN -> /* all of it written before the state, or by workers only */
            live = true; generation = slot_generation; head = command_head; scan = head; seen = head; early = 0; place = response_tail
        }
    :: else
    fi
}

inline take_interrupts() {
    d_step { limit = command_tail }
    do
    :: atomic { live && seen < limit ->
            if
            :: record[seen].interrupt && record[seen].control == PUBLISHED -> early = early | (1 << seen); todo[seen] = TAKEN
            :: else
            fi;
            seen++;
        }
        if
        :: d_step { todo[seen - 1] == TAKEN && record[seen - 1].interrupt && interrupt_stamp < STAMP(seen - 1) ->
                interrupt_stamp = STAMP(seen - 1)
            }
        :: else
        fi
    :: else -> break
    od
}

/* In one step: what is done stays done, so that the last look decides. */
inline advance() {
    d_step {
        at = head;
        do
        :: at < scan && DONE(at) -> at++
        :: else -> break
        od
    }
    if
    :: d_step { at != head -> head = at; command_head = at; at = 0 }
    :: else -> at = 0
    fi
}

inline sweep() {
    if
    :: d_step { live && !owned && slot_lock == NOBODY -> slot_lock = me; owned = true }
    :: else
    fi
    if
    :: live && owned ->
        advance();
        if
#ifdef ABLATION_FREED_BEFORE_THE_LAST_ANSWER
        :: true ->
#else
        :: command_tail == head ->
#endif
            d_step { command_head = head; command_tail = head }
            d_step { response_head = place; response_tail = place }
            closing = false;
            d_step {
                slot_state = FREE;
                live = false; owned = false; generation = 0; head = 0; scan = 0; seen = 0; early = 0; place = 0
            }
            d_step { slot_lock = NOBODY }
        :: else
        fi
    :: else
    fi
}

/* In one step: a cancel between two of these looks is found out by accept. */
inline take_the_rest() {
    d_step {
#ifdef ABLATION_TAKES_WHAT_IT_HAS_NOT_LOOKED_AT
        limit = command_tail;
#else
        limit = seen; /* nothing behind what was looked at for interrupts in this pass */
#endif
        do
        :: live && scan < limit ->
            if
            :: (early >> scan) & 1 -> early = early & (7 - (1 << scan))
            :: else ->
                if
                :: STATE(record[scan].control) == PUBLISHED -> todo[scan] = TAKEN
#ifdef ABLATION_SUCCESSOR_SENDS_WHAT_WAS_ACCEPTED
                :: STATE(record[scan].control) == ACCEPTED -> todo[scan] = TO_SEND
#else
                :: STATE(record[scan].control) == ACCEPTED -> todo[scan] = ORPHAN
#endif
                :: else
                fi
            fi;
            scan++
        :: else -> break
        od;
        limit = 0
    }
}

inline accept(r) {
    if
    :: !IN_VIEW(r) -> todo[r] = IDLE
#ifndef ABLATION_INTERRUPT_NOT_LOOKED_AT
    :: IN_VIEW(r) && !record[r].interrupt && STAMP(r) < interrupt_stamp -> answer(r, NOT_SENT) /* the stamp is the one access */
#endif
    :: else ->
#ifdef ABLATION_ACCEPT_WITHOUT_SWAP
        if
        :: record[r].control == PUBLISHED ->
            d_step {
                record[r].control = ACCEPTED + 8 * my_epoch;
#else
        if
        :: d_step {
                record[r].control == PUBLISHED -> record[r].control = ACCEPTED + 8 * my_epoch;
#endif
                assert(STAMP(r) >= interrupt_stamp || record[r].interrupt);
                todo[r] = TO_SEND
            }
        :: else -> todo[r] = IDLE /* the owner's cancel was first */
        fi
    fi
}

inline dispatch(r) {
    d_step {
        sent[r]++;
        assert(sent[r] == 1);
        assert(!withdrawn[r]);
        assert(!told_not_sent[r]);
        todo[r] = ON_ITS_WAY
    }
}

inline place_response(r, its_code) {
    if
    :: !owned && !WAS_LEFT(r) ->
        d_step {
            assert(record[r].generation == generation); /* else it has left, and nobody takes it */
            response[place].request = r;
            response[place].generation = generation;
            response[place].code = its_code
        }
        d_step { place++; response_tail = place }
    :: else
    fi
}

inline mark_answered(r) {
    d_step {
        if
        :: record[r].control == before -> record[r].control = ANSWERED + 8 * my_epoch
        :: else
        fi
    }
}

inline answer(r, its_code) {
    d_step { before = (IN_VIEW(r) -> record[r].control : ANSWERED) }
#ifndef ABLATION_REFUSED_WITHOUT_ACCEPT
    if
    :: before == PUBLISHED -> /* from here on no successor sends what its owner is about to be told was not sent */
        d_step {
            if
            :: record[r].control == PUBLISHED -> before = ACCEPTED + 8 * my_epoch; record[r].control = before
            :: else -> before = CANCELLED
            fi
        }
    :: else
    fi
#endif
    if
    :: STATE(before) == PUBLISHED || STATE(before) == ACCEPTED ->
#ifdef ABLATION_ANSWERED_BEFORE_THE_RESPONSE
        mark_answered(r);
        place_response(r, its_code);
#else
        place_response(r, its_code);
        mark_answered(r);
#endif
        advance();
        if
        :: owned -> sweep()
        :: else
        fi
    :: else
    fi
    d_step { before = 0; todo[r] = IDLE }
}

inline choose() {
    if
    :: todo[r] == TO_SEND -> goto sending
    :: todo[r] == TAKEN -> goto accepting
    :: todo[r] == TAKEN -> code = NOT_SENT; goto answering
    :: todo[r] == ORPHAN -> code = UNKNOWN; goto answering
    :: todo[r] == ON_ITS_WAY -> code = SENT; goto answering
    fi
}

proctype worker(byte me) {
    byte my_epoch, generation, head, scan, seen, place, early, limit, at, before, r, code;
    bool live, owned, sweeping;
    byte todo[RECORDS];
    {
        me == FIRST_WORKER || epoch > 0 || killed[FIRST_WORKER]; /* in this order */
end_locked_out:
        atomic { worker_lock == NOBODY -> worker_lock = me }
        d_step { epoch++; my_epoch = epoch }
end:
        do
        :: atomic { (NEWS || TO_SWEEP) -> /* gather() */
                if
                :: NEWS -> sweeping = false
                :: TO_SWEEP -> sweeping = true
                fi
            }
            if
            :: epoch != my_epoch -> goto superseded
            :: else
            fi
            look();
            take_interrupts();
            advance();
            if
            :: sweeping || owned -> sweep(); sweeping = false
            :: else
            fi
            take_the_rest()
        :: atomic { todo[0] != IDLE -> r = 0; choose() }
        :: atomic { todo[1] != IDLE -> r = 1; choose() }
        :: atomic { todo[2] != IDLE -> r = 2; choose() }
#ifdef STALL
        :: atomic { me == FIRST_WORKER && worker_lock == me -> worker_lock = NOBODY } epoch != my_epoch
#endif
        od;
sending:
        dispatch(r);
        goto end;
accepting:
        if
        :: epoch != my_epoch -> goto superseded
        :: else
        fi;
        accept(r);
        goto end;
answering:
#ifndef ABLATION_RESPOND_WITHOUT_EPOCH
        if
        :: epoch != my_epoch -> goto superseded
        :: else
        fi;
#endif
        answer(r, code);
        code = 0;
        goto end;
superseded:
        skip;
        d_step { /* it ends */
            if
            :: slot_lock == me -> slot_lock = NOBODY
            :: else
            fi;
            gone[me] = true
        }
    } unless {
        d_step {
            killed[me];
            if
            :: worker_lock == me -> worker_lock = NOBODY
            :: else
            fi;
            if
            :: slot_lock == me -> slot_lock = NOBODY
            :: else
            fi;
            gone[me] = true;
            my_epoch = 0; generation = 0; head = 0; scan = 0; seen = 0; place = 0; early = 0; limit = 0; at = 0; before = 0; r = 0;
            code = 0; live = false; owned = false; sweeping = false; todo[0] = 0; todo[1] = 0; todo[2] = 0 /* fewer states */
        }
    }
}

/* ================================================================ the world */

proctype killer(byte whom) {
    if
    :: killed[whom] = true
    :: skip
    fi
}

proctype judge() {
    byte r;
    atomic {
        timeout;
        assert(gone[FIRST_CLIENT] && gone[SECOND_CLIENT]); /* else one waits for a response that never comes, or for a slot */
        do
        :: r < command_tail ->
            assert(DONE(r));
            assert(taken[r] + withdrawn[r] == 1 || killed[owner[r]] || (taken[r] == 0 && (LEAVES >> r) & 1));
            r++
        :: else -> break
        od;
        assert(slot_state == FREE && slot_lock == NOBODY)
    }
}

init {
    atomic {
        run client(FIRST_CLIENT, 2);
        run client(SECOND_CLIENT, 1);
        run worker(FIRST_WORKER);
        run worker(SECOND_WORKER);
#ifndef STALL
        run killer(VICTIM);
        run killer(FIRST_WORKER);
#endif
        run judge()
    }
}
