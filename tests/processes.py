"""Programs in processes of their own, to be stopped and killed: workers and clients of the tests' segments."""

from __future__ import annotations

import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from systems import APART, WINE

SLOTS_OFFSET = 4096 + 128 * 128  # layout.h
SLEEP_NOTE = 144
SEGMENT = """
import sys, time
from bridge.segment.served import Segment
segment = Segment(sys.argv[1], slots=int(sys.argv[2]) if sys.argv[2:] else 0)
print('ready', segment.path, flush=True)
while True:
    segment.take(0.05)
    list(segment.lost_clients())
"""
WORKER = """
import sys
import time
from bridge.worker import Worker
worker = Worker(sys.argv[1], {'cameras': sys.argv[2]} if sys.argv[2:] else {}, timeout=30.0)
print('ready', worker.path, flush=True)
worker.run()
"""
CLIENT = """
import sys, time
from bridge.segment.client import Client
client = Client(*sys.argv[1:3])
for message in sys.argv[3:]:
    client.send(message, ttl=None)
print('ready', flush=True)
time.sleep(1000)
"""


@contextmanager
def program(code: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run Python code that says "ready", and wait for that; it is killed at the end, stopped or not."""
    process = subprocess.Popen([sys.executable, '-c', code, *arguments], stdout=subprocess.PIPE, text=True, **APART)
    try:
        assert process.stdout is not None
        said = process.stdout.readline()
        assert said.startswith('ready'), said
        yield process
    finally:
        process.kill()
        process.wait(10)
        process.stdout.close()


@contextmanager
def serving(*options: object, errors: int = subprocess.PIPE) -> Iterator[subprocess.Popen[str]]:
    """Run ``iblbridge serve --segment rig``, and wait until it is READY; what is not ended is killed."""
    command = [sys.executable, '-m', 'bridge', 'serve', '--segment', 'rig', *map(str, options)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, **APART)
    try:
        assert process.stdout is not None
        assert process.stdout.readline().startswith('READY ')
        yield process
    finally:
        process.kill()
        process.communicate(timeout=10)


def kill(process: subprocess.Popen[str]) -> None:
    """Kill as kill -9 does, and wait until it is gone."""
    process.kill()
    process.wait(10)
    if WINE:
        time.sleep(0.2)  # until its ports are free as well


def write(path: Path, offset: int, content: bytes) -> None:
    """Scribble over a file."""
    with open(path, 'r+b') as file:
        file.seek(offset)
        file.write(content)


def read(path: Path, offset: int, count: int) -> bytes:
    """Read bytes of a file."""
    with open(path, 'rb') as file:
        file.seek(offset)
        return file.read(count)


def put_the_pc_to_sleep(path: Path, hours: float) -> None:
    """Make a segment's header say that the PC had slept less when a worker last looked."""
    (note,) = struct.unpack('=Q', read(path, SLEEP_NOTE, 8))
    write(path, SLEEP_NOTE, struct.pack('=Q', (note - round(hours * 3600e9)) % 2**64))
