"""C programs for Windows: MinGW compiles them, ``wine.py`` runs them.

``WINE32``, if it is set, is a command that runs 32-bit programs as well; ``WINE`` need not.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
import wine
from c_programs import WARNINGS, Builder, unavailable
from sources import CSRC, TESTS

MACHINES = {64: 'x86_64', 32: 'i686'}
BITS = (64, 32) if os.environ.get('WINE32') else (64,)
"""tuple of int: of the programs that can be run here."""
FLAGS = ['-std=c11', '-g', '-D_WIN32_WINNT=0x0A00', '-D__USE_MINGW_ANSI_STDIO=1', *WARNINGS, f'-I{CSRC}']
LIBRARIES = ['-static', '-lpthread', '-ladvapi32', '-lws2_32']


def compiler(bits: int = 64) -> str:
    """Return the compiler's path; skips without one."""
    name = f'{MACHINES[bits]}-w64-mingw32-gcc'
    found = shutil.which(name)
    if not found:
        unavailable(f'{name} is not installed')
    return str(found)


def command(bits: int = 64) -> list[str]:
    """Return the words that run a program; skips where there are none for 32 bits."""
    if bits == 64:
        return wine.command('WINE')
    if not os.environ.get('WINE32'):
        pytest.skip('WINE32 is not set')
    return shlex.split(os.environ['WINE32'])


def run(
    program: Path, *arguments: object, bits: int = 64, timeout: float, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a program of ours, and return what it said, whatever its status.

    Parameters
    ----------
    program : pathlib.Path
        The .exe.
    *arguments : object
        Its arguments.
    bits : int
        Of the program.
    timeout : float
        s.
    **environment : str
        More variables.
    """
    words = [*command(bits), program, *arguments]
    return subprocess.CompletedProcess(words, *wine.run(words, environment, timeout))


class WindowsBuilder(Builder):
    """Compiles for Windows."""

    common = FLAGS
    variants = {'plain': ['-O2'], 'interleaved': ['-O1', '-DIBLB_FAULT']}  # there are no sanitizers
    libraries = LIBRARIES
    system = 'Windows'

    def __init__(self, place: Path, bits: int = 64) -> None:
        super().__init__(place)
        self.compiler = compiler(bits)


def build(target: Path, sources: Sequence[object], *options: str, bits: int = 64) -> Path:
    """Compile one program."""
    words = [compiler(bits), *FLAGS, '-O2', f'-I{TESTS}/c', *map(str, sources), *options, *LIBRARIES, '-o', str(target)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return target


@contextmanager
def memory(tmp_path: Path, what: str) -> Iterator[Path]:
    """Make a directory in memory, where there is a place for that; it is gone at the end."""
    shared = Path('/dev/shm')
    path = shared / f'iblbridge-{what}-{os.getpid()}' if os.access(shared, os.W_OK) else tmp_path / what
    path.mkdir(mode=0o700)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
