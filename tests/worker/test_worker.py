"""The worker between real clients and real services on loopback."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from peers import ScriptedPeer, StockServer, echo_and_reply, eventually, free_port, only_echo
from systems import stop

from bridge.config import ServiceConfig
from bridge.errors import BridgeError, Misuse, NoWorker, OutcomeUnknown, ServiceFailure, WorkerBusy
from bridge.numbers import CODES, LOCAL, MESSAGES
from bridge.segment.client import Client
from bridge.segment.served import Segment
from bridge.worker import Worker

REF = '2026-01-01_1_subject'
EIGHT = [
    ('EXPINFO', ('CONNECTED', {'exp_ref': REF, 'main_sync': True}), [0, {'exp_ref': REF, 'main_sync': True}]),
    ('EXPINIT', ({'note': 1},), [{'note': 1}]),
    ('EXPSTART', (REF, {'note': 2}), [REF, {'note': 2}]),
    ('EXPSTATUS', ('RUNNING',), [20]),
    ('EXPEND', (), [None]),
    ('EXPINTERRUPT', ('now',), ['now']),
    ('EXPCLEANUP', (), [None]),
    ('ALYX', (), [None, {}]),
]


def test_all_eight_messages_reach_two_plain_services_and_their_answers_come_back(serve):
    with StockServer() as cameras, StockServer() as ephys:
        serve('rig', {'cameras': cameras.uri, 'ephys': ephys.uri})
        with Client('rig') as client:
            for message, args, wire in EIGHT:
                body = client.call(message, *args)
                assert (body['code'], body['error'], body['message']) == (0, '', message)
                assert [entry['name'] for entry in body['services']] == ['cameras', 'ephys']
                for entry in body['services']:
                    assert entry['ok'] and entry['state'] == 'answered'
                    assert 0 < body['sent'] < body['accepted'] <= entry['sent'] < entry['echoed'] <= entry['answered']
                    assert entry['answered'] < body['finished']
                for service in (cameras, ephys):
                    assert service.saw[-1][1:] == wire


def test_an_alyx_token_is_sent_and_counts_as_done_when_it_is_echoed(serve):
    with StockServer(answers={128: None}) as server:
        serve('rig', {'cameras': server.uri})
        with Client('rig') as client:
            body = client.call('ALYX', 'https://alyx.example.org', {'user': {'token': 'secret'}})
        (entry,) = body['services']
        assert (body['code'], entry['ok'], entry['state'], entry['data']) == (0, True, 'echoed', {})
        eventually(lambda: server.saw)  # it echoes first, then it looks
        assert server.saw == [[128, 'https://alyx.example.org', {'user': {'token': 'secret'}}]]


@pytest.mark.parametrize('args', [('https://alyx.example.org',), ('https://alyx.example.org', None)])
def test_a_token_is_asked_for_of_a_service_that_answers_only_for_its_own_url(serve, args):
    """With nothing but a url it was refused, so iblrig's cameras could not be asked."""
    with StockServer() as server:
        serve('rig', {'cameras': server.uri})
        with Client('rig') as client:
            (entry,) = client.call('ALYX', *args)['services']
        assert (entry['ok'], entry['state']) == (True, 'answered')
        assert server.saw == [[128, 'https://alyx.example.org', {}]]


def test_a_token_is_never_logged(serve, caplog, capsys):
    caplog.set_level(0)
    with StockServer(answers={128: None}) as server:
        serve('rig', {'cameras': server.uri})
        with Client('rig') as client:
            client.call('ALYX', 'https://alyx.example.org', {'user': {'token': 'secret'}})
    output = capsys.readouterr()
    assert 'secret' not in caplog.text + output.out + output.err


def test_a_dead_service_is_named_and_the_other_is_served(serve):
    with StockServer() as ephys:
        serve('rig', {'cameras': f'udp://127.0.0.1:{free_port()}', 'ephys': ephys.uri})
        with Client('rig') as client, pytest.raises(ServiceFailure, match='cameras') as failure:
            client.call('EXPSTART', REF)
    assert failure.value.name == 'IBLB_E_PARTIAL'
    cameras, answered = failure.value.response['services']
    assert (cameras['ok'], cameras['state']) == (False, 'unreachable') and cameras['error']
    assert (answered['ok'], answered['state']) == (True, 'answered')
    assert failure.value.response['code'] == failure.value.code


def test_a_service_that_comes_back_is_used_again(serve):
    port = free_port()
    serve('rig', {'cameras': f'udp://127.0.0.1:{port}'})
    with Client('rig') as client:
        with pytest.raises(ServiceFailure) as failure:
            client.call('EXPINIT')
        assert failure.value.name == 'IBLB_E_ALL_FAILED'
        with StockServer(port=port):
            assert client.call('EXPINIT')['code'] == 0


