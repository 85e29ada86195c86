"""The matrix of languages in examples/README.md: every row is a kit, and every cell a test that exists."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from guides import ROOT

from bridge.kit import KITS

COLUMNS = ('Init-Start-End', 'a service fails', 'response', 'events', 'give up')
SHARED = (
    'test_a_session_runs_on_two_services_and_each_command_is_carried_out_once',
    'test_a_failing_service_is_caught_and_named_and_the_other_is_told',
    'test_the_response_is_data_of_the_language_and_no_character_is_lost',
    'test_a_camera_that_dies_is_an_event_and_ends_the_session',
    'test_a_question_is_cancelled_and_the_next_commands_work',
)
OWN = {
    'Bonsai': (
        'interop/test_bonsai.py::test_the_experiment_starts_and_ends_with_the_camera_workflow',
        'interop/test_bonsai.py::test_a_failed_command_ends_the_sequence_or_is_a_response',
        'interop/test_bonsai.py::test_responses_of_all_services_come_in_the_order_of_the_elements',
        'interop/test_bonsai.py::test_events_come_to_all_who_asked_for_them',
        'interop/test_bonsai.py::test_a_stop_withdraws_what_no_worker_has_taken',
    ),
    'LabVIEW': (
        'interop/test_labview.py::test_a_session_by_the_steps_of_the_guide',
        'interop/test_labview.py::test_a_failing_service_ends_the_session_with_an_interrupt_and_is_named',
        'interop/test_labview.py::test_the_clusters_fit_every_kind_of_response',
        'interop/test_labview.py::test_a_camera_that_dies_is_an_event',
        'interop/test_labview.py::test_a_stopped_command_is_given_up_and_the_next_one_gets_its_own_answer',
    ),
}


def matrix() -> dict[str, dict[str, str]]:
    """Return the rows of the table, by language and column."""
    manual = (ROOT / 'examples' / 'README.md').read_text(encoding='utf-8')
    lines = re.search(r'^\| language \| kit .*\n((?:\|.*\n)+)', manual, re.MULTILINE)
    assert lines
    head, _, *rows = [[cell.strip() for cell in line.strip('| ').split(' | ')] for line in lines[0].splitlines()]
    assert tuple(head[2:]) == COLUMNS
    rows = [[re.sub(r'\[(.*)\]\(.*\)', r'\1', row[0]), *row[1:]] for row in rows]
    return {row[0]: dict(zip(head[1:], row[1:], strict=True)) for row in rows}


@pytest.fixture(scope='module')
def collected() -> set[str]:
    """All tests there are."""
    command = [sys.executable, '-m', 'pytest', '--collect-only', '-q', '-m', '', 'tests']
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    return {line.removeprefix('tests/') for line in done.stdout.splitlines() if '::' in line}


def test_there_is_a_row_for_each_kit():
    kits = {row['kit'].strip('`') for row in matrix().values()}
    assert kits == {f'--{name}' for name in KITS if name != 'julia'}


@pytest.mark.parametrize('language', sorted(matrix()))
def test_every_cell_of_the_matrix_is_a_test(language, collected):
    row = matrix()[language]
    assert all(row[column] for column in COLUMNS)
    kit = row['kit'].strip('`-')
    wanted = OWN.get(language) or [f'interop/test_languages.py::{name}[{kit}]' for name in SHARED]
    assert len(wanted) == len(COLUMNS)
    assert set(wanted) <= collected, set(wanted) - collected
