"""How the C programs in ``tests/c`` are built and judged, for Linux and for Windows (``windows/programs.py``)."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from sources import CSRC, TESTS, library

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
    'test_datagrams': Program(),
    'test_segment': Program(),
    'test_records': Program(variants=('plain', 'address', 'thread'), link=['-Wl,--wrap=os_asleep_ns']),
    'test_slots': Program(),
    'test_waits': Program(
        variants=('plain', 'address', 'thread'),
        counts={'plain': (100_000, 300_000), 'address': (5_000, 50_000), 'thread': (3_000, 50_000)},
        link=['-Wl,--wrap=os_park'],
    ),
    'test_serving': Program(variants=('plain', 'address', 'thread')),
    'test_misuse': Program(),
    'test_hosts': Program(),
    'test_interleavings': Program(variants=['interleaved'], link=['-Wl,--wrap=os_park']),
    'test_serving_interleavings': Program(variants=['interleaved'], link=['-Wl,--wrap=os_park']),
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


def judge(done: subprocess.CompletedProcess[str], left_out: Sequence[str] = ()) -> None:
    """See that a program's tests all passed, but for those that it must leave out."""
    print(done.stdout)
    assert done.returncode == 0, done.stderr[-4000:]
    assert re.findall(r'^skip  (.*): .*$', done.stdout, re.MULTILINE) == list(left_out)
    assert re.fullmatch(rf'[1-9]\d* passed, 0 failed, {len(left_out)} skipped', done.stdout.splitlines()[-1])
