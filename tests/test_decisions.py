"""The decisions, as functions of values."""

from __future__ import annotations

import pytest

from bridge.cli.journal.experiments import reference_of
from bridge.numbers import CODES, MESSAGES
from bridge.outcome import NOBODY, Outcome, Reason, status_of
from bridge.segment.response import command_id, shown_request
from bridge.services import rules
from bridge.services.rules import reported_status
from bridge.worker.health import UNKNOWN_AFTER, Health, said_reference

FINE = Outcome('ephys', True, 'answered', reply=[0], event=32, status=0, sent=1, echoed=2, answered=3)
DEAD = Outcome('cameras', False, 'unreachable', Reason.NO_ECHO, 'no echo', sent=1)
STOPPED = Outcome('sound', False, 'echoed', Reason.ABORTED, 'aborted by EXPINTERRUPT', sent=1, echoed=2)
RUNNING = Outcome('sound', False, 'answered', Reason.STATUS, 'reports RUNNING', status=20, sent=1, echoed=2, answered=3)
LATE = Outcome('ephys', False, 'not_sent', Reason.EXPIRED, 'too late')
BEHIND = Outcome('lamp', False, 'not_sent', Reason.AFTER, 'ephys did not do it')


@pytest.mark.parametrize(
    ('outcomes', 'optional', 'name', 'error'),
    [
        ([], (), 'IBLB_W_NO_SERVICES', NOBODY),
        ([FINE], (), 'IBLB_OK', ''),
        ([FINE, DEAD], (), 'IBLB_E_PARTIAL', 'cameras: no echo'),
        ([DEAD], (), 'IBLB_E_ALL_FAILED', 'cameras: no echo'),
        ([FINE, DEAD], ('cameras',), 'IBLB_W_OPTIONAL', 'cameras: no echo'),
        ([DEAD], ('ephys',), 'IBLB_E_ALL_FAILED', 'cameras: no echo'),
        ([FINE, RUNNING], (), 'IBLB_W_STATUS', 'sound: reports RUNNING'),
        ([FINE, RUNNING], ('sound',), 'IBLB_W_OPTIONAL', 'sound: reports RUNNING'),
        ([DEAD, RUNNING], (), 'IBLB_E_PARTIAL', 'cameras: no echo; sound: reports RUNNING'),
        ([DEAD, RUNNING], ('cameras',), 'IBLB_W_STATUS', 'cameras: no echo; sound: reports RUNNING'),
        ([LATE], (), 'IBLB_E_EXPIRED', 'ephys: too late'),
        ([LATE, DEAD], (), 'IBLB_E_ALL_FAILED', 'ephys: too late; cameras: no echo'),
        ([LATE, BEHIND], (), 'IBLB_E_EXPIRED', 'ephys: too late; lamp: ephys did not do it'),
        ([LATE, DEAD, BEHIND], (), 'IBLB_E_ALL_FAILED', 'ephys: too late; cameras: no echo; lamp: ephys did not do it'),
        ([DEAD, BEHIND], (), 'IBLB_E_ALL_FAILED', 'cameras: no echo; lamp: ephys did not do it'),
        ([FINE, STOPPED], (), 'IBLB_E_ABORTED', 'sound: aborted by EXPINTERRUPT'),
        ([DEAD, STOPPED], (), 'IBLB_E_ABORTED', 'cameras: no echo; sound: aborted by EXPINTERRUPT'),
        (
            [FINE, DEAD, STOPPED],
            ('cameras', 'sound'),
            'IBLB_W_OPTIONAL',
            'cameras: no echo; sound: aborted by EXPINTERRUPT',
        ),
    ],
)
def test_the_status_is_0_only_if_every_service_did_what_was_asked(outcomes, optional, name, error):
    assert status_of(outcomes, optional) == (CODES[name], error)


def test_a_service_is_unknown_up_and_down_as_its_outcomes_tell():
    health = Health()
    assert health.state(5) == 'unknown'
    health.note(FINE)
    assert health.state(5) == 'up'
    assert health.state(3 + UNKNOWN_AFTER) == 'unknown'
    health.note(DEAD)
    assert health.state(5) == 'down'
    assert health.describe(2_000_003) == {
        'health': 'down',
        'age_ms': 2,
        'rtt_us': 0,
        'status': 0,
        'exp_ref': '',
        'last_error': 'no echo',
    }
    health.note(FINE)
    assert health.state(5) == 'up' and not health.error


