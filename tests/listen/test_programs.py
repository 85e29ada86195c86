"""A program as a service: real masters on one side, the C functions on the other, a worker in between."""

from __future__ import annotations

import json
import random
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
from peers import eventually, free_port
from processes import kill, put_the_pc_to_sleep, serving
from relay import Relay, chance
from running_listeners import Running
from serving_programs import Program, Serving
from stock_masters import Stock

from bridge.auxiliaries import Auxiliaries
from bridge.cli import lines
from bridge.config import ListenerConfig
from bridge.errors import BridgeError
from bridge.journal import Journal, Reading
from bridge.listen import server
from bridge.listen.server import NotBound, bound, ignored
from bridge.numbers import CODES
from bridge.segment.served import Segment
from bridge.segment.serving import Answer, Incoming
from bridge.worker import Worker

REF = '2026-01-01_1_subject'
INTERRUPT, STATUS, INFO = 16, 32, 64
MESSAGES = ['EXPINFO', 'EXPINIT', 'EXPSTART', 'EXPSTATUS', 'EXPEND', 'EXPCLEANUP']


@pytest.fixture
def running():
    with Running() as running:
        yield running


def test_a_stock_master_takes_a_program_through_an_experiment(running):
    with Program('rig', lambda asked: {'frames': 3} if asked['message'] == 'EXPEND' else None) as program:
        with Stock(running.port) as master:
            ask, services = master.run, master.services
            assert ask(services.info('CONNECTED', None))['cameras'][0] == 0
            assert ask(services.init({'exp_ref': REF}))['cameras'] == [10, {'exp_ref': REF}]
            assert ask(services.start(REF, {'note': 1}))['cameras'] == [REF, {'status': 20}]
            assert ask(services.status('RUNNING'))['cameras'] == [20]
            assert ask(services.stop())['cameras'] == [{'frames': 3, 'status': 30}]
            assert ask(services.cleanup())['cameras'] == [{'status': 0}]
            assert master.is_open
        asked = program.asked
        assert [one['message'] for one in asked] == MESSAGES
        assert list(asked[2]) == ['command', 'service', 'master', 'message', 'args', 'time', 'wall', 'timeout_ms']
        assert asked[2]['args'] == [REF, {'note': 1}] and asked[2]['timeout_ms'] == 8000
        assert set(program.codes) == {0}


def test_a_session_as_iblrig_runs_it_finds_in_each_reply_what_it_looks_for(running):
    """Forms as its session code and its `Auxiliaries` (8.24 to 8.29) send them: maps, parts of a reference, ``[]``."""
    parts = {'date': '2026-01-01', 'sequence': 1, 'subject': 'subject'}
    with Program('rig', mask=2 + 4) as program, Stock(running.port) as master:
        ask, services = master.run, master.services
        status, info = ask(services.info('CONNECTED', {'subject_name': 'subject'}))['cameras']
        assert (status, info['main_sync'], info['exp_ref']) == (0, False, None)
        assert ask(services.init({'exp_ref': parts}))['cameras'] == [10, {'exp_ref': REF}]
        assert ask(services.start(parts, {}))['cameras'] == [REF, {'status': 20}]
        assert ask(services.info('RUNNING', {}))['cameras'][1]['exp_ref'] == REF
        assert ask(services.stop([]))['cameras'] == [{'status': 30}]  # its arguments, of which there are none
        assert ask(services.cleanup())['cameras'] == [{'status': 0}]
        assert master.is_open
        assert [(one['message'], one['args'][0]) for one in program.asked] == [('EXPSTART', REF), ('EXPEND', [])]


def test_our_own_auxiliaries_are_a_master_too(running):
    with Program('rig') as program, Auxiliaries_of(running.port) as master:
        said = [master.push(*command, wait=True)['cameras'] for command in (
            ('EXPINIT', {'exp_ref': REF}), ('EXPSTART', REF), ('EXPINFO', 'RUNNING'), ('EXPEND',), ('EXPCLEANUP',)
        )]  # fmt: skip
        assert said[0] == [10, {'exp_ref': REF}] and said[1] == [REF, {'status': 20}]
        assert said[2][0] == 20 and said[2][1]['exp_ref'] == REF and said[2][1]['main_sync'] is False
        assert said[3] == [{'status': 30}] and said[4] == [{'status': 0}]
        outcome = master.submit('EXPSTATUS', 0).result(10)['cameras']
        assert outcome.ok and outcome.status == 0 and len(program.asked) == 6


