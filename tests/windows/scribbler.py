"""A client of the segment that writes random bytes all over its own slot, through the file alone.

    scribbler.py SEGMENT FILE SEED SECONDS

Says ``READY`` when it begins, and how often it wrote when it ends; it does not close.
"""

import mmap
import os
import random
import struct
import sys
import time

from bridge.segment.client import Client

SLOTS_OFFSET, SLOT_HEADER_BYTES, CLIENT_OFFSET = 4096 + 128 * 128, 1024, 40  # layout.h

segment, path, seed, seconds = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
client = Client(segment, 'guilty')
client.send('PING')
with open(path, 'r+b') as file:
    memory = mmap.mmap(file.fileno(), 0)
slots, *rings = struct.unpack_from('<4I', memory, 48)
slot_bytes = SLOT_HEADER_BYTES + sum(rings)
starts = [SLOTS_OFFSET + i * slot_bytes for i in range(slots)]
(own,) = (at for at in starts if memory[at + CLIENT_OFFSET :][:7] == b'guilty\0')
print('READY', flush=True)
rng, until, writes = random.Random(seed), time.perf_counter() + seconds, 0
while time.perf_counter() < until:
    where = rng.choice((0, SLOT_HEADER_BYTES, SLOT_HEADER_BYTES + rings[0])) + rng.randrange(512) * 8
    value = rng.choice((rng.getrandbits(64), rng.randrange(66), 2**64 - 64))
    struct.pack_into('<Q', memory, own + where, value)
    writes += 1
print(writes, flush=True)
os._exit(0)
