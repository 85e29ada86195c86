/* Services that tell when something reached them, for `iblbridge bench`; Linux, whose kernel stamps datagrams as they arrive.
 *
 *     witness COUNT       says "ready" and its COUNT ports; ends with standard input
 *
 * A command ends with a space, as those of the worker do: it is echoed, and answered with the same message. What ends otherwise confirms
 * what was said here. "event" has an event sent to whoever commanded last, from the socket that it came to: [16, NOW], the time in ns of
 * CLOCK_MONOTONIC directly before. A line of standard input asks for the skews since the last one: of each command, how long after the
 * first datagram the last one arrived, in ns.
 */
#include <arpa/inet.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MOST 64
#define COMMANDS 4096

typedef struct {
    int seen; /* commands since the last line */
    ssize_t size;
    struct sockaddr_in asker; /* of the last command, and its size: another like it is a repeat */
    int64_t at[COMMANDS];
} service;

static service services[MOST];

static int open_socket(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int one = socket(AF_INET, SOCK_DGRAM, 0), on = 1;
    if (one < 0 || bind(one, (struct sockaddr *)&address, size) || getsockname(one, (struct sockaddr *)&address, &size))
        exit(1);
    if (setsockopt(one, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on))
        exit(1);
    printf(" %d", ntohs(address.sin_port));
    return one;
}

static int64_t nanoseconds(struct timespec time) {
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static int64_t arrival(struct msghdr *message) {
    for (struct cmsghdr *one = CMSG_FIRSTHDR(message); one; one = CMSG_NXTHDR(message, one))
        if (one->cmsg_level == SOL_SOCKET && one->cmsg_type == SCM_TIMESTAMPNS) {
            struct timespec time;
            memcpy(&time, CMSG_DATA(one), sizeof time);
            return nanoseconds(time);
        }
    return 0;
}

static void say_event(int to, const service *one) {
    char event[64];
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    int size = snprintf(event, sizeof event, "[16, %lld]", (long long)nanoseconds(time));
    sendto(to, event, (size_t)size, 0, (const struct sockaddr *)&one->asker, sizeof one->asker);
}

static void receive(int from, service *one) {
    static char datagram[65536], control[256];
    struct sockaddr_in asker;
    struct iovec part = {datagram, sizeof datagram};
    struct msghdr message = {.msg_name = &asker, .msg_namelen = sizeof asker, .msg_iov = &part, .msg_iovlen = 1};
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    ssize_t size = recvmsg(from, &message, 0);
    if (size < 1)
        return;
    if (*datagram != '[') {
        say_event(from, one);
        return;
    }
    if (datagram[size - 1] != ' ')
        return;
    sendto(from, datagram, (size_t)size, 0, (struct sockaddr *)&asker, sizeof asker);
    if (one->size == size && one->asker.sin_port == asker.sin_port)
        return;
    one->size = size;
    one->asker = asker;
    one->at[one->seen++ % COMMANDS] = arrival(&message);
    while (datagram[size - 1] == ' ')
        size--;
    sendto(from, datagram, (size_t)size, 0, (struct sockaddr *)&asker, sizeof asker);
}

static void tell_skews(int count) {
    int seen = services[0].seen;
    for (int i = 0; i < count; i++)
        if (services[i].seen != seen || seen > COMMANDS) {
            printf("failed: the services have not seen the same commands");
            seen = 0;
        }
    for (int command = 0; command < seen; command++) {
        int64_t first = INT64_MAX, last = 0;
        for (int i = 0; i < count; i++) {
            int64_t at = services[i].at[command];
            first = at < first ? at : first;
            last = at > last ? at : last;
        }
        printf("%lld ", (long long)(last - first));
    }
    for (int i = 0; i < count; i++)
        services[i].seen = 0;
    printf("\n");
    fflush(stdout);
}

int main(int argc, char **argv) {
    int count = argc > 1 ? atoi(argv[1]) : 1;
    struct pollfd watched[MOST + 1];
    char line[256];
    if (count < 1 || count > MOST)
        return 2;
    printf("ready");
    for (int i = 0; i < count; i++)
        watched[i] = (struct pollfd){.fd = open_socket(), .events = POLLIN};
    printf("\n");
    fflush(stdout);
    watched[count] = (struct pollfd){.fd = 0, .events = POLLIN};
    while (poll(watched, (nfds_t)count + 1, -1) >= 0) {
        for (int i = 0; i < count; i++)
            if (watched[i].revents & POLLIN)
                receive(watched[i].fd, &services[i]);
        if (!watched[count].revents)
            continue;
        if (read(0, line, sizeof line) < 1)
            break;
        tell_skews(count);
    }
    return 0;
}
