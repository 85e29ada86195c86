/* A healthy service for each of argv[1] ports, as fast as one can be: echoes a command, answers with the same message, and takes the next
 * datagram from that port as the confirmation of its answer. Prints "ready" and its ports in one line; ends with standard input. For
 * `iblbridge bench`. */
#include <arpa/inet.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#define MOST 64

int main(int argc, char **argv) {
    int count = argc > 1 ? atoi(argv[1]) : 1;
    struct pollfd watched[MOST + 1];
    static char datagram[65536];
    static char answered[MOST][65536]; /* by the asker's port */
    if (count < 1 || count > MOST)
        return 2;
    printf("ready ");
    for (int i = 0; i < count; i++) {
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t size = sizeof address;
        int one = socket(AF_INET, SOCK_DGRAM, 0);
        if (one < 0 || bind(one, (struct sockaddr *)&address, size) || getsockname(one, (struct sockaddr *)&address, &size))
            return 1;
        watched[i] = (struct pollfd){.fd = one, .events = POLLIN};
        printf("%d ", ntohs(address.sin_port));
    }
    printf("\n");
    fflush(stdout);
    watched[count] = (struct pollfd){.fd = 0, .events = POLLIN};
    while (poll(watched, (nfds_t)count + 1, -1) >= 0 && !watched[count].revents)
        for (int i = 0; i < count; i++) {
            struct sockaddr_in from;
            socklen_t size = sizeof from;
            if (!(watched[i].revents & POLLIN))
                continue;
            ssize_t got = recvfrom(watched[i].fd, datagram, sizeof datagram, 0, (struct sockaddr *)&from, &size);
            char *open = &answered[i][ntohs(from.sin_port)];
            *open = !*open;
            if (got < 1 || !*open)
                continue;
            sendto(watched[i].fd, datagram, (size_t)got, 0, (struct sockaddr *)&from, size);
            while (got > 0 && datagram[got - 1] == ' ')
                got--;
            sendto(watched[i].fd, datagram, (size_t)got, 0, (struct sockaddr *)&from, size);
        }
    return 0;
}
