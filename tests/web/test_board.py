"""What is known of a rig, as the page shows it: values, with the clock passed in."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.segment.inspection import Report, Service, Slot
from bridge.segment.listeners import Listener
from bridge.web.board import LAST, SILENT, Board
from bridge.web.known import Moment

REF = '2026-01-01_1_subject'
BEGIN = 1_767_225_600.0


def at(seconds: float) -> Moment:
    return Moment(1000.0 + seconds, BEGIN + seconds)


def report(**changes) -> Report:
    return Report(
        **{
            'name': 'rig0', 'kind': 'segment', 'code': 0, 'sentence': '', 'worker_alive': True, 'boot': 'this',
            'worker': {'pid': 42, 'process': 'python3', 'age': 1.0, 'epoch': 1, 'stopped': False},
            'health': [Service('cameras', False, 1.0), Service('ephys', False, 1.0)], 'size': 16,
            'slots': [Slot(0, 'claimed', True, 'stimulus', 'matlab', 7, 5.0, 3),
                      Slot(15, 'claimed', True, 'iblb-page-9', 'python3', 9, 5.0, 0)],
            **changes,
        }
    )  # fmt: skip


def health(name: str, **changes) -> dict:
    return {
        'name': name, 'health': 'up', 'age_ms': 0, 'rtt_us': 800, 'status': 0, 'exp_ref': '', 'last_error': '',
        **changes,
    }  # fmt: skip


def progress(name: str, key: str = '', message: str = '', *, ok: bool = True, **changes) -> dict:
    done = {'name': name, 'ok': ok, 'state': 'answered', 'error': '' if ok else 'x', 'sent': 1, 'answered': 2_000_001}
    return {
        'event': 'COMMAND', 'kind': 'progress', 'command_id': key, 'message': message,
        'services': [done] if key else [], 'health': health(name, **changes),
    }  # fmt: skip


def command(key: str = '1', message: str = 'EXPSTART', **changes) -> dict:
    return {
        'event': 'COMMAND', 'kind': 'command', 'command_id': key, 'message': message, 'client': 'stimulus',
        'services': '', 'args': [REF], 'sent': 1, 'wall': at(0).text(), **changes,
    }  # fmt: skip


def outcome(key: str = '1', message: str = 'EXPSTART', **changes) -> dict:
    return command(key, message) | {'kind': 'outcome', 'code': 0, 'error': '', 'services': [], 'finished': 5, **changes}


def event(name: str, **changes) -> dict:
    return {'event': name, 'service': '', 'client': '', 'data': {}, 'time': 1, 'wall': at(0).text(), **changes}


def running() -> Board:
    """Return a board of two services that have begun to run an experiment at 0 s."""
    board = Board('rig0')
    board.look(report(), at(-1))
    board.take(progress('cameras'), at(-1))
    board.take(progress('ephys'), at(-1))
    board.take(command(), at(0))
    for name in ('cameras', 'ephys'):
        board.take(progress(name, '1', 'EXPSTART', status=20, exp_ref=REF), at(0.2))
    board.take(outcome(), at(0.2))
    return board


def lights(board: Board, moment: Moment) -> dict[str, str]:
    return {one['name']: one['light'] for one in board.snapshot(moment)['services']}


def titles(board: Board, moment: Moment) -> list[str]:
    return [alarm['title'] for alarm in board.snapshot(moment)['alarms']]


def test_a_light_is_green_for_who_was_heard_lately_yellow_for_the_silent_and_red_for_who_is_down():
    board = Board('rig0')
    board.look(report(), at(0))
    board.take(progress('cameras'), at(0))
    board.take(progress('ephys', health='down', last_error='it is off'), at(0))
    assert lights(board, at(1)) == {'cameras': 'green', 'ephys': 'red'}
    board.take({'event': 'COMMAND', 'kind': 'tick'}, at(30))
    board.look(report(health=[Service('cameras', False, 31.0), Service('ephys', True, None)]), at(31))
    assert lights(board, at(31)) == {'cameras': 'yellow', 'ephys': 'red'}


def test_who_answers_but_has_failed_its_last_command_is_not_green():
    board = Board('rig0')
    board.look(report(), at(0))
    board.take(progress('cameras', last_error='its callback raised'), at(0))
    assert lights(board, at(1))['cameras'] == 'yellow'


def test_nothing_is_green_without_a_worker_with_a_stopped_one_or_with_one_that_says_nothing():
    board = running()
    assert set(lights(board, at(1)).values()) == {'green'}
    stopped = report(worker={'pid': 42, 'epoch': 1, 'stopped': True})
    for seen, moment, state in (
        (report(worker_alive=False), at(1), 'none'),
        (None, at(1), 'none'),
        (stopped, at(1), 'stopped'),
        (report(), at(1 + SILENT), 'silent'),
    ):
        board.look(report(), at(1))
        board.look(seen, moment)
        assert set(lights(board, moment).values()) == {'none'}
        assert board.snapshot(moment)['worker']['state'] == state


def test_a_worker_that_took_over_has_as_much_time_as_the_one_before():
    board = running()
    board.look(report(worker_alive=False), at(60))
    board.look(report(worker={'pid': 43, 'epoch': 2, 'stopped': False}), at(61))
    assert board.snapshot(at(62))['worker']['state'] == 'serving'
    board.look(report(worker={'pid': 43, 'epoch': 2, 'stopped': False}), at(62 + SILENT))
    assert board.snapshot(at(62 + SILENT))['worker']['state'] == 'silent'


def test_since_when_is_said_and_whether_that_was_seen():
    board = running()
    cameras = board.snapshot(at(10))['services'][0]
    assert cameras['since'] == at(-1).text() and cameras['since_s'] == 11.0
    assert cameras['status_since'] == at(0.2).text() and cameras['status_since_seen']
    board.take(event('SERVICE_DOWN', service='cameras', data={'value': 'no echo'}), at(11))
    cameras = board.snapshot(at(12))['services'][0]
    assert (cameras['since'], cameras['since_seen'], cameras['last_error']) == (at(11).text(), True, 'no echo')


def test_the_experiment_runs_from_its_start_to_the_last_service_that_has_stopped():
    board = running()
    assert board.snapshot(at(60))['experiment'] == {
        'exp_ref': REF, 'running': True, 'started': at(0).text(), 'started_seen': True, 'ended': '', 'took_s': 60.0,
    }  # fmt: skip
    board.take(progress('cameras', '2', 'EXPEND', status=30, exp_ref=REF), at(70))
    assert board.snapshot(at(71))['experiment']['running']
    board.take(progress('ephys', '2', 'EXPEND', status=30, exp_ref=REF), at(80))
    experiment = board.snapshot(at(90))['experiment']
    assert (experiment['running'], experiment['ended'], experiment['took_s']) == (False, at(80).text(), 80.0)
    assert experiment['exp_ref'] == REF


def test_a_second_experiment_is_not_the_first_one_that_goes_on():
    board = running()
    for name in ('cameras', 'ephys'):
        board.take(progress(name, '2', 'EXPEND', status=30, exp_ref=REF), at(80))
    board.take(command('3', wall=at(100).text()), at(100))
    board.take(progress('cameras', '3', 'EXPSTART', status=20, exp_ref='2026-01-01_2_subject'), at(100))
    experiment = board.snapshot(at(110))['experiment']
    assert (experiment['exp_ref'], experiment['took_s']) == ('2026-01-01_2_subject', 10.0)


def test_of_an_experiment_that_ran_before_the_page_did_only_the_least_time_is_known():
    board = Board('rig0')
    board.look(report(), at(0))
    board.learn({'services': [{'data': health('cameras', status=20, exp_ref=REF)}]}, at(0))
    experiment = board.snapshot(at(5))['experiment']
    assert experiment['running'] and not experiment['started_seen'] and experiment['exp_ref'] == REF


def test_a_service_that_is_lost_during_a_recording_is_an_alarm_once_and_what_is_back_is_said_to_be():
    board = running()
    for _ in range(3):
        board.take(event('SERVICE_DOWN', service='cameras', data={'value': 'no echo'}), at(5))
        board.look(report(health=[Service('cameras', True, 5.0), Service('ephys', False, 1.0)]), at(6))
    (alarm,) = board.snapshot(at(7))['alarms']
    assert alarm == {'id': alarm['id'], 'title': 'cameras is lost', 'text': 'no echo', 'wall': at(5).text(), 'over': ''}
    board.take(event('SERVICE_UP', service='cameras'), at(8))
    assert board.snapshot(at(9))['alarms'][0]['over'] == at(8).text()
    board.take(event('SERVICE_DOWN', service='cameras', data={'value': 'again'}), at(10))
    assert [alarm['text'] for alarm in board.snapshot(at(11))['alarms']] == ['no echo', 'again']


def test_a_service_that_dies_of_the_end_is_lost_during_the_recording():
    board = running()
    board.take(command('2', 'EXPEND'), at(60))
    board.take(progress('ephys', '2', 'EXPEND', status=30, exp_ref=REF), at(60))
    board.take(event('SERVICE_DOWN', service='cameras', data={'value': 'no echo'}), at(61))
    board.take(progress('cameras', '2', 'EXPEND', ok=False, status=-1, health='down'), at(61))
    assert titles(board, at(61)) == ['cameras is lost']
    assert board.snapshot(at(62))['experiment']['running']
    done = [{'name': name, 'ok': name == 'ephys', 'state': 'x', 'error': ''} for name in ('cameras', 'ephys')]
    board.take(outcome('2', 'EXPEND', code=-8070, error='x', services=done), at(63))
    assert board.snapshot(at(64))['experiment']['ended'] == at(63).text(), 'it does not go on for who is away'


@pytest.mark.parametrize('message', ['EXPEND', 'EXPINTERRUPT', 'EXPCLEANUP'])
@pytest.mark.parametrize('to', [('cameras', 'ephys'), ('ephys',)])
def test_the_recording_of_a_service_that_is_down_ends_with_the_others_and_stays_so_while_it_is_asked(message, to):
    second = '2026-01-01_2_subject'
    board = running()

    def is_asked(moment: Moment) -> None:
        """Ask it, who is down: the worker tells what it said before."""
        board.take(progress('cameras', status=20, exp_ref=REF, health='down', last_error='no echo'), moment)

    board.take(event('SERVICE_DOWN', service='cameras', data={'value': 'no echo'}), at(10))
    is_asked(at(12))
    assert board.snapshot(at(13))['experiment']['running']
    board.take(progress('ephys', '2', message, status=30, exp_ref=REF), at(60))
    is_asked(at(60))
    done = [{'name': name, 'ok': name == 'ephys', 'state': 'x', 'error': ''} for name in to]
    board.take(outcome('2', message, services=done), at(61))
    for moment in (62, 64):
        is_asked(at(moment))
        experiment = board.snapshot(at(moment))['experiment']
        assert (experiment['running'], experiment['exp_ref'], experiment['took_s']) == (False, REF, 61.0)
    board.take(command('3', args=[second], wall=at(100).text()), at(100))
    board.take(progress('ephys', '3', 'EXPSTART', status=20, exp_ref=second), at(100))
    is_asked(at(101))
    experiment = board.snapshot(at(110))['experiment']
    assert (experiment['running'], experiment['exp_ref'], experiment['took_s']) == (True, second, 10.0)
    assert [(alarm['title'], alarm['over']) for alarm in board.snapshot(at(110))['alarms']] == [('cameras is lost', '')]


def test_the_next_experiment_is_shown_though_nobody_has_ended_the_one_of_a_service_that_is_down():
    second = '2026-01-01_2_subject'
    board = running()
    board.take(progress('cameras', status=20, exp_ref=REF, health='down'), at(10))
    board.take(command('2', args=[second]), at(20))
    board.take(progress('ephys', '2', 'EXPSTART', status=20, exp_ref=second), at(20))
    board.take(outcome('2'), at(21))
    assert board.snapshot(at(22))['experiment']['exp_ref'] == second


def test_what_is_remembered_of_a_service_that_is_down_begins_no_recording_and_what_it_says_when_it_is_back_does():
    board = Board('rig0')
    board.look(report(health=[Service('cameras', True, 60.0)]), at(0))
    board.learn({'services': [{'data': health('cameras', status=20, exp_ref=REF, health='down')}]}, at(0))
    assert not board.snapshot(at(1))['experiment']['running']
    board.take(progress('cameras', status=20, exp_ref=REF), at(2))
    assert board.snapshot(at(3))['experiment']['running']


def test_outside_of_a_recording_and_before_it_a_service_that_is_down_is_no_alarm():
    board = Board('rig0')
    board.look(report(), at(0))
    board.take(progress('cameras'), at(0))
    board.take(event('SERVICE_DOWN', service='ephys', data={'value': 'off'}), at(1))
    board.take(command(), at(2))
    board.take(progress('cameras', '1', 'EXPSTART', status=20, exp_ref=REF), at(2))
    assert titles(board, at(3)) == []
    board.take(event('SERVICE_UP', service='ephys'), at(4))
    board.take(event('SERVICE_DOWN', service='ephys', data={'value': 'off again'}), at(5))
    assert titles(board, at(6)) == ['ephys is lost']


def test_who_opens_the_page_in_the_middle_is_told_who_is_down():
    board = Board('rig0')
    board.look(report(health=[Service('cameras', False, 1.0), Service('ephys', True, None)]), at(0))
    board.learn({'services': [{'data': health('cameras', status=20)}, {'data': health('ephys', health='down')}]}, at(0))
    assert titles(board, at(1)) == ['ephys is lost']


def test_the_loss_of_the_worker_of_a_program_and_of_the_experiment_are_alarms_and_so_is_an_interrupt_by_a_service():
    board = running()
    board.take(event('EXPINTERRUPT', service='cameras', data={'value': 'out of disk'}), at(1))
    board.take(event('EXPERIMENT_LOST', service='ephys', data={'value': {'exp_ref': REF, 'status': 0}}), at(2))
    board.take(event('CLIENT_LOST', client='stimulus'), at(3))
    board.look(report(worker_alive=False), at(4))
    board.look(report(), at(5))
    alarms = board.snapshot(at(6))['alarms']
    assert [(alarm['title'], alarm['text']) for alarm in alarms] == [
        ('cameras says that it was interrupted', 'out of disk'),
        ('ephys has lost the experiment', f'{REF}; now it says CONNECTED'),
        ('The program stimulus ended without closing', ''),
        ('The worker is lost', 'Nobody passes commands on to the services.'),
    ]
    assert alarms[3]['over'] == at(5).text()


def test_a_command_shows_each_outcome_as_it_comes():
    board = Board('rig0')
    board.look(report(), at(0))
    board.take(command(), at(0))
    (shown,) = board.snapshot(at(0))['commands']
    assert (shown['message'], shown['argument'], shown['client'], shown['finished'], shown['services']) == (
        'EXPSTART', REF, 'stimulus', False, [],
    )  # fmt: skip
    board.take(progress('ephys', '1', 'EXPSTART'), at(1))
    (shown,) = board.snapshot(at(1))['commands']
    assert shown['services'] == [{'name': 'ephys', 'ok': True, 'state': 'answered', 'error': '', 'took_ms': 2.0}]
    done = [{'name': n, 'ok': n == 'ephys', 'state': 'echoed', 'error': '', 'sent': 1, 'echoed': 3, 'answered': 0}
            for n in ('cameras', 'ephys')]  # fmt: skip
    board.take(outcome(code=-8070, error='cameras: x', services=done, finished=9_000_001), at(2))
    (shown,) = board.snapshot(at(2))['commands']
    assert [one['name'] for one in shown['services']] == ['cameras', 'ephys']
    assert (shown['code_name'], shown['took_ms'], shown['finished']) == ('IBLB_E_PARTIAL', 9.0, True)
    assert board.results == {('EXPSTART', 'failed'): 1}
    assert [one['failures'] for one in board.snapshot(at(2))['services']] == [1, 0]


def test_an_outcome_whose_command_was_missed_is_shown_and_only_the_last_ones_are_kept():
    board = Board('rig0')
    for number in range(3 * LAST):
        board.take(outcome(str(number)), at(number))
    keys = [one['command_id'] for one in board.snapshot(at(99))['commands']]
    assert keys == [str(number) for number in range(2 * LAST, 3 * LAST)]


def test_what_the_worker_answers_itself_is_no_command_of_the_rig():
    board = Board('rig0')
    for entry in (command('1', 'SERVICES'), command('2', 'PING'), command('3', kind='served'), command('')):
        board.take(entry, at(0))
    assert board.snapshot(at(0))['commands'] == []


def listening(**changes) -> Report:
    cameras = {'name': 'cameras', 'uri': 'udp://127.0.0.1:11001', 'client': 'camera.exe', 'pid': 8, 'status': 20}
    return report(health=[], listeners=[Listener(**(cameras | {'exp_ref': REF, 'age': 1.0} | changes))])


def test_a_worker_that_only_listens_shows_who_serves_what_masters_asked_and_the_experiment_that_they_run():
    board = Board('rig0')
    asked = {
        'event': 'COMMAND',
        'command_id': '1',
        'message': 'EXPSTART',
        'service': 'cameras',
        'master': '192.168.0.3:5',
    }
    board.take(asked | {'kind': 'asked', 'args': [REF], 'wall': at(0).text()}, at(0))
    board.look(listening(), at(1))
    said = board.snapshot(at(2))
    (listener,), (command,) = said['listeners'], said['commands']
    assert (listener['client'], listener['light'], listener['status_name']) == ('camera.exe', 'green', 'RUNNING')
    assert (command['client'], command['to'], command['result']) == ('192.168.0.3:5', 'cameras', 'under way')
    assert (said['experiment']['running'], said['experiment']['exp_ref']) == (True, REF)
    board.take(asked | {'kind': 'replied', 'ok': False, 'error': 'it is off'}, at(3))
    (command,) = board.snapshot(at(3))['commands']
    assert (command['result'], command['error'], command['services'][0]['ok']) == ('failed', 'it is off', False)


def test_a_program_that_is_a_service_and_leaves_during_a_recording_is_an_alarm():
    board = Board('rig0')
    board.look(listening(client='', status=0), at(0))
    assert board.snapshot(at(0))['listeners'][0]['light'] == 'red' and titles(board, at(0)) == []
    board.look(listening(), at(1))
    board.look(listening(client='', status=30), at(2))
    assert titles(board, at(2)) == ['No program is cameras any more']
    board.look(listening(), at(3))
    assert board.snapshot(at(3))['alarms'][0]['over'] == at(3).text()


def test_without_a_worker_a_listener_is_not_known_to_be_served():
    board = Board('rig0')
    board.look(listening()._replace(worker_alive=False), at(0))
    assert board.snapshot(at(0))['listeners'][0]['light'] == 'none'


def test_programs_are_shown_and_tools_are_not():
    board = Board('rig0')
    board.look(report(), at(0))
    (program,) = board.snapshot(at(0))['programs']
    assert (program['client'], program['process'], program['pid'], program['pending']) == ('stimulus', 'matlab', 7, 3)


def test_services_are_in_configured_order_and_one_that_is_gone_is_not_shown():
    board = Board('rig0')
    board.take(progress('ephys'), at(0))
    board.take(progress('old'), at(0))
    board.look(report(), at(0))
    assert [one['name'] for one in board.snapshot(at(0))['services']] == ['cameras', 'ephys']


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
KEYS = (
    'event',
    'kind',
    'command_id',
    'message',
    'services',
    'args',
    'code',
    'error',
    'service',
    'client',
    'data',
    'sent',
)


@settings(deadline=None, max_examples=200)
@given(st.lists(st.dictionaries(st.sampled_from(KEYS), ANYTHING | st.sampled_from(
    ['COMMAND', 'progress', 'outcome', 'SERVICE_DOWN', 'EXPERIMENT_LOST', 'cameras'])), max_size=8))  # fmt: skip
def test_whatever_is_told_there_is_a_state_of_bounded_size(entries):
    board = running()
    for entry in entries:
        board.take({**event('EXPINTERRUPT'), **entry}, at(1))
    assert board.snapshot(at(2)).keys() == Board('rig0').snapshot(at(2)).keys()