def Auxiliaries_of(port):
    class Open(Auxiliaries):
        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.close()

    return Open({'cameras': f'udp://127.0.0.1:{port}'})


def test_without_a_program_the_master_is_told_at_once(running):
    with Stock(running.port) as master:
        begun = time.monotonic()
        master.begin(master.services.start(REF))
        event, (sentence, about) = eventually(lambda: master.told and master.told[0])
        assert event == 0 and about == 2 and 'no program serves cameras' in sentence
        assert time.monotonic() - begun < 5 and master.is_open


def test_what_a_program_does_not_want_or_cannot_do_is_said(running):
    def refuse(asked):
        raise RuntimeError('Camera 2 does not answer.')

    with Program('rig', refuse, mask=2 + 4), Auxiliaries_of(running.port) as master:
        assert master.submit('EXPINIT', {'exp_ref': REF}).result(10)['cameras'].status == 10
        failed = master.submit('EXPSTART', REF).result(10)['cameras']
        assert not failed.ok and 'Camera 2 does not answer.' in failed.error


def test_two_programs_cannot_serve_one_listener_and_a_listener_must_exist(running):
    first = Serving('rig', 'one')
    with pytest.raises(BridgeError) as refused:
        Serving('rig', 'two')
    assert refused.value.name == 'IBLB_E_NAME_TAKEN'
    with pytest.raises(BridgeError) as refused:
        Serving('rig', 'three', service='ephys')
    assert 'cameras' in refused.value.text
    first.close()


def test_what_a_program_says_by_itself_reaches_the_master(running):
    with Program('rig') as program, Stock(running.port) as master:
        master.run(master.services.start(REF))
        assert program.serving.tell(INTERRUPT, {'why': 'camera 2 died'}) == 0
        eventually(lambda: (16, [{'why': 'camera 2 died', 'status': 30}]) in master.told)
        assert program.serving.tell(STATUS, 20) == 0
        eventually(lambda: (32, [20]) in master.told)
        assert program.serving.tell(INFO, {'cameras': 3}) == 0
        eventually(lambda: master.run(master.services.info('RUNNING'))['cameras'][1].get('cameras') == 3)
        assert master.is_open


def test_a_program_that_does_not_answer_in_time_hears_that_it_is_too_late():
    with Running(ListenerConfig('cameras', port=0, timeout=0.3)) as running:
        program = Serving('rig')
        with Stock(running.port) as master:
            master.begin(master.services.start(REF))
            command, _ = eventually(lambda: program.next(100))
            eventually(lambda: master.told)
            assert 'did not answer within 0.3 s' in master.told[0][1][0]
            assert program.answer(command) == CODES['IBLB_E_LATE']
            assert program.answer(command) == CODES['IBLB_E_COMMAND']
            master.begin(master.services.stop())
            command, asked = eventually(lambda: program.next(100))
            assert asked['message'] == 'EXPEND' and program.answer(command) == 0
        program.close()


def test_an_interrupt_is_handed_beside_a_command_that_was_taken(running):
    program = Serving('rig')
    with Stock(running.port) as first, Auxiliaries_of(running.port) as second:
        start = first.begin(first.services.start(REF))
        command, _ = eventually(lambda: program.next(100))
        stop = second.submit('EXPINTERRUPT')
        interrupt, asked = eventually(lambda: program.next(100))
        assert asked['message'] == 'EXPINTERRUPT' and program.answer(interrupt) == 0
        assert stop.result(10)['cameras'].ok
        assert program.answer(command, status=30) == 0
        assert start.result(10)['cameras'] == [None, {'status': 30}] or start.result(10)['cameras'][1]['status'] == 30
    program.close()