def test_a_failing_optional_service_is_a_warning(serve):
    with StockServer() as ephys:
        lamp = ServiceConfig('lamp', f'udp://127.0.0.1:{free_port()}', optional=True)
        serve('rig', [ServiceConfig('ephys', ephys.uri), lamp])
        with Client('rig') as client:
            body = client.call('EXPINIT')
    assert body['code'] == CODES['IBLB_W_OPTIONAL'] and 'lamp' in body['error']


def test_an_unsupported_address_is_told_and_stops_nobody(serve):
    with StockServer() as ephys:
        serve('rig', {'scope': 'ws://127.0.0.1:8888', 'ephys': ephys.uri})
        with Client('rig') as client, pytest.raises(ServiceFailure) as failure:
            client.call('EXPINIT')
    scope, other = failure.value.response['services']
    assert (scope['state'], other['ok']) == ('not_sent', True)
    assert 'ws://' in scope['error']


def test_a_callback_that_raises_is_reported_at_once_with_its_words(serve):
    def raises(data):
        raise ValueError('no disk space')

    with StockServer(answers={2: raises}) as server:
        serve('rig', {'cameras': server.uri})
        with Client('rig') as client, pytest.raises(ServiceFailure, match='no disk space') as failure:
            client.call('EXPSTART', REF, timeout=5)
    assert failure.value.response['services'][0]['state'] == 'echoed'


def test_commands_are_dispatched_without_waiting_for_earlier_answers(serve):
    with ScriptedPeer(only_echo) as slow, StockServer() as quick:
        serve('rig', {'slow': slow.uri, 'quick': quick.uri}, timeout=30.0)
        with Client('rig') as client:
            waiting = client.send('EXPINIT', services=['slow'], ttl=None)
            eventually(lambda: slow.datagrams)
            assert client.call('EXPINIT', services=['quick'])['code'] == 0
            client.cancel(waiting)


def test_what_waits_for_a_busy_service_can_be_withdrawn(serve):
    with ScriptedPeer(only_echo) as slow:
        serve('rig', {'slow': slow.uri}, timeout=30.0)
        with Client('rig') as client:
            client.send('EXPINIT', ttl=None)
            eventually(lambda: slow.datagrams)
            behind = client.send('EXPSTART', REF)
            client.call('PING')
            assert client.cancel(behind) is True


def test_commands_of_several_clients_all_get_their_own_answer(serve):
    with StockServer() as server:
        serve('rig', {'cameras': server.uri})
        failures: list[object] = []

        def run(name: str) -> None:
            try:
                with Client('rig', name) as client:
                    for i in range(10):
                        body = client.call('EXPINIT', f'{name}-{i}')
                        assert body['services'][0]['data'] == {'value': f'{name}-{i}'}
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=run, args=(f'client-{i}',)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not failures
        assert len(server.saw) == 40


def test_an_interrupt_ends_a_wait_under_way_and_reaches_the_service(serve):
    def only_interrupts(peer, datagram):
        (echo_and_reply if b'[16' in datagram else only_echo)(peer, datagram)

    with ScriptedPeer(only_interrupts) as peer:
        serve('rig', {'cameras': peer.uri}, timeout=60.0)
        with Client('rig', 'a') as a, Client('rig', 'b') as b:
            start = a.send('EXPSTART', REF, ttl=None)
            eventually(lambda: peer.datagrams)
            behind = a.send('EXPEND', ttl=None)
            assert b.call('EXPINTERRUPT')['code'] == 0
            for request, state in ((start, 'echoed'), (behind, None)):
                with pytest.raises(ServiceFailure) as aborted:
                    a.wait(request, 5)
                assert aborted.value.name == 'IBLB_E_ABORTED'
                states = [entry['state'] for entry in aborted.value.response['services']]
                assert states == ([state] if state else states)


def test_a_command_that_grew_too_old_in_the_queue_is_expired_not_sent(serve):
    with ScriptedPeer(only_echo) as peer:
        serve('rig', {'cameras': peer.uri}, timeout=0.5)
        with Client('rig') as client:
            client.send('EXPINIT')
            old = client.send('EXPSTART', REF, ttl=0.05)
            with pytest.raises(ServiceFailure) as expired:
                client.wait(old, 5)
            assert expired.value.name == 'IBLB_E_EXPIRED'
            assert not [m for m in peer.messages if m[0] == 2]


