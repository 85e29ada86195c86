"""What ``iblbridge doctor`` sees around the segments: libraries and their bits, the firewall, sleep."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from bridge import native
from bridge.cli import main
from bridge.cli.doctor import elf, loaded, surroundings

PYTHON = r'C:\Program Files\Python311\python.exe'
TCP = (
    r'v2.30|Action=Allow|Active=TRUE|Dir=In|Protocol=6|Profile=Private|'
    r'App=%PROGRAMFILES%\Python311\python.exe|Name=Python|'
)
ENTRIES = {
    'TCP Query User{1}': TCP.replace('%PROGRAMFILES%', r'C:\Program Files'),
    'UDP Query User{2}': TCP.replace('%PROGRAMFILES%', r'c:\program files').replace('=6|', '=17|Profile=Domain|'),
    'off': TCP.replace('%PROGRAMFILES%', r'C:\Program Files').replace('TRUE', 'FALSE'),
    'out': TCP.replace('%PROGRAMFILES%', r'C:\Program Files').replace('Dir=In', 'Dir=Out'),
    'other': TCP.replace('python.exe', 'pythonw.exe').replace('%PROGRAMFILES%', r'C:\Program Files'),
    'nonsense': 'v2.30|||=|x',
}
POWERCFG = """
GUID du mode de gestion : 381b4222-f694-41f0-9685-ff5bb260df2e  (Utilisation normale)
    Paramètre minimal possible : 0x00000000
    Paramètre maximal possible : 0xffffffff
  Index actuel du paramètre de courant alternatif : 0x00000708
  Index actuel du paramètre de courant continu : 0x00000000
