"""The C programs in ``tests/c``: built against the library's sources and run, plain and under the sanitizers.

The library hides its inner symbols, so that a test program is linked with the ``.c`` files it needs instead of with
the library: as few as possible, or all that ``CMakeLists.txt`` names. Each object is compiled once per variant. With
``CI`` set a missing compiler or sanitizer is a failure, and the counts are larger. The same programs are built for
Windows by ``windows/test_c.py``; what a system does not have, a program leaves out and says so.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from c_programs import CI, COMPILER, LEFT_OUT, PROGRAMS, Builder, judge, run, unavailable
from sources import TESTS


@pytest.fixture(scope='module')
def builder(tmp_path_factory: pytest.TempPathFactory) -> Builder:
    if not COMPILER:
        unavailable('no C compiler')
    return Builder(tmp_path_factory.mktemp('c'))


@pytest.fixture
def segments(tmp_path: Path) -> Iterator[Path]:
    """A directory of segments of our own; in memory, where there is a place for that."""
    memory = Path('/dev/shm')
    place = memory / f'iblbridge-test-{os.getpid()}' if os.access(memory, os.W_OK) else tmp_path / 'segments'
    place.mkdir(mode=0o700)
    yield place
    shutil.rmtree(place)


@pytest.mark.timeout(900)
@pytest.mark.parametrize('name, variant', [(name, variant) for name in PROGRAMS for variant in PROGRAMS[name].variants])
def test_c_program_passes(builder: Builder, segments: Path, name: str, variant: str) -> None:
    if not builder.works(variant):
        unavailable(f'{COMPILER} cannot build or run {variant} programs')
    counts = PROGRAMS[name].counts.get(variant)
    environment = {**os.environ, 'IBLBRIDGE_DIR': str(segments)}
    environment.pop('IBLBRIDGE_WAIT', None)
    program, arguments = builder.program(name, variant), [str(counts[CI])] if counts else []
    judge(run(program, *arguments, env=environment, timeout=600), LEFT_OUT.get(name, ()))
    assert not list(segments.iterdir()), 'segments were left behind'


def test_every_c_test_program_is_run() -> None:
    assert {path.stem for path in (TESTS / 'c').glob('test_*.c')} == set(PROGRAMS)
