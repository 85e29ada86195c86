"""Who sleeps, is stopped or comes back too late: the PC, a client, a worker; and two workers at once."""

from __future__ import annotations

import struct
import subprocess
import sys
import time

import pytest
from peers import ScriptedPeer, echo_and_reply
from processes import CLIENT, SEGMENT, WORKER, kill, program, put_the_pc_to_sleep, read, write
from systems import go_on, stop

from bridge.errors import BridgeError, NoSegment, NoWorker, OutcomeUnknown, ServiceFailure, WorkerBusy
from bridge.numbers import CODES
from bridge.segment.client import Client
from bridge.segment.served import Segment

EXPIRED = CODES['IBLB_E_EXPIRED']
EPOCH = 152  # layout.h
REF = '2026-01-01_1_subject'


def test_what_was_sent_before_the_pc_slept_is_expired_and_what_is_sent_later_is_not():
    with Segment('rig') as segment, Client('rig') as client:
        client.send('EXPSTART', REF, ttl=None)
        client.send('EXPINTERRUPT', ttl=None)
        put_the_pc_to_sleep(segment.path, 8)
        assert [segment.accept(command) for command in segment.take(1)[1]] == [EXPIRED, EXPIRED]
        client.send('EXPSTART', REF, ttl=None)
        assert segment.accept(segment.take(1)[1][0]) == 0
        client.send('EXPSTART', REF, ttl=None)
        assert segment.accept(segment.take(1)[1][0]) == 0


def test_what_was_taken_before_the_pc_slept_is_expired_at_the_last_moment():
    with Segment('rig') as segment, Client('rig') as client:
        client.send('EXPSTART', REF, ttl=None)
        (command,) = segment.take(1)[1]
        put_the_pc_to_sleep(segment.path, 8)
        assert segment.accept(command) == EXPIRED


def test_the_next_worker_expires_what_was_sent_before_the_pc_slept():
    first = Segment('rig')
    with Client('rig') as client:
        client.send('EXPSTART', REF, ttl=None)
        first.close()
        put_the_pc_to_sleep(first.path, 0.001)
        with Segment('rig') as second:
            assert second.accept(second.take(1)[1][0]) == EXPIRED


def test_a_moment_between_two_clocks_is_no_sleep():
    with Segment('rig') as segment, Client('rig') as client:
        client.send('EXPSTART', REF, ttl=None)
        put_the_pc_to_sleep(segment.path, 1e-6)
        assert segment.accept(segment.take(1)[1][0]) == 0


def test_commands_that_grow_old_while_the_worker_is_stopped_are_expired_not_sent():
    with ScriptedPeer(echo_and_reply) as peer, program(WORKER, 'rig', peer.uri) as worker:
        with Client('rig', timeout=5) as client:
            assert client.call('EXPINIT')['code'] == 0
            stop(worker)
            old = [client.send('EXPSTART', REF, ttl=0.01) for _ in range(5)]
            lasting = client.send('EXPEND', ttl=None)
            with pytest.raises(BridgeError) as late:
                client.call('EXPCLEANUP', timeout=0.05)
            assert late.value.name == 'IBLB_E_NOT_SENT'
            go_on(worker)
            for request in old:
                with pytest.raises(ServiceFailure) as expired:
                    client.wait(request, 20)
                assert expired.value.name == 'IBLB_E_EXPIRED'
            assert client.wait(lasting, 20)['code'] == 0
        assert {message[0] for message in peer.messages} == {1, 4}, 'neither EXPSTART nor EXPCLEANUP'


def test_a_stopped_worker_is_alive_and_a_wait_on_it_ends_in_time():
    with program(WORKER, 'rig') as worker, Client('rig', timeout=5) as client:
        stop(worker)
        started = time.monotonic()
        with pytest.raises(OutcomeUnknown) as late:
            client.wait(client.send('PING'), 0.5)
        assert late.value.name == 'IBLB_E_TIMEOUT' and 0.5 <= time.monotonic() - started < 5
        assert client.worker_state().alive


def test_a_wait_on_a_killed_worker_does_not_use_its_time_up():
    with program(WORKER, 'rig') as worker, Client('rig', timeout=5) as client:
        stop(worker)
        request = client.send('PING')
        kill(worker)
        started = time.monotonic()
        with pytest.raises(NoWorker):
            client.wait(request, 100)
        assert time.monotonic() - started < 10