@pytest.mark.parametrize(
    ('message', 'args', 'options', 'name'),
    [
        ('EXPSTART', (), {}, 'IBLB_E_ARGS'),
        ('EXPSTATUS', ('ASLEEP',), {}, 'IBLB_E_ARGS'),
        ('EXPINIT', ('x' * 65_500,), {}, 'IBLB_E_TOO_LARGE'),
        ('EXPINIT', ('x' * 200_000,), {}, 'IBLB_E_TOO_LARGE'),
        ('EXPINTERRUPT', ('x' * 2000,), {}, 'IBLB_E_TOO_LARGE'),
        ('EXPINIT', (), {'services': ['nobody']}, 'IBLB_E_SERVICE'),
        (3, (), {}, 'IBLB_E_MESSAGE'),
    ],
)
def test_what_is_refused_never_reaches_a_service(serve, message, args, options, name):
    with StockServer() as server:
        serve('rig', {'cameras': server.uri})
        with Client('rig') as client:
            with pytest.raises(Misuse) as refused:
                client.call(message, *args, **options)
            assert refused.value.name == name and refused.value.text
            client.call('EXPINIT', 'fine')
        assert server.saw == [[1, 'fine']]


def test_the_services_message_tells_what_is_known_of_each(serve):
    dead = f'udp://127.0.0.1:{free_port()}'
    with StockServer() as server:
        serve('rig', {'cameras': server.uri, 'ephys': dead})
        with Client('rig') as client:
            known = [entry['data']['health'] for entry in client.call('SERVICES')['services']]
            assert known == ['unknown', 'unknown']
            with pytest.raises(ServiceFailure):
                client.call('EXPINIT')
            cameras, ephys = (entry['data'] for entry in client.call('SERVICES')['services'])
            assert (cameras['name'], cameras['uri'], cameras['health']) == ('cameras', server.uri, 'up')
            assert (ephys['name'], ephys['uri'], ephys['health']) == ('ephys', dead, 'down')
            assert eventually(lambda: client.worker_state() == (True, 2, 1))


def test_a_notification_is_carried_out_and_counted(serve):
    with StockServer() as server:
        serve('rig', {'cameras': server.uri})
        with Client('rig') as client:
            client.notify('EXPINIT', 'quietly')
            assert eventually(lambda: server.saw == [[1, 'quietly']])
            client.call('PING')


@pytest.mark.parametrize('message', [name for name in MESSAGES if name not in LOCAL])
def test_a_command_that_reaches_nobody_because_there_is_no_service_says_so(serve, caplog, message):
    """A services file of nothing but comments, and EXPSTART gave 0."""
    serve('rig', {})
    with Client('rig') as client:
        body = client.call(message, *([REF] if message == 'EXPSTART' else []))
        assert (body['code'], body['services']) == (CODES['IBLB_W_NO_SERVICES'], [])
        assert '--services' in body['error'] and body['accepted'] and body['wall']
        assert str(CODES['IBLB_W_NO_SERVICES']) in caplog.text
        for local in LOCAL:
            assert client.call(local)['code'] == 0, 'who asks the worker alone is answered'


def test_a_large_answer_is_shortened_and_the_state_stays(serve):
    def verbose(peer, datagram):
        peer.send(datagram)
        if datagram.endswith(b' '):
            peer.send([1, 'x' * 30_000])

    with ScriptedPeer(verbose) as peer:
        serve('rig', {f's{i}': peer.uri for i in range(1)}, segment_options={'response_bytes': 64 << 10})
        with Client('rig') as client:
            body = client.call('EXPINIT')
    assert body['code'] == CODES['IBLB_W_SHORTENED']
    (entry,) = body['services']
    assert (entry['ok'], entry['state'], entry['data']) == (True, 'answered', {}) and '30' in entry['error']


def test_responses_that_nobody_reads_hold_up_nobody(serve):
    with StockServer() as server:
        serve('rig', {'cameras': server.uri}, segment_options={'response_bytes': 16 << 10})
        with Client('rig', 'lazy') as lazy, Client('rig', 'busy') as busy:
            requests = [lazy.send('PING') for _ in range(200)]  # more than its response ring holds
            assert busy.call('EXPINIT')['code'] == 0
            assert [lazy.wait(request, 5)['code'] for request in requests] == [0] * 200


def test_a_stop_answers_what_is_queued_and_aborts_what_is_under_way(serve):
    with ScriptedPeer(only_echo) as slow:
        worker = serve('rig', {'slow': slow.uri}, timeout=60.0)
        with Client('rig') as client:
            requests = [client.send('EXPSTART', REF, ttl=None), client.send('EXPEND', ttl=None)]
            eventually(lambda: slow.datagrams)
            worker.end_of_test()
            for request in requests:
                with pytest.raises(ServiceFailure) as aborted:
                    client.wait(request, 5)
                assert aborted.value.name == 'IBLB_E_ABORTED'
            assert not client.worker_state().alive
            with pytest.raises(NoWorker):
                client.call('PING', timeout=30)


def test_a_second_worker_is_refused_before_it_opens_a_socket(serve):
    serve('rig', {})
    with pytest.raises(WorkerBusy, match='process'):
        Worker('rig', {'cameras': 'udp://127.0.0.1:1'})


