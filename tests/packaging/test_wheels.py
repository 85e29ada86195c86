"""The wheels of all systems: a wheel's name promises what it runs on, and only these tests look whether it does.

All are built once, by the command that is documented for it. `complaints` then reads the files in a wheel: ELF, PE and
Mach-O say for which machine they are and what they need of the system. It takes a minute and a half; where zig has to
be downloaded, and to compile what belongs to its targets, three more.
"""

from __future__ import annotations

import importlib.util
import io
import json
import os
import platform
import re
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from test_install import ROOT, SERVE, Installed, outside, run

CSRC = ROOT / 'csrc'
sys.path.insert(0, str(CSRC / 'wheels'))

from zig import cache, zig  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

PLATFORMS = [
    'win_amd64',
    'win32',
    'manylinux_2_17_x86_64',
    'manylinux_2_17_aarch64',
    'musllinux_1_2_x86_64',
    'musllinux_1_2_aarch64',
    'macosx_10_15_x86_64',
    'macosx_11_0_arm64',
]

HERE = f'manylinux_2_17_{platform.machine()}'
MINGW = ['x86_64-w64-mingw32-gcc', 'i686-w64-mingw32-gcc']


def unavailable(what: str) -> None:
    """Skip; in CI, where everything has to be there, fail."""
    if os.environ.get('CI'):
        pytest.fail(f'{what}, and CI is set')
    pytest.skip(what)


