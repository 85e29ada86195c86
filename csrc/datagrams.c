/* datagrams.c: what the worker sends to several services at once. */
#include "include/iblbridge_worker.h"
#include "os.h"

IBLB_API int iblbw_send_datagrams(struct iblbw_datagram *datagrams, int count, const unsigned char *payloads) {
    int left = 0;
    for (int i = 0; i < count; i++) {
        struct iblbw_datagram *one = &datagrams[i];
        one->sent = os_clock_ns();
        one->error = os_send_datagram((intptr_t)one->socket, one->address, one->port, payloads, one->bytes);
        left += one->error == 0;
        payloads += one->bytes;
    }
    return left;
}
