"""What is known of a service's status and experiment, from what it says: as functions of values."""

from __future__ import annotations

from typing import Any

import pytest

from bridge.numbers import MESSAGES
from bridge.outcome import Outcome, Reason
from bridge.services.rules import reported_status
from bridge.worker.health import Health, Lost, said_reference

REF, OTHER = '2026-01-01_1_subject', '2026-01-01_2_subject'
PARTS = {'date': '2026-01-01', 'sequence': 1, 'subject': 'subject'}
CONNECTED, INITIALIZED, RUNNING, STOPPED = 0, 10, 20, 30
CHANGING = ('EXPINIT', 'EXPSTART', 'EXPEND', 'EXPINTERRUPT', 'EXPCLEANUP')


def answered(message: str, *reply: Any) -> Outcome:
    number = MESSAGES[message]
    status = reported_status(number, reply)
    return Outcome('a', True, 'answered', reply=list(reply), event=number, status=status, sent=1, echoed=2, answered=3)


UNHEARD = Outcome('a', state='unreachable', reason=Reason.NO_ECHO, error='no echo', sent=1)
REFUSED = Outcome('a', state='unreachable', reason=Reason.REFUSED, error='refused', sent=1)
UNANSWERED = Outcome('a', state='echoed', reason=Reason.NO_REPLY, error='no reply', sent=1, echoed=2)
RAISED = Outcome('a', state='echoed', reason=Reason.CALLBACK_FAILED, error='OSError', sent=1, echoed=2)
OVERTAKEN = Outcome('a', state='unreachable', reason=Reason.ABORTED, error='aborted', sent=1)
NOT_SENT = Outcome('a', state='not_sent', reason=Reason.EXPIRED, error='too old')


def running(ref: str | None = REF) -> Health:
    health = Health()
    health.note(answered('EXPSTART', ref, {'status': RUNNING, 'exp_ref': ref}), 'EXPSTART', ref)
    return health


def known(health: Health) -> tuple[int, str]:
    return health.status, health.exp_ref


@pytest.mark.parametrize(
    ('message', 'reply', 'expected'),
    [
        ('EXPINIT', [{'status': INITIALIZED, 'exp_ref': REF}], (INITIALIZED, REF)),
        ('EXPINIT', [INITIALIZED, {'exp_ref': REF}], (INITIALIZED, REF)),
        ('EXPSTART', [REF, None], (-1, REF)),
        ('EXPSTART', [OTHER, {'status': RUNNING, 'exp_ref': REF}], (RUNNING, REF)),
        ('EXPEND', [{'status': STOPPED, 'exp_ref': REF}], (STOPPED, REF)),
        ('EXPINTERRUPT', [{'status': STOPPED, 'exp_ref': REF}], (STOPPED, REF)),
        ('EXPCLEANUP', [{'status': CONNECTED, 'exp_ref': None}], (CONNECTED, '')),
        ('EXPSTATUS', [RUNNING, {'exp_ref': REF}], (RUNNING, REF)),
        (
            'EXPINFO',
            [RUNNING, {'exp_ref': {'date': '2026-01-01', 'sequence': 1, 'subject': 'subject'}}],
            (RUNNING, REF),
        ),
        ('EXPINFO', [RUNNING, {'exp_ref': [REF]}], (RUNNING, '')),
        ('EXPEND', ['done', {'name': 'a'}, {'status': STOPPED, 'exp_ref': REF}], (STOPPED, REF)),
        ('ALYX', ['https://alyx.org', {'exp_ref': {'token': 's3cret'}}], (-1, '')),
    ],
)
def test_status_and_reference_are_learned_from_the_reply_to_every_message(message, reply, expected):
    health = Health()
    health.note(answered(message, *reply), message)
    assert known(health) == expected


def test_a_start_that_is_answered_without_a_reference_is_that_of_the_command():
    for asked in (REF, PARTS):
        health = Health()
        health.note(answered('EXPSTART', None), 'EXPSTART', asked)
        assert known(health) == (-1, REF)