def tool(module: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a Python tool of the test extra."""
    if importlib.util.find_spec(module) is None:
        unavailable(f'{module} is not installed')
    command = [sys.executable, '-m', module, *map(str, arguments)]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=600)


# --- what a binary says of itself ---


class Binary(NamedTuple):
    """What we want to know of an executable file or a library, whatever its format."""

    machine: str
    needs: set[str]  # libraries
    exports: set[str]
    glibc: tuple[int, ...] = ()  # the newest version of a symbol
    interpreter: str = ''
    macos: tuple[int, ...] = ()  # the oldest one that runs it
    signed: bool = False


def text_at(data: bytes, offset: int) -> str:
    return data[offset : data.index(b'\0', offset)].decode()


def version(text: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r'\d+', text)))


def read_elf(data: bytes) -> Binary:
    elffile = pytest.importorskip('elftools.elf.elffile')
    file = elffile.ELFFile(io.BytesIO(data))
    dynamic, symbols = file.get_section_by_name('.dynamic'), file.get_section_by_name('.dynsym')
    versions = file.get_section_by_name('.gnu.version_r')
    wanted = [aux.name for _, names in versions.iter_versions() for aux in names] if versions else []
    return Binary(
        machine={'x64': 'x86_64', 'AArch64': 'aarch64', 'x86': 'i686'}[file.get_machine_arch()],
        needs={tag.needed for tag in dynamic.iter_tags('DT_NEEDED')},
        exports={symbol.name for symbol in symbols.iter_symbols() if symbol.name and symbol['st_shndx'] != 'SHN_UNDEF'},
        glibc=max((version(name) for name in wanted if name.startswith('GLIBC_')), default=()),
        interpreter=''.join(part.get_interp_name() for part in file.iter_segments('PT_INTERP')),
    )


def read_pe(data: bytes) -> Binary:
    (header,) = struct.unpack_from('<I', data, 60)
    assert data[header : header + 4] == b'PE\0\0'
    machine, sections = struct.unpack_from('<HH', data, header + 4)
    (optional_bytes,) = struct.unpack_from('<H', data, header + 20)
    optional = header + 24
    wide = struct.unpack_from('<H', data, optional)[0] == 0x20B
    table = [struct.unpack_from('<8x4I', data, optional + optional_bytes + 40 * i) for i in range(sections)]

    def place(address: int) -> int:
        """Where in the file is what will be at this address?"""
        return next(address - at + raw for size, at, _, raw in table if at <= address < at + size)

    exports_at, _, imports_at, _ = struct.unpack_from('<4I', data, optional + (112 if wide else 96))
    needs, exports = set(), set()
    if imports_at:
        entry = place(imports_at)
        while (name := struct.unpack_from('<12xI', data, entry)[0]) != 0:
            needs.add(text_at(data, place(name)).lower())
            entry += 20
    if exports_at:
        count, names = struct.unpack_from('<24xI4xI', data, place(exports_at))
        exports = {text_at(data, place(name)) for name in struct.unpack_from(f'<{count}I', data, place(names))}
    return Binary({0x8664: 'x86_64', 0x14C: 'i686', 0xAA64: 'aarch64'}[machine], needs, exports)


def read_macho(data: bytes) -> Binary:
    cpu, commands = struct.unpack_from('<4xI8xI', data)
    needs, exports, macos, signed = set(), set(), (), False
    at = 32
    for _ in range(commands):
        kind, size = struct.unpack_from('<2I', data, at)
        if kind == 0xC:  # LC_LOAD_DYLIB
            needs.add(text_at(data, at + struct.unpack_from('<8xI', data, at)[0]))
        elif kind == 0x32:  # LC_BUILD_VERSION
            system, oldest = struct.unpack_from('<8x2I', data, at)
            assert system == 1, 'not for macOS'
            macos = (oldest >> 16, oldest >> 8 & 255)
        elif kind == 2:  # LC_SYMTAB
            symbols, count, strings = struct.unpack_from('<8x3I', data, at)
            for i in range(count):
                name, what = struct.unpack_from('<IB', data, symbols + 16 * i)
                if what & 0x1F == 0xF:  # external, and in a section
                    exports.add(text_at(data, strings + name).removeprefix('_'))
        elif kind == 0x1D:  # LC_CODE_SIGNATURE
            signed = True
        at += size
    machine = {0x01000007: 'x86_64', 0x0100000C: 'arm64'}[cpu]
    exports -= {'__dso_handle', '_mh_dylib_header'}  # the linker's own
    return Binary(machine, needs, exports, macos=macos, signed=signed)


READERS = {b'\x7fELF': read_elf, b'MZ': read_pe, b'\xcf\xfa\xed\xfe': read_macho}


def read(data: bytes) -> Binary | None:
    """Return what a file says of itself if it is one for a processor."""
    return next((reader(data) for magic, reader in READERS.items() if data.startswith(magic)), None)


# --- what a wheel promises ---


def declared() -> set[str]:
    """The functions in both headers."""
    headers = [(CSRC / 'include' / name).read_text() for name in ('iblbridge.h', 'iblbridge_worker.h')]
    return set(re.findall(r'^IBLB_API [^;(]*?(\w+)\(', '\n'.join(headers), re.MULTILINE))


SYSTEM_LIBRARIES = {
    'win': {'kernel32.dll', 'advapi32.dll', 'msvcrt.dll', 'ws2_32.dll'},
    'manylinux': {'libc.so.6', 'libpthread.so.0', 'libm.so.6', 'ld-linux-x86-64.so.2'},  # the last: thread-locals
    'musllinux': {'libc.so'},
    'macosx': {'/usr/lib/libSystem.B.dylib'},
}
OURS = {'libiblbridge.so', '@rpath/libiblbridge.dylib', 'iblbridge_32.dll', 'iblbridge_64.dll'}
LOADERS = {'manylinux': '/lib.*/ld-linux-.*', 'musllinux': '/lib/ld-musl-.*'}
PARTS = {  # in each wheel, and in those for one system
    '': ['bin/iblbridge_64.dll', 'bin/iblbridge_32.dll', 'lib/iblbridge_64.lib', 'lib/iblbridge_32.lib'],
    'win': ['bin/iblb.exe'],
    'manylinux': ['bin/iblb', 'lib/libiblbridge.so'],
    'musllinux': ['bin/iblb', 'lib/libiblbridge.so'],
    'macosx': ['bin/iblb', 'lib/libiblbridge.dylib'],
}


def complaints(wheel: Path) -> list[str]:
    """What in a wheel does not fit its name, or is missing."""
    found: list[str] = []
    tag = wheel.stem.split('-')[-1]
    system, oldest, machine = re.fullmatch(r'([a-z]+?)_?((?:\d+_)*)(32|amd64|x86_64|aarch64|arm64)', tag).groups()
    machine = {'32': 'i686', 'amd64': 'x86_64'}.get(machine, machine)
    with zipfile.ZipFile(wheel) as archive:
        files = {info.filename: archive.read(info) for info in archive.infolist()}
        modes = {info.filename: info.external_attr >> 16 for info in archive.infolist()}
    found += [f'{name} is a symbolic link' for name, mode in modes.items() if mode & 0o170000 == 0o120000]
    (said,) = (text.decode() for name, text in files.items() if name.endswith('.dist-info/WHEEL'))
    if f'\nTag: py3-none-{tag}\n' not in said or 'Root-Is-Purelib: false' not in said:
        found.append(f'its WHEEL is not of py3-none-{tag}')

    expected = {f'bridge/native/{name}' for name in PARTS[''] + PARTS[system]}
    found += [f'there is no {name}' for name in sorted(expected - set(files))]
    for name, data in files.items():
        file = name.rpartition('/')[2]
        paths = [path for path in (str(ROOT), str(cache()), f'{tempfile.gettempdir()}/tmp') if path.encode() in data]
        found += [f'{file} names {path}' for path in paths]
        if file.endswith('.lib') and f'__imp_{"_" * ("32" in file)}iblb_open\0'.encode() not in data:
            found.append(f'{file} is no import library of ours')
        binary = read(data)
        if binary is None:
            continue
        if name not in expected:
            found.append(f'{file} does not belong here')
        windows = file.endswith(('.dll', '.exe'))
        right = {'iblbridge_32.dll': 'i686', 'iblbridge_64.dll': 'x86_64'}.get(file, machine)
        if binary.machine != right:
            found.append(f'{file} is for {binary.machine}')
        strangers = binary.needs - OURS - SYSTEM_LIBRARIES['win' if windows else system]
        found += [f'{file} needs {library}' for library in sorted(strangers)]
        if file.startswith(('libiblbridge', 'iblbridge_')) and binary.exports != declared():
            found.append(f'{file} exports other functions than the headers declare: {binary.exports ^ declared()}')
        if not windows:
            if binary.glibc > (version(oldest) if system == 'manylinux' else ()):
                found.append(f'{file} needs glibc {".".join(map(str, binary.glibc))}')
            if binary.interpreter and not re.fullmatch(LOADERS.get(system, ''), binary.interpreter):
                found.append(f'{file} is loaded by {binary.interpreter}')
            if binary.macos > (version(oldest) if system == 'macosx' else ()):
                found.append(f'{file} needs macOS {".".join(map(str, binary.macos))}')
            if binary.macos and binary.machine == 'arm64' and not binary.signed:
                found.append(f'{file} is not signed')  # then an ARM Mac does not start it
            if file == 'iblb' and not modes[name] & 0o111:
                found.append('iblb is not executable')
    return found


# --- the wheels ---


@pytest.fixture(scope='session')
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that the command filled."""
    if missing := [program for program in MINGW if not shutil.which(program)]:
        unavailable(f'no {" and no ".join(missing)}')
    try:
        zig()
    except subprocess.CalledProcessError:
        unavailable('zig cannot be had')
    out = tmp_path_factory.mktemp('wheels')
    command = [sys.executable, str(CSRC / 'wheels'), str(out)]
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout[-6000:]
    assert 'warning:' not in done.stdout
    return out


def the_wheel(distributions: Path, tag: str) -> Path:
    (found,) = distributions.glob(f'*-{tag}.whl')
    return found


def test_there_is_a_wheel_for_each_system_and_nothing_else(distributions: Path) -> None:
    names = {path.name for path in distributions.iterdir()}
    stem = next(name for name in names if name.endswith('.tar.gz')).removesuffix('.tar.gz')
    assert names == {f'{stem}.tar.gz', *(f'{stem}-py3-none-{tag}.whl' for tag in PLATFORMS)}


def test_the_sdist_that_they_were_built_from_holds_every_file_of_the_sources(distributions: Path) -> None:
    if shutil.which('git') is None or not (ROOT / '.git').exists():
        pytest.skip('not a git checkout')
    (sdist,) = distributions.glob('*.tar.gz')
    with tarfile.open(sdist) as archive:
        names = {name.split('/', 1)[1] for name in archive.getnames() if '/' in name}
    listing = run('git', '-C', ROOT, 'ls-files', 'bridge', 'csrc', 'tests', 'examples', 'pyproject.toml', 'LICENSE')
    assert {name for name in listing.splitlines() if (ROOT / name).exists()} <= names


@pytest.mark.parametrize('tag', PLATFORMS)
def test_what_is_in_the_wheel_fits_its_name(distributions: Path, tag: str) -> None:
    assert complaints(the_wheel(distributions, tag)) == []


@pytest.mark.parametrize('tag', PLATFORMS)
def test_check_wheel_contents_has_nothing_to_say(distributions: Path, tag: str) -> None:
    done = tool('check_wheel_contents', the_wheel(distributions, tag))
    assert (done.returncode, done.stdout.split(': ')[-1]) == (0, 'OK\n'), done.stdout + done.stderr


@pytest.mark.parametrize('tag', [tag for tag in PLATFORMS if 'linux' in tag])
def test_auditwheel_agrees(distributions: Path, tag: str, tmp_path: Path) -> None:
    # Without --ldpaths it would take a libc.so of this PC, a text for the linker, for the library.
    done = tool('auditwheel', 'show', '--json', '--ldpaths', tmp_path, the_wheel(distributions, tag))
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said['sym_tag'], said['pure'], said['unsupported_isa']) == (tag, False, False)
    # musl calls itself libc.so, Alpine's package of it libc.musl-ARCH.so.1, and auditwheel knows that one. The loader
    # takes itself for any library whose name begins with "libc.".
    assert set(said['external_libs']) == ({'libc.so'} if 'musl' in tag else set())


