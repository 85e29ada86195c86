"""What is taken back through a segment: told as withdrawn only if no service has got it, and then none will."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from typing import Any

import pytest
from crowds import Crowd, ok
from peers import eventually

from bridge.auxiliaries import Auxiliaries
from bridge.carrier import Command
from bridge.outcome import Reason

REF = '2026-01-01_1_subject'
Made = tuple[Crowd, Auxiliaries]


@pytest.fixture
def make(serve) -> Iterator[Callable[..., Made]]:
    """Return a function that makes services and Auxiliaries through a worker; some services are busy with EXPINIT."""
    with contextlib.ExitStack() as stack:

        def through_a_segment(*names: str, busy: str = '') -> Made:
            services = stack.enter_context(Crowd(*names))
            serve('rig', services.clients, shared_addresses=True)
            aux = Auxiliaries.from_segment('rig')
            stack.callback(aux.close)
            aux.close_timeout = 0.0
            services.meet(aux)
            services.held = set(busy)
            for name in busy:
                aux.submit('EXPINIT', services=[name])
                assert services.got(f'{name} EXPINIT')
            return services, aux

        yield through_a_segment


@pytest.mark.parametrize('concurrent', [True, False])
def test_a_future_that_is_cancelled_is_withdrawn_from_the_worker(make, concurrent):
    services, aux = make('a', 'b', busy='a')
    waits = aux.submit('EXPSTART', REF, services=['a', 'b'][: 1 + (not concurrent)], concurrent=concurrent)
    behind = aux.submit('EXPEND', services=['a'])
    while not waits.cancel():  # its turn to be handed to the worker has to come first
        assert not waits.done()
    with pytest.raises(CancelledError):
        waits.result(5)
    services.answer('a')
    assert services.got('a EXPEND')
    services.answer('a')
    assert ok(behind) == ['a']
    assert [entry for entry in services.row if 'EXPSTART' in entry] == []


def test_a_future_of_what_is_under_way_cannot_be_cancelled(make):
    services, aux = make('a')
    services.held = {'a'}
    begun = aux.submit('EXPSTART', REF)
    assert services.got('a EXPSTART')
    assert not begun.cancel()
    services.answer('a')
    assert ok(begun) == ['a']
    assert not begun.cancel()


def test_a_future_whose_answers_are_just_told_cannot_be_cancelled(make):
    """Who was called at an answer could cancel, and what the service had done was told as cancelled."""
    services, aux = make('a')
    began, cancelled = threading.Event(), []

    def stop(*_: Any) -> None:
        assert began.wait(5)
        cancelled.append(begun.cancel())

    aux.services.assign_callback('EXPSTART', stop)
    begun = aux.submit('EXPSTART', REF)
    began.set()
    assert ok(begun) == ['a']
    assert cancelled == [False]


def test_what_one_service_has_done_is_not_told_as_withdrawn(make):
    services, aux = make('a', 'b', busy='b')
    aux.refresh_rate, aux.services.timeout = 0.0, 0.5
    with pytest.raises(RuntimeError, match='is under way'):
        aux.push('EXPSTART', REF, wait=True, concurrent=False)
    assert services.got('a EXPSTART')


def test_what_one_service_has_done_cannot_be_cancelled(make):
    services, aux = make('a', 'b', busy='b')
    begun = aux.submit('EXPSTART', REF, concurrent=False)
    assert services.got('a answers')
    assert not begun.cancel()
    services.answer('b')
    assert services.got('b EXPSTART')
    services.answer('b')
    assert ok(begun) == ['a', 'b']


def test_a_cancel_that_is_refused_keeps_nothing_from_the_services_that_follow(make, monkeypatch):
    services, aux = make('a', 'b')
    services.held = {'a'}
    begun = aux.submit('EXPSTART', REF, concurrent=False)
    assert services.got('a EXPSTART')
    is_unsent = aux._carrier._is_unsent

    def answered_meanwhile(request: int) -> bool:
        unsent = is_unsent(request)
        services.answer('a')
        eventually(lambda: begun.done() or 'b EXPSTART' in services.row)
        return unsent

    monkeypatch.setattr(aux._carrier, '_is_unsent', answered_meanwhile)
    assert not begun.cancel()
    assert ok(begun) == ['a', 'b']


def test_what_goes_from_one_to_the_other_and_is_withdrawn_is_told_so_by_who_withdrew_it(make, monkeypatch):
    """If who sends it to one after the other was faster, it was told to be under way."""
    services, aux = make('a', 'b', busy='a')
    waits = aux.submit('EXPSTART', REF, concurrent=False)
    eventually(lambda: [plan for plan in aux._carrier._plans.values() if plan.whole and plan.request])
    (sender,) = (thread for thread in threading.enumerate() if thread.name == 'one-by-one')
    end = Command.end

    def and_the_other_is_faster(command: Command, reason: Reason, error: str) -> None:
        end(command, reason, error)
        if threading.current_thread() is not sender:
            sender.join(5)

    monkeypatch.setattr(Command, 'end', and_the_other_is_faster)
    assert aux.clear_message_queue() == 1
    assert {outcome.reason for outcome in waits.result(5).values()} == {Reason.WITHDRAWN}


def test_a_cleared_queue_takes_nothing_from_what_goes_from_one_to_the_other(make):
    services, aux = make('a', 'b', 'c')
    services.held = {'b'}
    end = aux.submit('EXPEND', concurrent=False)
    assert services.got('b EXPEND')
    assert aux.clear_message_queue() == 0
    services.answer('b')
    assert ok(end) == ['a', 'b', 'c']


def test_a_close_ends_what_goes_from_one_to_the_other_where_it_waits(make):
    services, aux = make('a', 'b', 'c', busy='b')
    begun = aux.submit('EXPSTART', REF, concurrent=False)
    assert services.got('a answers')
    aux.close_timeout = 10.0
    closing = threading.Thread(target=aux.close)
    closing.start()
    outcomes = begun.result(5)
    services.answer('b')
    closing.join(5)
    assert outcomes['a'].ok
    assert {outcomes[name].reason for name in 'bc'} == {Reason.CLOSED}
    assert outcomes['c'].state == 'not_sent'
    assert [entry for entry in services.row if 'EXPSTART' in entry] == ['a EXPSTART']


def test_what_is_handed_over_in_the_moment_of_a_close_is_not_sent(make, monkeypatch):
    services, aux = make('a', busy='a')
    client = aux._carrier._client
    send = client.send

    def closed_meanwhile(*args: Any, **kwargs: Any) -> int:
        request = send(*args, **kwargs)
        aux._carrier.begin_nothing()  # as `close` does it
        looked = threading.Event()
        aux._loop.call_soon_threadsafe(looked.set)
        assert looked.wait(5)
        return request

    monkeypatch.setattr(client, 'send', closed_meanwhile)
    assert aux.submit('EXPSTART', REF).result(5)['a'].reason is Reason.CLOSED


def test_what_was_withdrawn_is_noted_as_the_push_has_told_it(make):
    services, aux = make('a', busy='a')
    aux.refresh_rate, aux.services.timeout = 0.0, 0.3
    with pytest.raises(RuntimeError, match='was withdrawn') as caught:
        aux.push('EXPSTART', REF, wait=True)
    aux.close()
    assert list(aux._log.values()) == [caught.value]