@pytest.mark.parametrize('outcome', [UNHEARD, UNANSWERED, RAISED, OVERTAKEN], ids=lambda outcome: outcome.reason.value)
@pytest.mark.parametrize('message', CHANGING)
def test_what_a_command_may_have_changed_is_not_known_until_it_is_told(message, outcome):
    health = running()
    health.note(outcome, message)
    assert health.status == -1
    assert health.exp_ref == (REF if message in ('EXPEND', 'EXPINTERRUPT') else '')
    health.note(answered('EXPINFO', STOPPED, {'exp_ref': REF}), 'EXPINFO')
    assert known(health) == (STOPPED, REF) and health.lost is None, 'it was our own command that may have ended it'


def test_an_answer_that_does_not_say_what_the_service_does_now_is_no_reason_to_believe_the_old():
    health = running()
    health.note(answered('EXPEND', None), 'EXPEND')
    assert known(health) == (-1, REF)


def test_a_question_changes_nothing_and_neither_does_what_was_not_sent_or_refused():
    health = running()
    for message in ('EXPSTATUS', 'EXPINFO', 'ALYX'):
        health.note(UNANSWERED, message)
    health.note(NOT_SENT, 'EXPEND')
    assert known(health) == (RUNNING, REF)
    health.note(REFUSED, 'EXPEND')
    assert known(health) == (RUNNING, REF) and health.state(4) == 'down', 'as it last reported'


def test_what_a_service_was_before_it_was_away_is_not_what_it_is():
    health = running()
    health.note(REFUSED, 'EXPSTATUS')
    health.note(answered('ALYX', 'https://alyx.org', {}), 'ALYX')
    assert known(health) == (-1, '') and health.state(4) == 'up' and health.lost is None


@pytest.mark.parametrize(
    ('message', 'says', 'status'),
    [
        ('EXPINFO', [CONNECTED, {'exp_ref': None}], CONNECTED),
        ('EXPSTATUS', [CONNECTED], CONNECTED),
        ('EXPSTATUS', [STOPPED], STOPPED),
        ('EXPINFO', [STOPPED, {'exp_ref': REF}], STOPPED),
        ('EXPINFO', [INITIALIZED, {'exp_ref': OTHER}], INITIALIZED),
        ('EXPINFO', [RUNNING, {'exp_ref': OTHER}], RUNNING),
        ('EXPINFO', [RUNNING, {'exp_ref': None}], RUNNING),
    ],
)
@pytest.mark.parametrize('unasked', [False, True])
def test_a_service_that_comes_back_without_its_experiment_has_lost_it_and_that_is_told_once(
    message, says, status, unasked
):
    health = running()
    health.note(REFUSED, 'EXPSTATUS')
    for _ in range(2):
        if unasked:
            health.hear(message, says, 5)
        else:
            health.note(answered(message, *says), message)
        assert health.lost == Lost(REF, status)
    health.lost = None
    health.note(answered(message, *says), message)
    assert health.lost is None


def test_a_command_that_was_refused_has_ended_nothing():
    health = running()
    health.note(REFUSED, 'EXPEND')
    health.note(answered('EXPSTATUS', CONNECTED), 'EXPSTATUS')
    assert health.lost == Lost(REF, CONNECTED)


@pytest.mark.parametrize(
    ('message', 'says'),
    [
        ('EXPINFO', [RUNNING, {'exp_ref': REF}]),
        ('EXPINFO', [RUNNING, None]),
        ('EXPSTATUS', [RUNNING]),
        ('ALYX', ['https://alyx.org', {}]),
    ],
)
def test_a_service_that_comes_back_with_its_experiment_has_lost_nothing(message, says):
    health = running()
    health.note(UNHEARD, 'EXPSTATUS')
    health.note(answered(message, *says), message)
    assert health.lost is None
    health.note(answered('EXPINFO', CONNECTED, {'exp_ref': None}), 'EXPINFO')
    assert health.lost == Lost(REF, CONNECTED), 'it is looked at further on'


def test_a_restart_that_nobody_noticed_is_a_loss_too_and_an_end_by_the_service_itself_is_none():
    for says in ([CONNECTED, {'exp_ref': None}], [INITIALIZED, {'exp_ref': REF}], [RUNNING, {'exp_ref': OTHER}]):
        health = running()
        health.note(answered('EXPINFO', *says), 'EXPINFO')
        assert health.lost == Lost(REF, says[0])
    for says in ([STOPPED, {'exp_ref': REF}], [STOPPED, None]):
        health = running()
        health.note(answered('EXPINFO', *says), 'EXPINFO')
        assert health.lost is None, 'its operator has stopped it'
    health = running()
    health.hear('EXPINTERRUPT', ['the camera died'], 5)
    assert known(health) == (-1, REF)
    health.note(answered('EXPINFO', CONNECTED, {'exp_ref': None}), 'EXPINFO')
    assert health.lost is None, 'it has said so itself'


