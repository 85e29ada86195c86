"""What the worker says and does by itself: events, heartbeats, lost clients, its farewell."""

from __future__ import annotations

import contextlib
import subprocess
import sys

import pytest
from peers import NOBODY_SAYS, ScriptedPeer, StockServer, echo_and_reply, eventually, free_port, is_command

from bridge.config import ClientLost, ServiceConfig
from bridge.errors import ServiceFailure
from bridge.journal import Journal, Reading
from bridge.numbers import CODES
from bridge.segment.client import Client

REF = '2026-01-01_1_subject'
EVERYTHING = ('EXPINIT', 'EXPSTART', 'EXPEND', 'EXPCLEANUP', 'EXPINTERRUPT', 'EXPSTATUS', 'EXPINFO', 'ALYX')
OF_ITS_OWN = ('SERVICE_UP', 'SERVICE_DOWN', 'CLIENT_LOST', 'WORKER_RESTARTED')
DIES = 'import os; from bridge.segment.client import Client; c = Client("rig", "stimulus"); os.kill(os.getpid(), 9)'


def events(client: Client, count: int) -> list[tuple[str, str, dict]]:
    got = [client.next_event(5) for _ in range(count)]
    return [(event['event'], event['service'] or event['client'], event['data']) for event in got]


def speaking(peer: ScriptedPeer, datagram: bytes) -> None:
    """Answer, and say everything that can be said, when a command asks for it."""
    echo_and_reply(peer, datagram)
    if is_command(datagram) and b'speak' in datagram:
        peer.send([16, 'disk full'])
        peer.send([32, 30])
        peer.send([64, 20, {'exp_ref': REF, 'frame': 7}])
        peer.send([128, 'https://alyx.example.org', {'user': {'token': 's3cret'}}])


def test_what_a_service_says_by_itself_reaches_every_subscriber_and_nobody_logs_its_token(
    serve, tmp_path, caplog, capsys
):
    caplog.set_level(0)
    book = Journal(tmp_path / 'journal')
    with ScriptedPeer(speaking) as peer:
        worker = serve('rig', {'cameras': peer.uri}, journal=book)
        with Client('rig', 'a') as a, Client('rig', 'b') as b:
            a.subscribe(*EVERYTHING)
            b.subscribe('EXPINTERRUPT')
            assert a.call('EXPINIT', 'speak')['code'] == 0
            token = ['https://alyx.example.org', {'user': {'token': 's3cret'}}]
            assert events(a, 4) == [
                ('EXPINTERRUPT', 'cameras', {'value': 'disk full'}),
                ('EXPSTATUS', 'cameras', {'status': 30}),
                ('EXPINFO', 'cameras', {'status': 20, 'info': {'exp_ref': REF, 'frame': 7}}),
                ('ALYX', 'cameras', {'value': token}),
            ]
            assert events(b, 1) == [('EXPINTERRUPT', 'cameras', {'value': 'disk full'})]
            (entry,) = a.call('SERVICES')['services']
            assert (entry['data']['status'], entry['data']['exp_ref']) == (20, REF)
        worker.end_of_test()
    book.close()
    written = [e['event'] for e in Reading(book.path) if e['kind'] == 'event']
    assert written == ['SERVICE_UP', 'EXPINTERRUPT', 'EXPSTATUS', 'EXPINFO', 'ALYX']
    output = capsys.readouterr()
    assert 's3cret' not in caplog.text + output.out + output.err + book.path.read_text()


def test_a_reply_that_comes_too_late_is_an_event_and_is_not_called_unasked(serve, caplog):
    caplog.set_level('INFO')

    def late(peer: ScriptedPeer, datagram: bytes) -> None:
        if is_command(datagram):
            peer.send(datagram)
            peer.later(1.0, b'[1, "late"]')

    with ScriptedPeer(late) as peer:
        serve('rig', {'cameras': peer.uri}, timeout=0.3)
        with Client('rig') as client:
            client.subscribe('EXPINIT')
            with pytest.raises(ServiceFailure, match='did not reply'):
                client.call('EXPINIT')
            assert events(client, 1) == [('EXPINIT', 'cameras', {'value': 'late'})]

            def logged() -> list[str]:  # behind the event
                return [record.getMessage() for record in caplog.records if 'sent EXPINIT' in record.getMessage()]

            assert eventually(logged) == ['cameras sent EXPINIT, which nobody waits for']


