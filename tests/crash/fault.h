/* fault.h: a build that can stop after every single access of shared memory, and around every lock, link and wake-up. See fault.c. */
#ifndef FAULT_H
#define FAULT_H

/* What the program is doing from here on, for the counts: a string that lives for ever. */
void fault_section(const char *section);

/* Called once, directly before the end (not before it stands still): may write down what the program leaves behind. */
extern void (*fault_last_words)(const char *section, const char *function, long point);

/* While this is above 0, in this thread, accesses do not count: those of the test program itself. */
extern _Thread_local int fault_pause;

#endif
