"""The C programs in ``tests/c`` as Windows programs: the table of ``tests/c_programs.py``, run by Wine."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from c_programs import PROGRAMS, judge
from programs import WindowsBuilder, build, command, memory, run
from test_layout import IMAGE, PROGRAM
from wine import Program, windows

BINARY = """
#include <fcntl.h>
#include <io.h>
__attribute__((constructor)) static void no_line_ends(void) { _setmode(1, _O_BINARY); }
"""

LEFT_OUT = {
    'test_hosts': [
        'a program without standard descriptors prints into no segment',
        'threads that are cancelled leave everything as it was',
        'threads that are cancelled at any instruction leave everything as it was',
        'threads that are cancelled while they poll leave everything as it was',
        'threads that are cancelled while another is parked leave everything as it was',
        'a thread that was told to end does its calls to their ends',
    ],
    'test_serving': [
        'a forked child does not serve',
        'a thread that is cancelled in its wait leaves everything as it was',
    ],
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
def builder_for(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], WindowsBuilder]:
    return functools.cache(lambda bits: WindowsBuilder(tmp_path_factory.mktemp(f'windows-{bits}'), bits))


@pytest.fixture
def builder(bits: int, builder_for: Callable[[int], WindowsBuilder]) -> WindowsBuilder:
    return builder_for(bits)


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


@pytest.mark.timeout(900)
@pytest.mark.parametrize('bits', [64, 32])
@pytest.mark.parametrize('name', PROGRAMS)
def test_c_program_passes(builder: WindowsBuilder, segments: Path, name: str, bits: int) -> None:
    variant = variant_of(name)
    command(bits)
    counts = PROGRAMS[name].counts.get(variant)
    arguments = [str(counts[False])] if counts else []  # the long runs are Linux'
    directory = {'IBLBRIDGE_DIR': windows(segments), 'IBLBRIDGE_WAIT': ''}
    done = run(builder.program(name, variant), *arguments, bits=bits, timeout=240, **directory)
    judge(done, LEFT_OUT.get(name, ()))
    assert not list(segments.iterdir()), 'segments were left behind'


@pytest.mark.parametrize('bits', [64, 32])
def test_the_structures_are_laid_out_as_on_linux(tmp_path: Path, bits: int) -> None:
    (tmp_path / 'binary.c').write_text(BINARY)
    program = build(tmp_path / 'layout.exe', [PROGRAM, tmp_path / 'binary.c'], bits=bits)
    words = [*command(bits), program]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=True)
    assert done.stdout == IMAGE.read_bytes()


# --- a boot: the time from one start of Wine's server to the next ---


@pytest.fixture
def another_wine(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A prefix of our own, whose server ends soon after its last program."""
    if not shutil.which('wine'):
        pytest.skip('wine is not on PATH')
    prefix = tmp_path / 'prefix'
    environment = {
        'WINEPREFIX': str(prefix),
        'WINEDEBUG': '-all',
        'WINEDLLOVERRIDES': 'mscoree,mshtml,winemenubuilder.exe=',
    }
    quiet = {'stdin': subprocess.DEVNULL, 'stdout': subprocess.DEVNULL, 'stderr': subprocess.DEVNULL}
    subprocess.run(['wineboot', '-i'], env=os.environ | environment, timeout=180, check=False, **quiet)
    yield environment
    wait_for_the_server_of(prefix)
    shutil.rmtree(prefix, ignore_errors=True)


def wait_for_the_server_of(prefix: Path) -> None:
    """Wait until no process of the prefix runs any more."""
    mark = f'WINEPREFIX={prefix}'.encode()

    def lives() -> bool:
        for process in Path('/proc').glob('[0-9]*'):
            try:
                if mark in (process / 'environ').read_bytes().split(b'\0'):
                    return True
            except OSError:
                continue
        return False

    deadline = time.monotonic() + 60
    while lives():
        assert time.monotonic() < deadline, 'the server does not end'
        time.sleep(0.2)


@pytest.mark.timeout(900)
def test_a_boot_is_the_same_in_two_programs_and_another_after_the_server_was_ended(
    builder_for: Callable[[int], WindowsBuilder], another_wine: dict[str, str]
) -> None:
    program = builder_for(64).program('test_segment', 'plain')

    def boot() -> str:
        with Program(['wine', program, 'role', 'boot', 'rig', '1'], another_wine) as running:
            return running.line()

    first, second = boot(), boot()
    assert len(first) > 30
    assert first == second
    wait_for_the_server_of(Path(another_wine['WINEPREFIX']))
    assert boot() != first
