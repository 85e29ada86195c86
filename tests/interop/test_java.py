"""The Java client: stands the scenarios, is interrupted as Java interrupts, and its JSON reader is exact."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from guides import environment, require, run
from scenarios import Program, Scenarios, first_snippet, wrong_libraries
from texts import REFUSED, TAKEN

from bridge.native import LIBRARY

HERE = Path(__file__).with_name('java')
JNA = '/usr/share/java/jna.jar'
# One test at a time runs on few cores: the small compiler and the small collector start fastest.
JAVA = ['java', '-XX:TieredStopAtLevel=1', '-XX:+UseSerialGC', '-cp', f'{JNA}:.']


@pytest.fixture(scope='session')
def kit(kit_of):
    require('javac', 'java')
    place = kit_of('java')
    shutil.copytree(HERE, place, dirs_exist_ok=True)
    (place / 'Start.java').write_text(first_snippet(place, 'java'))
    sources = [source.relative_to(place) for source in place.rglob('*.java')]
    # "-options": newer JDKs say that Java 8 is old.
    words = ['javac', '-Xlint:all,-options', '-Werror', '--release', '8', '-encoding', 'UTF-8', '-cp', f'{JNA}:.']
    done = run([*words, *sources], place)
    assert done.returncode == 0, done.stderr
    return place


class TestJava(Scenarios):
    @pytest.fixture
    def start(self, kit):
        # What another part of the program sets for its own library must not matter to ours.
        return lambda *words: Program([*JAVA, '-Djna.encoding=ISO-8859-1', 'lab.Scenarios', *words], kit)

    @pytest.fixture
    def snippet(self, kit):
        return lambda: Program([*JAVA, 'Start'], kit)

    def test_an_interrupt_ends_every_wait_and_a_call_takes_its_request_with_it(self, play, rig):
        rig(cameras=['--delay', '60'])
        program = play('interrupt')
        assert [program.says() for _ in range(3)] == ['InterruptedException'] * 3
        assert program.says() == [-8050, -8051]  # the request of the wait is open, that of the call is not
        assert program.end() == (0, '')

    def test_services_that_name_none_reach_nobody(self, play, rig):
        rig(cameras=[])
        program = play('nobody')
        assert [program.says(), program.says()] == [[True] * 4, 0]
        assert program.end() == (0, '')


def test_the_guides_example_speaks_utf8_whatever_the_locale(kit, rig):
    rig(cameras__é=[])
    more = {**environment(), 'LC_ALL': 'C'}
    done = subprocess.run(
        [*JAVA, 'Experiment', 'rig0'], cwd=kit, env=more, capture_output=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, b'')
    assert 'cameras:é: answered' in done.stdout.decode('utf-8')


def test_objects_print_what_they_are(kit, rig):
    rig(cameras=[])
    with Program([*JAVA, 'lab.Scenarios', 'prints', 'rig0'], kit) as program:
        assert program.says() == [
            'IblBridge of rig0 "prints"',
            'worker alive, 1 services, 1 of them heard within the last 30 s',
            '[cameras: answered]',
            True,
        ]
        assert program.says() == 'IblBridge of rig0 "prints", closed'


def test_what_json_cannot_say_is_no_argument(kit):
    with Program([*JAVA, 'lab.Scenarios', 'unsayable', 'x'], kit) as program:
        assert program.says() == [True] * 9
        said = ['text', 'c', 'b', 1, 2, 1.5e300, 3, 1000.0, True, None, [1], {'key': [1, 'x']}]
        assert program.says() == said


@pytest.fixture
def lonely(kit, tmp_path):
    """The classes in a folder without the library."""
    place = tmp_path / 'lonely'
    for name in ('iblbridge', 'lab'):
        shutil.copytree(kit / name, place / name)
    return place


def load(place: Path, **more: str) -> Program:
    """Run a program that only loads the library."""
    return Program([*JAVA, 'lab.Scenarios', 'codes', 'x'], place, **more)


@pytest.mark.parametrize('folder', ['.', 'iblbridge'])
def test_the_library_is_found_beside_the_classes(kit, lonely, folder):
    shutil.copy(kit / LIBRARY.name, lonely / folder)
    with load(lonely) as program:
        assert program.says()['-8070'] == 'IBLB_E_PARTIAL'


def test_the_library_is_found_beside_a_jar(kit, lonely, tmp_path):
    require('jar')
    jar = tmp_path / 'lib' / 'rig.jar'
    jar.parent.mkdir()
    shutil.copy(kit / LIBRARY.name, jar.parent)
    assert run(['jar', 'cf', jar, 'iblbridge', 'lab'], lonely).returncode == 0
    with Program([*JAVA[:-1], f'{JNA}:{jar}', 'lab.Scenarios', 'codes', 'x'], tmp_path) as program:
        assert program.says()['-8070'] == 'IBLB_E_PARTIAL'


def test_a_library_that_is_nowhere_is_told_with_every_place(lonely):
    with load(lonely) as program:
        status, errors = program.end()
    assert status == 1 and 'IBLBRIDGE_LIBRARY' in errors
    for folder in (lonely, lonely / 'iblbridge'):
        assert f'\n  {folder / LIBRARY.name}: there is no such file' in errors


def test_the_variable_alone_decides_and_what_is_wrong_with_it_is_told(kit, lonely, tmp_path):
    for wrong in wrong_libraries(tmp_path):
        with load(kit, IBLBRIDGE_LIBRARY=str(wrong)) as program:  # one that is right lies beside the classes
            status, errors = program.end()
        assert status == 1 and f'\n  {wrong}: ' in errors and str(kit) not in errors
    with load(lonely, IBLBRIDGE_LIBRARY=str(kit / LIBRARY.name)) as program:
        assert program.says()['-8070'] == 'IBLB_E_PARTIAL'


def test_its_json_reader_reads_what_python_reads_and_refuses_everything_else(kit, tmp_path):
    halves = [r'"\ud800x"', r'"\udc00"', r'"\ud800\ud800\udc00"']  # Java's text can hold them
    texts = [*TAKEN, *halves, *REFUSED]
    (tmp_path / 'texts').write_bytes('\n'.join(texts).encode())
    done = subprocess.run(
        [*JAVA, 'iblbridge.ReadJson', tmp_path / 'texts'], cwd=kit, capture_output=True, text=True, check=True
    )
    said = done.stdout.splitlines()
    assert len(said) == len(texts)
    for text, line in zip(texts, said, strict=True):
        if text in REFUSED:
            assert line.startswith('refused: '), f'{text} was read as {line}'
        else:
            assert json.loads(line) == json.loads(text), text
