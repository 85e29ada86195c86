"""The C programs of ``tests/c``, and the tool of the wheel, as ARM programs in qemu: code and layout, not memory order.

qemu's user mode translates the program and hands its system calls on to this PC's kernel. The libraries are those of
Debian's libc6-arm64-cross.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from c_programs import LEFT_OUT, PROGRAMS, Builder, run, unavailable
from sources import CSRC

sys.path.insert(0, str(CSRC / 'wheels'))

from zig import environment, zig  # noqa: E402

QEMU = 'qemu-aarch64-static'
LIBRARIES = Path('/usr/aarch64-linux-gnu')

# What cannot hold in qemu, and why.
IMPOSSIBLE = {
    'test_slots': {'the mapping is not there in a child': 'MADV_DONTFORK is not emulated'},
}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def script(program: Path) -> Path:
    """Return a program of this PC that runs one for ARM; it is also what a test starts that starts itself."""
    program.chmod(0o755)
    wrapper = program.with_suffix('.sh')
    wrapper.write_text(f'#!/bin/sh\nexec {QEMU} -L {LIBRARIES} -0 "$0" "{program}" "$@"\n')
    wrapper.chmod(0o755)
    return wrapper


@pytest.fixture(scope='module', autouse=True)
def qemu() -> None:
    if not shutil.which(QEMU):
        unavailable(f'no {QEMU}')
    if not LIBRARIES.exists():
        unavailable(f'no {LIBRARIES}')
    try:
        zig()
    except subprocess.CalledProcessError:
        unavailable('zig cannot be had')


class ArmBuilder(Builder):
    """Compiles for the same system as the wheel."""

    variants = {'plain': ['-O2'], 'interleaved': ['-O1', '-DIBLB_FAULT']}  # there are no sanitizers

    def compile(self, *arguments: str) -> None:
        command = [zig(), 'cc', '-target', 'aarch64-linux-gnu.2.17', *arguments]
        done = run(*command, env=environment(), timeout=300)
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope='module')
def builder(tmp_path_factory: pytest.TempPathFactory) -> ArmBuilder:
    return ArmBuilder(tmp_path_factory.mktemp('aarch64'))


@pytest.mark.parametrize('name', PROGRAMS)
def test_c_program_passes(builder: ArmBuilder, segment_directory: Path, name: str) -> None:
    variant = 'plain' if 'plain' in PROGRAMS[name].variants else 'interleaved'
    counts = PROGRAMS[name].counts.get(variant)
    arguments = [str(counts[0])] if counts else []
    done = run(script(builder.program(name, variant)), *arguments, timeout=240)
    print(done.stdout)
    impossible = list(IMPOSSIBLE.get(name, ()))
    assert done.returncode == bool(impossible), done.stdout[-2000:] + done.stderr[-2000:]
    assert re.findall(r'^FAIL  (.*)$', done.stdout, re.MULTILINE) == impossible
    assert re.findall(r'^skip  (.*): .*$', done.stdout, re.MULTILINE) == list(LEFT_OUT.get(name, ()))
    assert re.match(rf'[1-9]\d* passed, {len(impossible)} failed', done.stdout.splitlines()[-1])
    assert not list(segment_directory.iterdir()), 'segments were left behind'


@pytest.fixture(scope='module')
def iblb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tool in the wheel."""
    if not (shutil.which('x86_64-w64-mingw32-gcc') and shutil.which('i686-w64-mingw32-gcc')):
        unavailable('no MinGW, that wheels are built with')
    place = tmp_path_factory.mktemp('wheel')
    done = run(sys.executable, CSRC / 'wheels', '--only', 'manylinux_2_17_aarch64', place, timeout=500)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    (wheel,) = place.glob('*.whl')
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place)
    return script(place / 'bridge' / 'native' / 'bin' / 'iblb')


def test_the_tool_of_the_wheel_tells_the_codes(iblb: Path) -> None:
    assert '-8037  IBLB_E_FULL             The command ring is full' in run(iblb, 'codes').stdout


def test_the_tool_of_the_wheel_is_answered_by_a_worker_of_this_pc(iblb: Path, serve: Callable[..., Any]) -> None:
    serve('rig')
    done = run(iblb, 'ping', 'rig', timeout=60)
    assert (done.returncode, done.stdout[-3:]) == (0, 'us\n'), done.stdout + done.stderr
