"""When the worker does something by itself, as functions of values."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bridge.config import ClientLost, ServiceConfig
from bridge.errors import ServiceFailure
from bridge.outcome import Outcome, Reason
from bridge.segment.client import Client
from bridge.worker.health import UNKNOWN_AFTER, Health
from bridge.worker.watch import Watch

S = 10**9


def watch(**options) -> Watch:
    return Watch({'a': ServiceConfig('a', 'udp://127.0.0.1:1', heartbeat=options.pop('own', None))}, **options)


def heard(at: int) -> Outcome:
    return Outcome('a', True, 'answered', reply=[0], event=32, status=0, sent=at, echoed=at, answered=at)


DEAD = Outcome('a', False, 'unreachable', Reason.NO_ECHO, 'no echo', sent=1)


def test_going_up_and_down_is_told_once_and_falling_silent_never():
    it = watch()
    assert it.turn('a', 0) == ''
    it.health['a'].note(heard(5))
    assert [it.turn('a', 6), it.turn('a', 7)] == ['SERVICE_UP', '']
    assert len(it.up) == 1
    assert it.turn('a', 6 + UNKNOWN_AFTER) == '' and not it.up
    it.health['a'].note(heard(8 + UNKNOWN_AFTER))
    assert it.turn('a', 9 + UNKNOWN_AFTER) == ''
    it.health['a'].note(DEAD)
    assert [it.turn('a', 10), it.turn('a', 11)] == ['SERVICE_DOWN', '']
    it.health['a'].note(heard(12))
    assert it.turn('a', 13) == 'SERVICE_UP'


def test_who_falls_silent_is_not_counted_as_up_after_the_next_look_at_all():
    it = watch()
    it.health['a'].note(heard(5))
    it.turn('a', 6)
    it.look(5 + UNKNOWN_AFTER - 1)
    assert len(it.up) == 1
    it.look(5 + UNKNOWN_AFTER)
    assert not it.up


def test_an_outcome_looks_at_its_own_service_and_not_at_all_of_them(serve, monkeypatch):
    """With 47 services each command took 47 times 47 looks."""
    looks = []
    state = Health.state

    def looked(health, now):
        looks.append(health)
        return state(health, now)

    count = 47
    worker = serve('rig', {f's{i}': f'ws://127.0.0.1:{i + 1}' for i in range(count)}, timeout=5)
    monkeypatch.setattr(worker._house, 'tick', lambda carrier: None)
    with Client('rig') as client:
        client.call('PING')
        monkeypatch.setattr(Health, 'state', looked)
        with pytest.raises(ServiceFailure):
            client.call('EXPSTATUS')
    assert len(looks) == count


def test_a_service_that_is_down_from_the_beginning_is_told():
    it = watch()
    it.health['a'].note(DEAD)
    assert it.turn('a', 5) == 'SERVICE_DOWN'


def test_without_a_heartbeat_nothing_is_asked():
    for it in (watch(), watch(heartbeat=5, own=0.0)):
        assert it.heartbeats(10**18) == []
        assert it.pause(10**18, 1.0) == 1.0


@pytest.mark.parametrize('options', [{'heartbeat': 2.0}, {'own': 2.0}, {'heartbeat': 9.0, 'own': 2.0}])
def test_a_heartbeat_is_due_after_silence_and_not_while_one_is_under_way(options):
    it = watch(**options)
    it.health['a'].note(heard(10 * S))
    assert it.heartbeats(12 * S - 1) == []
    assert it.pause(11 * S, 5.0) == 1.0
    assert it.heartbeats(12 * S) == ['a']
    assert it.heartbeats(30 * S) == [] and it.pause(30 * S, 5.0) == 5.0
    it.beaten('a')
    assert it.heartbeats(13 * S) == [], 'a dead service is asked once a heartbeat, not all the time'
    assert it.heartbeats(14 * S) == ['a']


def test_no_heartbeat_is_sent_soon_behind_what_may_be_unread():
    it = watch(own=2.0)
    it.health['a'].note(replace(DEAD, sent=20 * S))
    assert it.heartbeats(30 * S - 1) == [] and it.heartbeats(30 * S) == ['a']
    it.beaten('a')
    it.health['a'].note(replace(DEAD, sent=30 * S))
    it.health['a'].hear('EXPSTATUS', [0], 31 * S)
    assert it.heartbeats(33 * S) == ['a']
    it.beaten('a')
    it.health['a'].note(replace(DEAD, sent=33 * S, reason=Reason.REFUSED))
    assert it.heartbeats(35 * S) == ['a']


def test_a_service_that_can_not_be_served_is_not_asked():
    it = Watch({'a': ServiceConfig('a', 'ws://127.0.0.1:1')}, heartbeat=1.0)
    assert it.heartbeats(10**18) == []


def test_a_lost_client_has_time_to_come_back():
    it = watch(on_client_lost=[ClientLost('stimulus', 'EXPEND', 60.0)])
    it.lost('stimulus', 0)
    it.lost('somebody else', 0)
    assert it.due(59 * S, lambda client: False) == []
    assert it.pause(59 * S, 5.0) == 1.0
    assert it.due(60 * S, lambda client: False) == [ClientLost('stimulus', 'EXPEND', 60.0)]
    assert it.due(99 * S, lambda client: False) == [], 'once'


def test_a_client_that_came_back_is_no_reason_to_end_anything_even_if_it_leaves_again():
    it = watch(on_client_lost=[ClientLost('stimulus', 'EXPEND', 60.0)])
    it.lost('stimulus', 0)
    assert it.due(30 * S, lambda client: client == 'stimulus') == []
    assert it.due(99 * S, lambda client: False) == []


def test_by_default_a_lost_client_has_no_consequence():
    it = watch(on_client_lost=[ClientLost('stimulus')])
    it.lost('stimulus', 0)
    assert it.due(10**18, lambda client: False) == []
