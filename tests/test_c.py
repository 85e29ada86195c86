"""The C programs in ``tests/c``: built against the library's sources and run, plain and under the sanitizers.

The library hides its inner symbols, so that a test program is linked with the ``.c`` files it needs instead of with
the library: as few as possible, or all that ``CMakeLists.txt`` names. Each object is compiled once per variant. With
``CI`` set a missing compiler or sanitizer is a failure, and the counts are larger. The same programs are built for
Windows by ``windows/test_c.py``; what a system does not have, a program leaves out and says so.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from sources import library

TESTS = Path(__file__).resolve().parent
CSRC = TESTS.parent / 'csrc'
CI = bool(os.environ.get('CI'))
COMPILER = os.environ.get('CC') or shutil.which('cc') or shutil.which('gcc') or shutil.which('clang')

LIBRARY = [path.name for path in library()]
WARNINGS = ['-Wall', '-Wextra', '-Werror', '-Wno-missing-field-initializers']
COMMON = ['-std=c11', '-g', '-pthread', '-D_POSIX_C_SOURCE=200809L', *WARNINGS, f'-I{CSRC}']
VARIANTS = {
    'plain': ['-O2'],
    'address': ['-O1', '-fsanitize=address,undefined', '-fno-sanitize-recover=all'],
    'thread': ['-O1', '-fsanitize=thread', '-Wno-tsan'],  # it does not know fences, and says so at each
    'interleaved': ['-O1', '-DIBLB_FAULT', '-fsanitize=address,undefined', '-fno-sanitize-recover=all'],
}


def run(*command: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command and return what it said, whatever its status."""
    words = [str(word) for word in command]
    return subprocess.run(words, check=False, capture_output=True, text=True, errors='replace', **options)


class Program(NamedTuple):
    """What a test program is linked with, the variants it is run in, and its argument in each (by default, in CI)."""

    sources: Sequence[str] = LIBRARY
    variants: Sequence[str] = ('plain', 'address')
    counts: dict[str, tuple[int, int]] = {}
    link: Sequence[str] = ()


PROGRAMS = {
    'test_json': Program(['json.c']),
    'test_ring': Program(
        ['ring.c'],
        ('plain', 'address', 'thread'),
        {'plain': (400_000, 10_000_000), 'address': (100_000, 1_000_000), 'thread': (100_000, 1_000_000)},
    ),
    'test_inbox': Program(['inbox.c']),
    'test_segment': Program(),
    'test_records': Program(variants=('plain', 'address', 'thread'), link=['-Wl,--wrap=os_asleep_ns']),
    'test_slots': Program(),
    'test_waits': Program(
        variants=('plain', 'address', 'thread'),
        counts={'plain': (100_000, 300_000), 'address': (5_000, 50_000), 'thread': (3_000, 50_000)},
        link=['-Wl,--wrap=os_park'],
    ),
    'test_misuse': Program(),
    'test_hosts': Program(),
    'test_interleavings': Program(variants=['interleaved'], link=['-Wl,--wrap=os_park']),
}


LEFT_OUT = {
    'test_segment': [
        'a directory in OneDrive is refused',
        'a file that another program keeps for itself is said',
    ]
}
"""dict: the sentences of the tests that a program does not run here."""


def unavailable(what: str) -> None:
    """Skip; in CI, where everything has to be there, fail."""
    if CI:
        pytest.fail(f'{what}, and CI is set')
    pytest.skip(what)


class Builder:
    """Compiles what is needed, once, for this system.

    Attributes
    ----------
    compiler, common, variants, libraries : str, list of str, dict of list of str, list of str
        The compiler, its arguments for every file and for those of a variant, and the last ones of a program.
    system : str
        As CMake calls it.
    """

    compiler = COMPILER
    common: Sequence[str] = COMMON
    variants = VARIANTS
    libraries: Sequence[str] = ['-lm']
    system = 'Linux'

    def __init__(self, place: Path) -> None:
        self.place = place
        self.usable: dict[str, bool] = {}
        self.pool = ThreadPoolExecutor(os.cpu_count() or 1)

    def compile(self, *arguments: str) -> None:
        done = run(self.compiler, *arguments, timeout=300)
        assert done.returncode == 0, done.stderr

    def works(self, variant: str) -> bool:
        """Whether a program of this variant can be built and run here."""
        if variant not in self.usable:
            source, program = self.place / 'empty.c', self.place / f'empty-{variant}'
            source.write_text('int main(void) { return 0; }\n')
            built = run(self.compiler, *self.variants[variant], source, '-o', program)
            self.usable[variant] = built.returncode == 0 and run(program).returncode == 0
        return self.usable[variant]

    def object(self, variant: str, source: Path) -> str:
        target = self.place / variant / f'{source.stem}.o'
        if not target.exists():
            target.parent.mkdir(exist_ok=True)
            self.compile(
                *self.common, *self.variants[variant], '-Wno-unused-function', '-c', str(source), '-o', str(target)
            )
        return str(target)

    def program(self, name: str, variant: str) -> Path:
        description, target = PROGRAMS[name], self.place / f'{name}-{variant}.exe'
        parts = [path.name for path in library(self.system)] if description.sources is LIBRARY else description.sources
        sources = [TESTS / 'c' / f'{name}.c', *(CSRC / part for part in parts)]
        objects = list(self.pool.map(lambda source: self.object(variant, source), sources))
        options = [*self.common, *self.variants[variant], *objects, *description.link, *self.libraries]
        self.compile(*options, '-o', str(target))
        return target


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


def judge(done: subprocess.CompletedProcess[str], left_out: Sequence[str] = ()) -> None:
    """See that a program's tests all passed, but for those that it must leave out."""
    print(done.stdout)
    assert done.returncode == 0, done.stderr[-4000:]
    assert re.findall(r'^skip  (.*): .*$', done.stdout, re.MULTILINE) == list(left_out)
    assert re.fullmatch(rf'[1-9]\d* passed, 0 failed, {len(left_out)} skipped', done.stdout.splitlines()[-1])


@pytest.mark.timeout(900 if CI else 120)
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