def test_a_token_that_a_failing_service_quotes_is_neither_logged_nor_written(serve, tmp_path, caplog):
    def quoting(peer: ScriptedPeer, datagram: bytes) -> None:
        if is_command(datagram):
            peer.send(datagram)
            peer.send([0, 'ValueError: bad token s3cret', 128])
            peer.send([0, 'ValueError: still bad: s3cret', 128])

    caplog.set_level(0)
    book = Journal(tmp_path / 'journal')
    with ScriptedPeer(quoting) as peer:
        worker = serve('rig', {'cameras': peer.uri}, journal=book)
        with Client('rig') as client:
            with pytest.raises(ServiceFailure, match='s3cret'):  # its caller may know
                client.call('ALYX')
            client.call('SERVICES')
        worker.end_of_test()
    book.close()
    assert [e['kind'] for e in Reading(book.path) if e.get('message') == 'ALYX'] == ['command', 'outcome']
    assert 's3cret' not in caplog.text + book.path.read_text()


def test_a_service_that_goes_and_comes_back_is_told_down_and_up(serve):
    port = free_port()
    serve('rig', {'cameras': f'udp://127.0.0.1:{port}'})
    with Client('rig') as client:
        client.subscribe(*OF_ITS_OWN)
        for _ in range(2):
            with pytest.raises(ServiceFailure):
                client.call('EXPINIT')
        with StockServer(port=port):
            client.call('EXPINIT')
        (down, up) = events(client, 2)
        assert down[:2] == ('SERVICE_DOWN', 'cameras') and NOBODY_SAYS in down[2]['value']
        assert up == ('SERVICE_UP', 'cameras', {})
        assert client.next_event(0) is None


def test_a_service_that_goes_down_is_a_warning_unless_it_is_optional_and_one_that_is_up_is_none(serve, caplog):
    """It was told as if it were no fault, while a lost program was a warning."""
    caplog.set_level('INFO')
    port = free_port()
    lamp = ServiceConfig('lamp', f'udp://127.0.0.1:{free_port()}', optional=True)
    serve('rig', [ServiceConfig('cameras', f'udp://127.0.0.1:{port}'), lamp])
    with Client('rig') as client:
        with pytest.raises(ServiceFailure):
            client.call('EXPINIT')
        with StockServer(port=port):
            client.call('EXPINIT', services=['cameras'])
    records = [(record.levelname, record.getMessage().partition(':')[0]) for record in caplog.records]
    told = {said for said in records if said[1].startswith(('cameras is', 'lamp is'))}
    assert told == {('WARNING', 'cameras is down'), ('INFO', 'lamp is down'), ('INFO', 'cameras is up')}


def test_the_services_message_has_the_same_keys_and_types_whatever_is_known(serve):
    texts, numbers = ('role', 'name', 'uri', 'health', 'exp_ref', 'last_error'), ('age_ms', 'rtt_us', 'status')
    types = dict.fromkeys(texts, str) | dict.fromkeys(numbers, int)
    with StockServer(answers={32: ['RUNNING']}) as server:
        serve('rig', {'cameras': server.uri, 'ephys': f'udp://127.0.0.1:{free_port()}'})
        with Client('rig') as client:
            for message, args in (('PING', ()), ('EXPSTATUS', ()), ('EXPSTART', (REF,))):
                with contextlib.suppress(ServiceFailure):
                    client.call(message, *args)
                for entry in client.call('SERVICES')['services']:
                    assert {key: type(value) for key, value in entry['data'].items()} == types
            cameras, ephys = (entry['data'] for entry in client.call('SERVICES')['services'])
            assert (cameras['status'], cameras['exp_ref'], cameras['health']) == (-1, REF, 'up')
            assert cameras['age_ms'] >= 0 and cameras['rtt_us'] > 0 and cameras['last_error'] == ''
            assert (ephys['age_ms'], ephys['health'], ephys['exp_ref']) == (-1, 'down', '') and ephys['last_error']


