"""The C programs in ``tests/c`` as Windows programs: the table of ``tests/test_c.py``, run by Wine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from programs import WindowsBuilder, command, memory, run
from test_c import CI, PROGRAMS, judge
from wine import windows

LEFT_OUT = {
    'test_segment': [
        'a link to a segment is refused',
        'a file that others can write is refused',
        'a directory that is a link is refused',
        'a child of the worker is neither it nor its heir',
        "the worker's lock does not survive in a child",
    ],
    'test_slots': [
        'a forked handle says so, and the child can open its own',
        'the mapping is not there in a child',
        "the slot's lock does not survive in a child",
        'a client that dies frees its slot although its child lives',
    ],
}


@pytest.fixture(scope='module')
def builders() -> dict[int, WindowsBuilder]:
    return {}


@pytest.fixture
def builder(bits: int, builders: dict[int, WindowsBuilder], tmp_path_factory: pytest.TempPathFactory) -> WindowsBuilder:
    if bits not in builders:
        builders[bits] = WindowsBuilder(tmp_path_factory.mktemp(f'windows-{bits}'), bits)
    return builders[bits]


@pytest.fixture
def segments(tmp_path: Path) -> Iterator[Path]:
    with memory(tmp_path, 'windows') as path:
        yield path


def variant_of(name: str) -> str:
    """Return the one variant in which a program is built."""
    return 'plain' if 'plain' in PROGRAMS[name].variants else 'interleaved'


@pytest.mark.parametrize('bits', [64, 32])
@pytest.mark.parametrize('name', PROGRAMS)
def test_c_program_compiles(builder: WindowsBuilder, name: str, bits: int) -> None:
    assert builder.program(name, variant_of(name)).exists()


@pytest.mark.timeout(300)
@pytest.mark.parametrize('bits', [64, 32])
@pytest.mark.parametrize('name', PROGRAMS)
def test_c_program_passes(builder: WindowsBuilder, segments: Path, name: str, bits: int) -> None:
    variant = variant_of(name)
    command(bits)
    counts = PROGRAMS[name].counts.get(variant)
    arguments = [str(counts[CI])] if counts else []
    directory = {'IBLBRIDGE_DIR': windows(segments), 'IBLBRIDGE_WAIT': ''}
    done = run(builder.program(name, variant), *arguments, bits=bits, timeout=240, **directory)
    judge(done, LEFT_OUT.get(name, ()))
    assert not list(segments.iterdir()), 'segments were left behind'
