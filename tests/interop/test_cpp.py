"""The C++ client: compiles without a warning everywhere, stands the scenarios, and its JSON reader is exact."""

from __future__ import annotations

import json
import re
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from guides import require
from peers import eventually
from scenarios import Program, Scenarios, first_snippet
from stock_masters import Stock
from texts import REFUSED, TAKEN

from bridge.auxiliaries import Auxiliaries
from bridge.config import ListenerConfig

REF = '2026-01-01_1_subject'
HERE = Path(__file__).with_name('cpp')
STRICT = ['-Wall', '-Wextra', '-pedantic', '-Wshadow', '-Wconversion', '-Werror']


SANITIZED = ['-std=c++11', '-fsanitize=address,undefined', '-fno-sanitize-recover=all', '-g']


def build(place: Path, program: str, *options: str, compiler: str = 'c++', sources: Path = HERE) -> Path:
    """Compile a program of this test against the kit."""
    target = place / program
    words = [
        compiler,
        '-pthread',
        *STRICT,
        *options,
        f'-I{place}',
        sources / f'{program}.cpp',
        f'-L{place}',
        '-liblbridge',
    ]
    done = subprocess.run([*words, f'-Wl,-rpath,{place}', '-o', target], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, '')
    return target


@pytest.fixture(scope='session')
def kit(kit_of):
    require('c++')
    return kit_of('cpp')


@pytest.fixture(scope='session')
def program(kit):
    # The sanitizer finds what a use after close, or a buffer too short, would only sometimes show.
    return build(kit, 'scenarios', *SANITIZED)


class TestCpp(Scenarios):
    @pytest.fixture
    def start(self, program):
        return lambda *words: Program([program, *words], program.parent)

    @pytest.fixture
    def snippet(self, kit):
        (kit / 'start.cpp').write_text(first_snippet(kit, 'cpp'))
        start = build(kit, 'start', *SANITIZED, sources=kit)
        return lambda: Program([start], kit)

    def test_what_json_cannot_say_is_no_argument(self, start):
        with start('unsayable', 'x') as program:
            *refused, written = program.says()
            assert program.end() == (0, '')
        assert written == 'written' and len(refused) == 4
        assert all(said.startswith('JSON cannot express NaN, infinity') for said in refused)

    def test_a_text_that_c_would_cut_is_refused(self, play, rig):
        rig(cameras=[])
        program = play('cut')
        said = program.says()
        assert program.end() == (0, '')
        assert len(said) == 6 and all('holds a NUL character' in each for each in said)

    def test_lists_and_objects_become_json_at_any_depth(self, start):
        with start('lists', 'x') as program:
            assert program.says() == [
                'text',
                {'a "b"': [True, False], 'none': []},
                [{'deep': {'x': 0.5}}, {}],
                ['c', '\n'],
                [[1, 2], []],
            ]
            assert program.says() == [['alone', None]]
            assert program.end() == (0, '')


# --- a program that serves ---


def master_of(port):
    """Return a master that goes on after errors."""
    return closing(Auxiliaries({'cameras': f'udp://127.0.0.1:{port}'}))


def says(program, *lines):
    assert tuple(program.line() for _ in lines) == lines


@pytest.mark.parametrize('standard', ['c++11', 'c++17'])  # which knows how many exceptions are in flight
def test_a_command_that_leaves_its_scope_fails_by_itself(kit, serve, standard):
    worker = serve('rig0', listeners=(ListenerConfig('cameras', port=0),))
    built = build(kit, 'serving', *SANITIZED[1:], f'-std={standard}')
    port = worker.ports['cameras']
    with Program([built, 'rig0', 'all'], kit) as program, master_of(port) as master, Stock(port) as other:

        def ask(*command):
            return master.submit(*command).result(20)['cameras']

        def interrupt():
            other.begin(other.com.confirmed_send((16, None)))

        says(program, 'IBLB_E_SERVICE', 'IBLB_E_SERVICE', 'serves')
        assert 'The program left a command without an answer.' in ask('EXPINIT', {'a': 1}).error
        assert "An exception ended the program's work" in ask('EXPINIT', {'a': 2}).error
        replaced = master.submit('EXPSTART', REF)
        says(program, 'EXPINIT', 'EXPINIT', 'EXPSTART')
        interrupt()
        assert 'without an answer' in replaced.result(20)['cameras'].error
        assert 'läuft nicht' in str(eventually(lambda: other.told)[0][1])
        moved = ask('EXPSTART', REF)
        assert moved.reply == [REF, {'file': 'a "b"', 'frames': 12, 'fine': True, 'status': 30}]
        says(program, 'EXPINTERRUPT', 'EXPSTART', 'answered', 'IBLB_E_COMMAND')
        assert ask('EXPSTART', REF).reply == [REF, {'value': [REF, 8000], 'status': 20}]
        assert 'the lens is gone' in ask('EXPINIT', {'a': 3}).error
        assert ask('EXPINIT', {'a': 4}).reply[1]['a'] == 4
        interrupted = master.submit('EXPSTART', REF)
        says(program, 'EXPSTART', 'IBLB_E_JSON', 'EXPINIT', 'the lens is gone', 'EXPINIT', '', 'EXPSTART')
        interrupt()
        assert 'interrupted' in interrupted.result(20)['cameras'].error
        says(program, 'EXPINTERRUPT', '10', 'IBLB_E_SERVICE')
        assert program.end() == (0, '')
        assert [32, [10]] in [list(told) for told in other.told]