def test_a_heartbeat_finds_a_dead_service_and_one_that_came_back_without_any_command(serve):
    port = free_port()
    beating = ServiceConfig('cameras', f'udp://127.0.0.1:{port}', heartbeat=0.1)
    serve('rig', [beating, ServiceConfig('quiet', f'udp://127.0.0.1:{free_port()}')])
    with Client('rig') as client:
        client.subscribe(*OF_ITS_OWN)
        eventually(lambda: client.call('SERVICES')['services'][0]['data']['health'] == 'down')
        with StockServer(port=port) as server:
            eventually(lambda: client.worker_state().services_up == 1)
            assert {tuple(message) for message in server.saw} == {(32, 0)}
        # What was sent just before the service closed is neither echoed nor refused: 10 s until it is asked again.
        eventually(lambda: client.worker_state().services_up == 0, 20)
        (cameras, quiet) = (entry['data'] for entry in client.call('SERVICES')['services'])
        assert (cameras['status'], quiet['health']) == (0, 'unknown')
        told = [event[0] for event in events(client, 2)]
        assert told[-2:] in (['SERVICE_UP', 'SERVICE_DOWN'], ['SERVICE_DOWN', 'SERVICE_UP'])


def test_without_a_heartbeat_nothing_is_sent_unasked(serve):
    with StockServer() as server:
        serve('rig', {'cameras': server.uri})
        with Client('rig') as client:
            for _ in range(3):
                client.call('PING')
        assert server.saw == []


def test_a_client_that_dies_is_told_and_by_default_nothing_is_sent(serve):
    with StockServer() as server:
        serve('rig', {'cameras': server.uri})
        with Client('rig', 'watcher') as watcher:
            watcher.subscribe('CLIENT_LOST')
            with Client('rig', 'leaves in order'):
                pass
            subprocess.run([sys.executable, '-c', DIES], check=False, timeout=30)
            assert events(watcher, 1) == [('CLIENT_LOST', 'stimulus', {})]
            watcher.call('PING')
        assert server.saw == []


@pytest.mark.parametrize(('send', 'wire'), [('EXPEND', [4, None]), ('EXPINTERRUPT', [16, None])])
def test_if_so_configured_services_are_stopped_when_the_client_that_started_them_dies(serve, tmp_path, send, wire):
    book = Journal(tmp_path / 'journal')
    with StockServer() as server:
        worker = serve('rig', {'cameras': server.uri}, on_client_lost=[ClientLost('stimulus', send)], journal=book)
        subprocess.run([sys.executable, '-c', DIES], check=False, timeout=30)
        eventually(lambda: server.saw == [wire])
        worker.end_of_test()
    book.close()
    mine = [entry for entry in Reading(book.path) if entry.get('message') == send]
    assert [entry['kind'] for entry in mine] == ['command', 'outcome']
    assert mine[0]['client'] == 'stimulus' and mine[0]['command_id'] == mine[1]['command_id']
    assert mine[1]['services'][0]['ok'] is True


def test_what_an_optional_service_did_not_do_for_a_lost_client_is_a_warning(serve, tmp_path, caplog):
    """It was logged as an error, and journaled as 0."""
    book, lamp = Journal(tmp_path / 'journal'), ServiceConfig('lamp', f'udp://127.0.0.1:{free_port()}', optional=True)
    worker = serve('rig', [lamp], on_client_lost=[ClientLost('stimulus', 'EXPEND')], journal=book)
    subprocess.run([sys.executable, '-c', DIES], check=False, timeout=30)
    eventually(lambda: [e for e in Reading(book.path) if e.get('message') == 'EXPEND' and e['kind'] == 'outcome'])
    worker.end_of_test()
    book.close()
    assert [e['code'] for e in Reading(book.path) if e['kind'] == 'outcome'] == [CODES['IBLB_W_OPTIONAL']]
    assert [r.levelname for r in caplog.records if 'EXPEND to all services' in r.message] == ['WARNING']
    assert not [r for r in caplog.records if r.levelname == 'ERROR']