def renamed(wheel: Path, tag: str, place: Path) -> Path:
    target = place / wheel.name.replace(wheel.stem.split('-')[-1], tag)
    shutil.copy(wheel, target)
    return target


@pytest.mark.parametrize(
    'tag, wrong, complaint',
    [
        ('win32', 'win_amd64', r'iblb\.exe is for i686'),
        ('win_amd64', 'win32', r'iblb\.exe is for x86_64'),
        ('win_amd64', 'manylinux_2_17_x86_64', r'there is no bridge/native/lib/libiblbridge\.so'),
        ('manylinux_2_17_x86_64', 'win_amd64', r'there is no bridge/native/bin/iblb\.exe'),
        ('manylinux_2_17_x86_64', 'manylinux_2_17_aarch64', r'libiblbridge\.so is for x86_64'),
        ('manylinux_2_17_aarch64', 'manylinux_2_17_x86_64', r'iblb is for aarch64'),
        ('manylinux_2_17_x86_64', 'manylinux_2_12_x86_64', r'libiblbridge\.so needs glibc 2\.17'),
        ('manylinux_2_17_x86_64', 'musllinux_1_2_x86_64', r'libiblbridge\.so needs libc\.so\.6'),
        ('musllinux_1_2_x86_64', 'manylinux_2_17_x86_64', r'iblb is loaded by /lib/ld-musl-x86_64\.so\.1'),
        ('macosx_11_0_arm64', 'macosx_10_15_arm64', r'iblb needs macOS 11\.0'),
        ('macosx_11_0_arm64', 'macosx_11_0_x86_64', r'libiblbridge\.dylib is for arm64'),
        ('macosx_10_15_x86_64', 'macosx_11_0_arm64', r'iblb is for x86_64'),
        ('macosx_10_15_x86_64', 'macosx_10_9_x86_64', r'iblb needs macOS 10\.15'),
        ('win32', 'musllinux_1_1_aarch64', r'its WHEEL is not of py3-none-musllinux_1_1_aarch64'),
    ],
)
def test_a_wrong_name_is_noticed(distributions: Path, tmp_path: Path, tag: str, wrong: str, complaint: str) -> None:
    found = complaints(renamed(the_wheel(distributions, tag), wrong, tmp_path))
    assert [said for said in found if re.fullmatch(complaint, said)], found