def test_an_answer_that_comes_too_late_is_no_exception_in_cpp(kit, serve):
    worker = serve('rig0', listeners=(ListenerConfig('cameras', port=0, timeout=0.3),))
    built = build(kit, 'serving', *SANITIZED)
    with Program([built, 'rig0', kit / 'told'], kit) as program, master_of(worker.ports['cameras']) as master:
        eventually(lambda: worker._programs._behind['cameras'].client, 30)
        assert 'did not answer' in master.submit('EXPSTART', REF).result(20)['cameras'].error
        (kit / 'told').touch()
        says(program, 'EXPSTART', 'too late')
        assert program.end() == (0, '')


def test_the_program_of_the_guide_that_serves_is_one(kit, serve):
    worker = serve('rig0', listeners=(ListenerConfig('cameras', port=0),))
    (block,) = [block for block in re.findall(r'```cpp\n(.*?)```', guide(kit), re.DOTALL) if 'next_command' in block]
    (kit / 'obey.cpp').write_text(block)
    with Program([build(kit, 'obey', *SANITIZED, sources=kit)], kit), master_of(worker.ports['cameras']) as master:
        eventually(lambda: worker._programs._behind['cameras'].client, 30)
        assert master.submit('EXPEND').result(20)['cameras'].reply == [{'frames': 5400, 'status': 30}]


def guide(kit):
    return (kit / 'README.md').read_text(encoding='utf-8')


@pytest.mark.parametrize('standard', ['c++11', 'c++17', 'c++20'])
@pytest.mark.parametrize('compiler', ['g++', 'clang++'])
def test_it_compiles_without_a_warning(kit, compiler, standard):
    require(compiler)
    for source in (kit / 'experiment.cpp', kit / 'camera.cpp', HERE / 'scenarios.cpp', HERE / 'serving.cpp'):
        words = [compiler, f'-std={standard}', *STRICT, '-fsyntax-only', f'-I{kit}', source]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, '')


def test_it_may_be_included_in_several_sources_and_beside_the_c_header(kit, tmp_path):
    sources = []
    for name in ('one', 'two'):
        sources.append(tmp_path / f'{name}.cpp')
        text = (
            f'#include "iblbridge.hpp"\n#include "iblbridge.h"\nint {name}() {{ return iblbridge::Json().truth(); }}\n'
        )
        sources[-1].write_text(text + ('int one();\nint main() { return one() + two(); }\n' if name == 'two' else ''))
    words = ['c++', '-std=c++11', f'-I{kit}', *sources, f'-L{kit}', '-liblbridge', '-o', tmp_path / 'both']
    subprocess.run(words, check=True)


@pytest.fixture(scope='session')
def read_json(kit):
    reader = build(kit, 'json', *SANITIZED)

    def read(texts):
        done = subprocess.run([reader], input=b'\n'.join(texts), capture_output=True, check=False, timeout=60, cwd=kit)
        assert (done.returncode, done.stderr) == (0, b'')
        return done.stdout.decode().splitlines()

    return read


def test_its_json_reader_reads_what_python_reads(read_json):
    for text, said in zip(TAKEN, read_json([text.encode() for text in TAKEN]), strict=True):
        assert json.loads(said, parse_float=str) == json.loads(text, parse_float=str), text


def test_its_json_reader_refuses_everything_else(read_json):
    for text, said in zip(REFUSED, read_json([text.encode() for text in REFUSED]), strict=True):
        assert said.startswith('refused: '), f'{text} was read as {said}'


def test_its_json_reader_takes_half_a_surrogate_pair_for_an_unknown_character(read_json):
    assert read_json([rb'"\ud800x"', rb'"\udc00"', rb'"\ud800\ud800\udc00"', rb'"\ud83d\u0041"']) == [
        '"\ufffdx"',
        '"\ufffd"',
        '"\ufffd\U00010000"',
        '"\ufffdA"',
    ]


def test_what_is_not_there_reads_as_nothing_at_any_depth(read_json, kit):
    done = subprocess.run([kit / 'json', 'missing'], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, '')
