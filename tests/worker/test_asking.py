"""What the worker asks the services by itself: at its start, and when one is back; and that nobody waits for that."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from peers import ScriptedPeer, StockServer, echo_and_reply, eventually, free_port, is_command, only_echo
from processes import kill, program

from bridge.config import ServiceConfig
from bridge.errors import BridgeError, ServiceFailure
from bridge.segment.client import Client

REF = '2026-01-01_1_subject'
IDLE = {64: [0, {'exp_ref': None}], 32: [0]}
RUNNING = {
    2: [REF, {'status': 20, 'exp_ref': REF}],
    4: [{'status': 30, 'exp_ref': REF}],
    32: [20],
    64: [20, {'exp_ref': REF}],
}
WORKER = """
import sys
from bridge.worker import Worker
worker = Worker('rig', {'cameras': sys.argv[1]})
print('ready', flush=True)
worker.run()
"""


def known(client: Client) -> list[tuple[str, int, str]]:
    entries = [entry['data'] for entry in client.call('SERVICES')['services']]
    return [(data['health'], data['status'], data['exp_ref']) for data in entries]


def asked(server: StockServer) -> int:
    return sum(message[0] == 64 for message in server.saw)


def test_a_new_worker_asks_each_service_once_what_it_does_and_knows_it_then(serve):
    with StockServer(RUNNING) as cameras, StockServer(IDLE) as ephys:
        services = {'cameras': cameras.uri, 'ephys': ephys.uri}
        serve('rig', services).end_of_test()
        assert cameras.saw == ephys.saw == [], 'unless it is told to, it asks nobody'
        for times in (1, 2):
            worker = serve('rig', services, ask=True)
            with Client('rig') as client:
                eventually(lambda: known(client) == [('up', 20, REF), ('up', 0, '')])
            worker.end_of_test()
            assert (asked(cameras), asked(ephys)) == (times, times)
    assert {tuple(message) for message in cameras.saw} == {(64, 0, None)}


def test_a_service_is_asked_as_its_own_setting_says():
    from bridge.worker.watch import Watch

    services = {name: ServiceConfig(name, 'udp://127.0.0.1:1', ask=ask) for name, ask in (('a', True), ('b', False))}
    services |= {'c': ServiceConfig('c', 'udp://127.0.0.1:1'), 'd': ServiceConfig('d', 'ws://127.0.0.1:1', ask=True)}
    assert Watch(services).questions(1) == ['a']
    it = Watch(services, ask=True)
    assert it.pause(1, 5.0) == 0.0 and it.questions(1) == ['a', 'c'] and it.questions(10**18) == []
    assert it.pause(1, 5.0) == 5.0


@pytest.mark.not_wine('no datagram is refused: EXPEND may have reached the service, and ended its experiment')
def test_an_experiment_that_a_service_lost_as_it_was_killed_is_told_when_it_is_back(serve):
    port = free_port()
    with contextlib.ExitStack() as first:
        first.enter_context(StockServer(RUNNING, port=port))
        serve('rig', {'cameras': f'udp://127.0.0.1:{port}'}, ask=True)
        client = first.enter_context(Client('rig'))
        eventually(lambda: known(client) == [('up', 20, REF)])
        assert client.call('EXPSTART', REF)['code'] == 0
        assert known(client) == [('up', 20, REF)]
    with Client('rig') as client:
        client.subscribe('EXPERIMENT_LOST', 'SERVICE_DOWN')
        for message in ('EXPEND', 'EXPSTATUS'):  # neither reaches it
            with pytest.raises(ServiceFailure):
                client.call(message)
        assert client.next_event(5)['event'] == 'SERVICE_DOWN'
        with StockServer(IDLE, port=port) as server:
            client.call('ALYX', 'https://alyx.org', {'user': 'token'})
            event = client.next_event(5)
            assert (event['event'], event['service']) == ('EXPERIMENT_LOST', 'cameras')
            assert event['data'] == {'value': {'exp_ref': REF, 'status': 0}}
            assert known(client) == [('up', 0, '')] and asked(server) == 1
        assert client.next_event(0) is None


def test_the_log_names_no_experiment_that_a_service_has_not_said(serve, caplog):
    """It said "now it says CONNECTED (0), X" of a camera that had only said CONNECTED."""
    answers = dict(RUNNING)
    with StockServer(answers) as server:
        serve('rig', {'cameras': server.uri})
        with Client('rig') as client:
            client.call('EXPSTART', REF)
            answers |= IDLE
            client.call('EXPSTATUS')
            assert known(client) == [('up', 0, '')]
    said = [record.getMessage() for record in caplog.records if 'has lost' in record.getMessage()]
    assert said == [f'cameras has lost the experiment {REF}: now it says CONNECTED (0)']


@pytest.mark.not_wine('no datagram is refused: EXPEND may have reached the service, and ended its experiment')
def test_a_service_that_records_after_an_end_that_did_not_reach_it_is_warned_of_as_soon_as_it_is_back(serve, caplog):
    """It recorded on, `last_error` was that of any EXPEND, and the log had nothing."""
    port = free_port()
    serve('rig', {'cameras': f'udp://127.0.0.1:{port}'}, ask=True)
    with Client('rig') as client:
        with pytest.raises(ServiceFailure):
            client.call('EXPEND')
        with StockServer(RUNNING, port=port):
            client.call('ALYX', 'https://alyx.org', {'user': 'token'})
            eventually(lambda: known(client) == [('up', 20, REF)])
            told = client.call('SERVICES')['services'][0]['data']['last_error']
            assert told.startswith('It says RUNNING, though EXPEND was to end that. If EXPSTATUS still says so, send ')
            client.call('EXPSTATUS')
            assert client.call('EXPEND')['code'] == 0
            assert client.call('SERVICES')['services'][0]['data']['last_error'] == ''
    warned = [record.getMessage() for record in caplog.records if 'RUNNING' in record.getMessage()]
    assert warned == [f'cameras: {told}']


def test_a_service_that_was_not_there_at_the_start_is_asked_when_it_is(serve):
    port = free_port()
    serve('rig', {'cameras': f'udp://127.0.0.1:{port}'}, ask=True)
    with Client('rig') as client:
        eventually(lambda: known(client)[0][0] == 'down', 10)
        with StockServer(RUNNING, port=port):
            client.call('ALYX', 'https://alyx.org', {'user': 'token'})
            eventually(lambda: known(client) == [('up', 20, REF)])


def no_info(peer: ScriptedPeer, datagram: bytes) -> None:
    """Know no EXPINFO: echo it, and answer all else."""
    if is_command(datagram) and json.loads(datagram)[0] == 64:
        peer.send(datagram)
    else:
        echo_and_reply(peer, datagram)


def deaf(peer: ScriptedPeer, datagram: bytes) -> None:
    """Read nothing."""


@pytest.mark.parametrize(('script', 'reason'), [(no_info, ''), (deaf, 'no_echo')])
def test_a_service_that_does_not_answer_the_question_delays_nobodys_first_command(serve, script, reason):
    """Behind a command without an echo the next one waits for 10 s, behind one without an answer as long."""
    with ScriptedPeer(script) as peer, StockServer() as ephys:
        serve('rig', {'cameras': peer.uri, 'ephys': ephys.uri}, ask=True)
        eventually(lambda: peer.datagrams)
        with Client('rig') as client:
            try:
                body = client.call('EXPINIT', timeout=5)
            except ServiceFailure as failure:
                body = failure.response
            cameras, other = body['services']
            assert other['ok'] and cameras['reason'] == reason
            told = client.call('SERVICES')['services'][0]['data']['last_error']
            assert bool(told) == bool(reason), 'a question that it does not know is no error of the service'
    commands = [json.loads(datagram)[0] for datagram in peer.datagrams if is_command(datagram)]
    assert commands == [64, 1]


def test_nobody_is_asked_while_a_command_of_the_killed_worker_may_still_be_answered(serve):
    """A stock service that says something and reads anything but its confirmation closes its socket, for good."""
    with ScriptedPeer(only_echo) as peer, program(WORKER, peer.uri) as first, Client('rig', timeout=10) as client:
        request = client.send('EXPSTART', REF, ttl=None)
        eventually(lambda: peer.datagrams)
        kill(first)
        serve('rig', [ServiceConfig('cameras', peer.uri, timeout=0.5)], ask=True)
        with pytest.raises(BridgeError, match='OUTCOME_UNKNOWN'):
            client.wait(request)
        for _ in range(5):
            client.call('PING')
        assert not [datagram for datagram in peer.datagrams if datagram.startswith(b'[64')]
        peer.send([2, REF, {'status': 20, 'exp_ref': REF}])
        eventually(lambda: known(client) == [('up', 20, REF)])
        eventually(lambda: [datagram for datagram in peer.datagrams if datagram.startswith(b'[64')], 15)


@contextmanager
def served(tmp_path: Path, rig: str, uri: str, *options: str) -> Iterator[None]:
    file = tmp_path / 'remote_devices.yaml'
    file.write_text(f'cameras: {uri}\n{rig}', encoding='utf-8')
    words = [sys.executable, '-m', 'bridge', 'serve', '--segment', 'rig', '--services', str(file), '--until-eof']
    pipe = subprocess.PIPE
    process = subprocess.Popen([*words, *options], stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout.readline().startswith('READY')
        yield
        process.stdin.close()
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait(10)
        process.stdout.close()


@pytest.mark.parametrize(
    ('rig', 'options', 'is_asked'),
    [('', [], True), ('_rig: {ask: false}\n', [], False), ('', ['--no-ask'], False)],
    ids=['by default', 'setting', 'option'],
)
def test_serve_asks_unless_it_is_told_not_to(tmp_path, rig: str, options: list[str], is_asked: bool):
    with StockServer(RUNNING) as server:
        with served(tmp_path, rig, server.uri, *options), Client('rig') as client:
            if is_asked:
                eventually(lambda: known(client) == [('up', 20, REF)])
            for _ in range(3):
                client.call('PING')
        assert asked(server) == int(is_asked)
