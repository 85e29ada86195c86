"""The Java client: stands the scenarios, is interrupted as Java interrupts, and its JSON reader is exact."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from guides import environment, require, run
from scenarios import Program, Scenarios
from texts import REFUSED, TAKEN

HERE = Path(__file__).with_name('java')
JNA = '/usr/share/java/jna.jar'
# One test at a time runs on few cores: the small compiler and the small collector start fastest.
JAVA = ['java', '-XX:TieredStopAtLevel=1', '-XX:+UseSerialGC', '-cp', f'{JNA}:.']


@pytest.fixture(scope='session')
def kit(kit_of):
    require('javac', 'java')
    place = kit_of('java')
    sources = [shutil.copy(source, place) for source in HERE.glob('*.java')]
    # "-options": newer JDKs say that Java 8 is old.
    words = ['javac', '-Xlint:all,-options', '-Werror', '--release', '8', '-encoding', 'UTF-8', '-cp', f'{JNA}:.']
    done = run([*words, *sources], place)
    assert done.returncode == 0, done.stderr
    return place


class TestJava(Scenarios):
    @pytest.fixture
    def start(self, kit):
        # What another part of the program sets for its own library must not matter to ours.
        return lambda *words: Program([*JAVA, '-Djna.encoding=ISO-8859-1', 'Scenarios', *words], kit)

    def test_an_interrupt_ends_every_wait_and_a_call_takes_its_request_with_it(self, play, rig):
        rig(cameras=['--delay', '60'])
        program = play('interrupt')
        assert [program.says() for _ in range(3)] == ['InterruptedException'] * 3
        assert program.says() == [-8050, -8051]  # the request of the wait is open, that of the call is not
        assert program.end() == (0, '')


def test_the_guides_example_speaks_utf8_whatever_the_locale(kit, rig):
    rig(cameras__é=[])
    more = {**environment(), 'LC_ALL': 'C'}
    done = subprocess.run(
        [*JAVA, 'Experiment', 'rig0'], cwd=kit, env=more, capture_output=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, b'')
    assert 'cameras:é: answered' in done.stdout.decode('utf-8')


def test_the_library_is_taken_from_the_environment_and_if_there_is_none_all_places_are_named(kit, tmp_path):
    for name in kit.glob('*.class'):
        shutil.copy(name, tmp_path)
    library = kit / 'libiblbridge.so'
    with Program([*JAVA, 'Scenarios', 'codes', 'x'], tmp_path, IBLBRIDGE_LIBRARY=str(library)) as program:
        assert program.says()['-8070'] == 'IBLB_E_PARTIAL'
    with Program([*JAVA, 'Scenarios', 'codes', 'x'], tmp_path, IBLBRIDGE_LIBRARY='/nowhere/lib.so') as program:
        status, errors = program.end()
    assert status == 1
    for word in (
        'IBLBRIDGE_LIBRARY',
        '/nowhere/lib.so: there is no such file',
        f'{tmp_path / library.name}: there is no such',
    ):
        assert word in errors


def test_its_json_reader_reads_what_python_reads_and_refuses_everything_else(kit, tmp_path):
    halves = [r'"\ud800x"', r'"\udc00"', r'"\ud800\ud800\udc00"']  # Java's text can hold them
    texts = [*TAKEN, *halves, *REFUSED]
    (tmp_path / 'texts').write_bytes('\n'.join(texts).encode())
    done = subprocess.run([*JAVA, 'ReadJson', tmp_path / 'texts'], cwd=kit, capture_output=True, text=True, check=True)
    said = done.stdout.splitlines()
    assert len(said) == len(texts)
    for text, line in zip(texts, said, strict=True):
        if text in REFUSED:
            assert line.startswith('refused: '), f'{text} was read as {line}'
        else:
            assert json.loads(line) == json.loads(text), text
