"""A program that lets go of the DLL without closing its client: the slot is free, and the client was lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from programs import build, memory, run
from sources import library
from wine import windows

HERE = Path(__file__).parent
EXPORTS = ['-DIBLB_API=__declspec(dllexport)', '-shared', '-static-libgcc']


@pytest.mark.parametrize('bits', [64, 32])
def test_a_library_that_is_unloaded_closes_its_clients(tmp_path: Path, bits: int) -> None:
    dll = build(tmp_path / f'iblbridge_{bits}.dll', library('Windows'), *EXPORTS, bits=bits)
    program = build(tmp_path / 'unload.exe', [HERE / 'unload.c', *library('Windows')], bits=bits)
    with memory(tmp_path, 'unload') as segments:
        done = run(program, windows(dll), 'rig', bits=bits, timeout=60, IBLBRIDGE_DIR=windows(segments))
        assert not list(segments.iterdir())
    assert (done.returncode, done.stdout) == (0, 'unloaded'), done.stdout + done.stderr
