"""The C++ client: compiles without a warning everywhere, stands the scenarios, and its JSON reader is exact."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from guides import require
from scenarios import Program, Scenarios, first_snippet
from texts import REFUSED, TAKEN

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


@pytest.mark.parametrize('standard', ['c++11', 'c++17', 'c++20'])
@pytest.mark.parametrize('compiler', ['g++', 'clang++'])
def test_it_compiles_without_a_warning(kit, compiler, standard):
    require(compiler)
    for source in (kit / 'experiment.cpp', HERE / 'scenarios.cpp'):
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