def test_a_client_that_comes_back_in_time_goes_on(serve):
    with StockServer() as server:
        worker = serve('rig', {'cameras': server.uri}, on_client_lost=[ClientLost('stimulus', 'EXPEND', 3.0)])
        with Client('rig', 'watcher') as watcher:
            watcher.subscribe('CLIENT_LOST')
            subprocess.run([sys.executable, '-c', DIES], check=False, timeout=30)
            assert events(watcher, 1)[0][1] == 'stimulus'
        with Client('rig', 'stimulus') as stimulus:
            stimulus.call('EXPINIT')
            eventually(lambda: not worker._watch._lost, timeout=10)
            stimulus.call('EXPINIT')
            assert [message[0] for message in server.saw] == [1, 1]


RESTARTED = """
import sys
from bridge.worker import Worker
worker = Worker('rig', {})
print('serving', flush=True)
worker.run()
"""


def test_a_new_worker_says_that_it_has_taken_over(serve):
    first = subprocess.Popen([sys.executable, '-c', RESTARTED], stdout=subprocess.PIPE, text=True)
    try:
        assert first.stdout.readline() == 'serving\n'
        with Client('rig', timeout=5) as client:
            client.subscribe(*OF_ITS_OWN)
            client.call('PING')
            assert client.next_event(0) is None
            first.kill()
            first.wait(10)
            serve('rig', {})
            assert [event[0] for event in events(client, 1)] == ['WORKER_RESTARTED']
    finally:
        first.kill()
        first.wait(10)
        first.stdout.close()


@pytest.mark.parametrize('notify', [True, False])
def test_a_clean_stop_cleans_the_services_up_only_if_asked(serve, notify):
    with StockServer() as server:
        worker = serve('rig', {'cameras': server.uri}, notify=notify)
        worker.end_of_test()
        assert server.saw == ([[8, None]] if notify else [])


def test_each_service_has_its_own_patience(serve):
    def only_echo(peer, datagram):
        if is_command(datagram):
            peer.send(datagram)

    with ScriptedPeer(only_echo) as one, ScriptedPeer(only_echo) as two, ScriptedPeer() as deaf:
        services = [
            ServiceConfig('one', one.uri, timeout=0.05),
            ServiceConfig('two', two.uri, timeout=0.5),
            ServiceConfig('deaf', deaf.uri, echo_timeout=0.1, repeat=()),
        ]
        serve('rig', services, timeout=20.0)
        with Client('rig') as client, pytest.raises(ServiceFailure) as failure:
            client.call('EXPSTATUS')
    errors = {entry['name']: entry['error'] for entry in failure.value.response['services']}
    assert '0.05' in errors['one'] and '0.5' in errors['two'] and '0.1' in errors['deaf']
    assert len(deaf.datagrams) == 1


def test_a_service_that_answers_after_a_silence_counts_as_up_at_once(serve, monkeypatch):
    """It counted when the worker's loop came by for another reason, seconds later."""
    monkeypatch.setattr('bridge.worker.health.UNKNOWN_AFTER', 200_000_000)
    with StockServer() as server:
        serve('rig', {'cameras': server.uri})
        with Client('rig') as client:
            client.call('EXPSTATUS')
            assert client.worker_state().services_up == 1
            eventually(lambda: client.call('PING') and client.worker_state().services_up == 0)
            client.call('EXPSTATUS')
            assert client.worker_state().services_up == 1


def test_a_command_is_answered_also_if_nothing_can_be_learned_from_it(serve, caplog):
    def fail(*_: object) -> None:
        raise RuntimeError('a fault of ours')

    with StockServer() as server:
        worker = serve('rig', {'cameras': server.uri})
        worker._carrier.on_outcome = fail
        with Client('rig') as client:
            assert client.call('EXPINIT', timeout=5)['code'] == 0
    assert 'the outcome of EXPINIT could not be passed on' in caplog.text