@pytest.mark.parametrize('message', CHANGING)
def test_what_our_own_command_ends_or_replaces_is_not_lost(message):
    for reply in ([{'status': STOPPED, 'exp_ref': None}], [None], [OTHER, {'status': RUNNING, 'exp_ref': OTHER}]):
        health = running()
        health.note(REFUSED, 'EXPSTATUS')
        health.note(answered(message, *reply), message, OTHER)
        health.note(answered('EXPINFO', CONNECTED, {'exp_ref': None}), 'EXPINFO')
        assert health.lost is None or (health.lost.exp_ref == OTHER and reply[0] == OTHER)


@pytest.mark.parametrize('unasked', [False, True])
@pytest.mark.parametrize(('before', 'now'), [(RUNNING, CONNECTED), (RUNNING, INITIALIZED), (STOPPED, CONNECTED)])
def test_the_experiment_of_before_a_restart_that_nobody_noticed_is_not_told_as_the_services_word(before, now, unasked):
    """Killed and started anew between two heartbeats, a camera was said to be CONNECTED with the old experiment."""
    health = running()
    health.note(answered('EXPINFO', before, {'exp_ref': REF}), 'EXPINFO')
    if unasked:
        health.hear('EXPSTATUS', [now], 5)
    else:
        health.note(answered('EXPSTATUS', now), 'EXPSTATUS')
    assert known(health) == (now, '') and health.lost == (Lost(REF, now) if before == RUNNING else None)


def test_a_status_that_goes_on_keeps_the_experiment():
    health = Health()
    for status in (INITIALIZED, RUNNING, RUNNING, STOPPED):
        health.note(answered('EXPINFO', status, {'exp_ref': REF} if status == INITIALIZED else None), 'EXPINFO')
        assert known(health) == (status, REF)


def test_a_service_that_never_says_its_status_loses_nothing():
    """A stock service that sends back what it got: the status that it seems to say is that of whoever asks."""
    health = Health()
    health.note(answered('EXPSTART', REF, None), 'EXPSTART', REF)
    health.note(answered('EXPINFO', CONNECTED, None), 'EXPINFO')
    assert health.lost is None and known(health) == (CONNECTED, REF)


@pytest.mark.parametrize(
    ('said', 'known'),
    [
        ('a\nb', 'a b'),
        ('a\x1b[31mb', 'a [31mb'),
        ('\u202ea', 'a'),
        (12345, '12345'),
        ('x' * 5000, 'x' * 994 + ' [...]'),
        (['a'], ''),
        ({'date': '2026-01-01\n', 'sequence': 1, 'subject': 'a'}, '2026-01-01 _1_a'),
    ],
)
def test_a_reference_is_one_line_of_bounded_length_whatever_a_service_says(said, known):
    """It is logged when it is lost, and stands in a table: a line of its own could say anything."""
    health = Health()
    health.hear('EXPINFO', [20, {'exp_ref': said}], 1)
    assert health.exp_ref == known and health.exp_ref.isprintable()


def test_a_number_in_the_place_of_the_reference_is_none():
    assert said_reference('EXPSTART', [20, {'exp_ref': ['a']}]) == ''


@pytest.mark.parametrize('message', CHANGING)
@pytest.mark.parametrize('failed', [UNHEARD, REFUSED, UNANSWERED, RAISED, NOT_SENT])
def test_that_a_question_is_answered_does_not_undo_that_a_command_has_failed(message, failed):
    health = Health()
    health.note(failed, message)
    for question in ('EXPSTATUS', 'EXPINFO', 'ALYX'):
        health.note(answered(question, CONNECTED), question)
        assert health.describe(5)['last_error'] == failed.error, question
    health.hear('EXPSTATUS', [CONNECTED], 5)
    assert health.error == failed.error
    health.note(OVERTAKEN, 'EXPSTART')
    assert health.error == failed.error
    health.note(answered('EXPEND', None), 'EXPEND')
    assert health.error == ''


