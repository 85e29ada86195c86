/* answering.h: what serving.c and answering.c share. */
#ifndef IBLB_ANSWERING_H
#define IBLB_ANSWERING_H

#include "client.h"

/* With the handle's mutex held: gives back the room of what is done at the head of the ring. IBLB_E_SEGMENT if it
 * makes no sense. */
int serving_release(struct handle *handle, struct problem *problem);

#endif
