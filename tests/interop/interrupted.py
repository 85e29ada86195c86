"""A library of iblbridge in which Ctrl-C comes while a command is sent: when it is, and before its caller knows."""

from __future__ import annotations

from pathlib import Path

from guides import require, run

SOURCE = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <unistd.h>

int iblb_send(int handle, const char *services, int message, const char *args, int ttl_ms, int *request) {
    int (*send)(int, const char *, int, const char *, int, int *);
    *(void **)&send = dlsym(RTLD_NEXT, "iblb_send");
    int code = send(handle, services, message, args, ttl_ms, request);
    kill(getpid(), SIGINT);
    usleep(200000); /* a thread of its own may handle it */
    return code;
}
"""


def build(kit: Path, folder: Path) -> dict[str, str]:
    """Build it from the library of a kit; return the environment in which a program of the kit uses it."""
    require('cc')
    source, library = folder / 'interrupted.c', folder / 'interrupted.so'
    source.write_text(SOURCE)
    real = kit / 'libiblbridge.so'
    done = run(['cc', '-shared', '-fPIC', source, '-o', library, '-Wl,--no-as-needed', real, '-ldl'], kit)
    assert done.returncode == 0, done.stderr
    return {'IBLBRIDGE_LIBRARY': str(library), 'LD_LIBRARY_PATH': str(kit)}