def test_the_journal_holds_what_was_asked_and_no_token(tmp_path):
    journal = Journal(tmp_path / 'rig.jsonl')
    with Running(journal=journal) as running, Program('rig') as program, Auxiliaries_of(running.port) as master:
        master.push('EXPSTART', REF, wait=True)
        assert master.submit('ALYX', 'https://alyx', {'user': 'secret-token'}).result(10)['cameras'].ok
        eventually(lambda: len(program.asked) == 2)
        assert program.asked[1]['args'] == ['https://alyx', {'user': 'secret-token'}]
        eventually(lambda: len(program.codes) == 2)
    journal.close()
    text = (tmp_path / 'rig.jsonl').read_text()
    entries = [entry for entry in Reading(tmp_path / 'rig.jsonl') if entry['kind'] in ('asked', 'replied')]
    assert [(one['kind'], one['message']) for one in entries] == [
        ('asked', 'EXPSTART'), ('replied', 'EXPSTART'), ('asked', 'ALYX'), ('replied', 'ALYX')
    ]  # fmt: skip
    assert entries[0]['command_id'] == entries[1]['command_id'] and entries[0]['args'] == [REF, None]
    assert entries[1]['ok'] is True and entries[1]['client'] == 'program'
    assert 'secret-token' not in text
    shown = [lines.line(entry, 200, fold=False) for entry in entries]
    assert 'by 127.0.0.1:' in shown[0] and REF in shown[0] and shown[1].endswith('"status": 20}]')
    assert lines.mark({**entries[1], 'ok': False, 'error': 'no'}) == '!'
    assert not any(b'secret-token' in path.read_bytes() for path in tmp_path.glob('.rig.*'))


def test_a_worker_commands_its_services_and_is_one_itself(running):
    """Both directions on one segment: a master commands the program, which commands a service of the same worker."""
    port = free_port()
    both = Worker('rig2', {'lamp': f'127.0.0.1:{running.port}'}, listeners=[ListenerConfig('ephys', port=port)])
    thread = threading.Thread(target=both.run, daemon=True)
    thread.start()
    from bridge.segment.client import Client

    with Program('rig') as lamp, Client('rig2') as client:

        def pass_on(asked):
            return client.call(asked['message'], *asked['args'])['services'][0]['data']

        with Program('rig2', pass_on), Stock(port) as master:
            reply = master.run(master.services.start(REF))['cameras']
            assert reply == [REF, {'value': [REF, {'status': 20}], 'status': 20}]
        assert 'EXPSTART' in [one['message'] for one in lamp.asked]
    both.stop()
    thread.join(10)
    both.close()


@pytest.mark.not_wine('what is sent from 127.0.0.2 may come from 127.0.0.1 there, and is no stranger')
def test_a_flood_of_strangers_and_of_nonsense_holds_up_nobody():
    with Running(ListenerConfig('cameras', port=0, masters=('127.0.0.1',))) as running, Program('rig') as program:
        flood = started('flood', running.port, '127.0.0.2', '127.0.0.3')
        try:
            with Stock(running.port) as master:
                for _ in range(20):
                    master.run(master.services.start(REF))
                    master.run(master.services.stop())
        finally:
            kill(flood)
            flood.stdout.close()
        assert {one['message'] for one in program.asked} == {'EXPSTART', 'EXPEND'}
        assert {one['master'].split(':')[0] for one in program.asked} == {'127.0.0.1'}


def test_a_stranger_is_told_that_it_may_not_and_the_log_says_who_it_was_and_what_to_do(caplog):
    with Running(ListenerConfig('cameras', port=0, masters=('10.0.0.1',))) as running, Stock(running.port) as master:
        master.begin(master.services.start(REF))
        eventually(lambda: master.told)
        assert 'PermissionError: 127.0.0.1 may not command cameras' in master.told[0][1][0]
        said = 'cameras: refused 1 message of 127.0.0.1, which may not command; if it may, name it under masters'
        eventually(lambda: said in caplog.text)


@pytest.mark.parametrize(
    ('counts', 'says'),
    [
        ({'malformed': 1, 'copies': 3}, 'ignored 1 message that is no command: another program sends to this port'),
        ({'masters too many': 2}, 'ignored 2 messages, as too many masters command at once'),
        ({'copies': 3}, ''),
    ],
)
def test_what_was_no_command_is_said_with_the_reason(counts, says):
    assert ignored(counts, '') == says


def test_one_port_is_never_shared(running):
    with pytest.raises(NotBound, match='another program listens there'):
        bound('127.0.0.1', running.port)


