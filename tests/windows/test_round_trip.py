"""How long a PING takes between two Windows programs, measured against the system's own events. Fails by no time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from c_programs import CI
from programs import build, memory, run
from sources import library
from wine import windows

HERE = Path(__file__).parent
WRAP = '-Wl,--wrap=os_park,--wrap=os_wake,--wrap=os_locked,--wrap=os_clock_ns'


@pytest.mark.parametrize('bits', [64, 32])
def test_a_ping_is_compared_with_two_events(tmp_path: Path, bits: int) -> None:
    program = build(tmp_path / 'round_trip.exe', [HERE / 'round_trip.c', *library('Windows')], WRAP, bits=bits)
    with memory(tmp_path, 'round-trip') as segments:
        done = run(program, 5000 if CI else 3000, bits=bits, timeout=110, IBLBRIDGE_DIR=windows(segments))
    print(done.stdout)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said['failed'] == 0
    assert said['client']['parks'] <= 1.1, 'a client parks more than once for one answer'
    assert said['client']['wakes'] <= 1.1
    assert said['worker']['parks'] <= 1.1
    assert said['worker']['wakes'] <= 1.1