def test_a_command_that_never_left_says_nothing_about_the_service():
    health = Health()
    health.note(FINE)
    health.note(Outcome('ephys', False, 'not_sent', Reason.TOO_LARGE, 'too long'))
    assert health.state(5) == 'up'


def test_what_was_aborted_before_it_could_be_heard_of_says_nothing_about_the_service():
    health = Health()
    health.note(FINE)
    health.note(Outcome('ephys', False, 'unreachable', Reason.ABORTED, 'aborted by EXPINTERRUPT', sent=1))
    assert (health.state(5), health.error) == ('up', '')
    health.note(STOPPED)
    assert (health.state(5), health.error) == ('up', '')


def test_status_and_reference_are_what_the_service_said_last():
    health = Health()

    def answered(message, reply, asked=None):
        status = reported_status(MESSAGES[message], reply)
        said = Outcome('ephys', True, 'answered', reply=reply, status=status, sent=1, echoed=2, answered=3)
        health.note(said, message, asked)
        return health.status, health.exp_ref

    assert (health.status, health.exp_ref) == (-1, '')
    assert answered('EXPINIT', [20]) == (-1, '')
    assert answered('EXPSTATUS', [0]) == (0, '')
    assert answered('EXPSTART', ['ref_1', None]) == (-1, 'ref_1'), 'it is not what it was before'
    assert answered('EXPSTART', [], 'ref_2') == (-1, 'ref_2')
    assert answered('EXPINFO', [20, {'exp_ref': 'ref_3'}]) == (20, 'ref_3')
    assert answered('EXPINFO', [30, {'main_sync': True}]) == (30, 'ref_3')
    assert answered('EXPINFO', [0, {'exp_ref': None}]) == (0, '')
    assert answered('EXPINIT', [{'status': 10}]) == (10, '')
    assert answered('EXPSTATUS', [0]) == (0, '')
    for nonsense in ([], ['RUNNING'], [True], [-5], [2**40], [None, 7], [5]):
        assert answered('EXPINFO', nonsense) == (0, '')
        assert answered('EXPSTATUS', nonsense) == (0, '')
    health.hear('EXPSTATUS', [30], 7)
    assert (health.status, health.heard) == (30, 7)


def test_what_a_service_says_of_a_token_is_not_kept():
    health = Health()
    health.note(
        Outcome('ephys', False, 'echoed', Reason.CALLBACK_FAILED, 'it failed with s3cret', sent=1, echoed=2), 'ALYX'
    )
    assert health.error and 's3cret' not in health.error


def test_a_message_of_its_own_brings_a_service_up():
    health = Health()
    health.note(DEAD)
    health.hear('EXPINTERRUPT', ['disk full'], 9)
    assert health.state(10) == 'up'


def test_a_command_has_one_key_and_the_number_its_client_knows():
    assert command_id(0xABC, 3, 2**31 + 5) == '0000000000000abc-03-2147483653'
    assert shown_request(2**31 + 5) == 5


@pytest.mark.parametrize(
    ('value', 'text'),
    [
        ('2026-01-01_1_x', '2026-01-01_1_x'),
        ({'date': '2026-01-01', 'sequence': 1, 'subject': 'x_y'}, '2026-01-01_1_x_y'),
        ({'date': '2026-01-01', 'sequence': None, 'subject': 'x'}, None),
        ({'date': '2026-01-01'}, None),
        (5, None),
        (None, None),
        ([], None),
    ],
)
def test_a_reference_is_the_same_text_for_network_health_and_journal(value, text):
    assert rules.reference_text(value) == text
    assert rules.reference(rules.START, [value, None]) == rules.reference(rules.INIT, [{'exp_ref': value}]) == text
    assert reference_of([value]) == reference_of([{'exp_ref': value}]) == (text or '')
    if not isinstance(value, int):
        assert said_reference('EXPEND', [{'exp_ref': value}]) == (text or '')
