"""What masters ask of a listener counts in every view of a journal as what programs command."""

from __future__ import annotations

import json

import pytest

from bridge.cli import main
from bridge.cli.journal.experiments import experiment
from bridge.cli.journal.summary import summarize

REF, OTHER = '2026-01-01_1_subject', '2026-01-01_2_subject'


def entries(*found):
    """Return entries of a journal, one second apart; what is answered by the number in its place."""
    return [
        {'time': 10**9 * (1 + i), 'wall': f'2026-01-01T10:00:{i:02d}+00:00', **entry} for i, entry in enumerate(found)
    ]


def asked(message, number, *args):
    key = f'listened-{number}'
    return {'kind': 'asked', 'message': message, 'command_id': key, 'service': 'cameras', 'args': list(args)}


def replied(message, number, error=''):
    key = f'listened-{number}'
    return {
        'kind': 'replied', 'message': message, 'command_id': key, 'service': 'cameras', 'ok': not error, 'error': error
    }  # fmt: skip


def command(message, number, *args):
    return {'kind': 'command', 'message': message, 'command_id': f'sent-{number}', 'args': list(args)}


def outcome(message, number):
    return {'kind': 'outcome', 'message': message, 'command_id': f'sent-{number}', 'code': 0, 'services': []}


def test_an_experiment_that_a_master_began_ends_with_its_cleanup():
    found = entries(
        asked('EXPSTART', 1, OTHER), replied('EXPSTART', 1),
        asked('EXPINIT', 2, {'exp_ref': REF}), replied('EXPINIT', 2), asked('EXPSTART', 3, REF), replied('EXPSTART', 3),
        asked('EXPCLEANUP', 4), replied('EXPCLEANUP', 4), asked('EXPSTATUS', 5),
    )  # fmt: skip
    assert list(experiment(found, REF)) == found[2:8]
    assert list(experiment(found, OTHER)) == found[:2]


def test_an_end_that_the_program_passes_on_ends_with_the_answer_to_its_master():
    found = entries(
        asked('EXPSTART', 1, REF), command('EXPSTART', 1, REF), outcome('EXPSTART', 1), replied('EXPSTART', 1),
        asked('EXPCLEANUP', 2), command('EXPCLEANUP', 2), outcome('EXPCLEANUP', 2), replied('EXPCLEANUP', 2),
        command('EXPSTATUS', 3), outcome('EXPSTATUS', 3),
    )  # fmt: skip
    assert list(experiment(found, REF)) == found[:8]


@pytest.mark.parametrize('args', [({'exp_ref': OTHER},), ()])
def test_what_a_master_begins_does_not_end_what_the_programs_run(args):
    """A master's EXPINIT hid the EXPEND and EXPCLEANUP of the experiment that this rig commanded meanwhile."""
    found = entries(
        command('EXPINIT', 1), outcome('EXPINIT', 1), command('EXPSTART', 2, REF), outcome('EXPSTART', 2),
        asked('EXPINIT', 1, *args), replied('EXPINIT', 1), asked('EXPSTART', 2, OTHER), replied('EXPSTART', 2),
        {'kind': 'event', 'event': 'EXPINTERRUPT'}, command('EXPEND', 3), outcome('EXPEND', 3),
        command('EXPCLEANUP', 4), outcome('EXPCLEANUP', 4),
        asked('EXPEND', 3), replied('EXPEND', 3), command('EXPSTATUS', 5), outcome('EXPSTATUS', 5),
        asked('EXPCLEANUP', 4), replied('EXPCLEANUP', 4), command('EXPSTATUS', 6), outcome('EXPSTATUS', 6),
    )  # fmt: skip
    ours = found[:4] + found[8:13]
    if not args:  # it does not say of what it is, so it may be of this one
        ours[4:4] = found[4:6]
    assert list(experiment(found, REF)) == ours
    assert list(experiment(found, OTHER)) == [*found[4:9], *found[13:19]]


def test_two_listeners_have_an_experiment_each():
    ephys = [asked('EXPSTART', 7, OTHER), replied('EXPSTART', 7)]
    for entry in ephys:
        entry.update(service='ephys', command_id='other-7')
    found = entries(
        asked('EXPSTART', 1, REF), replied('EXPSTART', 1), *ephys, asked('EXPCLEANUP', 2), replied('EXPCLEANUP', 2)
    )
    assert list(experiment(found, REF)) == [*found[:2], *found[4:]]
    assert list(experiment(found, OTHER)) == [*found[2:4]]


def test_what_masters_asked_is_counted_apart_from_what_programs_sent():
    found = entries(
        asked('EXPSTART', 1, REF), replied('EXPSTART', 1), asked('EXPSTART', 2, REF), replied('EXPSTART', 2, 'no'),
        command('EXPSTART', 1, REF), outcome('EXPSTART', 1),
    )  # fmt: skip
    rows = [(row.message, row.service, row.count, row.failed, row.took) for row in summarize(found)]
    assert rows == [('EXPSTART', 'all', 1, 0, []), ('EXPSTART', 'as cameras', 2, 1, [1000.0, 1000.0])]


def test_what_the_worker_answers_alone_is_nobody_elses_in_the_summary():
    """Services and listeners, which were asked nothing, had rows under SERVICES."""
    told = outcome('SERVICES', 1)
    told['services'] = [
        {'name': 'cameras', 'ok': True, 'data': {'role': 'listener'}},
        {'name': 'ephys', 'ok': True, 'data': {'role': 'service'}},
    ]
    rows = summarize(entries(command('SERVICES', 1), told))
    assert [(row.service, row.count) for row in rows] == [('all', 1)]


@pytest.mark.parametrize('option', [(), ('--summary',)])
def test_a_worker_that_only_listens_has_a_journal_that_counts(option, tmp_path, capsys):
    place = tmp_path / 'rig.jsonl'
    found = entries(asked('EXPINIT', 1), replied('EXPINIT', 1), asked('EXPEND', 2), replied('EXPEND', 2, 'it is stuck'))
    place.write_text(''.join(json.dumps(entry) + '\n' for entry in found))
    assert main(['journal', str(place), *option]) == 0
    shown = capsys.readouterr().out
    assert 'as cameras' in shown if option else '2 commands were answered: 1 failed.' in shown