# --- a faulty network ---


def test_over_a_faulty_network_our_own_master_is_answered_and_nothing_is_done_twice(running):
    faults = {'duplicate': 0.3, 'delay': 0.3}
    rule = chance(7, command=faults, confirmation=faults, reply=faults, echo={**faults, 'drop': 0.3})
    with Program('rig') as program, Relay(running.port, rule) as relay:
        with Auxiliaries_of(relay.uri.rpartition(':')[2]) as master:
            for number in range(60):
                message = ('EXPINIT', 'EXPSTART', 'EXPEND', 'EXPCLEANUP')[number % 4]
                args = (f'2026-01-01_{number}_s',) if message == 'EXPSTART' else ({'n': number},)
                assert master.submit(message, *args).result(20)['cameras'].ok, number
        assert len(program.asked) == 60
        assert max(Counter(json.dumps(one['args']) for one in program.asked).values()) == 1


def test_a_network_that_doubles_what_a_stock_master_sends_closes_it_not_and_starts_no_storm(running):
    rule = chance(7, command={'duplicate': 0.5}, confirmation={'duplicate': 0.5})
    with Program('rig') as program, Relay(running.port, rule) as relay:
        with Stock(int(relay.uri.rpartition(':')[2])) as master:
            for number in range(40):
                master.run(master.services.start(f'2026-01-01_{number}_s'))
                master.run(master.services.stop({'n': number}))
            assert master.is_open
        assert len(program.asked) == 80 and sum(relay.counts.values()) < 1000


# --- restarts and deaths ---

HELPERS = Path(__file__).parent.parent
PROGRAM = """
import sys
sys.path[:0] = {path!r}
import serving_programs
serving_programs.{what}(*sys.argv[1:])
"""