@pytest.mark.parametrize('timeout', [0, 0.001, 0.3])
def test_every_wait_ends_in_time(timeout):
    with Segment('rig') as segment, Client('rig') as client:
        request = client.send('EXPINIT')
        for wait in (
            lambda: client.wait(request, timeout),
            lambda: client.call('EXPINIT', timeout=timeout),
            lambda: Client('nothing', timeout=timeout),
        ):
            started = time.monotonic()
            with pytest.raises(BridgeError):
                wait()
            assert time.monotonic() - started < timeout + 5  # promised: 0.1 s
        started = time.monotonic()
        while segment.take(timeout)[1]:
            pass
        assert time.monotonic() - started < timeout + 5


def test_a_second_worker_is_refused_and_the_first_named_also_while_that_is_stopped():
    with program(SEGMENT, 'rig') as first:
        for while_it in (lambda process: None, stop):
            while_it(first)
            with pytest.raises(WorkerBusy, match=f'process {first.pid} ') as busy:
                Segment('rig')
            assert busy.value.name == 'IBLB_E_WORKER_BUSY'
        command = [sys.executable, '-m', 'bridge', 'serve', '--segment', 'rig']
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 3 and f'process {first.pid}' in done.stderr and not done.stdout
        go_on(first)
        kill(first)
        Segment('rig').close()


def test_of_many_workers_that_start_at_once_one_serves_and_the_others_are_refused():
    code = """
import sys
from bridge.errors import WorkerBusy
from bridge.segment.served import Segment
print('here', flush=True)
sys.stdin.readline()
try:
    segment = Segment('rig')
    print('serves', flush=True)
except WorkerBusy:
    print('refused', flush=True)
sys.stdin.readline()
"""
    crowd = [
        subprocess.Popen([sys.executable, '-c', code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(6)
    ]
    try:
        assert {process.stdout.readline() for process in crowd} == {'here\n'}
        for process in crowd:
            process.stdin.write('\n')
            process.stdin.flush()
        assert sorted(process.stdout.readline() for process in crowd) == ['refused\n'] * 5 + ['serves\n']
    finally:
        for process in crowd:
            process.kill()
            process.communicate()


def test_a_stopped_worker_that_wakes_up_after_its_successor_sends_and_answers_nothing(segment_directory):
    """Nobody can take a living worker's lock; should a system ever lose one, the epoch tells."""
    peer = ScriptedPeer(echo_and_reply)
    with peer, program(WORKER, 'rig', peer.uri) as worker, Client('rig', timeout=5) as client:
        assert client.call('EXPINIT')['code'] == 0
        stop(worker)
        path = segment_directory / 'rig'
        requests = [client.send('EXPSTART', REF, ttl=None), client.send('PING', ttl=None)]
        (epoch,) = struct.unpack('=I', read(path, EPOCH, 4))
        write(path, EPOCH, struct.pack('=I', epoch + 1))
        go_on(worker)
        assert worker.wait(20) == 1, 'it ends with the error'
        assert {message[0] for message in peer.messages} == {1}
        with Segment('rig') as successor:
            assert [command.message for command in successor.take(1)[1]] == [2, 4096], 'and nothing is lost'
        for request in requests:
            with pytest.raises(NoWorker):
                client.wait(request, 0)


def test_a_stopped_client_holds_its_slot_and_up_nobody():
    with Segment('rig', slots=3) as segment, program(CLIENT, 'rig', 'stopped', 'EXPINIT') as stopped:
        stop(stopped)
        (command,) = segment.take(1)[1]
        assert segment.accept(command) == 0 and segment.respond(command, 0, b'\x80')
        with Client('rig', 'other') as other:
            for _ in range(20):
                request = other.send('EXPINIT')
                (command,) = segment.take(1)[1]
                assert command.slot == 1 and segment.respond(command, 0, b'\x80')
                assert other.wait(request, 5) == {}
        with pytest.raises(NoSegment) as taken:
            Client('rig', 'stopped', timeout=0)
        assert taken.value.name == 'IBLB_E_NAME_TAKEN' and str(stopped.pid) in taken.value.text
