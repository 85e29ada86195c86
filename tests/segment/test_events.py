"""Events: what services and the worker say by themselves, to those who asked for it."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest
from peers import eventually

from bridge.errors import BridgeError, NoWorker
from bridge.numbers import CODES, EVENTS
from bridge.segment.client import Client
from bridge.segment.library import ffi, lib
from bridge.segment.payload import event_number
from bridge.segment.response import event_body
from bridge.segment.served import Segment

WALL = '2026-01-01T00:00:00.000+00:00'


def publish(segment: Segment, event: str, **what) -> int:
    return segment.publish_event(EVENTS[event], event_body(event, time=5, wall=WALL, **what))


def test_an_event_reaches_those_who_subscribed_to_it_and_nobody_else():
    with Segment('rig') as segment, Client('rig', 'a') as a, Client('rig', 'b') as b, Client('rig', 'c') as c:
        a.subscribe('EXPINTERRUPT', 'SERVICE_DOWN')
        b.subscribe('SERVICE_UP')
        segment.take(0)
        assert publish(segment, 'EXPINTERRUPT', service='cameras', data=['disk full']) == 1
        assert a.next_event(1) == {
            'sequence': 1,
            'event': 'EXPINTERRUPT',
            'service': 'cameras',
            'client': '',
            'data': {'value': 'disk full'},
            'time': 5,
            'wall': '2026-01-01T00:00:00.000+00:00',
        }
        assert [client.next_event(0) for client in (a, b, c)] == [None] * 3


def test_every_event_can_be_subscribed_to_and_a_number_that_is_none_is_refused():
    with Segment('rig') as segment, Client('rig') as client:
        client.subscribe(*EVENTS)
        segment.take(0)
        for event in EVENTS:
            publish(segment, event)
            assert client.next_event(1)['event'] == event
        with pytest.raises(BridgeError) as refused:
            client.subscribe(4096)
        assert refused.value.name == 'IBLB_E_MESSAGE'
        with pytest.raises(ValueError, match='CLIENT_LOST'):
            event_number('CAMERA_DIED')


def test_a_subscriber_that_never_reads_loses_events_only_and_sees_the_gap():
    with Segment('rig', event_bytes=16 << 10) as segment, Client('rig') as client:
        client.subscribe('EXPSTATUS')
        segment.take(0)
        placed = sum(publish(segment, 'EXPSTATUS', data=[i]) for i in range(500))
        assert 0 < placed < 500
        request = client.send('PING')
        (command,) = segment.take(1)[1]
        assert segment.respond(command, 0, b'\x80')
        assert client.wait(request, 1) == {}
        numbers = [client.next_event(0)['sequence'] for _ in range(placed)]
        assert numbers == list(range(1, placed + 1))
        assert client.next_event(0) is None
        publish(segment, 'EXPSTATUS', data=[0])
        assert client.next_event(1)['sequence'] == 501


def test_a_waiting_thread_is_woken_by_an_event_while_another_waits_for_a_response():
    with Segment('rig') as segment, Client('rig') as client:
        client.subscribe('EXPINTERRUPT')
        request = client.send('PING', ttl=None)
        (command,) = segment.take(1)[1]
        events, bodies = [], []
        waits = [
            threading.Thread(target=lambda: events.append(client.next_event(20))),
            threading.Thread(target=lambda: bodies.append(client.wait(request, 20))),
        ]
        for thread in waits:
            thread.start()
        started = time.monotonic()
        publish(segment, 'EXPINTERRUPT')
        waits[0].join(10)
        assert events and events[0]['event'] == 'EXPINTERRUPT' and not bodies
        segment.respond(command, 0, b'\x81\xa4code\x00')
        waits[1].join(10)
        assert bodies == [{'code': 0}]
        assert time.monotonic() - started < 10


def test_many_events_and_responses_at_once_all_arrive():
    with Segment('rig') as segment, Client('rig') as client:
        client.subscribe('EXPSTATUS')
        segment.take(0)
        seen: list[int] = []

        def read() -> None:
            while len(seen) < 300:
                event = client.next_event(20)
                assert event is not None
                seen.append(event['sequence'])

        reader = threading.Thread(target=read)
        reader.start()
        for i in range(300):
            request = client.send('PING')
            (command,) = segment.take(1)[1]
            publish(segment, 'EXPSTATUS', data=[i])
            segment.respond(command, 0, b'\x81\xa4code\x00')
            assert client.wait(request, 10)['code'] == 0
            eventually(lambda i=i: len(seen) > i - 50)  # the ring holds more than that
        reader.join(20)
        assert seen == list(range(1, 301))


def test_an_event_larger_than_the_buffer_is_kept():
    with Segment('rig') as segment, Client('rig') as client:
        client.subscribe('EXPINIT')
        segment.take(0)
        publish(segment, 'EXPINIT', data=['x' * 5000])
        small, needed, message = ffi.new('char[]', 100), ffi.new('int *'), ffi.new('int *')
        code = lib.iblb_next_event(client._handle, 0, message, small, 100, needed)
        assert (code, message[0], ffi.string(small)) == (CODES['IBLB_E_BUFFER'], 1, b'')
        assert lib.iblb_next_event(client._handle, 0, message, ffi.NULL, 0, needed) == CODES['IBLB_E_BUFFER']
        exact = ffi.new('char[]', needed[0])
        assert lib.iblb_next_event(client._handle, 0, message, exact, needed[0], needed) == 0
        assert len(ffi.string(exact)) == needed[0] - 1
        assert client.next_event(0) is None


def test_data_larger_than_an_event_is_left_out_and_said():
    with Segment('rig') as segment, Client('rig') as client:
        client.subscribe('EXPINFO')
        segment.take(0)
        publish(segment, 'EXPINFO', service='cameras', data=[0, 'x' * 60_000])
        event = client.next_event(1)
        assert event['service'] == 'cameras' and '60' in event['data']['left_out']


def test_a_wait_for_an_event_ends_when_the_worker_dies():
    with client_of_dead_worker() as client, pytest.raises(NoWorker):
        client.next_event(60)


def client_of_dead_worker() -> Client:
    segment = Segment('rig')
    client = Client('rig')
    client.subscribe('EXPINIT')
    segment.close()
    return client


def test_what_came_before_the_slot_had_this_owner_is_not_delivered():
    with Segment('rig') as segment:
        with Client('rig', 'a') as first:
            first.subscribe('EXPINIT')
            segment.take(0)
            publish(segment, 'EXPINIT')
        segment.take(0.01)
        with Client('rig', 'b') as second:
            second.subscribe('EXPINIT')
            segment.take(0)
            assert second.next_event(0) is None
            publish(segment, 'EXPINIT')
            assert second.next_event(1)['event'] == 'EXPINIT'


ENDS = {
    'is killed': 'client = Client("rig", NAME)\nos.kill(os.getpid(), 9)',
    'leaves with a client open': 'client = Client("rig", NAME)',
    'exits': 'client = Client("rig", NAME)\nsys.exit()',
    'ends by an exception': 'client = Client("rig", NAME)\n1 / 0',
    'leaves the block by an exception': 'with Client("rig", NAME):\n    1 / 0',
    'exits in the block': 'with Client("rig", NAME):\n    sys.exit()',
    'goes on after an exception in the block': (
        'try:\n    with Client("rig", NAME):\n        1 / 0\nexcept ArithmeticError:\n    pass'
    ),
    'fails at a command': 'with Client("rig", NAME) as client:\n    client.wait(7)',
}
"""dict: ways in which a program ends that did not say that its work is done."""


@pytest.mark.parametrize('way', ENDS)
def test_a_client_that_did_not_close_is_told_of_by_name_and_one_that_did_is_not(way):
    code = f'import os, sys\nfrom bridge.segment.client import Client\nNAME = "dies"\n{ENDS[way]}'
    with Segment('rig') as segment:
        Client('rig', 'closes').close()
        with Client('rig', 'leaves in order'):
            pass
        subprocess.run([sys.executable, '-c', code], check=False, timeout=30, capture_output=True)

        def lost() -> list[str]:
            segment.take(0.05)
            return list(segment.lost_clients())

        assert eventually(lost) == ['dies']
        assert list(segment.lost_clients()) == []
        with Client('rig', 'new'):
            segment.take(0)
            assert segment.is_attached('new') and not segment.is_attached('dies')


def lost_after_a_take(segment: Segment) -> list[str]:
    segment.take(0)
    return list(segment.lost_clients())


def test_who_comes_after_a_lost_client_is_not_told_to_be_lost_in_its_place():
    with Segment('rig') as segment:
        lost = Client('rig', 'stimulus')
        segment.take(0)
        lost.abandon()
        segment.take(0)
        with Client('rig', 'display'):
            assert lost_after_a_take(segment) == ['stimulus']
        assert lost_after_a_take(segment) == []


def test_a_loss_that_a_worker_had_found_and_not_kept_when_it_was_killed_is_found_by_the_next():
    with Segment('rig') as first:
        lost = Client('rig', 'stimulus')
        first.take(0)
        lost.abandon()
        first.take(0)
        assert next(first.lost_clients()) == 'stimulus'
    with Segment('rig') as second:
        assert lost_after_a_take(second) == ['stimulus']


def test_a_loss_that_was_kept_is_not_found_again_by_the_next_worker_though_a_command_holds_the_slot():
    with Segment('rig') as first:
        lost = Client('rig', 'stimulus')
        lost.send('EXPINIT')
        (command,) = first.take(1)[1]
        assert first.accept(command) == 0
        lost.abandon()
        assert lost_after_a_take(first) == ['stimulus']
    with Segment('rig') as second:
        (command,) = second.take(1)[1]
        assert command.is_orphan and list(second.lost_clients()) == []