def started(what, *arguments):
    """Start a function of `serving_programs` in a process of its own."""
    code = PROGRAM.format(path=[str(HELPERS)], what=what)
    process = subprocess.Popen([sys.executable, '-c', code, *map(str, arguments)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == 'ready\n'
    return process


def camera(log):
    return started('main', 'rig', log)


def test_a_program_that_is_killed_with_a_command_in_hand_is_told_at_once(running):
    process = started('take_and_sleep', 'rig')
    with Stock(running.port) as master:
        master.begin(master.services.start(REF))
        assert process.stdout.readline() == 'taken\n'
        kill(process)
        eventually(lambda: master.told)
        assert 'ended before it answered' in master.told[0][1][0] and master.told[0][1][1] == 2
    process.stdout.close()


def test_a_program_that_ends_while_it_runs_is_told_by_an_interrupt(running, tmp_path):
    process = camera(tmp_path / 'log')
    with Stock(running.port) as master:
        master.run(master.services.start(REF))
        kill(process)
        event, data = eventually(lambda: master.told and master.told[0])
        assert event == 16 and data[0]['status'] == 30 and 'ended' in data[0]['error']
        with Program('rig'):
            assert master.run(master.services.info('RUNNING'))['cameras'][0] == 30
    process.stdout.close()


def test_a_program_that_ended_and_is_back_at_once_under_its_name_has_ended_all_the_same(running):
    first = Program('rig')
    with Stock(running.port) as master:
        master.run(master.services.start(REF))
        first.close()
        with Program('rig'):
            event, data = eventually(lambda: master.told and master.told[0])
            assert event == 16 and data[0]['status'] == 30


def test_a_program_that_runs_goes_on_with_the_next_worker():
    port = free_port()
    with Running(ListenerConfig('cameras', port=port)), Stock(port) as master:
        program = Program('rig')
        master.run(master.services.start(REF))
    with Running(ListenerConfig('cameras', port=port)) as running, Stock(port) as master:
        assert master.run(master.services.info('RUNNING'))['cameras'][0] == 20
        looks = running.worker._programs._behind['cameras']
        eventually(lambda: looks.client == 'program')
        assert master.run(master.services.status('RUNNING'))['cameras'] == [20]
        assert 16 not in [event for event, _ in master.told]
        program.close()


def test_the_worker_is_killed_and_the_next_one_delivers_the_answer(segment_directory):
    port = free_port()
    options = ['--listen', f'udp://127.0.0.1:{port}', '--as', 'cameras']
    with serving(*options) as first:
        program = Serving('rig')
        with Stock(port, timeout=20) as master:
            start = master.begin(master.services.start(REF))
            command, _ = eventually(lambda: program.next(100))
            kept = segment_directory / '.rig.listeners'
            eventually(lambda: kept.exists() and REF.encode() in kept.read_bytes())
            kill(first)
            assert program.answer(command, {'late': True}) == CODES['IBLB_W_NO_WORKER']
            with serving(*options):
                assert start.result(20)['cameras'] == [REF, {'late': True, 'status': 20}]
        program.close()


def test_what_was_taken_before_the_worker_died_is_answered_after(tmp_path):
    port = free_port()
    options = ['--listen', f'cameras=udp://127.0.0.1:{port}']
    with serving(*options) as first:
        program = Serving('rig')
        with Stock(port, timeout=20) as master:
            start = master.begin(master.services.start(REF))
            command, _ = eventually(lambda: program.next(100))
            kill(first)
            with serving(*options) as second:
                assert program.answer(command) == 0
                assert start.result(20)['cameras'] == [REF, {'status': 20}]
                stop = master.begin(master.services.stop())
                command, asked = eventually(lambda: program.next(100))
                assert asked['message'] == 'EXPEND' and program.answer(command) == 0
                assert stop.result(20)['cameras'] == [{'status': 30}]
                second.terminate()
                second.wait(20)
        program.close()


def test_what_lay_unread_while_the_worker_stood_still_is_not_begun(running, monkeypatch):
    """A worker was stopped over lunch, went on, and the program started the cameras of a master that had long gone."""
    monkeypatch.setattr(server, 'STOOD_STILL', 300 * 10**6)
    program, desk = Serving('rig'), running.worker._programs._servers['cameras'].desk
    stands, goes_on = threading.Event(), threading.Event()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as master:
        master.settimeout(0.1)

        def ask() -> bool:
            master.sendto(b'[2, "2026-01-01_1_subject", null]', ('127.0.0.1', running.port))
            with suppress(TimeoutError):
                return bool(master.recv(1000))
            return False

        eventually(lambda: running.worker._programs._servers['cameras'].is_open)
        running.worker._carrier.thread.ring(lambda: (stands.set(), goes_on.wait(20)))
        assert stands.wait(20)
        since = time.monotonic()
        assert not ask()
        while time.monotonic() < since + 0.4:
            time.sleep(0.01)
        goes_on.set()
        eventually(lambda: desk.counts['old'])
        assert program.next(0) is None and desk.is_quiet
        eventually(ask)
        eventually(lambda: program.next(100))
    program.close()


@pytest.mark.parametrize(
    'master',
    [None, 5, '', '10.0.0.1', '10.0.0.1:', '10.0.0:5', '10.0.0.256:5', '10.0.0.1:65536', '١.0.0.1:5',
     f'{"9" * 5000}.0.0.1:5', f'10.0.0.1:{"9" * 5000}'],
    ids=lambda master: str(master)[:20],
)  # fmt: skip
def test_what_a_broken_program_answers_to_somebody_that_there_cannot_be_is_dropped(running, master):
    """A number of more digits than Python reads ended the worker."""
    programs = running.worker._programs
    answer = Answer('cameras', 0, 1, 2, master, -1, False, None)
    done = threading.Event()
    programs._thread.ring(lambda: (programs._guarded(programs._answered, answer, time.perf_counter_ns()), done.set()))
    assert done.wait(20) and not running.worker._failure
    assert not programs._servers['cameras'].desk._masters


def test_what_masters_asked_before_the_pc_slept_is_not_begun_and_they_are_told(running, segment_directory):
    """The clock of the time-outs stands still meanwhile: the program started its cameras hours later."""
    program = Serving('rig')
    with Stock(running.port, timeout=20) as first, Stock(running.port, timeout=20) as second:
        first.begin(first.services.start(REF))
        second.begin(second.services.init({'exp_ref': REF}))
        eventually(lambda: len(running.worker._programs._servers['cameras'].desk.owed) == 2)
        put_the_pc_to_sleep(segment_directory / 'rig', 3)
        for master in first, second:
            eventually(lambda master=master: master.told)
            assert 'slept before this was begun; ask again' in master.told[0][1][0]
        assert program.next(0) is None
        with Stock(running.port, timeout=20) as third:
            start = third.begin(third.services.start(REF))
            command, _ = eventually(lambda: program.next(100))
            assert program.answer(command) == 0 and start.result(20)['cameras'] == [REF, {'status': 20}]
    program.close()


@pytest.mark.parametrize('accepts', [False, True])
def test_an_answer_that_the_worker_before_had_in_hand_is_delivered(accepts):
    before = Segment('rig')
    incoming = Incoming(before)
    incoming.publish(['cameras'])
    program = Serving('rig')
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as master:
        master.bind(('127.0.0.1', 0))
        master.settimeout(10)
        address = f'127.0.0.1:{master.getsockname()[1]}'
        body = {'service': 'cameras', 'master': address, 'message': 'EXPEND', 'args': [None], 'timeout_ms': 8000}
        code, _ = incoming.hand('cameras', 4, time.perf_counter_ns(), 8000, body)
        assert code == 0
        command, _ = program.next()
        assert program.answer(command, {'frames': 7}) == 0
        if accepts:
            _, (taken,) = before.take(1.0)
            assert before.accept(taken) == 0
        before.close()
        with Running():
            message = json.loads(master.recv(1000))
            assert message == [4, {'frames': 7, 'status': 30}]
    program.close()
    with Running():  # the slot is free again: nothing is left in it
        again = Serving('rig')
        again.close()


def test_a_worker_that_is_hurried_tells_the_master_of_what_is_in_hand():
    with Running() as running, Stock(running.port) as master:
        program = Serving('rig')
        master.begin(master.services.start(REF))
        command, _ = eventually(lambda: program.next(100))
        running.worker.stop()
        running.worker.stop()
        assert 'the worker was stopped' in eventually(lambda: master.told and master.told[0])[1][0]
        assert program.answer(command) == CODES['IBLB_E_LATE']
        program.close()


def test_a_free_port_is_kept_over_a_restart():
    with Running() as running:
        port = running.port
    with Running() as running:
        assert running.port == port


def experiment(port, log, commands, kills):
    """Command with kills of worker and program in between; returns how often each was taken and how it was told."""
    rng = random.Random(3)
    options = ['--listen', f'cameras=udp://127.0.0.1:{port}']
    told: dict[str, str] = {}
    with_worker = serving(*options)
    worker = with_worker.__enter__()
    program = camera(log)
    try:
        with Auxiliaries_of(port) as master:
            for number in range(commands):
                message = ('EXPINIT', 'EXPSTART', 'EXPEND', 'EXPCLEANUP')[number % 4]
                args = (f'2026-01-01_{number}_s',) if message == 'EXPSTART' else ({'n': number},)
                future = master.submit(message, *args)
                if rng.random() < kills:
                    time.sleep(rng.random() * 0.02)
                    if rng.random() < 0.5:
                        kill(program)
                        program.stdout.close()
                        program = camera(log)
                    else:
                        kill(worker)
                        worker.communicate()
                        with_worker.__exit__(None, None, None)
                        with_worker = serving(*options)
                        worker = with_worker.__enter__()
                outcome = future.result(30)['cameras']
                told[f'{message} {number}'] = 'ok' if outcome.ok else outcome.error
    finally:
        kill(program)
        program.stdout.close()
        with_worker.__exit__(None, None, None)
    taken = Counter()
    for line in Path(log).read_text().splitlines():
        asked = json.loads(line)
        first = asked['args'][0]
        taken[f'{asked["message"]} {first.split("_")[1] if isinstance(first, str) else first["n"]}'] += 1
    return told, taken


@pytest.mark.parametrize('commands', [40, pytest.param(1000, marks=pytest.mark.long)])
def test_whoever_is_killed_each_command_is_done_at_most_once_and_told_truly(commands, tmp_path):
    told, taken = experiment(free_port(), tmp_path / 'log', commands, 0.2)
    assert len(told) == commands and max(taken.values()) == 1
    done = [one for one, said in told.items() if said == 'ok']
    assert all(taken[one] == 1 for one in done), 'told as done and never taken'
    assert len(done) > commands // 2