SAME = b''  # as bin/iblb


@pytest.mark.parametrize(
    'without, name, data, mode, complaint',
    [
        ('bin/iblbridge_32.dll', '', b'', 0, 'there is no bridge/native/bin/iblbridge_32.dll'),
        ('', 'lib/libiblbridge.so.0', b'x', 0o120777, 'bridge/native/lib/libiblbridge.so.0 is a symbolic link'),
        ('bin/iblb', 'bin/iblb', SAME, 0o100644, 'iblb is not executable'),
        (
            'lib/iblbridge_64.lib',
            'lib/iblbridge_64.lib',
            b'x',
            0o100644,
            'iblbridge_64.lib is no import library of ours',
        ),
        ('', 'lib/iblbridge.pc', str(ROOT).encode(), 0o100644, f'iblbridge.pc names {ROOT}'),
        ('', 'bin/iblc', SAME, 0o100755, 'iblc does not belong here'),
    ],
)
def test_a_wrong_file_is_noticed(
    distributions: Path, tmp_path: Path, without: str, name: str, data: bytes, mode: int, complaint: str
) -> None:
    good = the_wheel(distributions, 'manylinux_2_17_x86_64')
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(tmp_path / good.name, 'w') as target:
        for info in source.infolist():
            if info.filename != f'bridge/native/{without}':
                target.writestr(info, source.read(info))
        if name:
            info = zipfile.ZipInfo(f'bridge/native/{name}')
            info.external_attr = mode << 16
            target.writestr(info, data or source.read('bridge/native/bin/iblb'))
    assert complaints(tmp_path / good.name) == [complaint]