def test_a_question_that_fails_is_the_last_error_until_one_is_answered_or_a_command_is():
    health = running()
    health.note(UNHEARD, 'EXPSTATUS')
    assert health.error == 'no echo'
    health.note(answered('EXPINFO', RUNNING), 'EXPINFO')
    assert health.error == ''
    health.note(RAISED, 'EXPEND')
    health.note(UNHEARD, 'EXPSTATUS')
    assert health.error == 'no echo'
    health.note(answered('EXPSTATUS', RUNNING), 'EXPSTATUS')
    assert health.error.endswith('OSError'), 'what the command failed of is said again'
    health.note(UNHEARD, 'EXPSTATUS')
    health.note(answered('EXPEND', None), 'EXPEND')
    assert health.error == ''


@pytest.mark.parametrize('message', ['EXPEND', 'EXPINTERRUPT', 'EXPCLEANUP'])
@pytest.mark.parametrize('failed', [UNHEARD, REFUSED, UNANSWERED, RAISED, NOT_SENT])
def test_a_service_that_runs_on_after_an_end_that_failed_is_told_once_and_is_its_last_error(message, failed):
    """A camera that was held up did EXPINIT and EXPSTART when it went on, and missed EXPEND: nothing said so."""
    health = Health()
    health.note(UNHEARD, 'EXPINIT')
    health.note(UNHEARD, 'EXPSTART', REF)
    health.note(failed, message)
    assert health.runs_on == '' and health.error == failed.error, 'it has said nothing since'
    health.hear('EXPINIT', [{'status': INITIALIZED, 'exp_ref': REF}], 5)
    assert health.runs_on == ''
    health.hear('EXPSTART', [REF, {'status': RUNNING, 'exp_ref': REF}], 6)
    said = f'It says RUNNING, though {message} was to end that. If EXPSTATUS still says so, send {message} again. '
    said += f'It had failed: {failed.error}'
    assert health.runs_on == health.describe(7)['last_error'] == said
    health.runs_on = ''
    health.note(answered('EXPSTATUS', RUNNING), 'EXPSTATUS')
    assert health.runs_on == '' and health.error == said
    health.note(answered(message, {'status': STOPPED}), message)
    assert health.error == ''
    health.note(answered('EXPSTATUS', RUNNING), 'EXPSTATUS')
    assert health.runs_on == health.error == '', 'that it ended is known'


@pytest.mark.parametrize(
    'good',
    [
        ('EXPEND', [{'status': STOPPED, 'exp_ref': REF}]),
        ('EXPEND', [None]),
        ('EXPINTERRUPT', ['the camera died']),
        ('EXPSTATUS', [STOPPED]),
    ],
)
def test_an_end_that_comes_late_leaves_nothing_to_be_sent_again(good):
    health = running()
    health.note(UNANSWERED, 'EXPEND')
    health.note(answered('EXPSTATUS', RUNNING), 'EXPSTATUS')
    assert 'send EXPEND again' in health.error
    health.hear(*good, 5)
    assert health.error == 'no reply'
    health.runs_on = ''
    health.note(answered('EXPSTATUS', RUNNING), 'EXPSTATUS')
    assert health.runs_on == '' and health.error == 'no reply'


def test_what_is_not_known_any_more_is_not_said_to_run_on():
    health = running()
    health.note(UNHEARD, 'EXPEND')
    health.note(answered('EXPSTATUS', RUNNING), 'EXPSTATUS')
    for question in (UNHEARD, answered('ALYX', 'https://alyx.org', {})):
        health.note(question, 'EXPSTATUS' if question is UNHEARD else 'ALYX')
    assert health.error == 'no echo' and health.status == -1
    health.note(answered('EXPSTART', OTHER, {'status': RUNNING, 'exp_ref': OTHER}), 'EXPSTART', OTHER)
    assert health.error == '', 'another command has come since'
    health.note(OVERTAKEN, 'EXPEND')
    health.note(answered('EXPSTATUS', RUNNING), 'EXPSTATUS')
    assert health.error == '', 'the EXPINTERRUPT that overtook it tells'
