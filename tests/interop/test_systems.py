"""Where a client looks for the library on each system lies the library in its kit, wherever that was written.

Only one system is here. So each client is told that it runs on another one, by what its language says of it, in a
folder without a library: its error then names what it looks for. What is linked (C, C++), read off the guide (LabVIEW)
or runs nowhere here (Julia) is looked up in the text. Bonsai's operators look where the C# client does.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from guides import require, run
from test_kit import OWN, WINDOWS, installation

from bridge import kit

SYSTEMS = {
    ('linux', 64): 'libiblbridge.so',
    ('macos', 64): 'libiblbridge.dylib',
    ('windows', 64): 'iblbridge_64.dll',
    ('windows', 32): 'iblbridge_32.dll',
}
JNA = '/usr/share/java/jna.jar'
Looks = Callable[[str, int], tuple[str, list[str]]]


def told(text: str, place: Path) -> list[str]:
    """Return the libraries that an error names, by their paths in a folder."""
    found = re.findall(rf'{re.escape(str(place))}[/\\]([\w./\\]*iblbridge[\w.]*\.(?:so|dylib|dll))', text)
    return list(dict.fromkeys(found))


@pytest.fixture(scope='session')
def lonely(kit_of, tmp_path_factory) -> Callable[..., Path]:
    """Return a function that copies files of a built kit into a folder of their own: those without the library."""

    def copy(name: str, *files: str) -> Path:
        place = tmp_path_factory.mktemp(f'lonely-{name}')
        for file in files:
            source = kit_of(name) / file
            (shutil.copytree if source.is_dir() else shutil.copy)(source, place / file)
        return place

    return copy


@pytest.fixture(scope='session')
def node(lonely, kit_of) -> Looks:
    require('node', 'npm')
    place = lonely('node', 'iblbridge.js')
    (place / 'node_modules').symlink_to(kit_of('node') / 'node_modules')

    def looks(system: str, bits: int) -> tuple[str, list[str]]:
        platform = {'linux': 'linux', 'macos': 'darwin', 'windows': 'win32'}[system]
        arch = {64: 'x64', 32: 'ia32'}[bits]
        pretend = f"for (const [name, value] of [['platform', '{platform}'], ['arch', '{arch}']]) "
        code = f"require('koffi'); {pretend} Object.defineProperty(process, name, {{ value }}); require('./iblbridge')"
        said = run(['node', '-e', code], place).stderr
        return said, told(said, place)

    return looks


@pytest.fixture(scope='session')
def luajit(lonely) -> Looks:
    require('luajit')
    place = lonely('luajit', 'iblbridge.lua')

    def looks(system: str, bits: int) -> tuple[str, list[str]]:
        name = {'linux': 'Linux', 'macos': 'OSX', 'windows': 'Windows'}[system]
        pretend = f"local ffi = require 'ffi'; ffi.os = '{name}'; ffi.abi = function(w) return w == '{bits}bit' end; "
        code = f"{pretend} package.path = '{place}/?.lua'; require 'iblbridge'"
        said = run(['luajit', '-e', code], place).stderr
        return said, told(said.replace('\\', '/'), place)

    return looks


@pytest.fixture(scope='session')
def java(lonely) -> Looks:
    require('javac', 'java')
    place = lonely('java', 'iblbridge')
    (place / 'Look.java').write_text(
        'public class Look { public static void main(String[] words) { iblbridge.IblBridge.clockNs(); } }'
    )
    assert run(['javac', '-encoding', 'UTF-8', '-cp', f'{JNA}:.', 'Look.java'], place).returncode == 0

    def looks(system: str, bits: int) -> tuple[str, list[str]]:
        name = {'linux': 'Linux', 'macos': 'Mac OS X', 'windows': 'Windows 10'}[system]
        pretend = [f'-Dos.name={name}', f'-Dsun.arch.data.model={bits}']
        said = run(['java', '-XX:TieredStopAtLevel=1', *pretend, '-cp', f'{JNA}:.', 'Look'], place).stderr
        return said, told(said, place)

    return looks


@pytest.fixture(scope='session')
def matlab(lonely) -> Looks:
    require('octave-cli', 'mkoctfile')
    place = lonely('matlab', 'iblbridge.m', 'iblbridge_mex.mex')

    def looks(system: str, bits: int) -> tuple[str, list[str]]:
        arch = {'linux': 'glnxa64', 'macos': 'maca64', 'windows': f'win{bits}'}[system]
        for name, value in (('ispc', system == 'windows'), ('ismac', system == 'macos')):
            (place / f'{name}.m').write_text(f'function yes = {name}()\n    yes = {str(value).lower()};\nend\n')
        (place / 'computer.m').write_text(f"function arch = computer(varargin)\n    arch = '{arch}';\nend\n")
        words = ['octave-cli', '-qfH', '--eval', 'iblbridge.version()']
        said = run(words, place).stderr
        return said, told(said, place)

    return looks


@pytest.fixture(scope='session')
def csharp(csharp_names) -> Looks:
    def looks(system: str, bits: int) -> tuple[str, list[str]]:
        names = csharp_names['beside', {'linux': 'linux', 'macos': 'osx', 'windows': 'win'}[system], bits]
        return f'{bits}-bit programs', names  # test_csharp has the message

    return looks


@pytest.fixture(scope='session')
def bonsai(csharp) -> Looks:
    """The operators look beside the workflow and in its Extensions."""

    def looks(system: str, bits: int) -> tuple[str, list[str]]:
        said, names = csharp(system, bits)
        return said, [f'{folder}{name}' for folder in ('', 'Extensions/') for name in names]

    return looks


@pytest.fixture(scope='session')
def labview() -> Looks:
    guide = (kit.examples() / 'labview' / 'README.md').read_text(encoding='utf-8')
    (wildcard,) = set(re.findall(r'`\./(iblbridge_\*\.\*)`', guide))

    def looks(system: str, bits: int) -> tuple[str, list[str]]:
        ending = SYSTEMS[system, bits].rsplit('.', 1)[1]
        return f'{bits}-bit programs', [wildcard.replace('*', str(bits), 1).replace('*', ending)]

    return looks


@pytest.fixture(scope='session')
def julia() -> Looks:
    page = (kit.examples() / 'julia' / 'README.md').read_text(encoding='utf-8')
    chosen = re.search(
        r'^const FILE = Sys\.iswindows\(\) \? "(.*)" :\s+Sys\.isapple\(\) \? "(.*)" : "(.*)"$', page, re.M
    )
    assert chosen
    names = dict(zip(('windows', 'macos', 'linux'), chosen.groups(), strict=True))
    message = re.search(r'^isfile\(LIB\) \|\| error\("(.*)", LIB\)$', page, re.MULTILINE)
    assert message and 'LIB = isempty(NAMED) ? joinpath(@__DIR__, FILE) : NAMED' in page
    assert 'const NAMED = get(ENV, "IBLBRIDGE_LIBRARY", "")' in page

    def looks(system: str, bits: int) -> tuple[str, list[str]]:
        said, name = (text.replace('$(Sys.WORD_SIZE)', str(bits)) for text in (message[1], names[system]))
        return said, [name]

    return looks


@pytest.fixture(params=['bonsai', 'csharp', 'java', 'julia', 'labview', 'luajit', 'matlab', 'node'])
def client(request: pytest.FixtureRequest) -> tuple[str, Looks]:
    """The clients that look for the library themselves."""
    return request.param, request.getfixturevalue(request.param)


@pytest.fixture(scope='session')
def installed(tmp_path_factory) -> dict[str, Path]:
    """Installations as the builds of all systems leave them."""
    place = tmp_path_factory.mktemp('installed')
    return {system: installation(place / system, *own, *WINDOWS) for system, own in OWN.items()}


@pytest.mark.parametrize(('system', 'bits'), SYSTEMS)
def test_the_kit_holds_what_its_client_looks_for(client, system, bits, installed):
    name, looks = client
    said, names = looks(system, bits)
    assert f'{bits}-bit programs' in said and names, said
    file = SYSTEMS[system, bits] if name != 'labview' else SYSTEMS[system, bits].replace('libiblbridge', 'iblbridge_64')
    writers = installed if system == 'windows' else {system: installed[system]}
    for prefix in writers.values():
        held = kit.contents(name, prefix)
        found = [place for place in names if place in held]
        assert [Path(place).name for place in found] == [file], f'{names} are looked for'
        assert Path(held[found[0]]).suffix == Path(file).suffix


# -- what is linked


MINGW = {64: 'x86_64-w64-mingw32', 32: 'i686-w64-mingw32'}


def powershell(name: str) -> list[str]:
    """Return what a guide says to type in PowerShell."""
    guide = (kit.examples() / name / 'README.md').read_text(encoding='utf-8')
    blocks = re.findall(r'^```powershell\n(.*?)^```', guide, re.DOTALL | re.MULTILINE)
    return [line for block in blocks for line in block.splitlines()]


@pytest.mark.parametrize('name', ['c', 'cpp'])
def test_every_file_that_a_guide_links_on_windows_is_in_the_kit(name, installed):
    lines = ' '.join(powershell(name))
    held = set(kit.contents(name, installed['linux']))
    linked = set(re.findall(r'\S+\.lib\b', lines)) | {f'{name}.lib' for name in re.findall(r'-l(\S+)', lines)}
    assert linked == {'iblbridge_64.lib'} and linked < held
    assert set(re.findall(r'\bexperiment\.c\w*\b', lines)) <= held


@pytest.mark.parametrize('bits', MINGW)
@pytest.mark.parametrize('name', ['c', 'cpp'])
def test_the_line_for_mingw_links_the_library_of_the_kit(name, bits, kit_of, tmp_path):
    (line,) = [line for line in powershell(name) if re.match(r'g(?:cc|\+\+) ', line)]
    compiler, rest = line.split(' ', 1)
    require(f'{MINGW[bits]}-{compiler}', f'{MINGW[bits]}-objdump')
    if kit.missing('bonsai'):
        pytest.skip('iblbridge was built without MinGW')
    shutil.copytree(kit_of(name), tmp_path, dirs_exist_ok=True)
    done = run(f'{MINGW[bits]}-{compiler} {rest.replace("_64", f"_{bits}")}', tmp_path)
    assert (done.returncode, done.stderr) == (0, '')
    headers = run([f'{MINGW[bits]}-objdump', '-p', 'experiment.exe'], tmp_path).stdout
    needed = {name.lower() for name in re.findall(r'DLL Name: (\S+)', headers)}
    assert needed == {f'iblbridge_{bits}.dll', 'kernel32.dll', 'msvcrt.dll'}


def test_matlabs_mex_file_compiles_for_windows(tmp_path):
    require('octave-cli', 'mkoctfile', *(f'{prefix}-gcc' for prefix in MINGW.values()))
    include = Path(run(['mkoctfile', '-p', 'OCTINCLUDEDIR'], tmp_path).stdout.strip())
    for prefix in MINGW.values():
        words = [f'{prefix}-gcc', '-std=c11', '-Wall', '-Wextra', '-Werror', '-c', f'-I{include}']
        done = run([*words, f'-I{include}/octave', kit.examples() / 'matlab' / 'iblbridge_mex.c'], tmp_path)
        assert (done.returncode, done.stderr) == (0, '')
