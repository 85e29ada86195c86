/* shadow.h: see shadow.c. */
#ifndef SHADOW_H
#define SHADOW_H

/* From an address as the library knows it to the memory itself; any other address is given back. */
void *shadow_real(const volatile void *pointer);

#endif
