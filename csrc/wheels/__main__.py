"""Build the sdist and the wheels of all systems, on a Linux PC.

    python csrc/wheels DIR                                    everything
    python csrc/wheels --only win32 --only win_amd64 DIR      the sdist and these

It takes ``pip install '.[wheels]'`` and the two MinGW compilers (Debian: gcc-mingw-w64-x86-64-win32 and
gcc-mingw-w64-i686-win32). The wheels are built from the sdist, so that nothing is in them that it lacks. MinGW compiles
for Windows, zig for everything else; the library for Windows, in 64 and in 32 bits, is in every wheel.

A wheel's name promises what it runs on, and nothing here makes sure of that: ``tests/packaging/test_wheels.py`` does.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from pathlib import Path
from typing import NamedTuple

from zig import ROOT, environment, zig


class Target(NamedTuple):
    """What CMake calls a system and its processor, and what zig calls both. Windows needs no zig."""

    system: str
    processor: str
    triple: str = ''


# By the platform in a wheel's tag. The version that it ends with is the oldest glibc, musl or macOS.
TARGETS = {
    'win_amd64': Target('Windows', 'x86_64'),
    'win32': Target('Windows', 'i686'),
    'manylinux_2_17_x86_64': Target('Linux', 'x86_64', 'x86_64-linux-gnu.2.17'),
    'manylinux_2_17_aarch64': Target('Linux', 'aarch64', 'aarch64-linux-gnu.2.17'),
    'musllinux_1_2_x86_64': Target('Linux', 'x86_64', 'x86_64-linux-musl'),
    'musllinux_1_2_aarch64': Target('Linux', 'aarch64', 'aarch64-linux-musl'),
    'macosx_10_15_x86_64': Target('Darwin', 'x86_64', 'x86_64-macos.10.15'),
    'macosx_11_0_arm64': Target('Darwin', 'arm64', 'aarch64-macos.11.0'),
}
DLLS = ('windows_32', 'windows_64')  # what csrc/CMakeLists.txt calls them


def toolchain(target: Target) -> str:
    """Return the text of CMake's toolchain file for a target."""
    compiler = f'{target.processor}-w64-mingw32-gcc'
    if target.triple:
        compiler = f'"{zig()}" cc -target {target.triple} -mcpu=baseline'
    if target.triple.endswith('-musl'):
        compiler += ' -dynamic'  # zig links musl into programs if it is not told
    return '\n'.join(
        [
            f'set(CMAKE_SYSTEM_NAME {target.system})',
            f'set(CMAKE_SYSTEM_PROCESSOR {target.processor})',
            f'set(CMAKE_C_COMPILER {compiler})',
            'set(CMAKE_C_FLAGS_RELEASE "-O2 -DNDEBUG" CACHE STRING "")',  # as the tests of the C code have it
            'set(CMAKE_EXE_LINKER_FLAGS_INIT -s)',
            'set(CMAKE_SHARED_LINKER_FLAGS_INIT -s)',
            'set(CMAKE_BUILD_WITH_INSTALL_RPATH ON)',  # no tool is needed that would change it in a foreign program
            '',
        ]
    )


def build(what: str, source: Path, out: Path, **settings: str) -> Path:
    """Build ``sdist`` or ``wheel`` from a source tree.

    Parameters
    ----------
    what : {'sdist', 'wheel'}
        What to build.
    source : pathlib.Path
        Where pyproject.toml is.
    out : pathlib.Path
        The directory that it goes into.
    **settings : str
        Settings of scikit-build-core, with ``__`` for the dot.

    Returns
    -------
    pathlib.Path
        The file.

    Raises
    ------
    subprocess.CalledProcessError
        If the build fails.
    """
    options = [f'-C{name.replace("__", ".")}={value}' for name, value in settings.items()]
    with tempfile.TemporaryDirectory(dir=out) as temporary:
        command = [sys.executable, '-m', 'build', f'--{what}', '--no-isolation', '--outdir', temporary, *options]
        subprocess.run([*command, str(source)], check=True, env=environment())
        (made,) = Path(temporary).iterdir()
        return made.replace(out / made.name)


def build_windows(source: Path, toolchain_file: Path, out: Path) -> None:
    """Build the libraries for Windows that are in every wheel, once.

    Parameters
    ----------
    source : pathlib.Path
        Where the C sources are.
    toolchain_file : pathlib.Path
        Of the system for which a wheel is to hold them; not Windows, whose wheels hold one of their own.
    out : pathlib.Path
        The folder that they go into.

    Raises
    ------
    subprocess.CalledProcessError
        If the build fails.
    """
    tools = os.pathsep.join((sysconfig.get_path('scripts'), os.environ.get('PATH', '')))
    settings = [f'-DCMAKE_TOOLCHAIN_FILE={toolchain_file}', '-DCMAKE_BUILD_TYPE=Release']
    for options in (['-S', source, '-B', out, '-G', 'Ninja', *settings], ['--build', out, '--target', *DLLS]):
        subprocess.run([sys.executable, '-m', 'cmake', *options], check=True, env={**environment(), 'PATH': tools})


def time_of_the_source() -> str:
    """Return the seconds since 1970 that all files in the archives have: of the last commit, or of the sources."""
    command = ['git', '-C', str(ROOT), 'log', '-1', '--format=%ct']
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return str(int((ROOT / 'pyproject.toml').stat().st_mtime))


def main() -> int:
    """Build; return the exit status."""
    parser = argparse.ArgumentParser(prog='python csrc/wheels', description=__doc__.splitlines()[0])
    parser.add_argument('--only', action='append', choices=TARGETS, help='of the wheels only this; may be repeated')
    parser.add_argument('directory', metavar='DIR', type=Path, help='where the files go')
    options = parser.parse_args()
    missing = [f'{bits}-w64-mingw32-gcc' for bits in ('x86_64', 'i686') if not shutil.which(f'{bits}-w64-mingw32-gcc')]
    if missing:
        parser.error(f'there is no {" and no ".join(missing)}: without MinGW the wheels would lack the DLLs')
    os.environ.setdefault('SOURCE_DATE_EPOCH', time_of_the_source())
    out = options.directory.resolve()
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        sdist = build('sdist', ROOT, out)
        with tarfile.open(sdist) as archive:
            archive.extractall(temporary, filter='data')
        source = Path(temporary) / sdist.name.removesuffix('.tar.gz')
        dlls = Path(temporary) / 'dlls'
        for platform in options.only or TARGETS:
            file = Path(temporary) / f'{platform}.cmake'
            file.write_text(toolchain(TARGETS[platform]), encoding='utf-8')
            if TARGETS[platform].triple and not dlls.exists():
                build_windows(source / 'csrc', file, dlls)
            build(
                'wheel',
                source,
                out,
                wheel__tags=f'py3-none-{platform}',
                cmake__define__CMAKE_TOOLCHAIN_FILE=str(file),
                cmake__define__IBLBRIDGE_DLLS=str(dlls) if TARGETS[platform].triple else '',
                install__strip='false',
            )
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
