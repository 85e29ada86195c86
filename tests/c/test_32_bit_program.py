"""A 32-bit program and a 64-bit worker share a segment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from sources import ROOT, library
from test_layout import skip_without_32_bit

from bridge.segment.client import Client

SOURCES = [str(path) for path in library()]

PROGRAM = r"""
#include "iblbridge.h"
#include <stdio.h>
#include <string.h>

/* Calls as often as it is told, sends all it can without reading, reads it all, and says how wide it is. */
int main(int argc, char *argv[]) {
    (void)argv;
    static char json[65536];
    int handle, request, requests[600], sent = 0, times = argc > 1 ? 200 : 1;
    double now;
    int code = iblb_open("rig", "narrow", 2000, &handle);
    for (int i = 0; i < times && code == 0; i++)
        code = iblb_call(handle, "", IBLB_PING, "", 5000, json, sizeof json, &request);
    if (code == 0)
        code = iblb_call(handle, "", IBLB_SERVICES, "", 5000, json, sizeof json, &request);
    if (code != 0 || !strstr(json, "\"message\":\"SERVICES\"")) {
        iblb_last_error(code ? handle : 0, json, sizeof json);
        printf("%d %s\n", code, json);
        return 1;
    }
    while (sent < 600 && code == 0)
        code = iblb_send(handle, "", IBLB_PING, "", -1, &requests[sent++]);
    if (code == IBLB_E_FULL)
        sent--;
    for (int i = 0; i < sent; i++)
        if ((code = iblb_wait(handle, requests[i], 5000, json, sizeof json, NULL)) != 0) {
            printf("%d of request %d\n", code, i);
            return 1;
        }
    iblb_clock_ns(&now);
    printf("%d bits, %d answers, %d\n", 8 * (int)sizeof(void *), sent, now > 0);
    return iblb_close(handle);
}
"""

WORKER = """
import sys
from bridge.worker import Worker
worker = Worker('rig', {})
print('ready', flush=True)
worker.run()
"""


PARKS = r"""
#include "os.h"
#include <stdio.h>

/* Parks where nobody rings, and says the bits of time and whether that took its time. */
int main(void) {
    static shared_u32 word;
    struct os_waits waits;
    os_waits_open(&waits, os_wait_mechanism(), 1, &word);
    uint64_t begun = os_clock_ns(), span = 50000000;
    int woken;
    while ((woken = os_park(&word, 0, span, &waits)) < 0)
        begun = os_clock_ns();
    printf("%d bits, woken %d, %s", 8 * (int)sizeof(time_t), woken, os_clock_ns() - begun < span ? "early" : "in time");
    return 0;
}
"""


@pytest.fixture(scope='module')
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp('narrow'), PROGRAM)


def built(folder: Path, text: str, *options: str) -> Path:
    """Return a 32-bit program with the library in it."""
    skip_without_32_bit(folder)
    (folder / 'narrow.c').write_text(text)
    program = folder / 'narrow'
    include = ['-I', str(ROOT / 'csrc'), '-I', str(ROOT / 'csrc' / 'include')]
    command = [
        'gcc',
        '-m32',
        '-std=c11',
        '-O1',
        '-D_POSIX_C_SOURCE=200809L',
        '-Wall',
        '-Wextra',
        '-Wno-psabi',
        *include,
        *options,
    ]
    done = subprocess.run(
        [*command, str(folder / 'narrow.c'), *SOURCES, '-o', str(program), '-lpthread', '-lm'],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert 'warning' not in done.stderr, done.stderr
    return program


def run(program: Path, *arguments: str) -> str:
    done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_park_lasts_its_time_where_time_has_64_bits_and_the_system_32(tmp_path):
    """The kernel took the halves of the time for seconds and ns: each wait came back at once, and kept a core busy."""
    program = built(tmp_path, PARKS, '-D_TIME_BITS=64', '-D_FILE_OFFSET_BITS=64')
    said = run(program)
    if said.startswith('32 bits'):
        pytest.skip('the C library here has no 64-bit time for 32-bit programs')
    assert said == '64 bits, woken 0, in time'


def test_a_32_bit_client_is_served_by_a_64_bit_worker_beside_a_64_bit_client(narrow, serve):
    assert sys.maxsize > 2**32
    serve()
    with Client('rig', 'wide') as wide:
        before = wide.call('PING')
        assert run(narrow, 'often').startswith('32 bits, 600 answers')
        assert wide.call('PING')['request'] == before['request'] + 1


def test_it_has_all_its_answers_also_from_a_worker_in_another_process(narrow):
    worker = subprocess.Popen(
        [sys.executable, '-c', WORKER], stdout=subprocess.PIPE, text=True, env=os.environ | {'PYTHONUNBUFFERED': '1'}
    )
    try:
        assert worker.stdout and worker.stdout.readline() == 'ready\n'
        assert run(narrow).startswith('32 bits, 600 answers')
    finally:
        worker.kill()
        worker.wait()
