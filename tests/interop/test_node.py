"""The Node.js client: stands the scenarios, starves nobody, and forgets no slot."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from guides import require, run
from scenarios import Program, Scenarios

HERE = Path(__file__).with_name('node')


@pytest.fixture(scope='session')
def kit(kit_of):
    require('node', 'npm')
    place = kit_of('node')
    shutil.copy(HERE / 'scenarios.js', place)
    return place


class TestNode(Scenarios):
    @pytest.fixture
    def start(self, kit):
        return lambda *words: Program(['node', '--expose-gc', 'scenarios.js', *words], kit)

    def test_waits_leave_threads_to_files_and_names(self, play, rig):
        rig(cameras=['--delay', '3'])
        program = play('starve')
        assert program.says() == 20  # files read, one after the other, before an answer came
        assert program.says() == 10  # waits that ended when their clients were closed
        assert program.end() == (0, '')

    def test_what_is_forgotten_is_closed_by_the_garbage_collector(self, play, rig):
        rig(cameras=[])
        program = play('forget')
        assert program.says() == 40  # there are 16 slots
        assert program.end() == (0, '')

    def test_what_is_no_message_and_no_arguments_is_refused_and_what_is_too_large_does_not_crash(self, play, rig):
        rig(cameras=[])
        program = play('misuse')
        assert program.says() == [
            'There is no message or event EXPSTARTED',
            'There is no message or event toString',
            'The arguments must be an array',
        ]
        assert program.says()[1] == 'IBLB_E_TOO_LARGE'
        assert program.says()[1] in ('IBLB_E_JSON', 'IBLB_E_ARGS')
        assert program.end() == (0, '')


def test_a_program_of_modules_imports_it(kit):
    (kit / 'imports.mjs').write_text(
        "import { open, CODES } from './iblbridge.js';\nconsole.log(typeof open, CODES.IBLB_E_PARTIAL);\n"
    )
    assert run(['node', 'imports.mjs'], kit).stdout == 'function -8070\n'


def test_the_library_is_taken_from_the_environment_and_if_there_is_none_all_places_are_named(kit, tmp_path):
    for name in ('iblbridge.js', 'scenarios.js'):
        shutil.copy(kit / name, tmp_path)
    (tmp_path / 'node_modules').symlink_to(kit / 'node_modules')
    words, library = ['node', 'scenarios.js', 'codes', 'x'], kit / 'libiblbridge.so'
    with Program(words, tmp_path, IBLBRIDGE_LIBRARY=str(library)) as program:
        assert program.says()['-8070'] == 'IBLB_E_PARTIAL'
    with Program(words, tmp_path, IBLBRIDGE_LIBRARY='/nowhere/lib.so') as program:
        status, errors = program.end()
    assert status == 1
    for word in (
        'IBLBRIDGE_LIBRARY',
        '/nowhere/lib.so: there is no such file',
        f'{tmp_path / library.name}: there is no such',
    ):
        assert word in errors
