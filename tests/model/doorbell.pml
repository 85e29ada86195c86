/* doorbell.pml: no wake-up is lost, though every store may become visible late.
 *
 * Modelled: each process has a store buffer of one entry (as x86 does it: its own loads see the entry, those of others only when the memory
 * has taken it over, at any later time). A fence waits until the buffer is empty, and so does a read-modify-write. A futex sleeps only
 * if the word still has the value that the caller read, and is woken by every wake that follows. Nothing times out here: whoever relied on
 * a park's bound (100 ms, 250 ms) would sleep for ever, which the search reports as an invalid end state.
 *
 *     inline arm, disarm, ring   bell_arm(), bell_disarm(), bell_ring() and bell_wake() in segment.c; park: os_park() in the os_*.c
 *     proctype sleeper           iblbw_take(), and as well iblb_wait() with sleep_until_change(): look, arm, look again, park, disarm
 *     proctype waker             write_command() of two clients; as well answer() with its bell_ring(): store the tail, ring
 *
 * With -DROOM, the second use of the worker's bell: a response did not fit, and whoever makes room rings.
 *
 *     proctype holder            place_response() (wanted, fence, look once more), then iblbw_take(); the response is tried again after it
 *     proctype reader            a client that empties its response ring: stores the head, fence, looks at response_wanted; if it is set,
 *                                takes it back and rings
 *
 * Checked: everybody gets to the end: each stored tail is seen, the held response is placed.
 *
 * Abstracted away: what is in the rings (segment.pml), crashes (a waker that dies before it rings leaves the sleeper to its bound; a
 * sleeper's parked flag that outlives it costs one needless wake), iblb_cancel and iblbw_ring (they wake without looking), the threads of
 * one process. Machines weaker than x86 reorder more than this; there the same C11 fences are what the proof rests on.
 *
 * Each ABLATION_ leaves out one thing; tests/test_model.py demands that the search then finds a lost wake-up.
 */
#define SEQUENCE 0
#define PARKED 1
#define TAIL(who) (2 + (who)) /* of the command ring of waker 0, 1 */
#define HEAD 2                /* with ROOM: of the response ring */
#define WANTED 3
#define WORDS 4

#define SLEEPER 2
#define ROUNDS 2 /* commands of each waker; responses to read */

byte memory[WORDS];

typedef Buffer {
    bool waiting;
    byte word;
    byte value
};
Buffer buffer[3];
bool asleep;

inline store(word_, value_) {
    atomic {
        !buffer[me].waiting ->
        buffer[me].waiting = true;
        buffer[me].word = word_;
        buffer[me].value = value_
    }
}

#define LOAD(word_) (buffer[me].waiting && buffer[me].word == (word_) -> buffer[me].value : memory[word_])

inline fence() {
    !buffer[me].waiting
}

inline take_over(who) {
    d_step {
        buffer[who].waiting -> memory[buffer[who].word] = buffer[who].value;
        buffer[who].waiting = false; buffer[who].word = 0; buffer[who].value = 0
    }
}

/* The memory takes a store over when it likes. */
active proctype coherence() {
end:
    do
    :: take_over(0)
    :: take_over(1)
    :: take_over(2)
    od
}

/* --- the bell --- */

inline arm() {
#ifndef ABLATION_SEQUENCE_READ_LATE
    sequence = LOAD(SEQUENCE);
#endif
    store(PARKED, 1);
#ifndef ABLATION_NO_FENCE_IN_ARM
    fence();
#endif
}

inline park() {
#ifdef ABLATION_SEQUENCE_READ_LATE
    sequence = LOAD(SEQUENCE);
#endif
    if
    :: atomic { memory[SEQUENCE] == sequence -> asleep = true }
       !asleep
    :: memory[SEQUENCE] != sequence
    fi
}

inline disarm() {
    store(PARKED, 0)
}

inline ring() {
#ifndef ABLATION_NO_FENCE_IN_RING
    fence();
#endif
    if
    :: LOAD(PARKED) ->
        atomic { !buffer[me].waiting -> memory[SEQUENCE]++ }
        asleep = false;
#ifdef ABLATION_WAKER_CLEARS_PARKED
        store(PARKED, 0)
#endif
    :: else
    fi
}

#ifndef ROOM

proctype waker(byte me) {
    byte stored;
    do
    :: stored < ROUNDS ->
        stored++;
        store(TAIL(me), stored);
        ring()
    :: else -> break
    od
}

proctype sleeper(byte me) {
    byte sequence;
    byte seen[2];
    do
    :: true ->
        seen[0] = LOAD(TAIL(0)); /* gather() */
        seen[1] = LOAD(TAIL(1));
        if
        :: seen[0] == ROUNDS && seen[1] == ROUNDS -> break
        :: else
        fi;
        arm();
        if
#ifndef ABLATION_NO_LOOK_AFTER_ARM
        :: LOAD(TAIL(0)) != seen[0] -> skip
        :: LOAD(TAIL(0)) == seen[0] ->
            if
            :: LOAD(TAIL(1)) == seen[1] -> park()
            :: else
            fi
#else
        :: true -> park()
#endif
        fi;
        disarm()
    od
}

init {
    atomic { run waker(0); run waker(1); run sleeper(SLEEPER) }
}

#else

proctype reader(byte me) {
    byte head;
    do
    :: head < ROUNDS ->
        head++;
        store(HEAD, head);
        fence();
        if
        :: LOAD(WANTED) -> store(WANTED, 0); ring()
        :: else
        fi
    :: else -> break
    od
}

proctype holder(byte me) {
    byte sequence, head;
    do
    :: true ->
        head = LOAD(HEAD); /* place_response() */
        if
        :: head == ROUNDS -> break /* it fits */
        :: else
        fi;
        store(WANTED, 1);
        fence();
        head = LOAD(HEAD);
        if
        :: head == ROUNDS -> break
        :: else
        fi;
        arm(); /* iblbw_take() */
        if
#ifndef ABLATION_ROOM_NOT_LOOKED_AT_AFTER_ARM
        :: LOAD(WANTED) == 0 -> skip /* somebody made room */
        :: LOAD(WANTED) -> park()
#else
        :: true -> park()
#endif
        fi;
        disarm()
    od
}

init {
    atomic { run reader(0); run holder(SLEEPER) }
}

#endif