def test_a_function_that_no_header_declares_is_noticed(distributions: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    all_but_one = declared() - {'iblb_call'}
    assert len(all_but_one) > 30
    monkeypatch.setattr(sys.modules[__name__], 'declared', lambda: all_but_one)
    for tag in ('win32', 'musllinux_1_2_aarch64', 'macosx_11_0_arm64'):
        said = [text for text in complaints(the_wheel(distributions, tag)) if text.endswith(" declare: {'iblb_call'}")]
        assert len(said) == (2 if tag == 'win32' else 3), said


# --- and they run ---


def test_the_wheel_for_this_pc_works_where_there_is_no_compiler(
    distributions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, segment_directory: Path
) -> None:
    if platform.system() != 'Linux' or HERE not in PLATFORMS or platform.libc_ver()[0] != 'glibc':
        pytest.skip('no wheel that would be for this PC')
    monkeypatch.setenv('PATH', str(tmp_path))
    installed = Installed(the_wheel(distributions, HERE), tmp_path / 'venv')
    assert 'serve' in run(installed.python, '-m', 'bridge', '--help', env=outside(), cwd=tmp_path)
    environment: dict[str, Any] = {**outside(), 'IBLBRIDGE_DIR': str(segment_directory)}
    command = [str(installed.python), '-c', SERVE, 'wheel']
    with subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == 'ready\n'
        assert run(installed.prefix / 'bin' / 'iblb', 'ping', 'wheel', env=environment).endswith('us\n')
        worker.terminate()
        assert worker.wait(30) == 0


def test_the_program_for_musl_runs(distributions: Path, tmp_path: Path) -> None:
    tag = f'musllinux_1_2_{platform.machine()}'
    if tag not in PLATFORMS or not Path(f'/lib/ld-musl-{platform.machine()}.so.1').exists():
        unavailable('no musl')
    with zipfile.ZipFile(the_wheel(distributions, tag)) as archive:
        archive.extractall(tmp_path)
    program = tmp_path / 'bridge' / 'native' / 'bin' / 'iblb'
    program.chmod(0o755)
    assert '-8037  IBLB_E_FULL             The command ring is full' in run(program, 'codes')
