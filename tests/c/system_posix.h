/* system_posix.h: see system.h. */
#ifndef SYSTEM_POSIX_H
#define SYSTEM_POSIX_H

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* --- this process --- */

static inline const char *variable(const char *name) {
    return getenv(name);
}

static inline void set_variable(const char *name, const char *value) {
    if (value)
        setenv(name, value, 1);
    else
        unsetenv(name);
}

static inline void die(int status) {
    _exit(status);
}

static inline void stand_still(void) {
    raise(SIGSTOP);
}

static void (*end_request)(void);

static inline void end_was_requested(int number) {
    int error = errno;
    (void)number;
    end_request();
    errno = error;
}

static inline void on_end_request(void (*function)(void)) {
    struct sigaction action = {.sa_handler = end_was_requested};
    end_request = function;
    sigaction(SIGTERM, &action, NULL);
}

static inline void close_standard_streams(void) {
    close(0);
    close(1);
    close(2);
}

static inline void *aligned_memory(size_t alignment, size_t bytes) {
    return aligned_alloc(alignment, bytes);
}
static inline void free_aligned(void *memory) {
    free(memory);
}

/* --- files --- */

static inline int make_directory(const char *path) {
    return mkdir(path, 0700);
}
static inline int make_temporary_directory(char path[SYSTEM_PATH]) {
    snprintf(path, SYSTEM_PATH, "/tmp/iblbridge-test-XXXXXX");
    return mkdtemp(path) ? 0 : -1;
}
static inline int remove_directory(const char *path) {
    return rmdir(path);
}
static inline int remove_file(const char *path) {
    return unlink(path);
}
static inline int file_exists(const char *path) {
    return access(path, F_OK) == 0;
}

static inline int is_for_us_alone(const char *path) {
    struct stat status;
    return stat(path, &status) == 0 && (status.st_mode & 0177) == 0 && status.st_uid == getuid();
}
static inline int let_everybody_write(const char *path) {
    struct stat status;
    return stat(path, &status) == 0 ? chmod(path, status.st_mode | 0666) : -1;
}
static inline int make_link(const char *target, const char *path) {
    return symlink(target, path);
}

static inline intptr_t hold_file(const char *path) {
    (void)path;
    return -1;
}
static inline void let_file_go(intptr_t file) {
    (void)file;
}

static inline intptr_t open_log(const char *path) {
    return open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}
static inline int write_log(intptr_t file, const char *line, size_t bytes) {
    return write((int)file, line, bytes) == (ssize_t)bytes ? 0 : -1;
}

/* --- other processes --- */

/* Neither end survives in a program that is started but for what that program gets as its output. */
static inline int make_pipe(int ends[2]) {
    if (pipe(ends) != 0)
        return -1;
    fcntl(ends[0], F_SETFD, FD_CLOEXEC);
    fcntl(ends[1], F_SETFD, FD_CLOEXEC);
    return 0;
}

static inline int child_start(struct child *child, const char *program, const char *const words[]) {
    extern char **environ;
    char *arguments[MOST_WORDS + 2] = {(char *)(uintptr_t)program};
    posix_spawn_file_actions_t actions;
    int ends[2];
    pid_t pid;
    *child = (struct child){0};
    for (int i = 0; i < MOST_WORDS && words[i]; i++)
        arguments[i + 1] = (char *)(uintptr_t)words[i];
    if (make_pipe(ends) != 0)
        return -1;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    int failed = posix_spawn(&pid, program, &actions, NULL, arguments, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    if (failed) {
        close(ends[0]);
        return -1;
    }
    *child = (struct child){pid, ends[0], (uint32_t)pid};
    return 0;
}

static inline int child_fork(struct child *child) {
    int ends[2];
    *child = (struct child){0};
    if (make_pipe(ends) != 0)
        return -1;
    pid_t pid = fork();
    if (pid == 0) {
        dup2(ends[1], STDOUT_FILENO);
        return 0;
    }
    close(ends[1]);
    if (pid < 0) {
        close(ends[0]);
        return -1;
    }
    *child = (struct child){pid, ends[0], (uint32_t)pid};
    return 1;
}

static inline int child_line(struct child *child, char *line, size_t capacity) {
    size_t length = 0;
    char c;
    while (child->process && read((int)child->output, &c, 1) == 1 && c != '\n')
        if (length + 1 < capacity)
            line[length++] = c;
    line[length] = '\0';
    return length > 0;
}

/* Not up to the end of the pipe: what the child itself has started may still hold it open. */
static inline void show_output(const struct child *child) {
    char text[512];
    fcntl((int)child->output, F_SETFL, O_NONBLOCK);
    for (ssize_t bytes; (bytes = read((int)child->output, text, sizeof text)) > 0;)
        fwrite(text, 1, (size_t)bytes, stdout);
}

static inline int child_wait(struct child *child) {
    const struct timespec pause = {.tv_nsec = 1000000};
    int status = -1;
    if (!child->process)
        return -1;
    while (waitpid((pid_t)child->process, &status, WNOHANG) == 0) {
        show_output(child);
        nanosleep(&pause, NULL);
    }
    show_output(child);
    close((int)child->output);
    *child = (struct child){0};
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static inline void child_kill(struct child *child) {
    if (child->process) {
        kill((pid_t)child->process, SIGKILL);
        child_wait(child);
    }
}

static inline int child_stop(struct child *child) {
    int status;
    return child->process && kill((pid_t)child->process, SIGSTOP) == 0 &&
                   waitpid((pid_t)child->process, &status, WUNTRACED) == (pid_t)child->process && WIFSTOPPED(status)
               ? 0
               : -1;
}
static inline int child_go_on(struct child *child) {
    return child->process ? kill((pid_t)child->process, SIGCONT) : -1;
}
static inline int kill_process(uint32_t pid) {
    return pid ? kill((pid_t)pid, SIGKILL) : -1;
}

/* --- the network --- */

static inline intptr_t open_socket(int *port) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    int made = socket(AF_INET, SOCK_DGRAM, 0);
    if (made < 0 || bind(made, (struct sockaddr *)&at, size) || getsockname(made, (struct sockaddr *)&at, &size) ||
        fcntl(made, F_SETFL, O_NONBLOCK))
        return -1;
    *port = ntohs(at.sin_port);
    return made;
}

static inline int receive_datagram(intptr_t socket, void *to, int capacity, int *from) {
    struct pollfd watched = {.fd = (int)socket, .events = POLLIN};
    struct sockaddr_in sender = {0};
    socklen_t size = sizeof sender;
    ssize_t got = poll(&watched, 1, 10000) == 1 ? recvfrom((int)socket, to, (size_t)capacity, 0, (struct sockaddr *)&sender, &size) : -1;
    *from = ntohs(sender.sin_port);
    return (int)got;
}

static inline void close_socket(intptr_t socket) {
    close((int)socket);
}

#endif
