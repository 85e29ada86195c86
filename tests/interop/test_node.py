"""The Node.js client: stands the scenarios, starves nobody, and forgets no slot."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from guides import require, run
from scenarios import Program, Scenarios, first_snippet, wrong_libraries

from bridge.native import LIBRARY

HERE = Path(__file__).with_name('node')


@pytest.fixture(scope='session')
def kit(kit_of):
    require('node', 'npm')
    place = kit_of('node')
    shutil.copy(HERE / 'scenarios.js', place)
    (place / 'start.js').write_text(first_snippet(place, 'js'))
    return place


class TestNode(Scenarios):
    MISUSE = 'TypeError'

    @pytest.fixture
    def start(self, kit):
        return lambda *words: Program(['node', '--expose-gc', 'scenarios.js', *words], kit)

    @pytest.fixture
    def snippet(self, kit):
        return lambda: Program(['node', 'start.js'], kit)

    def test_waits_leave_threads_to_files_and_names(self, play, rig):
        rig(cameras=['--delay', '3'])
        program = play('starve')
        assert program.says() == 20  # files read, one after the other, before an answer came
        assert program.says() == 10  # waits that ended when their clients were closed
        assert program.end() == (0, '')

    def test_a_choice_of_nothing_is_all_events(self, play, rig):
        rig(cameras=[])
        program = play('everything')
        assert [program.says(), program.says()] == ['SERVICE_UP', 'closed']
        assert program.end() == (0, '')

    def test_what_is_forgotten_is_closed_by_the_garbage_collector(self, play, rig):
        rig(cameras=[])
        program = play('forget')
        assert program.says() == 40  # there are 16 slots
        assert program.end() == (0, '')

    def test_what_is_called_wrongly_is_a_type_error_and_nothing_is_sent(self, play, rig):
        running = rig(cameras=[])
        program = play('misuse')
        for count in (14, 24, 27):  # options, what goes to C, what JSON cannot express
            assert program.says() == ['TypeError'] * count
        assert program.says() == 0  # requests that were made
        assert program.says()[1] == 'IBLB_E_TOO_LARGE'  # and koffi does not crash
        assert program.says()[1] in ('IBLB_E_JSON', 'IBLB_E_ARGS')
        assert program.says() == 'answered'
        assert program.end() == (0, '')
        (received,) = [line for line in running.children['cameras'].output if ' -> ' in line]
        assert "[{'date': '1970-01-01T00:00:00.000Z', 'list': [1.5, True, None, {}], 'name': 'x'}]" in received

    def test_the_error_names_the_options_there_are(self, kit):
        done = run(['node', '-e', "require('./iblbridge').open('rig0', '', { wait: 5 })"], kit)
        assert done.returncode == 1 and 'TypeError: There is no option wait.' in done.stderr
        assert 'with: timeout.' in done.stderr


def test_a_program_of_modules_imports_it(kit):
    (kit / 'imports.mjs').write_text(
        "import { open, CODES } from './iblbridge.js';\nconsole.log(typeof open, CODES.IBLB_E_PARTIAL);\n"
    )
    assert run(['node', 'imports.mjs'], kit).stdout == 'function -8070\n'


def test_without_koffi_it_says_how_to_get_it(kit, tmp_path):
    shutil.copy(kit / 'iblbridge.js', tmp_path)
    done = run(['node', '-e', "require('./iblbridge')"], tmp_path)
    assert done.returncode == 1
    assert 'npm install' in done.stderr and 'The package koffi is missing' in done.stderr


@pytest.fixture
def load(kit, tmp_path):
    """A function that runs a program that only loads the library; it lies beside the client, or not."""

    def start(beside: bool, **more: str) -> Program:
        for name in ('iblbridge.js', 'scenarios.js', *([LIBRARY.name] if beside else [])):
            shutil.copy(kit / name, tmp_path)
        modules = tmp_path / 'node_modules'
        if not modules.exists():
            modules.symlink_to(kit / 'node_modules')
        return Program(['node', 'scenarios.js', 'codes', 'x'], tmp_path, **more)

    return start


def test_the_variable_alone_decides_and_what_is_wrong_with_it_is_told(kit, load, tmp_path):
    with load(False, IBLBRIDGE_LIBRARY=str(kit / LIBRARY.name)) as program:
        assert program.says()['-8070'] == 'IBLB_E_PARTIAL'
    for wrong in wrong_libraries(tmp_path):
        with load(True, IBLBRIDGE_LIBRARY=str(wrong)) as program:
            status, errors = program.end()
        assert status == 1 and f'  {wrong}: ' in errors and str(tmp_path / LIBRARY.name) not in errors


def test_a_library_that_is_nowhere_is_told_with_its_place(load, tmp_path):
    with load(False) as program:
        status, errors = program.end()
    assert status == 1 and 'IBLBRIDGE_LIBRARY' in errors
    assert f'  {tmp_path / LIBRARY.name}: there is no such file' in errors
