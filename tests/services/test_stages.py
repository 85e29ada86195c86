"""Stages: a service that comes after others gets EXPINIT and EXPSTART when those have answered, EXPEND before them.

What a service was sent, and when the others answered, stands in one row: all services of a test are one socket.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from crowds import MOMENT, Crowd, crowd, ok
from hypothesis import given
from hypothesis import strategies as st
from peers import ScriptedPeer, eventually

from bridge.auxiliaries import Auxiliaries
from bridge.config import ServiceConfig
from bridge.errors import BridgeError
from bridge.numbers import CODES
from bridge.outcome import Aborted, Reason
from bridge.segment.client import Client
from bridge.services import rules, stages
from bridge.worker import Worker

REF = '2026-01-01_1_subject'


Make = Callable[..., tuple[Crowd, Auxiliaries]]


@pytest.fixture(params=['network', 'segment'])
def make(request: Any, serve: Callable[..., Worker]) -> Iterator[Make]:
    """Return a function that makes services in stages, and Auxiliaries of them: directly, and through a worker."""
    with contextlib.ExitStack() as stack:

        def through_the_network(*names: str, **after: Sequence[str]) -> tuple[Crowd, Auxiliaries]:
            return stack.enter_context(crowd(*names, after=after))

        def through_a_segment(*names: str, **after: Sequence[str]) -> tuple[Crowd, Auxiliaries]:
            services = stack.enter_context(Crowd(*names))
            told = [
                ServiceConfig(name, services.uri, reply_gap=0.0, after=tuple(after.get(name, ()))) for name in names
            ]
            serve('rig', told, shared_addresses=True)
            aux = Auxiliaries.from_segment('rig')
            stack.callback(aux.close)
            aux.close_timeout = 0.0
            services.meet(aux)
            return services, aux

        yield through_the_network if request.param == 'network' else through_a_segment


def settle(aux: Auxiliaries) -> None:
    """Wait until the network thread has looked at all that was submitted."""
    looked = threading.Event()
    aux._loop.call_soon_threadsafe(looked.set)
    assert looked.wait(5)


@pytest.mark.parametrize('message', ['EXPINIT', 'EXPSTART'])
def test_a_beginning_reaches_a_service_when_those_before_it_have_answered(make, message) -> None:
    services, aux = make('ephys', 'cameras', ephys=['cameras'])
    services.delay['cameras'] = MOMENT
    begun = aux.submit(message, REF)
    assert list(begun.result(5)) == ['ephys', 'cameras'], 'not in configured order'
    assert ok(begun) == ['ephys', 'cameras']
    assert services.row == [f'cameras {message}', 'cameras answers', f'ephys {message}', 'ephys answers']


def test_an_end_reaches_a_service_before_those_it_comes_after(make) -> None:
    services, aux = make('ephys', 'cameras', ephys=['cameras'])
    services.delay['ephys'] = MOMENT
    assert ok(aux.submit('EXPEND')) == ['ephys', 'cameras']
    assert services.row == ['ephys EXPEND', 'ephys answers', 'cameras EXPEND', 'cameras answers']


@pytest.mark.parametrize('message', ['EXPSTATUS', 'EXPINFO', 'EXPCLEANUP', 'EXPINTERRUPT', 'ALYX'])
def test_all_else_goes_to_all_services_at_once(make, message) -> None:
    services, aux = make('cameras', 'ephys', ephys=['cameras'])
    services.delay = dict.fromkeys(services.names, MOMENT) if message != 'EXPINTERRUPT' else {}
    assert len(ok(aux.submit(message, *[0][: message in ('EXPSTATUS', 'EXPINFO')]))) == 2
    assert {entry for entry in services.row[:2] if 'answers' not in entry} == {f'cameras {message}', f'ephys {message}'}


def test_a_service_that_comes_after_nobody_waits_for_nobody(make) -> None:
    services, aux = make('cameras', 'ephys', 'lamp', ephys=['cameras'])
    services.held.add('cameras')
    begun = aux.submit('EXPINIT')
    assert services.got('cameras EXPINIT', 'lamp EXPINIT', 'lamp answers')
    services.answer('cameras')
    assert len(ok(begun)) == 3


def test_a_service_that_comes_after_two_waits_for_both(make) -> None:
    services, aux = make('ephys', 'cameras', 'lamp', ephys=['cameras', 'lamp'])
    services.delay = {'cameras': MOMENT, 'lamp': 2 * MOMENT}
    assert len(ok(aux.submit('EXPINIT'))) == 3
    assert services.row[-2:] == ['ephys EXPINIT', 'ephys answers']
    assert {'cameras answers', 'lamp answers'} <= set(services.row[:-2])
    services.row.clear()
    services.delay = {'ephys': MOMENT}
    assert len(ok(aux.submit('EXPEND'))) == 3
    assert services.row[:2] == ['ephys EXPEND', 'ephys answers']


def test_stages_follow_each_other(make) -> None:
    services, aux = make('c', 'b', 'a', c=['b'], b=['a'])
    services.delay = dict.fromkeys('abc', MOMENT)
    assert len(ok(aux.submit('EXPSTART', REF))) == 3
    assert [entry for entry in services.row if 'answers' not in entry] == ['a EXPSTART', 'b EXPSTART', 'c EXPSTART']
    assert services.row[1::2] == ['a answers', 'b answers', 'c answers']
    services.row.clear()
    assert len(ok(aux.submit('EXPEND'))) == 3
    assert services.row == ['c EXPEND', 'c answers', 'b EXPEND', 'b answers', 'a EXPEND', 'a answers']


def test_a_service_that_is_addressed_alone_waits_for_nobody(make) -> None:
    services, aux = make('cameras', 'ephys', ephys=['cameras'])
    assert ok(aux.submit('EXPINIT', services=['ephys'])) == ['ephys']
    assert ok(aux.submit('EXPEND', services=['cameras'])) == ['cameras']


@pytest.mark.parametrize('message', ['EXPINIT', 'EXPSTART'])
def test_where_one_fails_a_beginning_is_not_sent_to_those_after_it(make, message) -> None:
    services, aux = make('cameras', 'ephys', 'lamp', ephys=['cameras'], lamp=['ephys'])
    services.failing.add('cameras')
    outcomes = aux.submit(message, REF).result(5)
    assert outcomes['cameras'].reason == Reason.CALLBACK_FAILED
    for name in ('ephys', 'lamp'):
        assert (outcomes[name].state, outcomes[name].reason) == ('not_sent', Reason.AFTER)
    assert 'cameras' in outcomes['ephys'].error
    assert isinstance(aux.push(message, REF, wait=True), Exception)
    assert services.row == [f'cameras {message}', 'cameras answers'] * 2


def test_an_end_reaches_the_others_although_one_fails(make) -> None:
    services, aux = make('cameras', 'ephys', 'lamp', ephys=['cameras'], lamp=['ephys'])
    services.failing = {'ephys', 'lamp'}
    assert ok(aux.submit('EXPEND')) == ['cameras']
    assert services.row == [
        'lamp EXPEND', 'lamp answers', 'ephys EXPEND', 'ephys answers', 'cameras EXPEND', 'cameras answers',
    ]  # fmt: skip


def test_an_end_reaches_the_others_although_one_is_gone() -> None:
    with ScriptedPeer() as gone, Crowd('cameras') as services:
        aux = Auxiliaries({'cameras': services.uri, 'ephys': gone.uri}, after={'ephys': ['cameras']})
        aux.timing.echo_timeout = 0.1
        services.meet(aux)
        outcomes = aux.submit('EXPEND').result(5)
        assert (outcomes['ephys'].state, outcomes['cameras'].ok) == ('unreachable', True)
        assert outcomes['cameras'].sent > outcomes['ephys'].sent + 90_000_000, 'it did not wait'
        aux.close()


# What comes behind it


def test_an_end_does_not_overtake_a_start_that_waits_for_its_stage(make) -> None:
    """The other way round the service starts when all is over, and nobody stops it any more."""
    services, aux = make('cameras', 'ephys', ephys=['cameras'])
    services.held.add('cameras')
    start = aux.submit('EXPSTART', REF)
    assert services.got('cameras EXPSTART')
    end = aux.submit('EXPEND')
    services.held.clear()
    services.answer('cameras')
    start.result(10), end.result(10)
    told = [entry for entry in services.row if entry.startswith('ephys EXP')]
    assert told in (['ephys EXPSTART', 'ephys EXPEND'], ['ephys EXPEND']), services.row


def test_the_next_beginning_does_not_overtake_an_end_that_waits_for_its_stage(make) -> None:
    """The other way round the next experiment is ended by what was meant for the one before."""
    services, aux = make('cameras', 'ephys', ephys=['cameras'])
    services.held.add('ephys')
    end = aux.submit('EXPEND')
    assert services.got('ephys EXPEND')
    init = aux.submit('EXPINIT')
    services.held.clear()
    services.answer('ephys')
    end.result(10), init.result(10)
    told = [entry for entry in services.row if entry.startswith('cameras EXP')]
    assert told == ['cameras EXPEND', 'cameras EXPINIT'], services.row


def test_commands_in_stages_reach_each_service_in_the_order_of_submission(make) -> None:
    services, aux = make('cameras', 'ephys', ephys=['cameras'])
    services.delay = dict.fromkeys(services.names, MOMENT)
    for future in [aux.submit(message, REF) for message in ('EXPINIT', 'EXPSTART', 'EXPEND') * 2]:
        assert len(ok(future)) == 2
    for name in services.names:
        told = [entry for entry in services.row if entry.startswith(f'{name} EXP')]
        assert told == [f'{name} {message}' for message in ('EXPINIT', 'EXPSTART', 'EXPEND') * 2]


# Interrupts


def test_an_interrupt_goes_to_all_at_once_and_ends_what_is_still_staged(make) -> None:
    services, aux = make('cameras', 'ephys', ephys=['cameras'])
    services.held.add('cameras')
    init = aux.submit('EXPINIT')
    assert services.got('cameras EXPINIT')
    assert ok(aux.submit('EXPINTERRUPT')) == ['cameras', 'ephys']
    outcomes = init.result(5)
    assert (outcomes['cameras'].state, outcomes['cameras'].reason) == ('echoed', Reason.ABORTED)
    assert (outcomes['ephys'].state, outcomes['ephys'].reason) == ('not_sent', Reason.ABORTED)
    services.held.clear()
    services.answer('cameras')  # too late
    assert aux.submit('EXPSTATUS', 0).result(5)['ephys'].ok
    assert 'ephys EXPINIT' not in services.row


@pytest.mark.parametrize(('message', 'held'), [('EXPINIT', 'a'), ('EXPEND', 'f')])
def test_an_interrupt_lets_nothing_of_several_stages_slip_out(make, message, held) -> None:
    services, aux = make(*'abcdef', b=['a'], c=['b'], d=['c'], e=['d'], f=['e'])
    services.held.add(held)
    staged = aux.submit(message)
    assert services.got(f'{held} {message}')
    assert len(ok(aux.submit('EXPINTERRUPT'))) == 6
    outcomes = staged.result(5).values()
    assert [entry for entry in services.row if message in entry] == [f'{held} {message}']
    assert {outcome.reason for outcome in outcomes} == {Reason.ABORTED}


def test_an_interrupt_that_is_not_sent_ends_nothing() -> None:
    def refuse() -> None:
        raise TimeoutError('too old')

    with crowd('cameras', 'ephys', after={'ephys': ['cameras']}) as (services, aux):
        services.held.add('cameras')
        init = aux.submit('EXPINIT')
        assert services.got('cameras EXPINIT')
        assert isinstance(aux.submit('EXPINTERRUPT', gate=refuse).exception(5), TimeoutError)
        services.answer('cameras')
        assert ok(init) == ['cameras', 'ephys']


def test_what_comes_after_two_of_which_one_stops_the_other_is_given_up_once(caplog) -> None:
    with crowd('a', 'b', 'c', after={'b': ['a'], 'c': ['a', 'b']}) as (services, aux):
        services.failing.add('a')
        outcomes = aux.submit('EXPSTART', REF).result(5)
        settle(aux)
    assert {name: outcome.reason for name, outcome in outcomes.items()} == {
        'a': Reason.CALLBACK_FAILED, 'b': Reason.AFTER, 'c': Reason.AFTER,
    }  # fmt: skip
    assert services.row == ['a EXPSTART', 'a answers']
    assert 'could not be passed on' not in caplog.text


# Withdrawn, cleared, closed, too old


def test_a_command_that_is_staged_can_not_be_cleared_but_one_behind_it_can(make) -> None:
    services, aux = make('cameras', 'ephys', ephys=['cameras'])
    services.held.add('cameras')
    init = aux.submit('EXPINIT')
    assert services.got('cameras EXPINIT')
    start = aux.submit('EXPSTART', REF)
    assert aux.clear_message_queue() == 1
    assert {outcome.reason for outcome in start.result(5).values()} == {Reason.WITHDRAWN}
    services.answer('cameras')
    assert ok(init) == ['cameras', 'ephys']
    assert not [entry for entry in services.row if 'EXPSTART' in entry]


def test_a_command_that_waits_for_a_staged_one_can_be_withdrawn() -> None:
    with crowd('cameras', 'ephys', after={'ephys': ['cameras']}) as (services, aux):
        services.held.add('cameras')
        init = aux.submit('EXPINIT')
        assert services.got('cameras EXPINIT')
        start = aux.submit('EXPSTART', REF)
        assert start.cancel() and not init.cancel()
        aux.refresh_rate = aux.services.timeout = 0.05
        with pytest.raises(RuntimeError, match='withdrawn'):
            aux.push('EXPSTART', REF, wait=True)
        aux.services.timeout = 5.0
        services.held.clear()
        services.answer('cameras')
        assert ok(init) == ['cameras', 'ephys']
        assert len(ok(aux.submit('EXPSTATUS', 0))) == 2
        assert not [entry for entry in services.row if 'EXPSTART' in entry]
        assert not aux._carrier.plans


def test_a_close_lets_a_stage_be_answered_and_begins_no_other() -> None:
    with crowd('cameras', 'ephys', after={'ephys': ['cameras']}) as (services, aux):
        services.held.add('cameras')
        init = aux.submit('EXPINIT')
        assert services.got('cameras EXPINIT')
        behind = aux.submit('EXPSTART', REF)
        settle(aux)
        aux.close_timeout = 5.0
        closing = threading.Thread(target=aux.close)
        closing.start()
        assert not ok(behind)
        services.answer('cameras')
        outcomes = init.result(5)
        closing.join(4)
        assert not closing.is_alive(), 'it waited for a stage that does not come'
        assert outcomes['cameras'].ok
        assert (outcomes['ephys'].state, outcomes['ephys'].reason) == ('not_sent', Reason.CLOSED)
        assert services.row == ['cameras EXPINIT', 'cameras answers']


@pytest.mark.parametrize('message', ['EXPINIT', 'EXPEND'])
def test_a_close_that_does_not_wait_ends_every_stage(make, message) -> None:
    services, aux = make('cameras', 'ephys', 'lamp', ephys=['cameras'], lamp=['ephys'])
    services.held = set(services.names)
    pushed: list[Any] = []
    pushing = threading.Thread(target=lambda: pushed.append(aux.push(message, wait=True)))
    pushing.start()
    first = 'lamp' if message == 'EXPEND' else 'cameras'
    assert services.got(f'{first} {message}')
    future = aux.submit(message)
    aux.close_timeout = 0.0
    aux.close()
    assert {outcome.reason for outcome in future.result(5).values()} == {Reason.CLOSED}
    pushing.join(5)
    assert [entry for entry in services.row if 'EXP' in entry] == [f'{first} {message}']
    assert isinstance(pushed[0], Aborted)


@pytest.mark.parametrize('message', ['EXPINIT', 'EXPEND'])
def test_a_close_sends_no_stage_before_its_turn(message) -> None:
    with crowd(*'abcd', after={'b': ['a'], 'c': ['b'], 'd': ['c']}) as (services, aux):
        first = 'd' if message == 'EXPEND' else 'a'
        services.held.add(first)
        staged = aux.submit(message)
        assert services.got(f'{first} {message}')
        behind = aux.submit(message)
        settle(aux)
        aux.close_timeout = 5.0
        closing = threading.Thread(target=aux.close)
        closing.start()
        assert not ok(behind)
        services.answer(first)
        outcomes = staged.result(5)
        closing.join(5)
        assert outcomes[first].ok
        assert services.row[:2] == [f'{first} {message}', f'{first} answers'], 'a stage left before its turn'
        reached = [name for name in 'abcd' if f'{name} {message}' in services.row]
        assert reached == [name for name, outcome in outcomes.items() if outcome.sent]


def test_a_worker_that_is_stopped_answers_a_staged_command(serve) -> None:
    with Crowd('cameras', 'ephys') as services:
        told = [ServiceConfig('cameras', services.uri), ServiceConfig('ephys', services.uri, after=('cameras',))]
        worker = serve('rig', told, shared_addresses=True)
        aux = Auxiliaries.from_segment('rig')
        services.meet(aux)
        services.held.add('cameras')
        init = aux.submit('EXPINIT')
        assert services.got('cameras EXPINIT')
        behind = aux.submit('EXPSTART', REF)
        eventually(lambda: len(worker._commands.under_way) == 2)
        worker.stop()
        assert not ok(behind)
        services.answer('cameras')
        outcomes = init.result(5)
        assert outcomes['cameras'].ok
        assert (outcomes['ephys'].state, outcomes['ephys'].reason) == ('not_sent', Reason.CLOSED)
        aux.close()


def test_a_stage_that_would_come_too_late_is_not_sent() -> None:
    with crowd('cameras', 'ephys', after={'ephys': ['cameras']}) as (services, aux):
        services.delay['cameras'] = 6 * MOMENT
        outcomes = aux.submit('EXPINIT', deadline=time.perf_counter() + 3 * MOMENT).result(5)
        assert outcomes['cameras'].ok
        assert (outcomes['ephys'].state, outcomes['ephys'].reason) == ('not_sent', Reason.EXPIRED)
        assert services.row == ['cameras EXPINIT', 'cameras answers']


def test_a_stage_that_outlives_the_time_to_live_of_its_command_is_not_sent(serve) -> None:
    with Crowd('cameras', 'ephys') as services, contextlib.ExitStack() as stack:
        cameras, ephys = (
            ServiceConfig('cameras', services.uri),
            ServiceConfig('ephys', services.uri, after=('cameras',)),
        )
        serve('rig', [cameras, ephys], shared_addresses=True)
        aux = Auxiliaries.from_segment('rig')
        stack.callback(aux.close)
        services.meet(aux)
        client = stack.enter_context(Client('rig'))
        services.delay['cameras'] = 10 * MOMENT
        request = client.send('EXPINIT', ttl=6 * MOMENT)
        with pytest.raises(BridgeError) as caught:
            client.wait(request, 5)
        cameras, ephys = caught.value.response['services']
        assert caught.value.code == CODES['IBLB_E_PARTIAL']
        assert cameras['ok'] and (ephys['state'], ephys['reason']) == ('not_sent', 'expired')
        assert 'ephys EXPINIT' not in services.row


# With the other settings


def test_one_after_the_other_keeps_to_the_stages() -> None:
    with crowd('ephys', 'cameras', after={'ephys': ['cameras']}) as (services, aux):
        services.delay = dict.fromkeys(services.names, MOMENT)
        assert len(ok(aux.submit('EXPINIT', concurrent=False))) == 2
        assert services.row == ['cameras EXPINIT', 'cameras answers', 'ephys EXPINIT', 'ephys answers']
        services.row.clear()
        services.failing.add('cameras')
        outcomes = aux.submit('EXPSTART', REF, concurrent=False).result(5)
        assert (outcomes['ephys'].state, outcomes['ephys'].reason) == ('not_sent', Reason.AFTER)


@pytest.mark.parametrize(
    'after', [{'ephys': ['cameras'], 'cameras': ['ephys']}, {'ephys': ['ephys']}, {'ephys': ['x']}]
)
def test_an_order_that_can_not_be_kept_is_refused_at_once(after) -> None:
    clients = {'cameras': 'udp://127.0.0.1:1', 'ephys': 'udp://127.0.0.1:2'}
    with pytest.raises(ValueError, match='ephys'):
        Auxiliaries(clients, after=after).close()
    with pytest.raises(ValueError, match='ephys'):
        Worker('rig', [ServiceConfig(n, uri, after=tuple(after.get(n, ()))) for n, uri in clients.items()]).close()


# Who waits for whom, as values


@st.composite
def orders(draw: st.DrawFn) -> dict[str, list[str]]:
    """Orders that can be kept: each service comes after some of those drawn before it."""
    names = draw(st.permutations('abcdef'))
    drawn = {name: draw(st.lists(st.sampled_from(names[:i]), unique=True)) for i, name in enumerate(names) if i}
    return {name: before for name, before in drawn.items() if before}


@given(
    orders(),
    st.lists(st.sampled_from('abcdef'), unique=True),
    st.sampled_from(sorted(rules.EVENTS)),
    st.booleans(),
)
def test_whoever_waits_has_its_turn_when_others_have_ended_and_no_earlier(after, names, event, concurrent) -> None:
    behind = stages.waits(names, event, after, concurrent=concurrent)
    ended: list[str] = []
    while free := [name for name in names if name not in ended and behind.get(name, set()) <= set(ended)]:
        assert concurrent or len(free) == 1, 'one after the other'
        ended += free
    assert sorted(ended) == sorted(names), 'somebody waits for ever'
    pairs = [(before, name) for name in names for before in after.get(name, ()) if before in names]
    if event in (rules.INIT, rules.START):
        assert all(ended.index(before) < ended.index(name) for before, name in pairs)
    elif event == rules.END:
        assert all(ended.index(name) < ended.index(before) for before, name in pairs)
    elif concurrent:
        assert not behind
    else:
        assert ended == names