def test_a_worker_that_was_superseded_stops_and_says_so(segment_directory):
    worker = Worker('rig', {})
    failures: list[BaseException] = []

    def run() -> None:
        try:
            worker.run()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    with Client('rig') as client:
        client.call('PING')
        with open(segment_directory / 'rig', 'r+b') as file:  # the epoch, as a successor would write it
            file.seek(152)
            file.write(b'\x09')
        thread.join(10)
        assert not thread.is_alive()
        assert [getattr(error, 'name', error) for error in failures] == ['IBLB_E_SUPERSEDED']
    worker.close()


KILLED = """
import sys, threading
from bridge.worker import Worker
worker = Worker('rig', {'slow': sys.argv[1]}, timeout=60.0)
print('serving', flush=True)
worker.run()
"""


def test_after_a_killed_worker_what_it_had_begun_is_unknown_and_what_it_had_not_is_done(serve):
    with ScriptedPeer(only_echo) as slow, StockServer() as quick:
        first = subprocess.Popen([sys.executable, '-c', KILLED, slow.uri], stdout=subprocess.PIPE, text=True)
        try:
            assert first.stdout.readline() == 'serving\n'
            with Client('rig', timeout=5) as client:
                begun = client.send('EXPSTART', REF, ttl=None)
                eventually(lambda: slow.datagrams)
                stop(first)
                queued = client.send('PING', ttl=None)
                first.kill()
                first.wait(10)
                started = time.monotonic()
                with pytest.raises(NoWorker):
                    client.wait(begun, 30)
                assert time.monotonic() - started < 10, 'the wait on a dead worker used its time-out up'
                serve('rig', {'quick': quick.uri})
                with pytest.raises(OutcomeUnknown) as unknown:
                    client.wait(begun, 5)
                assert unknown.value.name == 'IBLB_E_OUTCOME_UNKNOWN'
                assert client.wait(queued, 5)['code'] == 0
                assert client.call('EXPSTART', REF)['code'] == 0
        finally:
            first.kill()
            first.wait(10)
            first.stdout.close()
    assert len([m for m in slow.messages if m[0] == 2]) == 1, 'never sent twice'


def test_a_killed_client_is_carried_out_and_its_slot_is_freed(serve):
    with StockServer() as server:
        serve('rig', {'cameras': server.uri})
        code = 'import os; from bridge import Client; c = Client("rig", "x"); c.send("EXPEND"); os.kill(os.getpid(), 9)'
        for _ in range(20):  # more than there are slots
            subprocess.run([sys.executable, '-c', code], check=False, timeout=30)
        assert eventually(lambda: len(server.saw) == 20)


def test_a_worker_without_room_for_its_segment_says_so():
    with pytest.raises(BridgeError, match='powers of two'):
        Segment('rig', command_bytes=12345)


def wake_ups() -> int:
    """How often any thread of this process but the caller's went to sleep."""
    total = 0
    for task in Path('/proc/self/task').iterdir():
        if int(task.name) != threading.get_native_id():
            status = (task / 'status').read_text()
            total += int(status.split('\nvoluntary_ctxt_switches:')[1].split()[0])
    return total


@pytest.mark.posix('counts what /proc tells')
def test_an_idle_worker_sleeps(serve):
    with StockServer() as server:
        serve('rig', {'cameras': server.uri})
        with Client('rig') as client:
            client.call('EXPINIT')
            before, started = wake_ups(), time.monotonic()
            threading.Event().wait(2)  # idle time itself is what is measured
            per_second = (wake_ups() - before) / (time.monotonic() - started)
    assert per_second < 40, 'something polls: the design wakes 10 times a second to look whether clients live'


def test_a_service_that_was_busy_until_the_time_to_live_ended_is_not_sent_the_command(serve):
    """It counted as begun once the free service had it; the busy one got it minutes late, perhaps."""
    with ScriptedPeer(echo_and_reply) as free, ScriptedPeer(only_echo) as busy:
        serve('rig', {'free': free.uri, 'busy': busy.uri}, timeout=1.0)
        with Client('rig') as client:
            first = client.send('EXPINIT', services=['busy'])
            eventually(lambda: busy.datagrams)
            second = client.send('EXPSTART', '2026-01-01_1_x', ttl=0.3)
            with pytest.raises(ServiceFailure):
                client.wait(first, 5)
            with pytest.raises(ServiceFailure) as failed:
                client.wait(second, 5)
            entries = {entry['name']: entry for entry in failed.value.response['services']}
            assert (entries['free']['ok'], entries['free']['state']) == (True, 'answered')
            assert (entries['busy']['ok'], entries['busy']['state']) == (False, 'not_sent')
            assert 'wait too long behind' in entries['busy']['error']
            assert [message[0] for message in busy.messages] == [1]