"""


def executable(place: Path, machine: int) -> Path:
    """A file that begins as a program of Windows does."""
    head = b'MZ'.ljust(60, b'\0') + struct.pack('<I', 128)
    place.write_bytes(head.ljust(128, b'\0') + b'PE\0\0' + struct.pack('<H', machine) + bytes(100))
    return place


@pytest.mark.parametrize(('machine', 'bits'), [(0x14C, 32), (0x8664, 64), (0xAA64, 64), (0x1C0, 0)])
def test_the_bits_of_a_windows_program_are_read_from_its_head(tmp_path, machine, bits):
    assert surroundings.bits_of(executable(tmp_path / 'LabVIEW.exe', machine)) == bits


def dotnet(place: Path, flags: int) -> Path:
    """A program of .NET, as compilers write it: a 32-bit head, and flags that say what it needs."""
    head = executable(place, 0x14C).read_bytes()[:128] + b'PE\0\0' + struct.pack('<HH12xHH', 0x14C, 1, 224, 0x102)
    optional = bytes(208) + struct.pack('<II', 0x2008, 72) + bytes(8)
    section = b'.text\0\0\0' + struct.pack('<IIII', 0x1000, 0x2000, 0x200, 0x400) + bytes(16)
    place.write_bytes((head + optional + section).ljust(0x408, b'\0') + struct.pack('<16xI', flags) + bytes(100))
    return place


@pytest.mark.parametrize(('flags', 'bits'), [(1, 64), (3, 32), (0x20003, 32), (0, 32), (0x10001, 64)])
def test_a_program_of_net_runs_with_the_bits_of_windows_unless_it_asks_for_32(tmp_path, flags, bits):
    program = dotnet(tmp_path / 'Bonsai.exe', flags)
    assert surroundings.bits_of(program) == bits
    for length in range(64, len(program.read_bytes()), 20):  # whatever is cut off
        (tmp_path / 'cut').write_bytes(program.read_bytes()[:length])
        assert surroundings.bits_of(tmp_path / 'cut') in (0, 32, bits)


@pytest.mark.parametrize(('platform', 'bits'), [('anycpu', 64), ('anycpu32bitpreferred', 32), ('x86', 32), ('x64', 64)])
@pytest.mark.skipif(shutil.which('mcs') is None, reason='mcs is not installed')
def test_the_bits_of_what_a_compiler_of_net_makes(tmp_path, platform, bits):
    (tmp_path / 'a.cs').write_text('static class A { static void Main() { } }')
    subprocess.run(['mcs', f'-platform:{platform}', '-out:a.exe', 'a.cs'], cwd=tmp_path, check=True, timeout=60)
    assert surroundings.bits_of(tmp_path / 'a.exe') == bits


@pytest.mark.parametrize(
    'content', [b'', b'MZ', b'MZ' + bytes(62), b'MZ' + b'\xff' * 62, b'\x7fELF', b'#!/bin/sh\n' * 20]
)
def test_what_is_no_program_has_no_bits(tmp_path, content):
    (tmp_path / 'x').write_bytes(content)
    assert surroundings.bits_of(tmp_path / 'x') == 0
    assert surroundings.bits_of(tmp_path / 'missing') == 0
    assert surroundings.bits_of(tmp_path) == 0


def test_the_own_library_has_the_bits_of_this_python():
    own = surroundings.look()['library']
    assert own == {
        'path': str(native.LIBRARY),
        'bits': struct.calcsize('P') * 8,
        'same': True,
        'version': importlib.metadata.version('iblbridge'),
    }


def test_libraries_are_found_in_the_order_of_the_folders_and_told_from_the_own_one(tmp_path):
    first, second = tmp_path / 'a', tmp_path / 'b'
    first.mkdir()
    second.mkdir()
    executable(first / 'IBLBRIDGE_32.DLL', 0x14C)
    shutil.copy(native.LIBRARY, second / 'libiblbridge.so')
    for name in ('notiblbridge.dll', 'iblbridge_64.dll.bak', 'iblbridge.lib'):
        (second / name).write_bytes(b'')
    found = surroundings.libraries([tmp_path / 'missing', first, second, first], [native.LIBRARY])
    bits = struct.calcsize('P') * 8
    assert found == [
        (str(first / 'IBLBRIDGE_32.DLL'), 32, False, ''),
        (str(second / 'libiblbridge.so'), bits, True, ''),
    ]


def test_the_firewalls_rules_of_a_program_are_those_that_are_active_and_for_what_comes_in():
    rules = surroundings.firewall_rules(ENTRIES, PYTHON)
    assert rules == [('Python', True, 'TCP', 'Private'), ('Python', True, 'UDP', 'Domain, Private')]
    assert surroundings.firewall_rules(ENTRIES, r'C:\other.exe') == []


def test_a_blocking_rule_is_wrong_a_missing_one_a_note():
    def said(*entries: str):
        rules = [rule._asdict() for rule in surroundings.firewall_rules(dict(enumerate(entries)), PYTHON)]
        wrong, notes = surroundings.advice({**surroundings.look(), 'twins': [], 'firewall': rules})
        return wrong, notes[1:]

    udp = ENTRIES['UDP Query User{2}']
    assert said(udp) == ([], [f'firewall: UDP comes in to {surroundings.python()} (Domain, Private)'])
    wrong, notes = said(udp, udp.replace('Allow', 'Block').replace('Name=Python', 'Name=python.exe'))
    assert not notes and len(wrong) == 1 and 'blocks' in wrong[0] and '"python.exe"' in wrong[0]
    assert said(ENTRIES['TCP Query User{1}'])[0] == []
    assert 'no rule' in said()[1][0]


def test_the_firewall_is_asked_about_the_python_that_runs_not_the_one_that_started_it(tmp_path):
    starter = str(tmp_path / 'python.exe')  # of a virtual environment, which on Windows tells its name so
    environment = os.environ | {'__PYVENV_LAUNCHER__': starter, 'PYTHONPATH': os.pathsep.join(sys.path)}
    question = (
        'import sys; from bridge.cli.doctor import surroundings; print(sys.executable, surroundings.python(), sep="|")'
    )
    words = [sys.executable, '-c', question]
    said = subprocess.check_output(words, env=environment, stdin=subprocess.DEVNULL, timeout=60)
    runs = surroundings.python() if sys.platform == 'win32' else starter
    assert said.decode().strip() == f'{starter}|{runs}'


def test_when_the_pc_sleeps_is_read_in_any_language_and_on_mains_it_is_wrong():
    assert surroundings.sleep_after(POWERCFG) == (1800, 0)
    assert surroundings.sleep_after('powercfg is not recognised') is None
    wrong, notes = surroundings.advice({**surroundings.look(), 'twins': [], 'firewall': None, 'sleep': (1800, 90)})
    assert notes[1:] == ['sleep: after 30 min on mains, after 1.5 min on battery']
    assert wrong == [
        'This PC sleeps after 30 min on mains, and a session with it. Run: powercfg /change standby-timeout-ac 0'
    ]
    assert surroundings.advice({**surroundings.look(), 'twins': [], 'firewall': None, 'sleep': (0, 0)})[0] == []


def test_the_version_of_a_library_is_that_which_it_says_itself_and_of_what_cannot_be_loaded_unknown(tmp_path):
    assert loaded.version_of(str(native.LIBRARY)) == surroundings.own_version()
    (tmp_path / 'libiblbridge.so').write_bytes(b'\x7fELF\x02' + bytes(100))
    for path in (tmp_path / 'libiblbridge.so', tmp_path / 'missing', tmp_path):
        assert loaded.version_of(str(path)) == ''


def test_another_library_is_told_with_its_version(tmp_path, monkeypatch):
    shutil.copy(native.LIBRARY, tmp_path / native.LIBRARY.name)
    with (tmp_path / native.LIBRARY.name).open('ab') as file:
        file.write(b'changed')
    monkeypatch.setenv('PATH' if sys.platform == 'win32' else 'LD_LIBRARY_PATH', str(tmp_path))
    monkeypatch.setattr(surroundings, 'version_of', lambda path: '0.0.9')
    found = surroundings.look()
    wrong, notes = surroundings.advice({**found, 'firewall': None, 'sleep': None})
    assert f'version {surroundings.own_version()}' in notes[0]
    assert any(f'{tmp_path / native.LIBRARY.name}' in line and 'version 0.0.9' in line for line in wrong)


MAPS = """7f0000000000-7f0000001000 r-xp 00000000 08:01 11 /usr/lib/libc.so.6
7f0000002000-7f0000003000 r-xp 00000000 08:01 12 /home/lab/my kit/libiblbridge.so{gone}
7f0000004000-7f0000005000 rw-s 00000000 00:1a 13 /dev/shm/iblbridge-1000/rig0
"""


@pytest.mark.parametrize('gone', ['', ' (deleted)'])
def test_the_library_that_a_process_has_loaded_is_read_from_what_it_has_mapped(gone):
    assert loaded.mapped(MAPS.format(gone=gone)) == {'/home/lab/my kit/libiblbridge.so': bool(gone)}
    assert loaded.mapped('') == {}


@pytest.mark.skipif(sys.platform != 'linux', reason='the system does not say what a process has loaded')
def test_this_process_has_loaded_the_own_library():
    import bridge.segment.library  # noqa: F401

    assert loaded.loaded_by(os.getpid())[str(native.LIBRARY.resolve())] is False
    assert loaded.loaded_by(2**22 + 1) == {}


def test_doctor_says_what_a_program_would_load(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv('IBLBRIDGE_DIR', str(tmp_path / 'segments'))
    monkeypatch.chdir(tmp_path)
    program = executable(tmp_path / 'LabVIEW.exe', 0x14C)
    executable(tmp_path / 'iblbridge_64.dll', 0x8664)
    assert main(['doctor', '--program', str(program)]) == 1
    said = capsys.readouterr().out
    assert f'! It finds no library of 32 bits, but {tmp_path / "iblbridge_64.dll"}.' in said
    assert f'! Programs find another library first: {tmp_path / "iblbridge_64.dll"} (64 bits).' in said
    (tmp_path / 'iblbridge_64.dll').unlink()
    beside = tmp_path / 'vi'
    beside.mkdir()
    program = executable(beside / 'LabVIEW.exe', 0x14C)
    executable(beside / 'iblbridge_32.dll', 0x14C)
    assert main(['doctor', '--program', str(program)]) == 0
    said = capsys.readouterr().out
    assert f'program: {program}, 32 bits\nit would load {beside / "iblbridge_32.dll"}\n' in said


def test_a_program_that_is_none_is_misuse_and_not_something_to_do(tmp_path, capsys):
    (tmp_path / 'script.py').write_text('print()\n')
    executable(tmp_path / 'odd.exe', 0x1C0)
    for name in ('missing.exe', 'script.py', 'odd.exe', ''):
        assert main(['doctor', '--program', str(tmp_path / name)]) == 2
        said = capsys.readouterr()
        assert not said.out and said.err.startswith(f'iblbridge doctor: --program: {tmp_path / name}')


@pytest.fixture
def linked(tmp_path, monkeypatch):
    """A folder as of a kit, and what makes a program in it that is linked to the library."""
    if sys.platform != 'linux' or shutil.which('cc') is None:
        pytest.skip('needs a C compiler of Linux')
    monkeypatch.setenv('IBLBRIDGE_DIR', str(tmp_path / 'segments'))
    monkeypatch.delenv('LD_LIBRARY_PATH', raising=False)
    kit = tmp_path / 'kit'
    kit.mkdir()
    shutil.copy(native.LIBRARY, kit)
    executable(kit / 'iblbridge_64.dll', 0x8664)
    (kit / 'one.c').write_text('int iblb_version(void); int main(void) { return iblb_version() == 0; }\n')

    def make(*options: str) -> Path:
        words = ['cc', 'one.c', '-o', 'one', '-L.', '-Wl,--no-as-needed', *options]
        subprocess.run(words, cwd=kit, check=True, stdin=subprocess.DEVNULL, timeout=60)
        return kit / 'one'

    return make


@pytest.mark.parametrize('tags', ['--enable-new-dtags', '--disable-new-dtags'])
def test_a_program_of_linux_loads_what_its_loader_finds_and_no_library_of_windows(linked, capsys, tags):
    """It was said to load the library of Windows that every kit has beside it."""
    program = linked('-liblbridge', '-Wl,-rpath,$ORIGIN', f'-Wl,{tags}')
    assert main(['doctor', '--program', str(program)]) == 0
    assert f'it would load {program.parent / native.LIBRARY.name}\n' in capsys.readouterr().out
    assert str(program.parent / native.LIBRARY.name) in subprocess.check_output(['ldd', program], text=True)


def test_a_program_of_linux_does_not_find_what_is_only_beside_it(linked, capsys, monkeypatch):
    program = linked('-liblbridge')
    monkeypatch.chdir(program.parent)
    assert main(['doctor', '--program', str(program)]) == 1
    assert '! Its loader finds no library of 64 bits. ' in capsys.readouterr().out
    monkeypatch.setenv('LD_LIBRARY_PATH', str(program.parent))
    main(['doctor', '--program', str(program)])
    assert f'it would load {program.parent / native.LIBRARY.name}\n' in capsys.readouterr().out


def test_of_a_program_that_loads_the_library_by_itself_no_more_is_said_than_that(linked, capsys):
    (linked('-liblbridge').parent / 'one.c').write_text('int main(void) { return 0; }\n')
    assert main(['doctor', '--program', str(linked())]) == 0
    said = capsys.readouterr().out
    assert 'it names no library of iblbridge: it loads one by itself while it runs, or none' in said
    assert 'it would load' not in said


def test_what_a_program_of_linux_says_is_read_whatever_is_cut_off_or_wrong(linked):
    program = linked('-liblbridge', '-Wl,-rpath,$ORIGIN/lib:/opt/lib')
    whole = program.read_bytes()
    says = elf.wanted(program)
    assert native.LIBRARY.name in says.names and says.rpath + says.runpath == ('$ORIGIN/lib', '/opt/lib')
    for length in range(4, len(whole), 197):
        program.write_bytes(whole[:length])
        elf.wanted(program)
    for place in range(4, 1200, 3):
        program.write_bytes(whole[:place] + b'\xff' * 8 + whole[place + 8 :])
        elf.wanted(program)


def test_a_program_of_macos_is_left_to_its_loader(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv('IBLBRIDGE_DIR', str(tmp_path / 'segments'))
    (tmp_path / 'experiment').write_bytes(bytes.fromhex('cffaedfe') + bytes(100))
    assert main(['doctor', '--program', str(tmp_path / 'experiment')]) == 0
    assert f'its loader decides; this tells: otool -L {tmp_path / "experiment"}' in capsys.readouterr().out
